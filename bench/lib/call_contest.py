# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The contest of the whole call: nasbackup.sh -o backup for a running VM, ours and what CloudStack's script does.

Both mount the same kind of NAS, made anew for each run: an ext4 in a file. The time ends when it is unmounted, everything flushed.
Runs inside tests/lab/enter, as vm_contest does.
"""
import glob
import os
import subprocess

from contender import Contender, compare
from vm_contest import VM, Vm

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = f"{VM}/2026.11.26.09.30.00"
OURS = "nasbackup.sh"
SCRIPT = "the script: push backup, polled"
UNMOUNTED = 'while losetup -j "$1" | grep -q .; do sleep 0.01; done'  # ours goes with its mount namespace


def without_poll(sample):
    """Without what the script slept in its poll when the job was over. Meanwhile the kernel wrote back, which flatters it."""
    return sample["seconds"] - sample.get("report", {}).get("poll_seconds", 0)


class Call(Contender):
    """`words`: the call, as a function of the NAS."""

    def __init__(self, name, words, source, room):
        super().__init__(name, lambda nas: [words(nas), ["sh", "-c", UNMOUNTED, "sh", nas]], source, "nas.img")
        self.room = room
        self.stored = 0

    def before(self, place):
        nas = os.path.join(place, self.output)
        with open(nas, "wb") as image:
            image.truncate(self.room)
        whole = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", whole, nas], check=True)
        # What libvirt still knows of the last job the script would take for its own.
        subprocess.run(["virsh", "-c", "qemu:///system", "domjobinfo", VM, "--completed"], capture_output=True)
        os.sync()
        return {}

    def check(self, place):
        look = os.path.join(place, "look")
        os.mkdir(look)
        subprocess.run(["mount", "-o", "loop,ro", os.path.join(place, self.output), look], check=True)
        try:
            images = glob.glob(os.path.join(look, PATH, "root.*.qcow2"))
            self.stored = sum(os.path.getsize(image) for image in images)
            return compare(self.source, "raw", images[0], "qcow2") if len(images) == 1 else f"{len(images)} images"
        finally:
            subprocess.run(["umount", look], check=True)

    def output_bytes(self, place):
        return self.stored


class VmCall(Vm):
    row = "call"
    title = "nasbackup.sh -o backup of a libvirt VM, the whole call"
    flags = []
    slow = False

    def enter(self, source):
        front_end = os.path.join(self.house.work, OURS)
        if not os.path.lexists(front_end):
            os.symlink(os.path.abspath(self.house.binary), front_end)
        room = 3 * self.house.data + (2 << 30)  # 1 GiB must stay free; the script has two images there at a time
        tail = "".join(" " + flag for flag in self.flags)
        ours = lambda nas: [front_end, "-o", "backup", "-v", VM, "-t", "ext4", "-s", nas, "-m", "loop", "-p", PATH, "-q", "false", "-d", "",
                            *self.flags]
        script = lambda nas: [os.path.join(HERE, "scripts_call"), VM, "ext4", nas, "loop", PATH, *self.flags]
        self.contenders = [Call(OURS + tail, ours, source, room), Call(SCRIPT + tail, script, source, room)]
        self.contenders[1].slow = self.slow


class VmCallCompress(VmCall):
    title = "nasbackup.sh -o backup -c --verify of a libvirt VM, the whole call"
    flags = ["-c", "--verify"]
    slow = True
