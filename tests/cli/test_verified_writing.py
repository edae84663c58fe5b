#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""backup and convert with --verify: nothing gets its name that does not read back as what was read from the source."""
import json
import subprocess
import unittest

from cli import *
from flipping_nas import FlippingNas
from test_verify import KINDS, WEAK, StoredTest

ENDINGS = {"plain": ".qcow2", "container": ".qcow2.luks"}


class VerifiedTest(StoredTest):
    def flipping(self, ending, offset):
        nas = FlippingNas(self.dir, ending, offset)
        self.addCleanup(nas.end)
        return nas

    def begin_backup(self, target, *options):
        words = [word for disk in self.disks for word in ("--disk", disk)]
        weak = WEAK if "-e" in options else ()
        return self.run_command("backup", *words, "--name", self.a_name(), "--to", target, "--min-free", "0", *options, *weak, cwd=self.dir)

    def image_of(self, options):
        return ".qcow2.luks" if "-e" in options and any(word.startswith("-c") for word in options) else ".qcow2"

    def where_data_lies(self):
        """In a plain image of the first disk, which every run writes alike: (guest offset, file offset)."""
        self.assert_status(self.run_command("convert", self.disks[0], self.dir / "like.qcow2"), DONE)
        extents = json.loads(subprocess.run(["qemu-img", "map", "--output=json", self.dir / "like.qcow2"], check=True, capture_output=True).stdout)
        extent = next(extent for extent in extents if extent["data"] and extent.get("offset"))
        return extent["start"], extent["offset"]


class ABackup(VerifiedTest):
    def test_of_every_kind_is_read_back(self):
        for options in KINDS:
            for level in ("metadata", "data"):
                with self.subTest(options=options, level=level):
                    result = self.begin_backup(self.nas, *options, f"--verify={level}", "--json")
                    self.assert_status(result, DONE)
                    report = self.json_of(result)
                    self.assertEqual(report["verified"], level)
                    self.assertEqual([disk["read_back"] for disk in report["disks"]], ["dropped", "dropped"])
                    self.assert_status(self.verify(report["set"], *self.opened(options)), DONE)
        self.assertEqual(self.json_of(self.begin_backup(self.nas, "--json"))["verified"], None)

    def test_says_so_to_people(self):
        self.assertRegex(self.begin_backup(self.nas, "--verify").stdout, r"read back and compared: no errors were found")
        self.assertRegex(self.begin_backup(self.nas, "--verify=metadata").stdout, r"tables checked: no errors were found")

    def assert_refused(self, nas, result, *says):
        self.assert_status(result, DAMAGED, *says)
        self.assertEqual(result.stdout, "")
        self.assertEqual(list(nas.backing.iterdir()), [], "left behind")

    def test_whose_data_comes_back_otherwise_is_not_published(self):
        guest, at = self.where_data_lies()
        nas = self.flipping("root.vda.raw.qcow2", at + 100)
        result = self.begin_backup(nas.place, "--verify")
        self.assert_refused(nas, result, rf"disk0: guest bytes {guest} to \d+ \(.*root\.vda\.raw\.qcow2, at byte {at}\): differs from what was backed up")

    def test_of_every_kind_is_not_published_when_one_bit_differs(self):
        for options in KINDS[1:]:
            with self.subTest(options=options):
                self.dir = self.out / "".join(options)
                self.dir.mkdir()
                (self.dir / "key").write_bytes(b"correct horse")
                nas = self.flipping(self.image_of(options), -400_000)  # among the data
                self.assert_refused(nas, self.begin_backup(nas.place, *options, "--verify"), r"disk[01]: guest bytes \d+ to \d+ \(.*at byte \d+\)")

    def test_whose_header_does_not_open_is_not_published(self):
        for options, offset in ((("-c", "-e", "key"), 4096 + 1000), (("-c", "-e", "key"), 300)):
            for level in ("metadata", "data"):
                with self.subTest(options=options, level=level, offset=offset):
                    self.dir = self.out / f"{level}{offset}"
                    self.dir.mkdir()
                    (self.dir / "key").write_bytes(b"correct horse")
                    nas = self.flipping(self.image_of(options), offset)
                    self.assert_refused(nas, self.begin_backup(nas.place, *options, "--verify=" + level), r"\.qcow2\.luks: .*(does not open it|LUKS)")

    def test_whose_other_files_come_back_otherwise_is_not_published(self):
        for ending in (".digests", "manifest.json"):
            with self.subTest(ending=ending):
                self.dir = self.out / ending
                self.dir.mkdir()
                nas = self.flipping(ending, 90)
                self.assert_refused(nas, self.begin_backup(nas.place, "--verify"), ending.replace(".", r"\."))

    def test_of_the_metadata_looks_at_the_tables_and_not_at_the_data(self):
        _, at = self.where_data_lies()
        nas = self.flipping("root.vda.raw.qcow2", at + 100)
        self.assert_status(self.begin_backup(nas.place, "--verify=metadata"), DONE)
        with open(self.dir / "like.qcow2", "rb") as like:
            like.seek(48)
            refcount_table = int.from_bytes(like.read(8), "big")
            like.seek(refcount_table)
            block = int.from_bytes(like.read(8), "big")
        self.dir = self.out
        nas = self.flipping("root.vda.raw.qcow2", block + 1)
        self.assert_refused(nas, self.begin_backup(nas.place, "--verify=metadata"), r"refcount")

    def test_in_memory_alone_is_told_of(self):
        folder = self.dir / "memory"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", folder], check=True)
        result = self.begin_backup(folder, "--verify", "--json")
        self.assert_status(result, WARNINGS, "read from memory")
        report = self.json_of(result)
        self.assertEqual([disk["read_back"] for disk in report["disks"]], ["cached", "cached"])
        self.assertEqual(report["verified"], "data")

    def test_that_keeps_nothing_cannot_be_read_back(self):
        self.assert_one_line(self.begin_backup("null:", "--verify"), USAGE, "null: keeps nothing")
        self.assert_one_line(self.run_command("convert", self.disks[0], "null:", "--verify"), USAGE, "null: keeps nothing")

    def test_is_kept_to_the_rate_while_it_is_read_back_too(self):
        disk = self.make_disk(data=4 * MIB, size=4 * MIB)
        result = self.run_command("backup", "--disk", disk, "--name", "n", "--to", self.nas, "--min-free", "0", "--verify", "-b", "8M", "--json")
        self.assert_status(result, DONE)
        report = self.json_of(result)
        self.assertGreater(report["verify_seconds"], 0.4)
        self.assertGreater(report["seconds"], 0.9)

    def test_tells_its_progress(self):
        result = self.begin_backup(self.nas, "--verify", "-b", "3M", "--progress=json")
        self.assert_status(result, DONE)
        lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
        self.assertIn("verifying", {line["phase"] for line in lines})
        self.assertEqual([line["done_bytes"] for line in lines], sorted(line["done_bytes"] for line in lines))
        total = sum(2 * disk.stat().st_size for disk in self.disks)
        self.assertEqual({line["total_bytes"] for line in lines if line["phase"] == "verifying"}, {total})

    def test_that_is_stopped_while_it_is_read_back_leaves_nothing(self):
        process = self.begin("backup", "--disk", self.disks[0], "--name", "n", "--to", self.nas, "--min-free", "0", "--verify", "-b", "1M",
                             "--progress=json", "-v")
        wait_until("it verifies", lambda: '"verifying"' in process.stderr.readline())
        process.terminate()
        self.assertEqual(process.wait(60), 128 + signal.SIGTERM)
        self.assertEqual(list(self.nas.iterdir()), [])


class AConversion(VerifiedTest):
    FORMATS = ((), ("-c",), ("-c=zstd",), ("-e", "key"), ("-c", "-e", "key"), ("-O", "raw"), ("-O", "luks", "-e", "key"), ("--cluster-size", "512"),
               ("--cluster-size", "2M", "-c"))

    def convert(self, target, *options):
        weak = WEAK if "-e" in options else ()
        return self.run_command("convert", self.disks[0], target, *options, *weak, cwd=self.dir)

    def test_to_every_format_is_read_back(self):
        os.truncate(self.disks[0], 5 * MIB + 300)  # no whole sector
        for number, options in enumerate(self.FORMATS):
            with self.subTest(options=options):
                target = self.out / str(number)
                result = self.convert(target, *options, "--verify", "--json")
                self.assert_status(result, DONE)
                report = self.json_of(result)
                self.assertEqual((report["verified"], report["disks"][0]["read_back"]), ("data", "dropped"))
        self.assertEqual(sorted(path.name for path in self.out.iterdir()), sorted(map(str, range(len(self.FORMATS)))))

    def test_to_every_format_leaves_nothing_when_one_bit_differs(self):
        for number, options in enumerate(self.FORMATS):
            with self.subTest(options=options):
                self.dir = self.out / str(number)
                self.dir.mkdir()
                (self.dir / "key").write_bytes(b"correct horse")
                # The name in which it is written is hidden, and carries a run's id.
                nas = self.flipping("", -200_000)
                result = self.convert(nas.place / "disk", *options, "--verify")
                self.assert_status(result, DAMAGED, r"disk0: .*hung|disk0: guest bytes \d+ to \d+|flipping-nas/disk")
                self.assertEqual(list(nas.backing.iterdir()), [], "left behind")

    def test_of_the_metadata_is_nothing_for_a_raw_image(self):
        self.assert_one_line(self.convert(self.image, "-O", "raw", "--verify=metadata"), USAGE, "raw image has none")
        self.assert_nothing_left()
        self.assert_status(self.convert(self.image, "-O", "luks", "-e", "key", "--verify=metadata"), DONE)

    def test_to_a_device_that_is_larger_is_read_back(self):
        with open(self.dir / "device.raw", "wb") as file:
            file.write(b"\xff" * (8 * MIB))
        loop = subprocess.run(["losetup", "-f", "--show", self.dir / "device.raw"], check=True, capture_output=True, text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", loop], check=True)
        for options in (("-O", "raw"), ("-O", "luks", "-e", "key")):
            self.assert_status(self.convert(loop, *options, "--verify", "--force"), DONE)

    def to_nbdkit(self, *plugin):
        return subprocess.run(["nbdkit", "-U", "-", *map(str, plugin), "--run", f"{NASBACKUP} convert {self.disks[0]} $uri -O raw --verify --json"],
                              capture_output=True, text=True)

    def test_to_an_nbd_server_is_read_back_from_it(self):
        done = self.to_nbdkit("memory", "8M")
        self.assertEqual(done.returncode, WARNINGS, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual((report["verified"], report["disks"][0]["read_back"]), ("data", "cached"))

    def test_to_an_nbd_server_that_loses_a_bit_is_damaged(self):
        script = self.dir / "loses"
        script.write_text('''case "$1" in
  get_size) stat -c %s "$STORE" ;;
  pread) dd if="$STORE" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none | { [ $4 -gt 0 ] && cat || { head -c 99; head -c 1 >/dev/null; printf '!'; cat; }; } ;;
  pwrite) dd of="$STORE" oflag=seek_bytes conv=notrunc seek=$4 status=none ;;
  can_write|can_flush) exit 0 ;;
  flush) exit 0 ;;
  *) exit 2 ;;
esac
''')
        script.chmod(0o755)
        store = self.dir / "store"
        with open(store, "wb") as file:
            file.truncate(5 * MIB + 512)
        with open(self.disks[0], "r+b") as disk:
            disk.write(b"something" * 1000)
        done = subprocess.run(["nbdkit", "-U", "-", "sh", script, "--run", f"{NASBACKUP} convert {self.disks[0]} $uri -O raw --verify"],
                              capture_output=True, text=True, env=dict(os.environ, STORE=str(store)))
        self.assertEqual(done.returncode, DAMAGED, done.stderr)
        self.assertRegex(done.stderr, r"disk0: guest bytes 0 to 65536 .*differs from what was read")


if __name__ == "__main__":
    unittest.main()
