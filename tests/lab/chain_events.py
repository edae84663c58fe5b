# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What happens to a VM and its disks between two backups, in the VM and in the model of it."""
import os
import signal
import xml.etree.ElementTree as ET

import lab
from lab import MIB, wait_until

from chain_content import PIECE


class ChainEvents:
    """Of a ChainModelTest."""

    def on(self):
        return bool(self.vm.handle.isActive())

    def some_disk(self, chosen=lambda disk: True):
        found = [disk for disk in self.disks.values() if chosen(disk)]
        return self.chance.choice(found) if found else None

    def write(self, only_writes=False):
        disk = self.some_disk()
        target, size = disk.disk.target, disk.content.size
        kind = "write" if only_writes else self.chance.choice(["write", "write", "write", "zero", "discard"])
        unit = disk.cluster if kind == "discard" else 512
        offset = self.chance.randrange(size // unit) * unit
        length = min(self.chance.choice([512, 4096, 70_144, 300_032, MIB]) // unit * unit or unit, (size - offset) // unit * unit)
        if kind == "write":
            pattern = self.chance.randrange(256)
            self.vm.write(target, offset, length, pattern)
        else:
            pattern = 0
            self.vm.qemu_io(target, f"write -z -u {offset} {length}" if kind == "zero" else f"discard {offset} {length}")
        self.note(f"  {kind} {target} {offset} {length} {pattern}")
        touched = disk.content.fill(offset, length, pattern)
        disk.mark(touched)
        wide = max(disk.cluster // PIECE, 1)  # a write into a zero cluster makes all of it data
        disk.unmapped.difference_update(range(touched[0] // wide * wide, (touched[-1] // wide + 1) * wide))
        if kind != "write":
            begin, end = -(-offset // disk.cluster) * disk.cluster, (offset + length) // disk.cluster * disk.cluster
            disk.unmapped.update(range(-(-begin // PIECE), end // PIECE))

    def resize(self):
        disk = self.some_disk(lambda disk: disk.content.size < 3 * self.SIZE)
        if disk is None:
            return
        size = disk.content.size + self.chance.randrange(1, 2000) * 512
        try:
            self.vm.handle.blockResize(disk.disk.target, size, lab.libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        except lab.libvirt.libvirtError as error:  # QEMU's rule, until a backup has taken the bitmap away
            self.assertIn("is inconsistent and cannot be used", str(error))
            return
        disk.content.grow(size)
        self.note(f"  resize {disk.disk.target} to {size}")

    def flush(self):
        for target in self.disks:
            self.vm.qemu_io(target, "flush")

    def stop(self):
        """QEMU writes its bitmaps into the disks."""
        self.vm.destroy()
        self.foreign_stored = True

    def start(self):
        self.vm.disks = [disk.disk for disk in self.disks.values()]
        self.vm.start()

    def restart(self):
        self.stop()
        self.start()
        self.note("  restart")

    def kill_qemu(self):
        """QEMU could not say in the disks that their bitmaps are whole."""
        self.flush()
        os.kill(self.vm.qemu_pid(), signal.SIGKILL)
        self.qemu_was_killed()
        self.note("  QEMU killed")

    def qemu_was_killed(self):
        wait_until("the domain to be off", lambda: not self.on())
        self.foreign = self.foreign and self.foreign_stored
        for known in self.bitmaps.values():
            for target in self.disks:
                known.pop(target, None)

    def kill_and_start(self):
        self.kill_qemu()
        self.start()

    def define_anew(self):
        self.stop()
        self.vm.handle.undefineFlags(lab.libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        self.start()
        self.forgotten = True
        self.note("  defined anew")

    def attach(self):
        free = [target for target in ("vdd", "sda", "sdb") if target not in self.disks]
        if not free:
            return
        target = self.chance.choice(free)
        disk = self.detached.pop(target, None) if self.chance.random() < 0.5 else None
        disk = disk or self.make_disk(target, self.chance.choice(["qcow2", "qcow2", "raw"]), self.chance.choice([65536, 262144]))
        both = lab.libvirt.VIR_DOMAIN_AFFECT_LIVE | lab.libvirt.VIR_DOMAIN_AFFECT_CONFIG
        self.vm.handle.attachDeviceFlags(ET.tostring(disk.disk.xml(), encoding="unicode"), both)
        self.disks[target] = disk
        self.note(f"  attach {target}: file {disk.serial}")

    def detach(self):
        """Hot where that needs no help of an operating system."""
        disk = self.some_disk(lambda disk: disk.disk.target not in ("vda", "vdc"))
        if disk is None:
            return
        target = disk.disk.target
        if target.startswith("s"):
            both = lab.libvirt.VIR_DOMAIN_AFFECT_LIVE | lab.libvirt.VIR_DOMAIN_AFFECT_CONFIG
            self.vm.handle.detachDeviceFlags(ET.tostring(disk.disk.xml(), encoding="unicode"), both)
            wait_until("the disk to be gone", lambda: f"dev='{target}'" not in self.vm.handle.XMLDesc())
            self.forget_disk(target)
        else:
            self.stop()
            self.forget_disk(target)
            self.start()
        self.note(f"  detach {target}")

    def forget_disk(self, target):
        self.detached[target] = self.disks.pop(target)
        self.wandered.add(self.detached[target].serial)

    def replace(self):
        """By another file of the same name."""
        disk = self.some_disk(lambda disk: disk.disk.target != "vda")
        target = disk.disk.target
        self.stop()
        os.unlink(disk.disk.path)
        self.disks[target] = self.make_disk(target, disk.disk.fmt, disk.cluster, disk.disk.path)
        for known in self.bitmaps.values():
            known.pop(target, None)
        self.start()
        self.note(f"  replace {target}: file {self.disks[target].serial}")

    EVENTS = [(resize, 6), (restart, 5), (kill_and_start, 4), (define_anew, 5), (attach, 6), (detach, 5), (replace, 4)]

    def change_vm(self):
        for _ in range(self.chance.randrange(1, 6)):
            self.write(only_writes=self.held)  # QEMU drops what is trimmed while a job runs
        if not self.held and self.chance.random() < 0.5:
            event = self.chance.choices([event for event, _ in self.EVENTS], [weight for _, weight in self.EVENTS])[0]
            event(self)
            for _ in range(self.chance.randrange(0, 3)):
                self.write()
