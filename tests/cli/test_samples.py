# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Images that others' test suites made (../shared/samples, where present): `info` agrees with what is recorded of them, and
nothing that they are makes us crash or mistakes one for a raw disk."""
import bz2
import csv
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli import DAMAGED, DONE, NASBACKUP, ROOT, SOURCE

SAMPLES = ROOT.parent / "shared" / "samples"
CRYPT = {"0": "none", "1": "aes", "2": "luks"}


def info(image):
    done = subprocess.run([NASBACKUP, "info", "--json", str(image)], capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


@unittest.skipUnless(SAMPLES.is_dir(), "missing: ../shared/samples")
class Samples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = Path(tempfile.mkdtemp(prefix="samples-"))
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)

    def unpack(self, archive):
        subprocess.run(["tar", "--zstd", "-xSf", str(SAMPLES / archive), "-C", str(self.dir)], check=True)

    def rows(self, index):
        with open(SAMPLES / index, newline="") as table:
            rows = list(csv.DictReader(table, delimiter="\t"))
        return [row for row in rows if (self.dir / row["file"]).exists()]

    def infos(self, rows):
        with ThreadPoolExecutor(os.cpu_count()) as several:
            return zip(rows, several.map(lambda row: info(self.dir / row["file"]), rows))

    def test_of_qemus_test_suite_are_described_as_recorded(self):
        self.unpack("qcow2-test-suite-images.tar.zst")
        rows = self.rows("qcow2-test-suite-index.tsv")
        self.assertGreater(len(rows), 1000)
        described = 0
        for row, (status, told) in self.infos(rows):
            with self.subTest(row["file"]):
                self.assertIn(status, (DONE, DAMAGED))
                if status == DAMAGED:  # only where qemu-img cannot open it either
                    self.assertEqual(row["check_rc"], "1", told["error"])
                    continue
                described += 1
                self.assertEqual(told["format"], "qcow2")
                self.assertEqual(told["virtual_size"], int(row["vsize"]))
                self.assertEqual(told["version"], int(row["version"]))
                self.assertEqual(told["cluster_size"], 1 << int(row["cluster_bits"]))
                self.assertEqual(told["encryption"], CRYPT[row["crypt"]])
        self.assertGreater(described, 1000)

    def test_of_qemus_test_suite_are_read_as_recorded(self):
        """What qemu-img read (its backing file, if any, left out), we read alike, or refuse: a byte that the file lacks is damage to us."""
        self.unpack("qcow2-test-suite-images.tar.zst")
        rows = [row for row in self.rows("qcow2-test-suite-index.tsv") if row["sha256_guest"]]
        self.assertGreater(len(rows), 700)
        refused = []
        with ThreadPoolExecutor(os.cpu_count()) as several:
            for row, (status, digest, err) in zip(rows, several.map(self.read, rows)):
                with self.subTest(row["file"]):
                    self.assertIn(status, (DONE, DAMAGED, SOURCE), err)
                    if status == DONE:
                        self.assertEqual(digest, row["sha256_guest"])
                    else:
                        refused.append(err)
        self.assertLess(len(refused), 20, refused)

    def read(self, row):
        image, raw = self.dir / row["file"], self.dir / (row["file"] + ".raw")
        if row["backing"] != "0":
            subprocess.run(["qemu-img", "rebase", "-u", "-b", "", str(image)], check=True, capture_output=True)
        done = subprocess.run([NASBACKUP, "convert", "-f", "qcow2", "-O", "raw", str(image), str(raw)], capture_output=True, text=True, timeout=60)
        digest = ""
        if done.returncode == 0:
            with open(raw, "rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            raw.unlink()
        return done.returncode, digest, done.stderr

    def test_of_qemus_fuzzer_end_in_a_description_or_one_clear_line(self):
        self.unpack("qcow2-fuzzed-images.tar.zst")
        rows = self.rows("qcow2-fuzzed-index.tsv")
        self.assertGreater(len(rows), 30)
        for row, (status, told) in self.infos(rows):
            with self.subTest(row["file"]):
                self.assertIn(status, (DONE, DAMAGED))
                self.assertEqual("error" in told, status == DAMAGED)

    def test_of_other_formats_are_raw_to_us(self):
        images = sorted((SAMPLES / "not-qcow2").glob("*.bz2"))
        self.assertGreater(len(images), 10)
        for image in images:
            with self.subTest(image.name):
                plain = self.dir / image.stem
                plain.write_bytes(bz2.decompress(image.read_bytes()))
                status, told = info(plain)
                self.assertEqual((status, told["format"]), (DONE, "raw"))

    def test_of_real_disks_are_read_as_qemu_img_reads_them(self):
        disks = sorted(disk for disk in (SAMPLES / "disks").glob("*.qcow2") if disk.read_bytes()[:4] == b"QFI\xfb")
        self.assertGreater(len(disks), 2)
        for disk in disks:
            with self.subTest(disk.name):
                out = self.dir / "out.raw"
                done = subprocess.run([NASBACKUP, "convert", "-O", "raw", "--force", str(disk), str(out)], capture_output=True, text=True)
                if b"data file" in done.stderr.encode():
                    self.assertEqual(done.returncode, SOURCE)
                    continue
                self.assertEqual(done.returncode, DONE, done.stderr)
                subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(disk), str(out)], check=True, capture_output=True)


if __name__ == "__main__":
    unittest.main()
