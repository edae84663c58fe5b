#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What was backed up is read back and put back; whatever alters it on the way is found, and where."""
import collections
import itertools
import json
import os
import random
import subprocess
import unittest

from cli import *
from first_read import FirstReads, pages_of

sys.path.insert(0, str(ROOT / "tests" / "campaign"))
import damage  # noqa: E402

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
NUMBERS = itertools.count()
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

    def a_name(self):
        """Sets of one name are a second apart at least: those of others need not be waited for."""
        return f"web{os.getpid()}-{next(NUMBERS)}"

    def backup(self, *options, name=None):
        words = [word for disk in self.disks for word in ("--disk", disk)]
        more = (*options, *WEAK) if "-e" in options else options
        result = self.run_command("backup", *words, "--name", name or self.a_name(), "--to", self.nas, "--min-free", "0", "--json", *more, cwd=self.dir)
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
        first = found[0]
        piece = (extent["start"] + 100) // 65536 * 65536
        self.assertEqual(first["guest_offset"], piece)
        self.assertLessEqual(first["guest_length"], 65536)
        self.assertEqual(first["file"], str(image))
        self.assertEqual(first["file_offset"], extent["offset"] + piece - extent["start"])
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
        self.assertEqual({one["file"] for one in found if one["file"]}, set(map(str, images)))
        self.assertGreater(len(found), 4)

    def test_with_a_missing_or_short_or_foreign_file_is_damaged(self):
        for options in ((), ("-e", "key")):
            # Of one name: those of the same second of two VMs have the same.
            made, other = self.backup(*options, name="web"), self.backup(*options, name="web")
            for pattern, act in itertools.product(("*.digests", "manifest.json", "*.qcow2"), ("remove", "cut", "swap")):
                with self.subTest(options=options, pattern=pattern, act=act):
                    file = sorted(made.glob(pattern))[0]
                    content = file.read_bytes()
                    if act == "remove":
                        file.unlink()
                    else:
                        file.write_bytes(content[:-1] if act == "cut" else (other / file.name).read_bytes())
                    result = self.verify(made, *self.opened(options))
                    file.write_bytes(content)
                    # Without a key, the same disks give the same images: nothing was altered then.
                    harmless = act == "swap" and not options and pattern != "manifest.json"
                    if pattern == "manifest.json" and act == "remove":
                        self.assertIn(result.returncode, (DAMAGED, NOT_FOUND), result.stderr)
                    else:
                        self.assertEqual(result.returncode, DONE if harmless else DAMAGED, result.stdout + result.stderr)
            self.assert_status(self.verify(made, *self.opened(options)), DONE)

    def test_that_would_lead_to_a_file_of_this_host_is_damaged_and_shows_nothing_of_it(self):
        """A qcow2's header is not authenticated, not even where the data are encrypted."""
        (self.dir / "key").write_text("secret")
        (self.dir / "of_this_host").write_bytes(b"nobody's business" * 300_000)
        for options in ((), ("-c",), ("-e", "key")):
            with self.subTest(options=options):
                backup_set = self.backup(*options)
                image = next(backup_set.glob("root.*.qcow2"))
                layers = f"driver=qcow2,file.driver=file,file.filename={image}" + (",encrypt.key-secret=s" if "-e" in options else "")
                subprocess.run(["qemu-img", "rebase", "-u", "--object", "secret,id=s,file=key", "--image-opts", "-b",
                                self.dir / "of_this_host", "-F", "raw", layers], check=True, cwd=self.dir)
                opened = self.opened(options)
                self.assertTrue(any("of_this_host" in damage["what"] for damage in self.damages(backup_set, *opened)))
                self.assert_status(self.restore(backup_set, "--to", self.out, *opened), DAMAGED, "backing file")
                self.assert_status(self.run_command("serve", backup_set, "--socket", self.dir / "s", *opened, cwd=self.dir), DAMAGED, "backing file")
                self.assertEqual(list(self.out.iterdir()), [])

    def test_has_every_single_changed_byte_found(self):
        """The short form of ./campaign damage: some hundred places, over all files of a set of each kind."""
        sets = damage.Sets(self.out)
        places = damage.places_in(sets, random.Random(os.environ.get("SEED", "1")))
        found = collections.Counter()
        for place in itertools.islice(places, 105):
            with self.subTest(place=str(place)):
                status, complaint = damage.probe(sets, place)
                self.assertIsNone(complaint)
                found[place.what] += status == DAMAGED
        self.assertEqual(len(found), 7, found)
        for what in ("image data", "image tables", "digest file", "manifest", "XML", "firmware variables"):
            self.assertGreater(found[what], 0)


class TheTables(StoredTest):
    """An image whose refcounts are wrong reads well; who writes into it loses data."""

    def change_refcount(self, image, to, cluster=None):
        """Of a host cluster, or of that of the first guest data."""
        with open(image, "r+b") as file:
            file.seek(48)
            file.seek(int.from_bytes(file.read(8), "big"))
            block = int.from_bytes(file.read(8), "big")
            extents = json.loads(subprocess.run(["qemu-img", "map", "--output=json", image], check=True, capture_output=True).stdout)
            extent = next(extent for extent in extents if extent["data"] and extent.get("offset"))
            file.seek(block + 2 * (extent["offset"] // 65536 if cluster is None else cluster))
            file.write(to.to_bytes(2, "big"))

    def test_are_damaged_when_a_cluster_in_use_is_called_free(self):
        made = self.backup()
        image = sorted(made.glob("*.qcow2"))[0]
        self.change_refcount(image, 0)
        found = self.damages(made)
        self.assertTrue(any("refcount" in one["what"] and one["file_offset"] for one in found), found)
        self.assertEqual({one["file"] for one in found}, {str(image)})
        self.assertEqual(self.verify(image).returncode, DAMAGED)

    def test_that_waste_a_cluster_are_worth_a_warning(self):
        self.assert_status(self.run_command("convert", self.disks[0], self.image), DONE)
        clusters = self.image.stat().st_size // 65536
        os.truncate(self.image, 65536 * (clusters + 1))
        self.change_refcount(self.image, 1, clusters)
        result = self.verify(self.image, "--against", self.disks[0])
        self.assert_status(result, WARNINGS, "leaked clusters: 1")
        self.assertEqual(result.stdout.splitlines()[-1], "no errors were found")

    def test_are_not_checked_when_memory_does_not_suffice(self):
        image = self.dir / "wide.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", image, "1M"], check=True)
        os.truncate(image, 10 << 30)
        result = self.verify(image, "--memory", "48M")
        self.assert_status(result, WARNINGS, "its tables were not checked: that takes [0-9]+ MiB")


class TheReading(StoredTest):
    """What is in this host's memory says nothing of what lies on the disk."""

    def file_system(self, kind):
        place = self.dir / kind
        place.mkdir()
        if kind == "ext4":  # of blocks as large as pages: of half a page mincore tells nothing
            subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", self.dir / "ext4.img", "64M"], check=True, capture_output=True)
            subprocess.run(["mount", "-o", "loop", self.dir / "ext4.img", place], check=True)
        else:
            subprocess.run(["mount", "-t", kind, "none", place], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=True)
        return place

    def watched(self, *options):
        """Verifies a set there that is in memory; its files, the result, and what was in memory when each was first read from."""
        made = self.backup(*options)
        files = [path for path in sorted(made.iterdir()) if path.name != "manifest.json"]  # by which the set is found
        for path in files:
            path.read_bytes()
            self.assertEqual(*pages_of(path), f"{path.name} is in memory")
        with FirstReads(files) as reads:
            result = self.verify(made, "--json", *self.opened(options))
        self.assertEqual(sorted(reads.found), [path.name for path in files])
        return files, result, reads.found

    def test_begins_when_no_page_of_a_file_is_in_memory(self):
        self.nas = self.file_system("ext4")
        for options in ((), ("-c", "-e", "key")):
            files, result, found = self.watched(*options)
            self.assert_status(result, DONE)
            self.assertEqual({pages for pages, _ in found.values()}, {0}, found)
            self.assertGreater(sum(pages for _, pages in found.values()), 100)
            self.assertEqual({file["read"] for file in self.json_of(result)["files"]}, {"dropped"})
            self.assertLessEqual(set(map(str, files)), {file["path"] for file in self.json_of(result)["files"]})

    def test_from_memory_alone_is_told_of(self):
        self.nas = self.file_system("tmpfs")
        files, result, found = self.watched()
        self.assert_status(result, WARNINGS, "read from memory, as far as it was there")
        self.assertGreater(min(pages for pages, _ in found.values()), 0)
        self.assertEqual({file["read"] for file in self.json_of(result)["files"]}, {"cached"})

    def test_lets_go_of_what_an_image_stands_on_too(self):
        base, top = self.file_system("ext4") / "base.raw", self.dir / "ext4" / "top.qcow2"
        base.write_bytes(self.disks[0].read_bytes())
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top], check=True)
        report = self.json_of(self.verify(top, "-f", "qcow2", "--json"))
        self.assertEqual(report["files"], [{"path": str(top), "read": "dropped"}, {"path": str(base), "read": "dropped"}])


class AnotherSource(StoredTest):
    def test_proves_an_image(self):
        for options in ((), ("-c", "-e", "key", *WEAK)):
            self.assert_status(self.run_command("convert", self.disks[0], self.image, *options, "--force", cwd=self.dir), DONE)
            result = self.verify(self.image, "--against", self.disks[0], *self.opened(options), "--json")
            self.assert_status(result, DONE)
            self.assertTrue(self.json_of(result)["proved"])
            self.assertEqual(self.verify(self.image, "--against", self.disks[0], *self.opened(options)).stdout.splitlines()[-1], "no errors were found")

    def test_that_differs_is_told_of_and_where(self):
        self.assert_status(self.run_command("convert", self.disks[0], self.image), DONE)
        for at in (MIB, 4 * MIB + 77):
            self.change(self.disks[0], at)
        found = self.damages(self.image, "--against", self.disks[0])
        self.assertEqual([(one["guest_offset"], one["guest_length"]) for one in found], [(MIB, 65536), (4 * MIB, 65536)])
        self.assertRegex(found[0]["line"], rf"guest bytes {MIB} to {MIB + 65536} \(.*differs from .*vda\.raw")

    def test_of_another_size_is_told_of(self):
        self.assert_status(self.run_command("convert", self.disks[0], self.image), DONE)
        os.truncate(self.disks[0], 6 * MIB)
        (found,) = self.damages(self.image, "--against", self.disks[0])
        self.assertRegex(found["what"], rf"virtual size: {5 * MIB + 512}, .*vda\.raw has {6 * MIB}")

    def test_is_named_for_each_disk_of_a_set(self):
        made = self.backup("-c")
        both = ("--against", f"disk0={self.disks[0]}", "--against", f"disk1={self.disks[1]}")
        self.assert_status(self.verify(made, *both, "-f", "raw"), DONE)
        self.assert_one_line(self.verify(made, "--against", self.disks[0]), USAGE, "write --against NAME=SRC")
        self.assert_one_line(self.verify(made, "--against", f"vdz={self.disks[0]}"), USAGE, r"vdz: there is no such disk \(there is disk0, disk1\)")
        self.change(self.disks[1], 2 * MIB)
        (found,) = self.damages(made, *both)
        self.assertEqual((found["disk"], found["guest_offset"]), ("disk1", 2 * MIB))
        self.assertRegex(found["what"], r"differs from .*vdb\.raw")

    def test_may_be_encrypted_and_served(self):
        self.assert_status(self.run_command("convert", self.disks[0], self.image), DONE)
        self.assert_status(self.run_command("convert", self.disks[0], self.dir / "e.qcow2", "-e", "wrong", *WEAK, cwd=self.dir), DONE)
        self.assert_status(self.verify(self.image, "--against", "e.qcow2", "--source-key", "wrong"), DONE)
        self.assert_one_line(self.verify(self.image, "--against", "e.qcow2", "--source-key", "key"), WRONG_KEY, "does not open it")
        self.assert_one_line(self.verify(self.image, "--source-key", "key"), USAGE, "without --against")
        done = subprocess.run(["nbdkit", "-U", "-", "file", self.disks[0], "--run", f"{NASBACKUP} verify {self.image} --against $uri"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, DONE, done.stderr)


class ASample(StoredTest):
    def setUp(self):
        super().setUp()
        self.disks = [self.make_disk(data=24 * MIB, size=64 * MIB)]

    def test_reads_as_much_as_was_asked_and_proves_no_more(self):
        made = self.backup()
        for part, least, most in (("0.5%", 65536, MIB), ("10%", 2 * MIB, 3 * MIB), ("50%", 11 * MIB, 13 * MIB)):
            result = self.verify(made, "--sample", part, "--json")
            self.assertEqual(result.returncode, WARNINGS, result.stderr)
            report = self.json_of(result)
            self.assertFalse(report["proved"])
            self.assertGreaterEqual(report["data_bytes"], least)
            self.assertLessEqual(report["data_bytes"], most)
            last = self.verify(made, "--sample", part).stdout.splitlines()[-1]
            self.assertEqual(last, f"{part[:-1]} % of the data read: no errors were found in what was read")
        self.assert_status(self.verify(made, "--sample", "100%"), DONE)

    def test_is_another_each_time_and_spread_over_the_data(self):
        made = self.backup()
        image = next(made.glob("*.qcow2"))
        extents = json.loads(subprocess.run(["qemu-img", "map", "--output=json", image], check=True, capture_output=True).stdout)
        with open(image, "r+b") as file:  # every piece is damaged
            for extent in (extent for extent in extents if extent["data"]):
                for at in range(0, extent["length"], 65536):
                    file.seek(extent["offset"] + at)
                    file.write(b"damage")
        samples = [{one["guest_offset"] for one in self.damages(made, "--sample", "5%")} for _ in range(2)]
        self.assertNotEqual(*samples)
        for sample in samples:
            self.assertLess(min(sample), 6 * MIB)
            self.assertGreater(max(sample), 18 * MIB)

    def test_still_finds_data_that_is_gone_from_the_tables(self):
        made = self.backup()
        image = next(made.glob("*.qcow2"))
        with open(image, "r+b") as file:
            file.seek(40)
            file.seek(int.from_bytes(file.read(8), "big"))
            table = int.from_bytes(file.read(8), "big") & 0x00FFFFFFFFFFFE00
            file.seek(table + 8 * 100)
            file.write(bytes(8))
        found = self.damages(made, "--sample", "0.5%")
        self.assertIn((100 * 65536, 65536), [(one["guest_offset"], one["guest_length"]) for one in found])

    def test_of_nonsense_is_refused(self):
        for part in ("5", "0%", "101%", "nan%", "x%", "-1%"):
            self.assert_one_line(self.verify(self.disks[0], f"--sample={part}"), USAGE, "write a part such as 5%")


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
