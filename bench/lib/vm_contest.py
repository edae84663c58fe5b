# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The contest over a libvirt VM: us, a push backup, and those that read from a pull job's export.

Runs inside tests/lab/enter, with a libvirtd of its own. The VM has no operating system, so nothing writes to its disk.
Those that read an export get the job begun and ended for them outside their time, which flatters them: the seconds
stand in the report. Ours includes the job's begin and end, and the publication.
"""
import os
import subprocess
import sys
import time

from contender import Contender, QemuImg, compare
from contests import OURS, Contest

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(os.path.dirname(os.path.dirname(HERE)), "tests", "lab")
VM = "bench"


class OursOfVm(Contender):
    """`nasbackup backup VM --to DIR`, to the end of publication."""

    def __init__(self, name, binary, source, options=()):
        super().__init__(name, lambda to: [[binary, "backup", VM, "--to", to, "--json", "--progress=none", *options]],
                         source, output=f"{VM}/*/root.*.qcow2")

    def steps(self, place):
        return self._steps(place)


class PushBackup(Contender):
    self_timed = True

    def __init__(self, source):
        script = os.path.join(HERE, "push_backup.py")
        super().__init__("libvirt push backup, by its event, + fsync",
                         lambda out: [["/usr/bin/python3", script, VM, out]], source)


class Virtnbdbackup(Contender):
    """virtnbdbackup -l full; its stream is restored to an image for the comparison. The checkpoint is removed after."""

    def __init__(self, vm, source):
        super().__init__("virtnbdbackup -l full + sync", self.commands, source)
        self.vm = vm

    @staticmethod
    def commands(folder):
        return [["virtnbdbackup", "-d", VM, "-l", "full", "-n", "-S", os.path.dirname(folder), "-f", folder + ".sock", "-o", folder],
                ["sh", "-c", 'sync "$1"/*', "sync", folder]]

    def steps(self, place):
        return self.commands(os.path.join(place, "vnb"))

    def after(self, place):
        for point in self.vm.handle.listAllCheckpoints():
            point.delete()
        return {}

    def check(self, place):
        restored = os.path.join(place, "restored")
        os.mkdir(restored)
        run = subprocess.run(["virtnbdrestore", "-i", os.path.join(place, "vnb"), "-o", restored, "-n"],
                             capture_output=True, text=True)
        images = [os.path.join(restored, name) for name in os.listdir(restored) if not name.endswith((".xml", ".log"))]
        if run.returncode != 0 or len(images) != 1:
            return "virtnbdrestore: " + (run.stderr.strip()[-200:] or f"{images}")
        wait_for_lock(images[0])
        return compare(self.source, "raw", images[0], "qcow2")


def wait_for_lock(image, seconds=30):
    """virtnbdrestore does not wait for the qemu-nbd that writes its output; that one holds the image lock to its end."""
    until = time.monotonic() + seconds
    while subprocess.run(["qemu-img", "info", image], capture_output=True).returncode != 0 and time.monotonic() < until:
        time.sleep(0.1)


def from_export(kind):
    """The class of contenders `kind`, with a pull job open around each run."""

    class FromExport(kind):
        job = None

        def before(self, place):
            import job as jobs
            FromExport.job = FromExport.job or jobs.BackupJob(VM)
            xml = jobs.PULL.format(socket=self.socket, scratch=os.path.join(place, "scratch"))
            return {"job_begin_seconds": self.job.begin(xml)}

        def after(self, place):
            return {"job_end_seconds": self.job.abort()}

    return FromExport


class Vm(Contest):
    row = "libvirt"
    title = "libvirt VM: pull job → qcow2"

    def start(self):
        source = self.house.realistic()
        image = os.path.join(self.house.work, "vm.qcow2")
        if not os.path.exists(image):
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, image], check=True)
        self.warm = [image]
        self.vm = start_vm(image)
        self.enter(source)

    def enter(self, source):
        socket = os.path.join(self.house.work, "pull.sock")
        uri = "nbd+unix:///vda?socket=" + socket
        image = from_export(QemuImg)(uri, source, name="qemu-img convert from the export + sync")
        raw = from_export(Contender)("nbdcopy --flush from the export to raw",
                                     lambda out: [["nbdcopy", "--flush", uri, out]], source, "out.raw", "raw")
        image.socket = raw.socket = socket
        self.contenders = [OursOfVm(OURS, self.house.binary, source), PushBackup(source), image, raw,
                           Virtnbdbackup(self.vm, source)]

    def stop(self):
        if hasattr(self, "vm"):
            self.vm.remove()


class ScriptsWay(Contender):
    """What nasbackup.sh does for -c and --verify: a push backup, `qemu-img convert -c` of it in place, `qemu-img check`."""

    slow = True

    def __init__(self, source):
        super().__init__("push backup, qemu-img convert -c, sync, qemu-img check", self.commands, source)

    @staticmethod
    def commands(out):
        return [["/usr/bin/python3", os.path.join(HERE, "push_backup.py"), VM, out + ".tmp"],
                ["qemu-img", "convert", "-c", "-O", "qcow2", out + ".tmp", out], ["rm", out + ".tmp"], ["sync", out],
                ["qemu-img", "check", out]]


class VmCompress(Vm):
    row = "live-compress"
    title = "libvirt VM → compressed qcow2"

    def enter(self, source):
        self.contenders = [OursOfVm("nasbackup -c --verify", self.house.binary, source, ["-c", "--verify"]), ScriptsWay(source)]


class VmMemory(Vm):
    row = "memory"
    title = "peak memory, backup of a libvirt VM"
    detail = True
    warm_rounds = 0

    def enter(self, source):
        binary = self.house.binary
        self.contenders = [OursOfVm(OURS, binary, source),
                           OursOfVm("nasbackup --memory 64M", binary, source, ["--memory", "64M"])]


def load_lab():
    """The lab's modules can be imported, and libvirt's events are heard."""
    if LAB not in sys.path:
        sys.path.append(LAB)
        import job
        job.run_event_loop()


def start_vm(image):
    load_lab()
    import domain
    return domain.Domain(VM, [domain.Disk("vda", image, "qcow2")]).start()
