# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Images that others' test suites made (../shared/samples, where present): `info` agrees with what is recorded of them, and
nothing that they are makes us crash or mistakes one for a raw disk."""
import bz2
import csv
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

    def test_of_real_disks_are_not_read_as_raw_unasked(self):
        disks = sorted((SAMPLES / "disks").glob("*.qcow2"))
        self.assertGreater(len(disks), 3)
        for disk in disks:
            if disk.read_bytes()[:4] != b"QFI\xfb":
                continue
            with self.subTest(disk.name):
                done = subprocess.run([NASBACKUP, "convert", str(disk), str(self.dir / "out.qcow2")], capture_output=True, text=True)
                self.assertEqual(done.returncode, SOURCE)
                self.assertIn("-f raw", done.stderr)
                self.assertFalse((self.dir / "out.qcow2").exists())


if __name__ == "__main__":
    unittest.main()
