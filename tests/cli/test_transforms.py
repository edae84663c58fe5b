#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Compressed and encrypted images before judges that others wrote: qemu-img, qemu-io, nbdkit, cryptsetup, 7-Zip and libqcow."""
import json
import random
import struct
import subprocess
import unittest

from cli import *

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
CODECS = ("", "zlib:fast", "zlib", "zlib:best", "zlib:9", "zstd:fast", "zstd", "zstd:best", "auto")
SIZE = MIB + 300 * 512 + 77
SIZES = (0, 1, 511, 512, 65535, 65536, 65537, 3 * MIB + 513)


def mixture(size, seed=5):
    """Text, machine-like records, what does not shrink, and zeroes, in runs of all lengths."""
    source = random.Random(seed)
    disk = bytearray()
    while len(disk) < size:
        length = source.choice((300, 4096, 20000, 65536, 150000))
        kind = source.randrange(5)
        if kind == 0:
            disk += bytes(length)
        elif kind == 1:
            disk += source.randbytes(length)
        elif kind == 2:
            words = [source.randbytes(3).hex() for _ in range(200)]
            disk += " ".join(source.choices(words, k=length // 7)).encode()
        elif kind == 3:
            disk += b"".join(struct.pack("<IIQ", i, source.randrange(1000), 0) for i in range(length // 16))
        else:
            disk += source.randbytes(length // 8) * 8
    return bytes(disk[:size])


class Made:
    """An image of ours, and how stock tools are told to open it."""

    def __init__(self, path, layers):
        self.path, self.layers = path, layers

    def options(self):
        name = str(self.path)
        return {"plain": f"driver=qcow2,file.driver=file,file.filename={name}",
                "inside": f"driver=qcow2,encrypt.key-secret=sec,file.driver=file,file.filename={name}",
                "around": f"driver=qcow2,file.driver=luks,file.key-secret=sec,file.file.driver=file,file.file.filename={name}",
                "raw": f"driver=luks,key-secret=sec,file.driver=file,file.filename={name}"}[self.layers]


class TransformTest(CliTest):
    def setUp(self):
        super().setUp()
        self.passphrase, self.wrong = self.dir / "passphrase", self.dir / "wrong"
        self.passphrase.write_bytes(b"correct horse \xc3\xa4\n")
        self.wrong.write_bytes(b"correct horse \xc3\xa4")

    def disk(self, size=SIZE, name="disk.raw"):
        path = self.dir / name
        path.write_bytes(mixture(size))
        return path

    def make(self, source, codec="", encrypted=False, *more, name="image", format=None):
        words = [f"--compress={codec}"] if codec else []
        words += ["-e", self.passphrase, *WEAK] if encrypted else []
        words += ["-O", format] if format else []
        path = self.out / name
        self.assert_status(self.run_command("convert", "--force", *words, *more, source, path), DONE)
        return Made(path, "raw" if format == "luks" else "plain" if not encrypted else "around" if codec else "inside")

    def every_kind(self, source, *more):
        for codec in CODECS:
            for encrypted in (False, True):
                with self.subTest(codec=codec, encrypted=encrypted, options=more):
                    yield self.make(source, codec, encrypted, *more)

    # ---- judges ------------------------------------------------------------------------------------------------------------

    def tool(self, *words, status=0, key=None):
        """qemu's tools get the secret `sec`."""
        words = list(map(str, words))
        if words[0].startswith("qemu"):
            words[2:2] = ["--object", f"secret,id=sec,file={key or self.passphrase}"]
        done = subprocess.run(words, capture_output=True)
        self.assertEqual(done.returncode, status, (words, done.stdout[-300:], done.stderr))
        return done.stdout

    def padded(self, source):
        """The disk as qemu sees it: whole sectors."""
        path = self.dir / "padded"
        data = source.read_bytes()
        path.write_bytes(data + bytes(-len(data) % 512))
        return path

    def assert_is(self, image, source):
        if image.layers != "raw":
            self.tool("qemu-img", "check", "--image-opts", image.options())
        self.tool("qemu-img", "compare", "--image-opts", f"driver=raw,file.filename={self.padded(source)}", image.options())

    def info(self, image):
        return json.loads(self.tool("qemu-img", "info", "--output=json", "--image-opts", image.options()))


class EveryKind(TransformTest):
    def test_is_the_disk_for_qemu_at_every_disk_size(self):
        for size in SIZES:
            source = self.disk(size)
            for image in self.every_kind(source):
                self.assert_is(image, source)

    def test_is_the_disk_for_qemu_at_small_and_at_large_clusters(self):
        source = self.disk()
        for cluster in ("512", "4K", "2M"):
            for image in self.every_kind(source, "--cluster-size", cluster):
                self.assert_is(image, source)

    def test_is_the_disk_for_qemu_at_all_other_clusters(self):
        source = self.disk()
        for bits in (10, 11, 13, 14, 15, 17, 18, 19, 20):
            for codec, encrypted in (("zlib", False), ("", True), ("zstd", True)):
                with self.subTest(bits=bits, codec=codec, encrypted=encrypted):
                    self.assert_is(self.make(source, codec, encrypted, "--cluster-size", 1 << bits), source)

    def test_converts_back_to_the_very_bytes(self):
        source = self.disk()
        for image in self.every_kind(source):
            back = self.dir / "back"
            self.tool("qemu-img", "convert", "-O", "raw", "--image-opts", image.options(), back)
            self.assertEqual(back.read_bytes(), self.padded(source).read_bytes())

    def test_says_of_itself_what_it_is(self):
        source = self.disk()
        for codec in CODECS:
            for encrypted in (False, True):
                told = self.info(self.make(source, codec, encrypted))
                data = told["format-specific"]["data"]
                self.assertEqual(data["compression-type"], "zstd" if codec.startswith("zstd") else "zlib")
                self.assertEqual("encrypt" in data, encrypted and not codec)

    def test_is_smaller_when_it_is_compressed(self):
        source = self.disk(8 * MIB)
        plain = self.make(source).path.stat().st_size
        sizes = {codec: self.make(source, codec).path.stat().st_size for codec in CODECS[1:]}
        for codec, size in sizes.items():
            self.assertLess(size, 0.9 * plain, codec)
        self.assertLess(sizes["zlib:best"], sizes["zlib:fast"])
        self.assertLess(sizes["zstd:best"], sizes["zstd:fast"])


class CompressedImages(TransformTest):
    def test_are_the_disk_for_7zip(self):
        source = self.disk()
        for codec in [codec for codec in CODECS if codec.startswith("zlib")]:
            for cluster in ("4K", "64K", "2M"):
                with self.subTest(codec=codec, cluster=cluster):
                    image = self.make(source, codec, False, "--cluster-size", cluster, name="image.qcow2")
                    self.assertEqual(self.tool("7zz", "e", "-so", image.path), self.padded(source).read_bytes())

    def test_are_the_disk_for_libqcow(self):
        source = self.disk()
        for codec in [codec for codec in CODECS if codec.startswith("zlib")]:
            with self.subTest(codec=codec):
                image = self.make(source, codec)
                place = self.dir / "mounted"
                place.mkdir(exist_ok=True)
                self.tool("qcowmount", image.path, place)
                try:
                    self.assertEqual((place / "qcow1").read_bytes(), self.padded(source).read_bytes())
                finally:
                    subprocess.run(["fusermount3", "-u", place], check=True)

    def test_are_the_same_bytes_whatever_the_threads_and_the_way_of_reading(self):
        source = self.disk(6 * MIB)
        socket = self.dir / "socket"
        server = subprocess.Popen(["nbdkit", "-f", "--exit-with-parent", "-U", socket, "file", source])
        self.addCleanup(self.end, server)
        wait_until("nbdkit listens", socket.exists)
        for codec in [codec for codec in CODECS if codec and codec != "auto"]:
            images = [self.make(source, codec, False, "-j", threads, name=f"image{threads}") for threads in (1, 2, 16)]
            images.append(self.make("nbd+unix:///?socket=" + str(socket), codec, False, name="image-nbd"))
            self.assertEqual(len({image.path.read_bytes() for image in images}), 1, codec)


class EncryptedImages(TransformTest):
    def all_layers(self, source):
        return [self.make(source, "", True, name="inside"), self.make(source, "zlib", True, name="around"),
                self.make(source, "", True, name="raw", format="luks")]

    def headers(self, images):
        """A file that begins with the LUKS header, of each."""
        for image in images:
            data = image.path.read_bytes()
            header = self.dir / "header"
            header.write_bytes(data[data.index(b"LUKS\xba\xbe"):] if image.layers == "inside" else data)
            yield header

    def test_are_opened_by_cryptsetup_with_the_passphrase_and_no_other(self):
        for header in self.headers(self.all_layers(self.disk())):
            dump = self.tool("cryptsetup", "luksDump", header).decode()
            for fact in ("Version:.*1", "Cipher name:.*aes", "Cipher mode:.*xts-plain64", "Hash spec:.*sha256", "MK bits:.*512"):
                self.assertRegex(dump, fact)
            self.tool("cryptsetup", "open", "--test-passphrase", "--key-file", self.passphrase, header)
            self.tool("cryptsetup", "open", "--test-passphrase", "--key-file", self.wrong, header, status=2)

    def test_have_eight_key_slots_that_readers_take(self):
        for header in self.headers(self.all_layers(self.disk())):
            dump = self.tool("cryptsetup", "luksDump", header).decode()
            self.assertEqual(dump.count("DISABLED"), 7)
            self.tool("cryptsetup", "luksAddKey", "-q", "--key-file", self.passphrase, "--pbkdf-force-iterations", "1000", header, self.wrong)
            self.tool("cryptsetup", "open", "--test-passphrase", "--key-file", self.wrong, header)

    def test_are_refused_by_qemu_with_a_wrong_passphrase(self):
        for image in self.all_layers(self.disk()):
            back = self.dir / "back"
            self.tool("qemu-img", "convert", "-O", "raw", "--image-opts", image.options(), back)
            self.tool("qemu-img", "convert", "-O", "raw", "--image-opts", image.options(), back, status=1, key=self.wrong)

    def test_are_opened_by_nbdkits_luks_filter_and_no_other_way(self):
        source = self.disk()
        self.passphrase, self.wrong = self.wrong, self.passphrase  # it reads a line, without the newline at its end
        self.wrong.write_bytes(b"correct horsf")
        around, raw = self.all_layers(source)[1:]
        copy = self.dir / "copy"
        for image, payload in ((around, "qcow2"), (raw, "raw")):
            serve = ["nbdkit", "-U", "-", "--filter=luks", "file", image.path]
            self.tool(*serve, f"passphrase=+{self.passphrase}", "--run", f'nbdcopy "$uri" {copy}')
            compare = ("qemu-img", "compare", "--image-opts", f"driver=raw,file.filename={self.padded(source)}",
                       f"driver={payload},file.driver=file,file.filename={copy}")
            self.tool(*compare)
            copy.unlink()
            refused = subprocess.run(list(map(str, [*serve, f"passphrase=+{self.wrong}", "--run", f'nbdcopy "$uri" {copy}'])), capture_output=True)
            self.assertNotEqual(refused.returncode, 0)

    def test_give_a_pattern_back_through_qemu_io(self):
        source = self.dir / "pattern.raw"
        source.write_bytes(bytes(65536) + b"\x5a" * 200000 + bytes(100000))
        for image in self.all_layers(source):
            read = lambda command, **more: self.tool("qemu-io", "-r", "--image-opts", "-c", command, image.options(), **more)
            read("read -P 0x5a 65536 200000")
            read("read -P 0 0 65536")
            read("read -P 0x5b 65536 200000", status=1)

    def test_hold_no_compressed_cluster_inside(self):
        source = self.disk(3 * MIB)
        for cluster in (512, 65536):
            image = self.make(source, "", True, "--cluster-size", cluster).path.read_bytes()
            crypt_method, l1_size, l1_offset = struct.unpack(">IIQ", image[32:48])
            self.assertEqual(crypt_method, 2)
            tables = [entry & 0x00FFFFFFFFFFFE00 for entry in struct.unpack(f">{l1_size}Q", image[l1_offset:l1_offset + 8 * l1_size])]
            entries = [entry for table in tables if table for entry in struct.unpack(f">{cluster // 8}Q", image[table:table + cluster])]
            self.assertTrue(any(entries))
            self.assertFalse([entry for entry in entries if entry >> 62 & 1])

    def test_are_stretched_two_million_times_unless_told_otherwise(self):
        image = self.out / "image"
        self.assert_status(self.run_command("convert", "-c", "-e", self.passphrase, self.disk(), image), DONE)
        self.assertRegex(self.tool("cryptsetup", "luksDump", image).decode(), r"Key Slot 0: ENABLED\s+Iterations:\s+2000000")
        self.tool("cryptsetup", "open", "--test-passphrase", "--key-file", self.passphrase, image)

    def test_differ_although_the_disk_is_the_same(self):
        source = self.disk()
        self.assertNotEqual(self.make(source, "", True, name="a").path.read_bytes(), self.make(source, "", True, name="b").path.read_bytes())


if __name__ == "__main__":
    unittest.main()
