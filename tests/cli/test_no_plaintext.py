#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Of a marked disk nothing can be found in an encrypted set, neither in what is published nor in what lies there while it is
written: not as it is, not compressed. The same scan finds it in sets that are not encrypted. And no passphrase and no key leaves
the worker."""
import os
import re
import subprocess
import time
import unittest

import set_reader
from cli import *

BUILD = Path(NASBACKUP).resolve().parents[1]
SCAN = BUILD / "tests" / "scan" / "plaintext_scan"
WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
MARK = b"MARKED-DISK-3f7a91c4-not-to-be-found-in-any-file"
PASSPHRASE = b"correct-horse-8d1f0a62-battery-staple"

ENCRYPTED = {"LUKS inside": ("-e",), "zlib, LUKS around": ("-c", "-e"), "zlib:best, LUKS around": ("-c=zlib:best", "-e"),
             "zstd, LUKS around": ("-c=zstd", "-e"), "auto, LUKS around": ("-c=auto", "-e")}
OPEN = {"plain": (), "zlib:fast": ("-c=zlib:fast",), "zlib": ("-c",), "zlib:best": ("-c=zlib:best",), "zstd": ("-c=zstd",)}


def marked_disk(mib):
    """Of every MiB one half shrinks, with the mark in each 4 KiB; one quarter does not, with few marks, and one quarter is zero."""
    disk = bytearray()
    for block in range(mib * 256):
        head = MARK + b" %08d " % block
        kind = block // 16 % 4 if block % 256 else 0
        if kind == 2 and block % 16:
            head = b""  # so many marks would make the cluster shrink
        body = bytes(4096) if kind == 3 else head + (os.urandom(4096) if kind == 2 else os.urandom(2048).hex().encode())
        disk += body[:4096]
    return bytes(disk)


def key_of(image, passphrase):
    """The volume key, by cryptsetup, from the LUKS header wherever it lies."""
    data = image.read_bytes()
    start = 0
    if data[:4] == b"QFI\xfb":
        start = data.index(b"LUKS\xba\xbe")
    header = image.with_name("header")
    header.write_bytes(data[start:start + (4 << 20)])
    dump = subprocess.run(["cryptsetup", "luksDump", "--dump-volume-key", "-q", "--key-file", passphrase, header], check=True,
                          capture_output=True, text=True).stdout
    header.unlink()
    key = bytes.fromhex(re.sub(r"\s", "", dump.split("MK dump:")[1]))
    assert len(key) == 64, dump
    return key


class PlaintextTest(CliTest):
    @classmethod
    def setUpClass(cls):
        cls.disk_bytes = marked_disk(8)

    def setUp(self):
        super().setUp()
        self.assertTrue(SCAN.exists(), f"{SCAN}: not built")
        self.disk = self.dir / "marked.raw"
        self.disk.write_bytes(self.disk_bytes)
        self.passphrase = self.dir / "passphrase"
        self.passphrase.write_bytes(PASSPHRASE)

    def words(self, options, *more):
        """backup of the disk with these options; -e gets its file."""
        given = [word for option in options for word in ((option, self.passphrase, *WEAK) if option == "-e" else (option,))]
        return ["backup", "--disk", self.disk, "--name", "web", "--to", self.out, *given, *more]

    def files(self):
        return [path for path in self.out.rglob("*") if path.is_file()]

    def scan(self, files):
        done = subprocess.run([SCAN, MARK.decode(), *files], capture_output=True, text=True)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return done.stdout


class APublishedSet(PlaintextTest):
    def test_that_is_encrypted_holds_nothing_of_the_disk(self):
        for name, options in ENCRYPTED.items():
            with self.subTest(name):
                self.assert_status(self.run_command(*self.words(options)), DONE)
                self.assertEqual(self.scan(self.files()), "")
                shutil.rmtree(self.out / "web")

    def test_that_is_not_encrypted_holds_it_and_the_scan_finds_it(self):
        for name, options in OPEN.items():
            with self.subTest(name):
                self.assert_status(self.run_command(*self.words(options)), DONE)
                found = self.scan(self.files())
                self.assertIn("plain at", found)  # the clusters that do not shrink
                if options:
                    self.assertIn(("zstd" if "zstd" in name else "deflate") + " at", found)
                shutil.rmtree(self.out / "web")

    def test_whose_clusters_all_shrink_is_found_by_decoding_alone(self):
        # So the control above does not live on the plain clusters. (A zstd frame may hold literals as they are.)
        self.disk.write_bytes(self.disk_bytes[:128 * 1024])
        self.assert_status(self.run_command(*self.words(("-c",))), DONE)
        found = self.scan(self.files())
        self.assertNotIn("plain at", found)
        self.assertIn("deflate at", found)


class APartialSet(PlaintextTest):
    def seen_while_it_runs(self, options):
        """What the scan says of everything that lies there, again and again; and how much of the image there was at most."""
        process = self.begin(*self.words(options, "--rate", "4M"))
        copies, largest = {}, 0  # scanned at the end: the scan takes so long that the run would be seen once or twice
        while process.poll() is None:
            for path in self.files():
                try:
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue  # renamed, or gone
                copies.setdefault((path, len(data)), self.dir / f"copy{len(copies)}").write_bytes(data)
                if ".partial-" in str(path):
                    largest = max(largest, len(data))
            time.sleep(0.05)
        self.assert_status(self.finish(process), DONE)
        return self.scan(copies.values()), largest

    def test_that_is_encrypted_holds_nothing_of_the_disk_at_any_time(self):
        for options in ("-e",), ("-c", "-e"), ("-c=zstd", "-e"):
            with self.subTest(options):
                said, largest = self.seen_while_it_runs(options)
                self.assertEqual(said, "")
                self.assertGreater(largest, MIB, "nothing was caught half-way")
                shutil.rmtree(self.out / "web")

    def test_that_is_not_encrypted_is_found_half_way(self):
        said, _ = self.seen_while_it_runs(("-c",))
        self.assertIn("plain at", said)
        self.assertIn("deflate at", said)


class Secrets(PlaintextTest):
    def everything_of(self, process):
        """Command lines and environments of the run's processes; the caller's own has the name of the file alone."""
        found = b""
        for pid in [process.pid, *children(process.pid)]:
            for name in "cmdline", "environ":
                try:
                    found += Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:
                    pass
        return found

    def test_stay_out_of_command_lines_environments_logs_results_and_files(self):
        for options in ("-e",), ("-c", "-e"):
            log = self.dir / "log"
            process = self.begin(*self.words(options, "--rate", "8M", "--json", "-v", "--log-file", log, "--progress=json"))
            seen = b""
            while process.poll() is None:
                seen += self.everything_of(process)
                time.sleep(0.05)
            ended = self.finish(process)
            self.assert_status(ended, DONE)
            self.assertIn(b"--disk", seen)
            image = next(path for path in self.files() if "root." in path.name and not path.name.endswith(".digests"))
            key = key_of(image, self.passphrase)
            set_key = set_reader.Manifest(image.parent).set_keys(PASSPHRASE)[0]
            places = {"processes": seen, "stdout": ended.stdout.encode(), "stderr": ended.stderr.encode(), "log": log.read_bytes()}
            places.update({path.name: path.read_bytes() for path in self.files()})
            secrets = [form for secret in (PASSPHRASE, key, set_key) for form in (secret, secret.hex().encode())]
            for place, content in places.items():
                for secret in (*secrets, key[:32], key[32:]):
                    self.assertNotIn(secret, content, place)
            shutil.rmtree(self.out / "web")

    def test_differ_from_image_to_image(self):
        other = self.dir / "other.raw"
        other.write_bytes(self.disk_bytes)
        self.assert_status(self.run_command(*self.words(("-e",), "--disk", other)), DONE)
        images = [path for path in self.files() if path.name.endswith(".qcow2")]
        keys = {key_of(image, self.passphrase) for image in images}
        self.assertEqual(len(keys), 2)


if __name__ == "__main__":
    unittest.main()
