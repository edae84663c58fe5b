#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""qcow2 and LUKS as sources: whatever qemu-img makes, `convert` reads as qemu-img does; what it cannot read it refuses by name."""
import os
import random
import struct
import subprocess
import unittest

from cli import *
import qemu_img

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")


class Reading(CliTest):
    def setUp(self):
        super().setUp()
        (self.dir / "key").write_bytes(b"correct horse")
        (self.dir / "wrong").write_bytes(b"battery")
        self.raw = self.dir / "source.raw"
        chance = random.Random(7)
        with open(self.raw, "wb") as disk:
            for _ in range(60):
                disk.seek(chance.randrange(0, 6 * MIB))
                data = chance.randbytes(chance.randrange(1, 100_000)) if chance.random() < 0.5 else b"text, text " * chance.randrange(1, 9000)
                disk.write(data)
            disk.truncate(8 * MIB + 512 * 3)

    def qemu(self, *words):
        qemu_img.run(*words, cwd=self.dir)

    def read(self, image, *options, **more):
        out = self.dir / "out.raw"
        out.unlink(missing_ok=True)
        return self.run_command("convert", image, out, "-O", "raw", *options, cwd=self.dir, **more)

    def assert_reads(self, image, *options, like=None):
        self.assert_status(self.read(image, *options), DONE)
        self.assertEqual((self.dir / "out.raw").read_bytes(), (like or self.raw).read_bytes())

    def test_of_every_kind_that_qemu_img_makes(self):
        kinds = [("compat=0.10",), ("cluster_size=512",), ("cluster_size=4k",), ("cluster_size=2M",), ("extended_l2=on",), ("extended_l2=on,cluster_size=2M",),
                 ("preallocation=metadata",), ("preallocation=full",), ("refcount_bits=1",), ("refcount_bits=64",), ("lazy_refcounts=on",),
                 ("compression_type=zlib", "-c"), ("compression_type=zstd", "-c"), ("cluster_size=512,compression_type=zlib", "-c"),
                 ("cluster_size=2M,compression_type=zstd", "-c"), ("extended_l2=on", "-c"), ("compression_type=zlib", "-c", "-W", "-m", "16")]
        for options, *more in kinds:
            with self.subTest(options=options, more=more):
                self.qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *more, "-o", options, self.raw, "image.qcow2")
                self.assert_reads("image.qcow2")
                for clusters in ("512", "64K", "2M"):  # of what we write: reads of other sizes
                    self.image.unlink(missing_ok=True)
                    self.assert_status(self.run_command("convert", "image.qcow2", self.image, "--cluster-size", clusters, cwd=self.dir), DONE)
                    self.qemu("qemu-img", "compare", "-f", "raw", "-F", "qcow2", self.raw, self.image)

    def test_of_chains_of_backing_files(self):
        """Each layer changes something, is of another size, or is compressed; names are relative to the file that has them."""
        (self.dir / "below").mkdir()
        self.qemu("qemu-img", "convert", "-f", "raw", "-O", "raw", self.raw, "below/base.raw")
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "-o", "cluster_size=4k", "below/one.qcow2", "9M")
        self.qemu("qemu-io", "-c", "write -P 1 1M 70k", "-c", "write -z 2M 1M", "-c", "write -P 3 8M 1M", "below/one.qcow2")
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", "below/one.qcow2", "-F", "qcow2", "-o", "extended_l2=on", "two.qcow2", "6M")
        self.qemu("qemu-io", "-c", "write -P 5 2100k 3k", "-c", "write -c -P 6 3M 64k", "-c", "discard 5M 512k", "two.qcow2")
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.dir / "two.qcow2", "-F", "qcow2", "-o", "cluster_size=2M", "three.qcow2", "10M")
        self.qemu("qemu-io", "-c", "write -P 7 5M 1", "three.qcow2")
        for top in ("below/one.qcow2", "two.qcow2", "three.qcow2"):
            self.qemu("qemu-img", "convert", "-O", "raw", top, "like.raw")
            self.assert_reads(top, "-f", "qcow2", like=self.dir / "like.raw")
        self.assert_one_line(self.read("three.qcow2"), SOURCE, "names a backing file; write -f qcow2")

    def test_of_chains_that_lead_nowhere(self):
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M")
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "b.qcow2", "1M")
        self.qemu("qemu-img", "rebase", "-u", "-b", "b.qcow2", "-F", "qcow2", "a.qcow2")
        self.assert_one_line(self.read("b.qcow2", "-f", "qcow2"), SOURCE, "comes back to it")
        for name, says in (("nbd:localhost:1", "neither a path"), ("json:{}", "neither a path"), ("gone.qcow2", "no such file")):
            self.qemu("qemu-img", "rebase", "-u", "-b", name, "-F", "qcow2", "b.qcow2")
            self.assert_one_line(self.read("b.qcow2", "-f", "qcow2"), NOT_FOUND if name.startswith("gone") else SOURCE, says)
        self.qemu("qemu-img", "rebase", "-u", "-b", "a.qcow2", "-F", "vmdk", "b.qcow2")
        self.assert_one_line(self.read("b.qcow2", "-f", "qcow2"), SOURCE, "vmdk: not supported")
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "l0.qcow2", "1M")
        for depth in range(1, 70):
            self.qemu("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", f"l{depth - 1}.qcow2", "-F", "qcow2", f"l{depth}.qcow2", "1M")
        self.assert_status(self.read("l60.qcow2", "-f", "qcow2"), DONE)
        self.assert_one_line(self.read("l69.qcow2", "-f", "qcow2"), SOURCE, "more than 64 deep")

    def test_of_what_is_encrypted(self):
        secret = ("--object", "secret,id=s,file=key")
        self.qemu("qemu-img", "convert", *secret, "-f", "raw", "-O", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", self.raw, "inside.qcow2")
        self.qemu("qemu-img", "convert", *secret, "-f", "raw", "-O", "luks", "-o", "key-secret=s,iter-time=10", self.raw, "raw.luks")
        self.assert_status(self.run_command("convert", self.raw, "packed.luks", "-c", "-e", "key", *WEAK, cwd=self.dir), DONE)
        for image in ("inside.qcow2", "raw.luks", "packed.luks"):
            with self.subTest(image=image):
                self.assert_reads(image, "--source-key", "wrong", "--source-key", "key")
                self.assert_one_line(self.read(image, "--source-key", "wrong"), WRONG_KEY, "does not open it")
                self.assertIn(self.read(image).returncode, (WRONG_KEY, SOURCE))
                # From one key to another, in one pass.
                self.assert_status(self.run_command("convert", image, "again.qcow2", "--force", "-c", "--source-key", "key", "-e", "wrong", *WEAK, cwd=self.dir), DONE)
                self.assert_reads("again.qcow2", "--source-key", "wrong")
        self.assert_reads("raw.luks", "-f", "luks", "--source-key", "key")
        self.assert_reads("packed.luks", "-f", "qcow2", "--source-key", "key")
        self.assert_one_line(self.read("raw.luks"), SOURCE, "looks like a LUKS container; write --source-key FILE to open it, or -f raw")
        self.assert_one_line(self.read("raw.luks", "-f", "qcow2", "--source-key", "key"), SOURCE, "is no qcow2")
        self.assert_one_line(self.read(self.raw, "-f", "luks", "--source-key", "key"), SOURCE, "is no LUKS container")
        self.assert_reads("raw.luks", "-f", "raw", like=self.dir / "raw.luks")

    def test_of_an_encrypted_image_into_a_set_is_encrypted_or_asked_for(self):
        self.assert_status(self.run_command("convert", self.raw, "inside.qcow2", "-e", "key", *WEAK, cwd=self.dir), DONE)
        backup = ("backup", "--disk", "inside.qcow2", "--name", "n", "--to", self.out, "--source-key", "key")
        self.assert_one_line(self.run_command(*backup, cwd=self.dir), USAGE, "is encrypted, and would be written unencrypted")
        self.assert_status(self.run_command(*backup, "--allow-plaintext", cwd=self.dir), DONE)
        self.assert_status(self.run_command(*backup, "-e", "wrong", *WEAK, cwd=self.dir), DONE)

    def test_of_what_others_write_meanwhile_is_refused(self):
        self.qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.raw, "base.qcow2")
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
        for used in ("base.qcow2", "top.qcow2"):
            user = subprocess.Popen(["qemu-io", used], cwd=self.dir, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                wait_until("qemu-io has it open", lambda: b"qemu-io>" in os.read(user.stdout.fileno(), 4096))
                self.assert_one_line(self.read("top.qcow2", "-f", "qcow2"), SOURCE, f"{used}.*in use")
                self.assert_status(self.read("top.qcow2", "-f", "qcow2", "-U"), DONE)
            finally:
                user.communicate(b"quit\n")

    def test_of_holes_stays_sparse(self):
        self.qemu("qemu-img", "create", "-q", "-f", "qcow2", "huge.qcow2", "8T")
        self.qemu("qemu-io", "-c", "write -P 9 5T 64k", "huge.qcow2")
        self.assert_status(self.run_command("convert", "huge.qcow2", self.image, cwd=self.dir), DONE)
        self.assertLess(self.image.stat().st_size, 2 * MIB)
        self.qemu("qemu-io", "-r", "-c", "read -P 9 5T 64k", "-c", "read -P 0 0 1M", self.image)

    def test_of_internal_snapshots_leaves_them_out_and_says_so(self):
        self.qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.raw, "snap.qcow2")
        self.qemu("qemu-img", "snapshot", "-c", "before", "snap.qcow2")
        self.qemu("qemu-io", "-c", "write -P 4 0 1M", "snap.qcow2")
        self.qemu("qemu-img", "convert", "-O", "raw", "snap.qcow2", "like.raw")
        result = self.read("snap.qcow2")
        self.assert_status(result, DONE, r"snap.qcow2: its internal snapshots \(1\) are not read")
        self.assertEqual((self.dir / "out.raw").read_bytes(), (self.dir / "like.raw").read_bytes())

    def test_of_what_is_not_supported_is_refused_by_name(self):
        self.qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.raw, "good.qcow2")
        good = (self.dir / "good.qcow2").read_bytes()
        for offset, value, says in ((72, (1 << 7).to_bytes(8, "big"), "incompatible feature bit 7: not known"), (72, b"\x80" + bytes(7), "bit 63"),
                                    (32, (1).to_bytes(4, "big"), "the old way"), (72, (8).to_bytes(8, "big"), "compression_type: 0"),
                                    (104, b"\x01", "compression_type: 1"), (36, bytes(4), "l1_size: 0, too small"), (40, (77).to_bytes(8, "big"), "l1_table_offset: 77"),
                                    (72, (4).to_bytes(8, "big"), "names a data file")):
            with self.subTest(says=says):
                (self.dir / "bad.qcow2").write_bytes(good[:offset] + value + good[offset + len(value):])
                self.assert_one_line(self.read("bad.qcow2"), SOURCE, says)
        (self.dir / "bad.qcow2").write_bytes(good[:72] + (4).to_bytes(8, "big") + good[80:])
        self.assert_one_line(self.read("bad.qcow2", "-f", "qcow2"), SOURCE, "external data file: not supported")

    def test_of_damage_names_the_place(self):
        self.qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", self.raw, "good.qcow2")
        good = bytearray((self.dir / "good.qcow2").read_bytes())
        l1 = struct.unpack(">Q", good[40:48])[0]
        l2 = struct.unpack(">Q", good[l1:l1 + 8])[0] & 0x00fffffffffffe00
        entries = struct.unpack(">8192Q", good[l2:l2 + 65536])
        first = next(index for index, entry in enumerate(entries) if entry & 1 << 62)
        plain = next(index for index, entry in enumerate(entries) if entry and not entry & 1 << 62)
        stream = entries[first] & (1 << 54) - 1
        damages = [(l1, struct.pack(">Q", 1 << 63 | 0x1200), "L1 entry 0: 0x8000000000001200: the L2 table is not at a cluster"),
                   (l1, struct.pack(">Q", 1 << 63 | 1 << 40), "ends before byte"),
                   (l2 + 8 * plain, struct.pack(">Q", 1 << 63 | 0x1200), f"L2 entry {plain}: .*not at a cluster"),
                   (l2 + 8 * plain, struct.pack(">Q", 1 << 63 | 1 << 40), "ends before byte"),
                   (l2 + 8 * first, struct.pack(">Q", 1 << 62), f"L2 entry {first}: .*compressed cluster at offset 0"),
                   (l2 + 8 * first, struct.pack(">Q", 1 << 62 | 1 << 45), f"guest byte {65536 * first}: .*goes beyond the file's end"),
                   (stream, b"\xff" * 64, f"guest byte {65536 * first}: its compressed cluster at file offset {stream}")]
        for offset, value, says in damages:
            with self.subTest(says=says):
                bad = good[:offset] + value + good[offset + len(value):]
                (self.dir / "bad.qcow2").write_bytes(bad)
                self.assert_one_line(self.read("bad.qcow2"), DAMAGED, says)
                self.assertFalse((self.dir / "out.raw").exists())


if __name__ == "__main__":
    unittest.main()
