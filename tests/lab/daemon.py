# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The lab's libvirtd and virtlogd: their configuration, start, and end. Used inside the lab's namespaces only."""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import libvirt

LIBVIRTD_PID = Path("/run/libvirtd.pid")
VIRTLOGD_PID = Path("/run/virtlogd.pid")
LOG = Path("/var/log/libvirt/libvirtd.log")


def configure(user="root"):
    """Writes /etc/libvirt. No AppArmor and no control groups: those belong to the host."""
    group = "root" if user == "root" else "kvm"
    Path("/etc/libvirt/qemu.conf").write_text(
        f'user = "{user}"\ngroup = "{group}"\nsecurity_driver = "none"\nremember_owner = 0\n'
        f'dynamic_ownership = 1\ncgroup_controllers = [ ]\nmax_core = 0\n')
    Path("/etc/libvirt/libvirtd.conf").write_text(
        f'auth_unix_ro = "none"\nauth_unix_rw = "none"\nlog_filters = "4:util.netdev 4:node_device 4:util.command 4:util.gdbus 4:network"\n'
        f'log_outputs = "3:file:{LOG}"\n')
    Path("/etc/libvirt/virtlogd.conf").write_text("")
    # libvirtd gives these to the user when it is installed and keeps what it finds.
    qemu = Path("/var/lib/libvirt/qemu")
    qemu.mkdir(mode=0o751, exist_ok=True)
    shutil.chown(qemu, user, group)


def pid_of(path):
    """The process in a pid file, or None when there is no such process."""
    try:
        pid = int(path.read_text())
        os.kill(pid, 0)
        return pid
    except (OSError, ValueError):
        return None


def wait_until(what, condition, seconds=30, pause=0.05):
    """Waits for condition() to be true and returns its value; raises TimeoutError naming `what`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(pause)


def quiet_errors():
    """libvirt prints every error on stderr by itself; the exceptions say it all."""
    libvirt.registerErrorHandler(lambda context, error: None, None)


def answers():
    """Whether libvirtd takes connections and its QEMU driver is there."""
    try:
        libvirt.open("qemu:///system").close()
        return True
    except libvirt.libvirtError:
        return False


def start():
    """Starts both daemons unless they run, and waits until libvirtd answers."""
    quiet_errors()
    for name, pid_file in (("virtlogd", VIRTLOGD_PID), ("libvirtd", LIBVIRTD_PID)):
        if pid_of(pid_file) is None:
            done = subprocess.run([name, "-d"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{name} does not start: exit {done.returncode}\n{done.stdout}{log_tail()}")
    try:
        wait_until("libvirtd to answer", answers)
    except TimeoutError as error:
        raise RuntimeError(f"{error}\n{log_tail()}") from None


def stop(with_signal=signal.SIGTERM):
    """Ends libvirtd; domains go on without it."""
    pid = pid_of(LIBVIRTD_PID)
    if pid is not None:
        os.kill(pid, with_signal)
        wait_until("libvirtd to end", lambda: pid_of(LIBVIRTD_PID) != pid)


def log_tail(lines=15):
    """The end of libvirtd's log, for a message that says why something failed."""
    try:
        return "libvirtd.log:\n" + "\n".join(LOG.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(libvirtd wrote no log)"
