#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Sets before a reader of the tests' own (set_reader.py): every digest of every disk, the manifest's seal, what changing keys
leaves."""
import hashlib
import itertools
import json
import random
import subprocess
import unittest

import set_reader
from cli import *

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
PASSPHRASE = b"correct horse"


def patchy(size, seed):
    """Runs of random bytes, of text and of zeroes, of all lengths."""
    source = random.Random(seed)
    disk = bytearray()
    while len(disk) < size:
        length = source.choice((100, 5000, 70_000, 300_000))
        disk += source.choice((lambda: bytes(length), lambda: source.randbytes(length), lambda: b"a word " * (length // 7)))()
    return bytes(disk[:size])


class DigestTest(CliTest):
    def setUp(self):
        super().setUp()
        self.key = self.dir / "key"
        self.key.write_bytes(PASSPHRASE)

    def disk(self, name, content):
        path = self.dir / name
        with open(path, "wb") as file:  # sparse where it is zero, so that both kinds of zeroes are met
            for at in range(0, len(content), 1 << 18):
                block = content[at:at + (1 << 18)]
                if block.strip(b"\0"):
                    file.seek(at)
                    file.write(block)
            file.truncate(len(content))
        return path

    def backup(self, name, contents, *options, encrypted=False):
        """The folder of the new set."""
        disks = [word for index, content in enumerate(contents) for word in ("--disk", self.disk(f"{name}{index}.raw", content))]
        words = ["-e", self.key, *WEAK] if encrypted else []
        result = self.run_command("backup", *disks, "--name", name, "--to", self.out, "--json", *words, *options)
        self.assert_status(result, DONE)
        return Path(json.loads(result.stdout)["set"])

    def assert_proven(self, folder, contents, passphrase=None):
        """Everything that the manifest says is so."""
        manifest = set_reader.Manifest(folder)
        self.assertEqual(manifest.seal["sha256"], manifest.sha256())
        self.assertEqual(manifest["version"], 3)
        self.assertIsNone(manifest["parent"])
        for entry, content in zip(manifest["disks"], contents, strict=True):
            image = folder / entry["file"]
            key = set_reader.volume_key(image, passphrase) if passphrase else None
            self.assert_digests(folder, entry, content, key)
            self.assertEqual(entry["stored_bytes"], image.stat().st_size)
            self.assertEqual(entry["luks_uuid"], set_reader.luks_uuid(image) if passphrase else "")
        for entry in manifest["files"]:
            data = (folder / entry["name"]).read_bytes()
            self.assertEqual((entry["size"], entry["sha256"]), (len(data), hashlib.sha256(data).hexdigest()))
        named = [entry["file"] for entry in manifest["disks"]] + [entry["digests"]["file"] for entry in manifest["disks"]]
        named += [entry["name"] for entry in manifest["files"]] + ["manifest.json"]
        self.assertEqual(sorted(named), sorted(path.name for path in folder.iterdir()))
        if passphrase:
            keys = manifest.set_keys(passphrase)
            self.assertEqual(len(set(keys)), 1)
            self.assertEqual(manifest.seal["hmac_sha256"], manifest.hmac(keys[0]))
        else:
            self.assertEqual((manifest.seal["hmac_sha256"], manifest.seal["keys"]), ("", []))
        return manifest

    def assert_digests(self, folder, entry, content, key):
        told = entry["digests"]
        self.assertEqual(told["file"], entry["file"] + ".digests")
        self.assertEqual(told["size"], (folder / told["file"]).stat().st_size)
        digests = set_reader.DigestFile(folder / told["file"])
        self.assertEqual((told["root"], told["piece_size"]), (digests.root.hex(), digests.piece_size))
        self.assertEqual((told["kind"], digests.kind), ("gmac-aes-256", 2) if key else ("xxh3-128", 1))
        self.assertEqual(digests.virtual_size, len(content))
        self.assertEqual(digests.pieces, digests.of(content, key))


class ASet(DigestTest):
    def test_has_the_digests_of_its_disks_however_it_is_stored(self):
        contents = [patchy(3 * MIB + 777, 1), patchy(MIB, 2)]
        for compression, encrypted in itertools.product(("", "-c", "-c=zstd"), (False, True)):
            with self.subTest(compression=compression, encrypted=encrypted):
                words = [compression] if compression else []
                folder = self.backup(f"vm{compression[1:]}{encrypted}", contents, *words, encrypted=encrypted)
                self.assert_proven(folder, contents, PASSPHRASE if encrypted else None)

    def test_has_them_at_every_size(self):
        contents = [patchy(size, size) for size in (0, 1, 511, 512, 65535, 65536, 65537)] + [bytes(5 * MIB)]
        for encrypted in (False, True):
            folder = self.backup(f"vm{encrypted}", contents, encrypted=encrypted)
            self.assert_proven(folder, contents, PASSPHRASE if encrypted else None)

    def test_has_them_at_every_cluster_size(self):
        contents = [patchy(5 * MIB + 512, 3)]
        for cluster, piece in (("512", 65536), ("4K", 65536), ("128K", 131072), ("2M", 2 * MIB)):
            with self.subTest(cluster=cluster):
                manifest = self.assert_proven(self.backup(f"vm{cluster}", contents, "--cluster-size", cluster), contents)
                self.assertEqual(manifest["disks"][0]["digests"]["piece_size"], piece)

    def test_has_them_when_the_disk_comes_over_nbd(self):
        contents = patchy(4 * MIB, 4)
        source = self.disk("source", contents)
        socket = self.dir / "socket"
        server = subprocess.Popen(["nbdkit", "-f", "-r", "-U", socket, "file", source])
        self.addCleanup(lambda: (server.kill(), server.wait()))
        wait_until("nbdkit serves", socket.exists)
        uri = f"nbd+unix:///?socket={socket}"
        result = self.run_command("backup", "--disk", uri, "--name", "vm", "--to", self.out, "--cluster-size", "4K")
        self.assert_status(result, DONE)
        self.assert_proven(next(self.out.glob("vm/*")), [contents])

    def test_has_the_same_digests_however_it_was_read(self):
        contents = [patchy(20 * MIB, 5)]
        roots = set()
        ways = (("-j", "1"), ("-j", "8", "--item-size", "64K"), ("-c", "--item-size", "4M"), ("--cluster-size", "4K"))
        for number, words in enumerate(ways):
            roots.add(set_reader.Manifest(self.backup(f"vm{number}", contents, *words))["disks"][0]["digests"]["root"])
        self.assertEqual(len(roots), 1, roots)

    def test_has_small_digests(self):
        folder = self.backup("vm", [random.Random(6).randbytes(16 * MIB), bytes(1 << 30)])
        manifest = set_reader.Manifest(folder)
        sizes = [entry["digests"]["size"] for entry in manifest["disks"]]
        self.assertLess(sizes[0], 0.0005 * 16 * MIB)
        self.assertLess(sizes[1], 200)

    def test_opens_for_the_reader_with_a_new_passphrase_too(self):
        contents = [patchy(MIB, 7), patchy(MIB, 8)]
        folder = self.backup("vm", contents, "-c", encrypted=True)
        before = (folder / "manifest.json").read_bytes()
        new = self.dir / "new"
        new.write_bytes(b"battery staple")
        self.assert_status(self.run_command("key", "add", folder, "-e", self.key, "--new", new, *WEAK), DONE)
        self.assert_proven(folder, contents, b"battery staple")
        self.assert_status(self.run_command("key", "remove", folder, "-e", self.key), DONE)
        self.assert_proven(folder, contents, b"battery staple")
        self.assertEqual((folder / "manifest.json").read_bytes(), before)
        with self.assertRaises(ValueError):
            set_reader.Manifest(folder).set_keys(PASSPHRASE)

    def test_has_no_digest_without_a_key_when_it_is_encrypted(self):
        content = patchy(2 * MIB, 9)
        folder = self.backup("vm", [content], encrypted=True)
        everything = b"".join(path.read_bytes() for path in folder.iterdir())
        pieces = [content[at:at + 65536] for at in range(0, len(content), 65536)]
        for piece in pieces:
            for digest in (set_reader.xxhash.xxh3_128_digest(piece), hashlib.sha256(piece).digest(), hashlib.md5(piece).digest()):
                self.assertNotIn(digest, everything)
                self.assertNotIn(digest.hex().encode(), everything)

    def test_has_keys_and_tags_of_its_own_each_time(self):
        content = patchy(MIB, 10)
        first, second = (self.backup(name, [content], encrypted=True) for name in ("one", "two"))
        keys = {set_reader.Manifest(folder).set_keys(PASSPHRASE)[0] for folder in (first, second)}
        self.assertEqual(len(keys), 2)
        tags = [set_reader.DigestFile(next(folder.glob("*.digests"))).pieces for folder in (first, second)]
        self.assertEqual([a for a, b in zip(*tags) if a is not None and a == b], [])

    def test_is_shown_as_damaged_by_info_when_its_manifest_was_changed(self):
        folder = self.backup("vm", [patchy(MIB, 11)])
        manifest = folder / "manifest.json"
        manifest.write_bytes(manifest.read_bytes().replace(b'"source_type": "file"', b'"source_type": "fire"'))
        self.assertIn("the manifest was changed", self.run_command("info", folder).stdout)

    def test_keeps_nothing_for_the_null_target(self):
        disk = self.disk("d", patchy(MIB, 12))
        self.assert_status(self.run_command("backup", "--disk", disk, "--name", "vm", "--to", "null:"), DONE)
        self.assert_nothing_left()

    def test_that_the_target_has_no_room_for_is_not_published(self):
        folder = self.dir / "small"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3M", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", folder], check=True)
        disk = self.disk("big", random.Random(13).randbytes(4 * MIB))
        result = self.run_command("backup", "--disk", disk, "--name", "vm", "--to", folder, "--min-free", "0")
        self.assert_status(result, TARGET_FULL)
        self.assertEqual(list(folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
