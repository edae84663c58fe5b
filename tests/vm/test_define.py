#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What restore asks of libvirt: who uses what would be overwritten, and to define the VM that is back."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import daemon  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
from daemon import wait_until  # noqa: E402
from lab import DONE, LOCKED, MIB, SOURCE, USAGE, WARNINGS, Disk  # noqa: E402


class RestoreTest(lab.LabTest):
    def setUp(self):
        super().setUp()
        self.place = self.dir / "restored"
        self.place.mkdir()

    def backed_up(self, *options, **more):
        """A domain that is shut off, and its set."""
        domain = self.domain(disks=[self.disk("vda", 32 * MIB, fill=2 * MIB), self.disk("vdb", 16 * MIB, "qcow2", fill=MIB)], start=False, **more)
        self.assert_status(self.backup(domain, *options), DONE)
        return domain, self.one_set(domain)

    def restore(self, backup_set, *options):
        return self.run_command("restore", backup_set, *options)

    def assert_nothing_restored(self):
        self.assertEqual(list(self.place.iterdir()), [])


class ARestoredVm(RestoreTest):
    def test_is_defined_and_starts(self):
        domain, backup_set = self.backed_up()
        self.assert_status(self.restore(backup_set, "--to", self.place, "--define", "--new-name", "again", "--new-uuid"), DONE)
        again = domain.connection.lookupByName("again")
        self.addCleanup(again.undefine)
        self.assertTrue(again.isPersistent())
        self.assertNotEqual(again.UUIDString(), domain.uuid)
        self.assertIn(f"file='{self.place}/vda.qcow2'", again.XMLDesc())
        again.create()
        again.destroy()

    def test_has_its_firmware_variables_where_they_were_put(self):
        domain = self.domain(disks=[self.disk("vda", 16 * MIB, fill=MIB)], nvram=self.dir / "vars.fd", tpm=True, memory_mib=64)
        domain.destroy()
        self.assert_status(self.backup(domain), DONE)
        domain.remove()
        result = self.restore(self.one_set(domain), "--to", self.place, "--define", "--json")
        self.assert_status(result, WARNINGS, "the TPM's state; put it below")
        self.assertTrue(result.json()["defined"])
        self.assertIn(f">{self.place}/machine_VARS.fd</nvram>", domain.handle.XMLDesc())
        self.assertEqual(domain.handle.UUIDString(), domain.uuid)
        domain.handle.create()  # and by them it starts

    def test_that_is_there_already_is_left_alone(self):
        domain, backup_set = self.backed_up()
        before = domain.handle.XMLDesc()
        define = ("--to", self.place, "--define")
        for options, says in (((), "exists; write --force"), (("--new-uuid",), "exists, with another UUID"),
                              (("--new-uuid", "--force"), "exists, with another UUID"),
                              (("--new-name", "again", "--force"), "its UUID is that of domain machine")):
            for dry in (), ("--dry-run",):
                self.assert_status(self.restore(backup_set, *define, *options, *dry), SOURCE, says)
        domain.handle.create()
        self.assert_status(self.restore(backup_set, *define, "--force"), LOCKED, "machine: runs")
        domain.destroy()
        self.assert_nothing_restored()
        self.assertEqual(domain.handle.XMLDesc(), before)

    def test_is_redefined_with_force(self):
        domain, backup_set = self.backed_up()
        self.assert_status(self.restore(backup_set, "--to", self.place, "--define", "--force"), DONE)
        self.assertIn(f"file='{self.place}/vdb.qcow2'", domain.handle.XMLDesc())
        self.assertEqual(domain.handle.UUIDString(), domain.uuid)

    def test_is_only_told_of_by_a_dry_run(self):
        domain, backup_set = self.backed_up()
        domain.remove()
        result = self.restore(backup_set, "--to", self.place, "--define", "--dry-run")
        self.assert_status(result, DONE, "machine: would be defined")
        self.assert_nothing_restored()
        self.assertEqual(domain.connection.listDefinedDomains(), [])

    def test_whose_definition_fails_has_its_disks_all_the_same(self):
        domain, backup_set = self.backed_up()
        domain.remove()
        run = self.begin("restore", backup_set, "--to", self.place, "--define", "--rate", "2M", "--json")
        wait_until("it writes", lambda: list(self.place.iterdir()) or not run.running())
        domain.define()  # somebody else is quicker
        result = run.end()
        self.assert_status(result, WARNINGS, f"exists; .*virsh define {self.place}/machine.xml")
        self.assertFalse(result.json()["defined"])
        judge.same(self.place / "vda.qcow2", domain.disks[0].path)

    def test_is_not_begun_without_a_libvirt_to_define_it(self):
        domain, backup_set = self.backed_up()
        domain.remove()
        self.addCleanup(daemon.start)
        daemon.stop()
        self.assert_status(self.restore(backup_set, "--to", self.place, "--define"), SOURCE, "libvirt")
        self.assert_nothing_restored()
        self.assert_status(self.restore(self.image(backup_set, "vda"), "--to", self.place, "--define"), USAGE, "no domain XML")


class ADiskInUse(RestoreTest):
    def loop_device(self):
        image = self.disk("vda", 64 * MIB, fill=MIB, name="loop.img").path
        device = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device])
        return device

    def test_is_not_overwritten_by_any_name(self):
        """A block device: of QEMU's locks on it nothing is seen here, because libvirt gave it device nodes of its own."""
        domain, backup_set = self.backed_up()
        device = self.loop_device()
        link = self.dir / "link"
        link.symlink_to(device)
        user = self.domain("user", [Disk("vda", device)])
        for name in device, link:
            self.assert_status(self.restore(backup_set, "--disk", f"vda={name}", "--force"), LOCKED, "in use by domain user")
        user.destroy()
        self.assert_status(self.restore(backup_set, "--disk", f"vda={link}", "--force"), DONE)
        length = 32 * MIB
        with open(device, "rb") as restored:
            self.assertEqual(restored.read(length), Path(domain.disks[0].path).read_bytes())

    def test_is_not_overwritten_where_a_disk_stands_on_it(self):
        domain, backup_set = self.backed_up()
        base, top = self.disk("vda", 16 * MIB, fill=MIB, name="base.raw").path, self.dir / "top.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(top)], check=True)
        self.domain("user", [Disk("vda", top, "qcow2")])
        before = Path(base).read_bytes()
        for path in base, top:
            self.assert_status(self.restore(backup_set, "--disk", f"vda={path}", "--force"), LOCKED, "in use by domain user")
        self.assertEqual(Path(base).read_bytes(), before)

    def test_of_a_vm_that_is_shut_off_is_restored_in_place(self):
        domain, backup_set = self.backed_up()
        expected, path = Path(domain.disks[0].path).read_bytes(), domain.disks[0].path
        Path(path).write_bytes(b"the guest's mistake" * MIB)
        self.assert_status(self.restore(backup_set, "--disk", f"vda={path}", "-O", "raw", "--force"), DONE)
        self.assertEqual(Path(path).read_bytes(), expected)

    def test_of_a_vm_whose_memory_is_saved_is_in_use(self):
        domain, backup_set = self.backed_up()
        domain.handle.create()
        domain.handle.managedSave(0)
        target = ("--disk", f"vda={domain.disks[0].path}", "-O", "raw", "--force")
        self.assert_status(self.restore(backup_set, *target), LOCKED, "in use by domain machine, whose memory is saved")
        domain.handle.managedSaveRemove(0)
        self.assert_status(self.restore(backup_set, *target), DONE)

    def test_is_judged_by_image_locks_where_no_libvirt_is(self):
        domain, backup_set = self.backed_up()
        self.addCleanup(daemon.start)
        daemon.stop()
        target = ("--disk", f"vda={domain.disks[0].path}", "-O", "raw", "--force")
        quiet, told = self.restore(backup_set, *target), self.restore(backup_set, *target, "-v")
        self.assert_status(quiet, DONE)
        self.assertEqual(quiet.err, "")
        self.assert_status(told, DONE, "libvirt: cannot connect.*image locks alone")


if __name__ == "__main__":
    lab.main()
