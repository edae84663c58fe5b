# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""inside.py FOLDER COMMAND…: the first process of the lab's namespaces (see enter).

Hides the host's libvirt behind folders of the lab, starts the daemons, runs COMMAND and ends with its status; the kernel
then kills whatever is left in the namespace. As process 1 it also buries orphans.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import daemon  # noqa: E402

# As root, libvirt's paths are compiled in; those of swtpm are used by libvirt on a domain's behalf.
PRIVATE = ["/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt",
           "/var/log/swtpm", "/var/lib/swtpm-localca"]


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def hide_the_host(folder):
    """A fresh /run (libvirt, dbus, our own locks and pid files) and empty folders over libvirt's."""
    # Shared among ourselves, as systemd leaves it: what is mounted later is seen by QEMU, which libvirt puts into a mount
    # namespace of its own.
    mount("--make-rshared", "/")
    mount("-t", "tmpfs", "-o", "mode=755", "lab-run", "/run")
    os.mkdir("/run/lock", 0o1777)
    for path in PRIVATE:
        if not os.path.isdir(path):
            continue
        ours = folder / path.strip("/").replace("/", "-")
        ours.mkdir()
        ours.chmod(0o755)
        owner = os.stat(path)
        os.chown(ours, owner.st_uid, owner.st_gid)
        mount("--bind", str(ours), path)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def make_room(folder):
    """TMPDIR, and a copy of the guest where every QEMU user can read it."""
    room = folder / "tmp"
    room.mkdir()
    room.chmod(0o1777)  # as /tmp: swtpm and QEMU may run as users of their own
    kernel = folder / "guest"
    shutil.copytree(os.environ["NASBACKUP_GUEST"], kernel)
    kernel.chmod(0o755)
    os.environ.update(TMPDIR=str(room), NASBACKUP_LAB=str(folder), NASBACKUP_GUEST=str(kernel))


def run(command):
    """Runs COMMAND as a child and buries orphans until it ends; returns its exit status."""
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"tests/lab/enter: {command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    while True:
        pid, status = os.wait()
        if pid == child:
            status = os.waitstatus_to_exitcode(status)
            return 128 - status if status < 0 else status


def main():
    folder = Path(sys.argv[1])
    try:
        hide_the_host(folder)
        make_room(folder)
        daemon.configure()
        daemon.start()
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"tests/lab/enter: the lab does not start: {error}")
    sys.stdout.flush()
    os._exit(run(sys.argv[2:]))


if __name__ == "__main__":
    main()
