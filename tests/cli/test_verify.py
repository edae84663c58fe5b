#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What was backed up is read back and put back; whatever alters it on the way is found, and where."""
import json
import os
import random
import subprocess
import unittest

from cli import *

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
KINDS = ((), ("-c",), ("-c=zstd",), ("-e", "key"), ("-c", "-e", "key"))


class StoredTest(CliTest):
    def setUp(self):
        super().setUp()
        (self.dir / "key").write_bytes(b"correct horse")
        (self.dir / "wrong").write_bytes(b"battery")
        self.nas = self.dir / "nas"
        self.nas.mkdir()
        self.disks = [self.make_patchy("vda.raw", 5 * MIB + 512, 1), self.make_patchy("vdb.raw", 3 * MIB, 2)]

    def make_patchy(self, name, size, seed):
        chance = random.Random(seed)
        disk = self.dir / name
        with open(disk, "wb") as out:
            out.truncate(size)
            for _ in range(25):
                out.seek(chance.randrange(0, size - 70_000))
                out.write(chance.randbytes(chance.randrange(1, 60_000)) if chance.random() < 0.5 else b"text and more " * chance.randrange(1, 4000))
            out.truncate(size)
        return disk

    def backup(self, *options):
        words = [word for disk in self.disks for word in ("--disk", disk)]
        more = (*options, *WEAK) if "-e" in options else options
        result = self.run_command("backup", *words, "--name", "web", "--to", self.nas, "--min-free", "0", "--json", *more, cwd=self.dir)
        self.assert_status(result, DONE)
        return Path(json.loads(result.stdout)["set"])

    def opened(self, options):
        return ("-e", "key") if "-e" in options else ()

    def verify(self, what, *options):
        return self.run_command("verify", what, *options, cwd=self.dir)

    def damages(self, what, *options):
        result = self.verify(what, "--json", *options)
        self.assertEqual(result.returncode, DAMAGED, result.stdout + result.stderr)
        report = json.loads(result.stdout)
        return report.get("damage") or [{"what": report["error"], "disk": None}]

    def restore(self, what, *options):
        return self.run_command("restore", what, *options, cwd=self.dir)

    def change(self, path, offset, mask=0x40):
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ mask]))


class ASet(StoredTest):
    def test_of_every_kind_proves_itself_and_comes_back(self):
        for options in KINDS:
            with self.subTest(options=options):
                made = self.backup(*options)
                result = self.verify(made, *self.opened(options))
                self.assert_status(result, DONE)
                self.assertEqual(result.stdout.splitlines()[-1], "no errors were found")
                for format in ("raw", "qcow2"):
                    back = self.dir / f"back-{format}-{len(list(self.dir.iterdir()))}"
                    back.mkdir()
                    self.assert_status(self.restore(made, "--to", back, "-O", format, *self.opened(options)), DONE)
                    for index, disk in enumerate(self.disks):
                        restored = back / f"disk{index}.{format}"
                        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", format, disk, restored], check=True, capture_output=True)
                        if format == "raw":
                            self.assertEqual(restored.read_bytes(), disk.read_bytes())
                            self.assertLess(restored.stat().st_blocks, disk.stat().st_size // 512, "not sparse")

    def test_that_is_encrypted_needs_its_passphrase(self):
        made = self.backup("-e", "key")
        for verb in (("verify", made), ("restore", made, "--to", self.out)):
            self.assert_one_line(self.run_command(*verb, cwd=self.dir), WRONG_KEY, "is encrypted: write -e FILE")
            self.assert_one_line(self.run_command(*verb, "-e", "wrong", cwd=self.dir), WRONG_KEY, "does not open it")
        self.assert_nothing_left()

    def test_whose_guest_data_changed_names_disk_range_and_place(self):
        made = self.backup()
        image = next(made.glob("*disk1*.qcow2"), None) or sorted(made.glob("*.qcow2"))[-1]
        extents = json.loads(subprocess.run(["qemu-img", "map", "--output=json", image], check=True, capture_output=True).stdout)
        extent = next(extent for extent in extents if extent["data"] and extent.get("offset"))
        self.change(image, extent["offset"] + 100)
        found = self.damages(made)
        self.assertEqual(len(found), 1, found)
        damage = found[0]
        piece = (extent["start"] + 100) // 65536 * 65536
        self.assertEqual(damage["guest_offset"], piece)
        self.assertLessEqual(damage["guest_length"], 65536)
        self.assertEqual(damage["file"], str(image))
        self.assertEqual(damage["file_offset"], extent["offset"] + piece - extent["start"])
        self.assertRegex(self.verify(made).stdout, r"guest bytes \d+ to \d+ \(.*at byte \d+\): differs from what was backed up")
        self.assert_one_line(self.restore(made, "--to", self.out), DAMAGED, "differ from what was backed up")
        self.assert_nothing_left()

    def test_with_several_damages_tells_all_of_them(self):
        made = self.backup("-c")
        images = sorted(made.glob("*.qcow2"))
        for image in images:
            size = image.stat().st_size
            for at in range(0x50000, size - 100, size // 7):
                self.change(image, at)
        found = self.damages(made)
        self.assertEqual({damage["file"] for damage in found if damage["file"]}, set(map(str, images)))
        self.assertGreater(len(found), 4)

    def test_with_a_missing_or_short_or_foreign_file_is_damaged(self):
        for options in ((), ("-e", "key")):
            for pattern in ("*.digests", "manifest.json", "*.qcow2"):
                for act in ("remove", "cut", "swap"):
                    with self.subTest(options=options, pattern=pattern, act=act):
                        made, other = self.backup(*options), self.backup(*options)
                        file = sorted(made.glob(pattern))[0]
                        if act == "remove":
                            file.unlink()
                        elif act == "cut":
                            os.truncate(file, file.stat().st_size - 1)
                        else:
                            file.write_bytes((other / file.name).read_bytes())
                        result = self.verify(made, *self.opened(options))
                        # Without a key, the same disks give the same images: nothing was altered then.
                        harmless = act == "swap" and not options and pattern != "manifest.json"
                        if pattern == "manifest.json" and act == "remove":
                            self.assertIn(result.returncode, (DAMAGED, NOT_FOUND), result.stderr)
                        else:
                            self.assertEqual(result.returncode, DONE if harmless else DAMAGED, result.stdout + result.stderr)

    def test_has_every_single_changed_byte_found(self):
        """The short form: some hundred places, over all files of a set; what is not found must not alter what comes back."""
        chance = random.Random(os.environ.get("SEED", "1"))
        for options in KINDS:
            made = self.backup(*options)
            for file in sorted(made.iterdir()):
                size = file.stat().st_size
                for _ in range(4):
                    at, mask = chance.randrange(size), 1 << chance.randrange(8)
                    with self.subTest(options=options, file=file.name, at=at, mask=mask):
                        self.change(file, at, mask)
                        result = self.verify(made, *self.opened(options))
                        self.assertIn(result.returncode, (DONE, DAMAGED, WRONG_KEY), result.stdout + result.stderr)
                        if result.returncode == DONE:
                            back = self.dir / "back"
                            back.mkdir(exist_ok=True)
                            self.assert_status(self.restore(made, "--to", back, "-O", "raw", "--force", *self.opened(options)), DONE)
                            for index, disk in enumerate(self.disks):
                                self.assertEqual((back / f"disk{index}.raw").read_bytes(), disk.read_bytes())
                        self.change(file, at, mask)


class AnImage(StoredTest):
    def test_is_read_back_and_not_proved(self):
        self.assert_status(self.run_command("convert", self.disks[0], self.image, "-c"), DONE)
        result = self.verify(self.image)
        self.assertEqual(result.returncode, WARNINGS, result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], "read back, content not proved: no digests")
        self.change(self.image, self.image.stat().st_size - 70_000)
        damaged = self.verify(self.image)
        self.assertIn(damaged.returncode, (DAMAGED, WARNINGS))

    def test_comes_back_with_a_warning(self):
        self.assert_status(self.run_command("convert", self.disks[0], self.dir / "one.qcow2", "-c", "-e", "key", *WEAK, cwd=self.dir), DONE)
        result = self.restore("one.qcow2", "--disk", f"one={self.out}/a.raw", "-e", "key")
        self.assertEqual(result.returncode, WARNINGS, result.stderr)
        self.assertEqual((self.out / "a.raw").read_bytes(), self.disks[0].read_bytes())


class Targets(StoredTest):
    def setUp(self):
        super().setUp()
        self.made = self.backup("-c")

    def test_that_exist_are_overwritten_only_when_asked(self):
        target = self.out / "disk0.qcow2"
        target.write_bytes(b"precious")
        self.assert_one_line(self.restore(self.made, "--to", self.out), FAILED, "disk0.qcow2: exists; write --force")
        self.assertEqual(target.read_bytes(), b"precious")
        self.assertEqual([path.name for path in self.out.iterdir()], ["disk0.qcow2"])
        self.assert_status(self.restore(self.made, "--to", self.out, "--force"), DONE)
        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", self.disks[0], target], check=True, capture_output=True)

    def test_that_are_in_use_are_not_even_then(self):
        target = self.out / "disk0.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", target, "1M"], check=True)
        user = subprocess.Popen(["qemu-io", target], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(lambda: user.communicate(b"quit\n"))
        wait_until("qemu-io has it open", lambda: b"qemu-io>" in os.read(user.stdout.fileno(), 4096))
        before = target.read_bytes()
        self.assert_one_line(self.restore(self.made, "--to", self.out, "--force"), LOCKED, "in use")
        self.assertEqual(target.read_bytes(), before)

    def test_may_be_chosen_by_name_id_and_file(self):
        names = sorted(path.name for path in self.made.glob("*.qcow2"))
        self.assert_status(self.restore(self.made, "--disk", f"disk0={self.out}/a.img", "--disk", f"vdb.raw={self.out}/b.qcow2"), DONE)
        self.assertEqual((self.out / "a.img").read_bytes(), self.disks[0].read_bytes())
        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", self.disks[1], self.out / "b.qcow2"], check=True, capture_output=True)
        self.assert_one_line(self.restore(self.made, "--disk", f"vdz={self.out}/z"), USAGE, r"vdz: there is no such disk \(there is disk0, disk1\)")
        self.assert_one_line(self.restore(self.made, "--disk", f"disk0={self.out}/z", "--disk", f"disk1={self.out}/z"), USAGE, "two disks would go there")
        self.assertEqual(len(names), 2)

    def test_are_only_told_of_by_a_dry_run(self):
        result = self.restore(self.made, "--to", self.out, "--dry-run")
        self.assert_status(result, DONE)
        self.assertIn(f"disk0: would be written to {self.out}/disk0.qcow2", result.stdout)
        self.assert_nothing_left()

    def test_may_be_nbd_exports(self):
        with open(self.dir / "export.raw", "wb") as export:
            export.truncate(8 * MIB)
        done = subprocess.run(["nbdkit", "-U", "-", "file", self.dir / "export.raw", "--run",
                               f"{NASBACKUP} restore {self.made} --disk disk1=$uri"], capture_output=True, text=True)
        self.assertEqual(done.returncode, DONE, done.stderr)
        self.assertEqual((self.dir / "export.raw").read_bytes()[:3 * MIB], self.disks[1].read_bytes())


if __name__ == "__main__":
    unittest.main()
