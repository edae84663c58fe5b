#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""`check` against `qemu-img check`: silent on whatever qemu-img makes, never more lenient on whatever is broken, and beyond it
what it does not see."""
import csv
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli import *
import qemu_img

sys.path.insert(0, str(ROOT / "tests" / "campaign"))
import mutations  # noqa: E402

SAMPLES = ROOT.parent / "shared" / "samples"
CLEAN, NOT_COMPLETED, CORRUPT, LEAKS, NO_CHECK = 0, 1, 2, 3, 63
WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
KIB = 1 << 10

# The options of an image, and what qemu-io does to it. Each comes out of qemu-img alone, untouched.
MADE_BY_QEMU = [
    ("", ["write 0 1M", "write -z 2M 64k", "write -z -u 3M 64k", "discard 0 64k"]),
    ("compat=0.10", ["write 0 1M", "write -c 2M 64k", "write -z 3M 64k"]),
    ("cluster_size=512", ["write 0 300k", "write -c 1M 512", "discard 0 100k"]),
    ("cluster_size=4k", ["write 0 3M", "write -c 8M 4k", "write -z 1M 1M"]),
    ("cluster_size=2M", ["write 0 5M", "write -c 8M 2M"]),
    ("extended_l2=on", ["write 0 1M", "write 3k 5k", "write -c 2M 64k", "write 4M 2k", "write -z 5M 6k", "discard 0 64k"]),
    ("extended_l2=on,cluster_size=2M", ["write 0 100k", "write 40M 64k", "write -z 3M 64k"]),
    ("compression_type=zstd", ["write -c 0 64k", "write -c 128k 64k", "write 1M 1M"]),
    ("lazy_refcounts=on", ["write 0 1M"]),
    ("preallocation=metadata", []),
    ("preallocation=metadata,extended_l2=on", ["write 0 1M"]),
    ("preallocation=falloc", ["write 0 1M"]),
    ("preallocation=full", []),
    *((f"refcount_bits={bits}", ["write 0 1M", "write -c 2M 64k"]) for bits in (1, 2, 4, 8, 16, 32, 64)),
]


def qemu_check(image):
    words = ["qemu-img", "check", "-f", "qcow2", "--output=json", str(image)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def our_check(image, *options):
    words = [NASBACKUP, "check", "--json", *map(str, options), str(image)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout)


def texts(told):
    return [finding["text"] for finding in told.get("findings", [])] + ([told["error"]] if "error" in told else [])


class CheckTest(CliTest):
    def made(self, options="", commands=(), size="64M", name="disk.qcow2"):
        image = self.dir / name
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", options] if options else []), image, size)
        for command in commands:
            qemu_img.run("qemu-io", "-f", "qcow2", "-c", command, image)
        return image

    def patch(self, image, offset, bytes_):
        with open(image, "r+b") as file:
            file.seek(offset)
            file.write(bytes_)

    def patch_bits(self, image, offset, bits):
        with open(image, "r+b") as file:
            file.seek(offset)
            old, = struct.unpack(">Q", file.read(8))
            file.seek(offset)
            file.write(struct.pack(">Q", old ^ bits))

    def field(self, image, offset, format_=">Q"):
        with open(image, "rb") as file:
            file.seek(offset)
            return struct.unpack(format_, file.read(struct.calcsize(format_)))[0]

    def assert_clean(self, image, *options):
        status, told = our_check(image, *options)
        self.assertEqual((status, texts(told)), (CLEAN, []))
        return told

    # ---- what qemu-img makes -----------------------------------------------------------------------------------------------

    def test_finds_nothing_in_what_qemu_img_makes_and_counts_as_it_does(self):
        for number, (options, commands) in enumerate(MADE_BY_QEMU):
            with self.subTest(options):
                image = self.made(options, commands, name=f"{number}.qcow2")
                told = self.assert_clean(image)
                status, theirs = qemu_check(image)
                self.assertEqual(status, CLEAN)
                for key in "image-end-offset", "total-clusters", "allocated-clusters", "fragmented-clusters", "compressed-clusters":
                    self.assertEqual(told[key], theirs.get(key, 0), key)

    def test_finds_nothing_after_conversions_resizes_and_snapshots(self):
        raw = self.make_disk(data=5 * MIB + 512, size=20 * MIB + 512)
        text = self.dir / "text"
        text.write_bytes(os.urandom(3000).hex().encode() * 2000)
        ways = ["-c"], ["-c", "-o", "compression_type=zstd"], ["-c", "-o", "cluster_size=2M"], ["-W"], []
        for number, options in enumerate(ways):
            for source in raw, text:
                image = self.dir / f"convert{number}.qcow2"
                qemu_img.run("qemu-img", "convert", "-O", "qcow2", "-f", "raw", *options, source, image)
                self.assert_clean(image)
        image = self.made("", ["write 0 4M"])
        qemu_img.run("qemu-img", "resize", "-q", image, "300M")
        self.assert_clean(image)
        qemu_img.run("qemu-img", "resize", "-q", "--shrink", image, "2M")
        self.assert_clean(image)
        qemu_img.run("qemu-img", "resize", "-q", image, "8M")
        for name, compressed in ("a", "3M"), ("b", "4M"):
            qemu_img.run("qemu-img", "snapshot", "-c", name, image)
            qemu_img.run("qemu-io", "-f", "qcow2", "-c", "write 1M 256k", "-c", f"write -c {compressed} 64k", image)
            self.assert_clean(image)
        for change in ["-a", "a"], ["-d", "a"], ["-d", "b"]:
            qemu_img.run("qemu-img", "snapshot", *change, image)
            self.assert_clean(image)

    def test_finds_nothing_in_bitmaps_overlays_data_files_and_encrypted_images(self):
        image = self.made("", ["write 0 4M"])
        for name in "a", "b":
            qemu_img.run("qemu-img", "bitmap", "--add", image, name)
        qemu_img.run("qemu-io", "-f", "qcow2", "-c", "write 1M 1M", image)
        self.assert_clean(image)
        overlay = self.dir / "overlay.qcow2"
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
        qemu_img.run("qemu-io", "-f", "qcow2", "-c", "write 100k 1M", overlay)
        self.assert_clean(overlay)
        data = self.made(f"data_file={self.dir}/data.raw", ["write 0 1M"], name="data.qcow2")
        self.assert_clean(data)
        secret = ["--object", "secret,id=s,data=word"]
        luks = self.dir / "luks.qcow2"
        qemu_img.run("qemu-img", "create", "-q", *secret, "-f", "qcow2", "-o",
             "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", luks, "16M")
        opened = f"driver=qcow2,file.filename={luks},encrypt.key-secret=s"
        qemu_img.run("qemu-io", *secret, "--image-opts", "-c", "write 0 1M", opened)
        self.assert_clean(luks)
        qemu_img.run("qemu-io", *secret, "--image-opts", "-c", "write -c 2M 64k", opened)
        status, told = our_check(luks)
        self.assertEqual(status, CORRUPT)
        self.assertRegex(texts(told)[0], "^L2 table entry 32 .*its data is not encrypted$")

    def test_finds_nothing_in_what_we_make(self):
        raw, key = self.make_disk(), self.dir / "key"
        key.write_bytes(b"word")
        for number, options in enumerate(([], ["-c"], ["-c=zstd"], ["--cluster-size", "2M"], ["-e", key, *WEAK])):
            image = self.dir / f"ours{number}.qcow2"
            self.assert_status(self.run_command("convert", *options, raw, image), DONE)
            self.assert_clean(image)

    def test_keeps_little_of_a_terabyte_with_all_its_metadata(self):
        image = self.made("preallocation=metadata", size="1T")
        process = subprocess.Popen([NASBACKUP, "check", image], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, CLEAN)
        self.assertLess(usage.ru_maxrss, 64 * KIB, "KiB; 16 TiB may take 512 MiB, and the map is a straight line")

    # ---- what it says, and how it ends -------------------------------------------------------------------------------------

    def test_tells_people_one_line_for_each_finding(self):
        image = self.made("", ["write 0 1M"])
        self.assertRegex(self.run_command("check", image).stdout, r"disk.qcow2: no errors were found\n16 of 1024 clusters allocated")
        l2 = self.field(image, self.field(image, 40)) & 0x00fffffffffffe00
        self.patch_bits(image, l2 + 8 * 3, 1 << 63)
        result = self.run_command("check", image)
        self.assert_status(result, CORRUPT)
        self.assertRegex(result.stdout, rf"1 corruption\ncorruption: L2 table entry 3 at {hex(l2 + 24)}: 0x\w+: COPIED is not")

    def test_needs_the_passphrase_of_a_container(self):
        raw, key = self.make_disk(), self.dir / "key"
        key.write_bytes(b"word")
        image = self.dir / "disk.qcow2.luks"
        self.assert_status(self.run_command("convert", "-c", "-e", key, *WEAK, raw, image), DONE)
        self.assert_one_line(self.run_command("check", image), WRONG_KEY, "a LUKS container: .*-e FILE")
        self.assertEqual(self.assert_clean(image, "-e", key)["format"], "qcow2")
        of_raw = self.dir / "disk.luks"
        self.assert_status(self.run_command("convert", "-O", "luks", "-e", key, *WEAK, raw, of_raw), DONE)
        self.assertEqual(our_check(of_raw, "-e", key)[0], NO_CHECK)

    def test_says_that_a_format_has_no_check(self):
        status, told = our_check(self.make_disk())
        self.assertEqual((status, told["format"]), (NO_CHECK, "raw"))

    def test_cannot_check_what_is_not_there_no_image_or_in_use(self):
        self.assert_one_line(self.run_command("check", self.dir / "none"), NOT_COMPLETED, "no such file")
        self.assert_one_line(self.run_command("check", self.dir), NOT_COMPLETED, "a directory")
        self.assert_one_line(self.run_command("check", "nbd://localhost/x"), USAGE, "only files are checked")
        image = self.made("", ["write 0 1M"])
        with open(image, "r+b"):
            self.assert_one_line(self.run_command("check", image), NOT_COMPLETED, "in use")
            self.assert_clean(image, "-U")
        self.patch(image, 4, struct.pack(">I", 4))
        self.assert_one_line(self.run_command("check", image), NOT_COMPLETED, "version: 4")

    # ---- beyond qemu-img ---------------------------------------------------------------------------------------------------

    def assert_found_beyond_qemu(self, image, says, status=CORRUPT):
        self.assertEqual(qemu_check(image)[0], CLEAN)
        ours, told = our_check(image)
        self.assertEqual(ours, status, told)
        self.assertTrue(any(says in text for text in texts(told)), texts(told))

    def test_finds_what_qemu_img_does_not(self):
        image = self.made("", ["write 0 256k", "write -c 1M 64k", "write -c 1088k 64k"], size="16M")
        block = self.field(image, self.field(image, 48))
        l2 = self.field(image, self.field(image, 40)) & 0x00fffffffffffe00
        stream = self.field(image, l2 + 8 * 16) & ((1 << 54) - 1)
        clean = image.read_bytes()

        def again():
            image.write_bytes(clean)
            return image

        self.patch(again(), block + 2 * 500, b"\0\1")
        self.assert_found_beyond_qemu(image, "cluster 500 has refcount 1 and 0 references", LEAKS)
        self.patch(again(), stream, b"\xff" * 16)
        self.assert_found_beyond_qemu(image, "L2 table entry 16 at")
        with open(again(), "r+b") as file:
            file.truncate((self.field(image, l2 + 8 * 17) & ((1 << 54) - 1)) + 10)
        self.assert_found_beyond_qemu(image, "does not decode")
        first = self.field(again(), l2)
        self.patch(image, l2 + 8 * 40, struct.pack(">Q", first & ~(1 << 63)))
        self.patch_bits(image, l2, 1 << 63)
        self.patch(image, block + 2 * ((first & ~(1 << 63)) >> 16), b"\0\2")
        self.assert_found_beyond_qemu(image, "the cluster is mapped twice")
        l1 = self.field(again(), 40)
        self.patch(image, l2 + 8 * 40, struct.pack(">Q", l1))
        self.patch(image, block + 2 * (l1 >> 16), b"\0\2")
        self.assert_found_beyond_qemu(image, "the guest's data overlaps metadata")
        with open(self.made("", ["write 0 256k"], name="cut.qcow2"), "r+b") as file:
            file.truncate(os.fstat(file.fileno()).st_size - 1)
        self.assert_found_beyond_qemu(self.dir / "cut.qcow2", "the cluster is cut off by the end of the file")

    # ---- repair ------------------------------------------------------------------------------------------------------------

    def spoiled(self, name="spoiled.qcow2"):
        """A leak, a refcount that is too small, and COPIED flags that are wrong; the guest's data is whole."""
        image = self.made("", ["write -P 7 0 1M", "write -P 8 -c 4M 64k"], name=name)
        block = self.field(image, self.field(image, 48))
        l2 = self.field(image, self.field(image, 40)) & 0x00fffffffffffe00
        self.patch(image, block + 2 * (os.stat(image).st_size >> 16), b"\0\3")
        self.patch(image, block + 2 * (self.field(image, l2) >> 16 & 0xffffff), b"\0\0")
        self.patch_bits(image, l2 + 8, 1 << 63)
        self.patch_bits(image, self.field(image, 40), 1 << 63)
        return image

    def test_repairs_so_that_qemu_img_is_content(self):
        image = self.spoiled()
        self.assertEqual(qemu_check(image)[0], CORRUPT)
        result = self.run_command("check", "--repair=all", image)
        self.assert_status(result, CLEAN)
        self.assertRegex(result.stdout, r"no errors were found, \d+ corruptions repaired, 1 leaked cluster freed")
        self.assertEqual(qemu_check(image)[0], CLEAN)
        qemu_img.run("qemu-io", "-f", "qcow2", "-c", "read -P 7 0 1M", "-c", "read -P 8 4M 64k", image)
        self.assertEqual([path.name for path in self.dir.glob(".*")], [])

    def test_of_leaks_repairs_nothing_else(self):
        image = self.spoiled()
        status, told = our_check(image, "--repair=leaks")
        self.assertEqual((status, told["leaks"], told["leaks-fixed"], told["corruptions-fixed"]), (CORRUPT, 0, 1, 0))
        leaking = self.made("", ["write 0 1M"], name="leaking.qcow2")
        self.patch(leaking, self.field(leaking, self.field(leaking, 48)) + 2 * 500, b"\0\1")
        self.assertEqual(our_check(leaking)[0], LEAKS)
        self.assertEqual(our_check(leaking, "--repair=leaks")[0], CLEAN)

    def test_repairs_inside_a_container(self):
        key = self.dir / "key"
        key.write_bytes(b"word")
        inner = self.spoiled()
        inner.write_bytes(inner.read_bytes().ljust((os.stat(inner).st_size + 511) // 512 * 512, b"\0"))
        image = self.dir / "disk.luks"
        self.assert_status(self.run_command("convert", "-f", "raw", "-O", "luks", "-e", key, *WEAK, inner, image), DONE)
        self.assertEqual(our_check(image, "-e", key)[0], CORRUPT)
        self.assertEqual(our_check(image, "-e", key, "--repair=all")[0], CLEAN)
        secret = f"secret,id=s,file={key}"
        qemu_img.run("qemu-img", "check", "--object", secret, "--image-opts",
             f"driver=qcow2,file.driver=luks,file.key-secret=s,file.file.filename={image}")

    def test_repairs_nothing_that_is_in_use(self):
        image = self.spoiled()
        with self.begin_reader(image):
            self.assert_one_line(self.run_command("check", "--repair=all", image), NOT_COMPLETED, "in use")
        self.assert_one_line(self.run_command("check", "--repair=all", "-U", image), USAGE, "contradict each other")
        self.assert_one_line(self.run_command("check", "--repair=some", image), USAGE, "write leaks or all")

    def begin_reader(self, image):
        """A qemu-io that holds the image's locks, until it is closed."""
        reader = subprocess.Popen(["qemu-io", "-r", "-f", "qcow2", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        reader.stdout.read(1)  # the prompt
        return reader

    @staticmethod
    def corruptions_beside_copied(told):
        return sum(finding["kind"] == "corruption" and "COPIED" not in finding["text"] for finding in told.get("findings", []))

    def test_mutated_images_are_never_worse_for_a_repair(self):
        chance = random.Random(7)
        sound = self.made("cluster_size=4k", ["write -P 5 0 100k", "write -P 6 -c 1M 4k"], "8M")
        for number in range(100):
            image = self.dir / f"w{number}"
            content, told_of = mutations.mutated(sound.read_bytes(), chance)
            image.write_bytes(content)
            before, told = our_check(image)
            after, then = our_check(image, "--repair=all")
            with self.subTest(number, changes=told_of, told=texts(told)[:3]):
                # A refcount that is right may be one for which a COPIED flag is wrong, and of more than a thousand not all are told.
                if told.get("corruptions", 0) <= 1000:
                    self.assertLessEqual(self.corruptions_beside_copied(then), self.corruptions_beside_copied(told))
                self.assertEqual(after, our_check(image)[0])
                if before == NOT_COMPLETED:
                    self.assertEqual(after, NOT_COMPLETED)
                if after == CLEAN:
                    self.assertEqual(qemu_check(image)[0], CLEAN)


@unittest.skipUnless(SAMPLES.is_dir(), "missing: ../shared/samples")
class Samples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = Path(tempfile.mkdtemp(prefix="check-"))
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)

    def results(self, archive, index):
        subprocess.run(["tar", "--zstd", "-xSf", str(SAMPLES / archive), "-C", str(self.dir)], check=True)
        with open(SAMPLES / index, newline="") as table:
            rows = [row for row in csv.DictReader(table, delimiter="\t") if (self.dir / row["file"]).exists()]
        with ThreadPoolExecutor(os.cpu_count()) as several:
            return list(zip(rows, several.map(lambda row: our_check(self.dir / row["file"]), rows)))

    def judge(self, row, status, told):
        """What qemu-img found corrupt, leaking or sound is that to us too; more may be found, never less."""
        theirs = int(row["check_rc"])
        self.assertIn(status, (CLEAN, NOT_COMPLETED, CORRUPT, LEAKS))
        if theirs in (CORRUPT, LEAKS):
            self.assertIn(status, (theirs, CORRUPT), texts(told)[:3])

    def test_of_qemus_test_suite_are_judged_as_recorded(self):
        results = self.results("qcow2-test-suite-images.tar.zst", "qcow2-test-suite-index.tsv")
        self.assertGreater(len(results), 1000)
        for row, (status, told) in results:
            with self.subTest(row["file"]):
                self.judge(row, status, told)
        self.assertGreater(sum(status == CLEAN for _, (status, _) in results), 800)

    def test_of_qemus_fuzzer_are_never_judged_better_than_recorded(self):
        results = self.results("qcow2-fuzzed-images.tar.zst", "qcow2-fuzzed-index.tsv")
        self.assertGreater(len(results), 30)
        for row, (status, told) in results:
            with self.subTest(row["file"]):
                self.judge(row, status, told)


if __name__ == "__main__":
    unittest.main()
