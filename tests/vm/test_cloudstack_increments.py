# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Increments by CloudStack's contract: -M full and incremental with --bitmap-new, --bitmap-parent and --parent-paths, read and restored
as its Java does. Numbers in names of rules are the contract's."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import cloudstack  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
from lab import MIB  # noqa: E402
from cloudstack_test import CloudStackTest, FAILED, OK  # noqa: E402

TIMES = [f"2026.11.26.09.30.{number:02}" for number in range(10)]


class IncrementTest(CloudStackTest):
    def setUp(self):
        super().setUp()
        self.disks = [self.disk("vda", 64 * MIB, "qcow2", fill=4 * MIB, name="8f7c"),
                      self.disk("vdb", 33 * MIB, "qcow2", fill=2 * MIB, name="be12")]
        self.vm = self.domain("i-2-30-VM", self.disks)

    def checkpoints(self):
        return sorted(point.getName() for point in self.vm.handle.listAllCheckpoints())

    def bitmaps(self):
        return [sorted(bitmap["name"] for bitmap in block["inserted"].get("dirty-bitmaps", []))
                for block in self.vm.qmp("query-block") if block.get("inserted")]

    def full(self, number):
        return self.take(self.vm.name, TIMES[number], mode="full", bitmap_new=f"backup-{number}")

    def increment(self, number, parent, **changed):
        words = {"mode": "incremental", "bitmap_new": f"backup-{number}", "bitmap_parent": f"backup-{parent}", "parents": self.parents(parent)}
        return self.take(self.vm.name, TIMES[number], **{**words, **changed})

    def parents(self, number):
        return ",".join(cloudstack.backup_file(f"{self.vm.name}/{TIMES[number]}", place, str(disk.path)) for place, disk in
                        enumerate(self.disks))

    def copies(self):
        copies = {}
        for disk in self.disks:
            line = f'qemu-io -d /machine/peripheral/ua-{disk.target}/virtio-backend "flush"'  # its tables lie in QEMU's memory
            self.vm.qmp("human-monitor-command", **{"command-line": line})
            copies[disk.path] = self.dir / f"{disk.target}.copy"
            subprocess.run(["qemu-img", "convert", "-U", "-f", disk.fmt, "-O", "raw", str(disk.path), str(copies[disk.path])], check=True)
        return copies

    def backing_names(self, number):
        with self.mounted() as nas:
            return [judge.info(image).get("backing-filename") for image in sorted((nas / self.vm.name / TIMES[number]).glob("*.qcow2"),
                                                                                  reverse=True)]

    def assert_increment(self, answer, number, parent):
        self.assertNotIn(cloudstack.FALLBACK, answer.out)  # [T16]
        size = self.assert_size(answer)
        self.assertLess(size, 4 * MIB)
        self.assertEqual(self.backing_names(number), [f"../{TIMES[parent]}/root.8f7c.qcow2", f"../{TIMES[parent]}/datadisk.be12.qcow2"])
        self.assertEqual(self.assert_stored(self.vm.name, self.copies(), TIMES[number], texts=True), size)  # [T44, T46]

    def assert_fallback(self, answer, number):
        self.assertEqual(answer.out.count(cloudstack.FALLBACK), 1, str(answer))  # [T15]
        self.assertEqual(answer.out.splitlines()[0], cloudstack.FALLBACK)
        self.assert_size(answer)
        self.assertEqual(self.backing_names(number), [None, None])  # [T43]
        self.assertIn(f"backup-{number}", self.checkpoints())
        self.assert_stored(self.vm.name, self.copies(), TIMES[number], texts=True)


class Increments(IncrementTest):
    def test_hold_what_changed_and_are_restored_as_java_does(self):
        self.assert_size(self.full(0))
        self.assertEqual(self.checkpoints(), ["backup-0"])
        for number in (1, 2, 3):
            self.vm.write("vda", number * 7 * MIB + 4096, 65536, number)
            self.vm.write("vdb", 65536 * number, 1000, 0x50 + number)
            self.vm.write("vda", 65536, 65536, 0)
            answer = self.increment(number, number - 1)
            self.assert_increment(answer, number, number - 1)
            self.assertEqual(self.checkpoints(), [f"backup-{number}"])  # the parent's is used up [T50]
            self.assertEqual(self.bitmaps(), [[f"backup-{number}"]] * 2)

    def test_go_on_when_libvirt_has_forgotten_the_checkpoint(self):
        """CloudStack defines the domain anew at each start [T49]."""
        self.assertEqual(self.full(0).status, OK)
        self.vm.destroy()
        self.vm.handle.undefineFlags(lab.libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        self.vm.start()
        self.assertEqual(self.checkpoints(), [])
        self.vm.write("vda", 5 * MIB, MIB)
        self.assert_increment(self.increment(1, 0), 1, 0)
        self.assertEqual(self.checkpoints(), ["backup-1"])

    def test_become_a_full_backup_when_a_bitmap_is_missing_on_one_disk(self):
        self.assertEqual(self.full(0).status, OK)
        node = next(block["inserted"]["node-name"] for block in self.vm.qmp("query-block") if "be12" in block["inserted"]["file"])
        self.vm.qmp("block-dirty-bitmap-remove", node=node, name="backup-0")
        self.assert_fallback(self.increment(1, 0), 1)  # [T48]
        self.assertIn("bitmap backup-0 is missing", self.log.read_text())

    def test_become_a_full_backup_when_the_parent_is_not_that_of_the_bitmap(self):
        self.assertEqual(self.full(0).status, OK)
        self.assertEqual(self.full(1).status, OK)
        self.assert_fallback(self.increment(2, 0, bitmap_parent="backup-1"), 2)
        self.assertIn("was made with another checkpoint", self.log.read_text())

    def test_become_a_full_backup_when_a_disk_was_resized(self):
        self.assertEqual(self.full(0).status, OK)
        self.vm.handle.blockResize("vdb", 48 * MIB, lab.libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        self.assert_fallback(self.increment(1, 0), 1)

    def test_become_a_full_backup_when_a_volume_was_moved(self):
        """Java makes the parent's path of the volume's name, which is another then: nothing has that name (#13074)."""
        self.assertEqual(self.full(0).status, OK)
        self.vm.destroy()
        self.disks[1].path = self.disks[1].path.rename(self.dir / "c0ffee.qcow2")
        self.vm.start()
        self.assert_fallback(self.increment(1, 0), 1)
        self.assertIn("vdb: was replaced", self.log.read_text())

    def test_become_a_full_backup_when_the_parent_is_encrypted(self):
        """With `-e` there is no incremental mode, by the contract; the offering was changed in between."""
        key = self.dir / "key"
        key.write_bytes(b"s3cret")
        self.assertEqual(self.call(*self.take_words(self.vm.name, TIMES[0], mode="full", bitmap_new="backup-0"), "-e", key).status, OK)
        self.assert_fallback(self.increment(1, 0), 1)
        self.assertIn("encrypted", self.log.read_text())

    def test_are_refused_with_a_parent_that_is_none(self):
        self.assertEqual(self.full(0).status, OK)
        good = self.parents(0).split(",")
        wrong = {
            good[0]: "PARENT_PATHS list shorter than DISK_PATHS — missing parent for disk index 1",  # [T47]
            f"{good[0]},{self.vm.name}/{TIMES[5]}/datadisk.be12.qcow2": "Parent backup file does not exist on NAS: ",
            f"{good[0]},{self.vm.name}/{TIMES[0]}/datadisk.gone.qcow2": "Parent backup file does not exist on NAS: ",
            f"{good[0]},../../etc/passwd": "is not in a backup of this VM on the NAS",
            f"{good[0]},other-VM/{TIMES[0]}/datadisk.be12.qcow2": "is not in a backup of this VM on the NAS",
            f"{good[0]},/{good[1]}": "is not in a backup of this VM on the NAS",
            f"{good[1]},{good[0]}": "is not that of vda",
        }
        for parents, says in wrong.items():
            with self.subTest(parents=parents):
                self.assert_failure(self.increment(1, 0, parents=parents), says)
                self.assertEqual(self.checkpoints(), ["backup-0"])
        self.assert_failure(self.increment(1, 0, bitmap_new="backup-0"), "checkpoint backup-0: exists already")
        for name in ("../backup-1", "a/b", ".backup", "two\nlines", "\x1b[31m", "x" * 256):
            with self.subTest(name=name):
                self.assert_failure(self.increment(1, 0, bitmap_new=name), "^checkpoint .*: no name for one")
                self.assertEqual(self.checkpoints(), ["backup-0"])
        with self.mounted() as nas:
            self.assertEqual([path.name for path in (nas / self.vm.name).iterdir()], [TIMES[0]])
            image = nas / good[0]
            image.write_bytes(image.read_bytes()[:-65536])
        self.assert_failure(self.increment(1, 0), "root.8f7c.qcow2: has .* bytes, the manifest says")
        with self.mounted() as nas:
            manifest = (nas / good[0]).with_name("manifest.json")
            whole = manifest.read_bytes()
            manifest.write_bytes(whole.replace(b"67108864", b"67108865", 1))
        self.assert_failure(self.increment(1, 0), "manifest.json: seal: ")
        with self.mounted() as nas:
            manifest.write_bytes(whole)
            (nas / good[0]).unlink()
        self.assert_failure(self.increment(1, 0), "Parent backup file does not exist on NAS: .*root.8f7c.qcow2")
        self.assertEqual(self.checkpoints(), ["backup-0"])

    def test_that_fail_leave_the_next_one_possible(self):
        self.assertEqual(self.full(0).status, OK)
        self.vm.write("vda", 8 * MIB, MIB, 7)
        call = self.begin(*self.take_words(self.vm.name, TIMES[1], mode="incremental", bitmap_new="backup-1", bitmap_parent="backup-0",
                                           parents=self.parents(0)), env={"MIN_FREE_SPACE": str(1 << 40)})
        self.assertEqual(call.end().status, FAILED)
        self.assertEqual(self.checkpoints(), ["backup-0"])
        self.vm.write("vda", 16 * MIB, MIB, 9)
        self.assert_increment(self.increment(2, 0), 2, 0)


if __name__ == "__main__":
    lab.main()
