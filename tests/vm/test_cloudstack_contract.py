# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Single points of CloudStack's contract that test_cloudstack.py has no place for: bitmaps of stopped VMs, keys of encrypted volumes,
everything at once. Numbers in brackets are the contract's."""
import hashlib
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import cloudstack  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
import qemu_img  # noqa: E402
from lab import MIB  # noqa: E402
from test_cloudstack import FAILED, OK, TIME, CloudStackTest  # noqa: E402


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def bitmaps(image):
    return judge.info(image)["format-specific"]["data"].get("bitmaps", [])


def names_of(image):
    return [bitmap["name"] for bitmap in bitmaps(image)]


class TheBitmapsOfAStoppedVm(CloudStackTest):
    """[T51]"""

    def take_with(self, bitmap, disks, second="00", **more):
        return self.take("i-2-70-VM", f"2026.11.26.10.00.{second}", disks=[str(disk) for disk in disks], mode="full", bitmap_new=bitmap, **more)

    def linked_clone(self):
        self.volume("template", fill=MIB)
        child = self.dir / "5d1e"
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "template", "-F", "qcow2", child)
        qemu_img.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", child)
        return child

    def test_are_added_to_its_qcow2_files_and_to_nothing_else(self):
        child, (plain, _), (raw, _) = self.linked_clone(), self.volume("aa00"), self.volume("bb00", 9 * MIB, "raw", MIB)
        small = self.dir / "cc00"
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k,refcount_bits=1", small, "100M")
        device = subprocess.run(["losetup", "-f", "--show", str(self.volume("dd00", 9 * MIB, "raw", MIB)[0])], check=True, stdout=subprocess.PIPE,
                                text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device])
        untouched = {path: digest(path) for path in (raw, device, self.dir / "template")}
        before = self.dir / "before.raw"
        qemu_img.run("qemu-img", "convert", "-O", "raw", child, before)
        disks = [child, plain, raw, device, small]
        self.assert_size(self.take_with("backup-1", disks), disks)
        self.assert_size(self.take_with("backup-2", disks, "01"), disks)
        for image in (child, plain, small):
            self.assertEqual(names_of(image), ["backup-1", "backup-2"])
            self.assertEqual(bitmaps(image)[0], {"name": "backup-1", "flags": ["auto"], "granularity": 4096 if image == small else 65536})
            judge.check(image)
            self.assertEqual(subprocess.run([lab.NASBACKUP, "check", str(image)], stdout=subprocess.DEVNULL).returncode, 0)
        judge.same(child, before)
        self.assertEqual({path: digest(path) for path in untouched}, untouched)
        with self.mounted() as nas:  # [Q2]
            for image in (nas / "i-2-70-VM").glob("*/*.qcow2"):
                self.assertEqual(bitmaps(image), [])
        qemu_img.run("qemu-img", "bitmap", "--remove", child, "backup-1")
        judge.check(child)
        self.assert_no_leak()

    def test_count_the_writes_of_the_vm_that_is_started_next(self):
        child = self.linked_clone()
        self.assertEqual(self.take_with("backup-1", [child]).status, OK)
        domain = self.domain("i-2-70-VM", [lab.Disk("vda", child, "qcow2")])

        def bitmap():
            return next(bitmap for block in domain.qmp("query-block") for bitmap in block.get("inserted", {}).get("dirty-bitmaps", []))

        self.assertEqual({key: bitmap()[key] for key in ("name", "recording", "persistent", "inconsistent", "count", "granularity") if key in bitmap()},
                         {"name": "backup-1", "recording": True, "persistent": True, "count": 0, "granularity": 65536})
        domain.write("vda", 5 * MIB, 2 * 65536)
        self.assertEqual(bitmap()["count"], 2 * 65536)
        domain.destroy()
        judge.check(child)
        self.assertEqual(names_of(child), ["backup-1"])

    def test_are_all_there_or_none_is(self):
        (one, _), (two, _) = self.volume("aa00"), self.volume("bb00")
        qemu_img.run("qemu-img", "bitmap", "--add", two, "backup-1")
        before = digest(one), digest(two)
        self.assert_failure(self.take_with("backup-1", [one, two]), f"^Failed to pre-seed bitmap backup-1 on {two}: .*is there already")
        self.assertEqual((digest(one), digest(two)), before)
        self.nas = self.make_nas(3 * MIB)
        self.store = cloudstack.store("ext4", self.nas, "loop")
        self.assertEqual(self.take_with("backup-2", [one, two]).status, FAILED)
        self.assertEqual((digest(one), digest(two)), before)
        self.assert_no_leak()

    def test_cannot_be_put_into_an_old_image(self):
        old = self.dir / "aa00"
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", old, "9M")
        self.assert_failure(self.take_with("backup-1", [old]), f"^Failed to pre-seed bitmap backup-1 on {old}: .*version 2")
        with self.mounted() as nas:
            self.assertEqual([path for path in nas.rglob("*") if path.name != "lost+found"], [])


if __name__ == "__main__":
    lab.main()
