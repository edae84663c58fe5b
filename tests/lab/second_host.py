# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A second host within the lab: libvirt's folders, /run, a libvirtd and a host name of its own; it shares the rest of the lab's file
systems with the first, as hosts share their storage. Run as a program this is the host; as a module, what a test has of it."""
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import daemon  # noqa: E402


class SecondHost:
    """Stands when it is made. Domains are to be taken from it before remove()."""

    def __init__(self, folder):
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--uts", "--propagation", "slave", "/usr/bin/python3", __file__, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "stands\n":
            self.remove()
            raise RuntimeError("the second host does not start")

    @property
    def uri(self):
        """Of its libvirtd, for programs of the first host."""
        return f"qemu+unix:///system?socket=/proc/{self._process.pid}/root/run/libvirt/libvirt-sock"

    @property
    def before_command(self):
        """The words before a command line that make it run there."""
        return ["nsenter", "--target", str(self._process.pid), "--mount", "--uts"]

    def remove(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def stand(folder):
    import inside
    folder.mkdir()
    subprocess.run(["hostname", "second"], check=True)
    inside.hide_the_host(folder)
    daemon.configure()
    with open("/etc/libvirt/libvirtd.conf", "a") as config:
        config.write(f'host_uuid = "{uuid.uuid4()}"\n')  # libvirt does not migrate to the host that the domain is on
    daemon.start()


def main():
    stand(Path(sys.argv[1]))
    print("stands", flush=True)
    sys.stdin.read()
    daemon.stop()
    if (log_daemon := daemon.pid_of(daemon.VIRTLOGD_PID)) is not None:
        os.kill(log_daemon, signal.SIGTERM)


if __name__ == "__main__":
    main()
