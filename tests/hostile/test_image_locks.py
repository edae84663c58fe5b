#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Image locks against real QEMU: we see who has an image open, they see us, and whoever does not look is found out at the end."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from hostile import LOCKED, MIB, SOURCE, HostileTest, random_disk, wait_until

DISK = random_disk(24 * MIB, data_every=1)
SLOWLY = ("--rate", "8M")  # three seconds: half-way can be met
WRITE_REFUSED = 'Failed to get "write" lock'
SHARED_WRITE_REFUSED = 'Failed to get shared "write" lock'


class ImageLockTest(HostileTest):
    def setUp(self):
        super().setUp()
        self.disk = self.write_file("disk.raw", DISK)

    def qemu_io(self, path, *options):
        """qemu-io with the image open, until the test ends."""
        process = self.start("qemu-io", "-f", "raw", *options, path)
        self.ask(process, "read 0 512", "512/512")
        return process

    def ask(self, process, command, expected):
        process.stdin.write(command + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if expected in line:
                return
        self.fail(f"{process.args}: ended: {process.stderr.read()}")

    def qemu(self, path, options=""):
        """A machine without a guest that has the image as its disk. Returns it once it runs, or has ended."""
        process = self.start("qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "accel=tcg", "-S", "-monitor", "stdio",
                             "-drive", f"if=virtio,id=disk,format=raw,file={path}{options}")
        wait_until("the machine runs or ends", lambda: process.poll() is not None or self.has_open(process.pid, path))
        return process

    @staticmethod
    def has_open(pid, path):
        """Open for good: a device that is attached, not just a look at the image."""
        try:
            with open("/proc/locks") as locks:
                inode = ":" + str(os.stat(path).st_ino) + " "
                locked = any(inode in line and " 100 101" in line for line in locks)
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except FileNotFoundError:
            return False
        return str(path) in links and locked

    def start_machine(self, path, options="", *more):
        """The same for one whose disk is not locked: it runs once its monitor answers."""
        process = self.start("qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "accel=tcg", "-S", "-monitor", "stdio",
                             "-drive", f"if=virtio,id=disk,format=raw,file={path}{options}", *more)
        self.ask(process, "info status", "VM status")
        return process

    def run_qemu_io(self, path, command):
        return subprocess.run(["qemu-io", "-f", "raw", "-c", command, str(path)], capture_output=True, text=True)


class Sources(ImageLockTest):
    def test_an_image_that_qemu_io_has_open_for_writing_is_refused(self):
        self.qemu_io(self.disk)
        self.assert_refused(self.convert(self.disk), SOURCE, "disk.raw: in use: .*for writing")

    def test_an_image_in_use_is_read_all_the_same_when_asked_to(self):
        self.qemu_io(self.disk)
        self.assert_done(self.convert(self.disk, None, "-U"))

    def test_an_image_that_is_open_for_reading_is_read(self):
        self.qemu_io(self.disk, "-r")
        self.assert_done(self.convert(self.disk), self.disk)

    def test_the_disk_of_a_running_machine_is_refused(self):
        self.qemu(self.disk)
        self.assert_refused(self.convert(self.disk), SOURCE, "in use")

    def test_the_read_only_disk_of_a_running_machine_is_read(self):
        self.start_machine(self.disk, ",readonly=on")
        self.assert_done(self.convert(self.disk), self.disk)

    def test_a_disk_that_a_machine_shares_is_refused_because_it_is_written_to(self):
        self.start_machine(self.disk, ",if=none", "-device", "virtio-blk-pci,drive=disk,share-rw=on")
        self.assert_refused(self.convert(self.disk), SOURCE, "in use")

    def test_a_file_that_any_program_has_open_for_writing_is_refused(self):
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as editor:
            editor.write(DISK)
            editor.flush()
            self.assert_refused(self.convert(editor.name), SOURCE, "in use: .*for writing")

    def test_two_of_us_read_one_image_at_once(self):
        first = self.start_convert(self.disk, *SLOWLY)
        self.assert_done(self.convert(self.disk, self.out / "second.qcow2"), self.disk, self.out / "second.qcow2")
        self.assert_done(self.finish(first), self.disk)


class WhileWeRead(ImageLockTest):
    def test_qemu_io_is_refused_and_the_image_is_right(self):
        process = self.start_convert(self.disk, *SLOWLY)
        refused = self.run_qemu_io(self.disk, "write 0 512")
        self.assertIn(WRITE_REFUSED, refused.stderr)
        self.assertNotEqual(refused.returncode, 0)
        self.assert_done(self.finish(process), DISK)

    def test_a_machine_that_starts_is_refused_and_the_image_is_right(self):
        process = self.start_convert(self.disk, *SLOWLY)
        machine = self.qemu(self.disk)
        self.assertNotEqual(machine.poll(), None, "the machine runs")
        self.assertIn(WRITE_REFUSED, machine.stderr.read())
        self.assert_done(self.finish(process), DISK)

    def test_qemu_img_does_not_resize(self):
        process = self.start_convert(self.disk, *SLOWLY)
        resized = subprocess.run(["qemu-img", "resize", "-f", "raw", str(self.disk), "+1M"], capture_output=True, text=True)
        self.assertIn('lock', resized.stderr)
        self.assert_done(self.finish(process), DISK)

    def test_readers_are_welcome(self):
        process = self.start_convert(self.disk, *SLOWLY)
        subprocess.run(["qemu-img", "info", "-f", "raw", self.disk], check=True, capture_output=True)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", self.disk, self.dir / "copy"], check=True)
        self.assertIsNone(process.poll(), "too fast to show anything")
        self.assert_done(self.finish(process), DISK)

    def test_a_machine_that_starts_without_looking_and_writes_makes_the_run_fail(self):
        process = self.start_convert(self.disk, *SLOWLY)
        machine = self.start_machine(self.disk, ",file.locking=off")
        self.ask(machine, 'qemu-io disk "write -P 0xab 1M 64k"', "65536/65536")
        machine.stdin.write("quit\n")
        machine.stdin.flush()
        machine.wait(30)
        self.assertIsNone(process.poll(), "too fast to show anything")
        self.assert_refused(self.finish(process), SOURCE, "changed while it was read")

    def test_a_machine_that_starts_without_looking_makes_the_run_fail_even_before_it_writes(self):
        shared_memory = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.addCleanup(shared_memory.cleanup)
        self.disk = Path(shared_memory.name) / "disk.raw"
        self.disk.write_bytes(DISK)
        process = self.start_convert(self.disk, *SLOWLY)
        self.start_machine(self.disk, ",file.locking=off")
        self.assertIsNone(process.poll(), "too fast to show anything")
        self.assert_refused(self.finish(process), SOURCE, "came into use while it was read")

    def test_any_program_that_writes_makes_the_run_fail(self):
        process = self.start_convert(self.disk, *SLOWLY)
        with open(self.disk, "r+b") as editor:
            editor.seek(4 * MIB)
            editor.write(b"too late")
        self.assert_refused(self.finish(process), SOURCE, "changed while it was read")


class Targets(ImageLockTest):
    def test_an_image_that_we_write_is_seen_as_in_use(self):
        process = self.start_convert(self.disk, *SLOWLY)
        (partial,) = self.out.iterdir()
        read = subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", str(partial), str(self.dir / "copy")],
                              capture_output=True, text=True)
        self.assertIn(SHARED_WRITE_REFUSED, read.stderr)
        self.assertIn(WRITE_REFUSED, self.run_qemu_io(partial, "write 0 512").stderr)
        self.assert_done(self.finish(process), DISK)

    def test_nothing_is_locked_afterwards(self):
        self.assert_done(self.convert(self.disk), DISK)
        for path in (self.disk, self.out / "disk.qcow2"):
            self.assertEqual(self.run_qemu_io(path, "write 0 512").returncode, 0)


class Devices(ImageLockTest):
    def setUp(self):
        super().setUp()
        attached = subprocess.run(["losetup", "--find", "--show", self.disk], capture_output=True, text=True)
        if attached.returncode != 0:
            self.skipTest("no loop device: " + attached.stderr.strip())
        self.device = Path(attached.stdout.strip())
        self.addCleanup(subprocess.run, ["losetup", "--detach", self.device], check=True)

    def test_a_device_is_read(self):
        self.assert_done(self.convert(self.device), DISK)

    def test_a_device_that_qemu_io_has_open_for_writing_is_refused(self):
        self.qemu_io(self.device)
        self.assert_refused(self.convert(self.device), SOURCE, "in use")

    def test_a_writer_of_a_device_is_refused_while_we_read(self):
        process = self.start_convert(self.device, *SLOWLY)
        self.assertIn(WRITE_REFUSED, self.run_qemu_io(self.device, "write 0 512").stderr)
        self.assert_done(self.finish(process), DISK)

    def test_a_device_that_is_written_to_makes_the_run_fail(self):
        process = self.start_convert(self.device, *SLOWLY)
        with open(self.device, "r+b") as editor:
            editor.seek(4 * MIB)
            editor.write(b"too late")
        self.assert_refused(self.finish(process), SOURCE, "changed while it was read")

    def test_a_device_that_a_machine_has_is_no_target(self):
        self.qemu_io(self.device)
        source = self.write_file("small.raw", random_disk(MIB))
        result = self.convert(source, self.device, "-O", "raw", "--force")
        self.assert_refused(result, LOCKED, "in use")


if __name__ == "__main__":
    unittest.main()
