#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""make_seeds.py FOLDER: what the fuzz targets begin with, a folder for each, made by qemu-img, qemu-io and our own command ($NASBACKUP).
`./fuzz --merge` takes from build-fuzz/seeds into the corpus what adds to it."""
import json
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lab"))
from qemu_img import run  # noqa: E402

NASBACKUP = os.environ.get("NASBACKUP", str(ROOT / "build" / "tools" / "nasbackup"))
WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
KIB = 1 << 10
SECTOR = 512  # images are kept as those that are not zero, each with its number in front (memory_check.h)
HEADER_BYTES = 1024  # of an image, for the header's target: no extension that is of use lies behind

# Options, size and what qemu-io does to it: small files, and every kind of entry.
IMAGES = [
    ("cluster_size=512", "64k", ["write -P 1 0 3k", "write -z 8k 2k", "write -c -P 2 16k 512", "write -c -P 3 17k 512", "discard 0 1k"]),
    ("cluster_size=512,compat=0.10", "64k", ["write -P 1 0 1k", "write -c -P 2 16k 512"]),
    ("cluster_size=512,compression_type=zstd", "40k", ["write -c -P 2 0 512", "write -c -P 4 1k 512", "write -P 1 2k 1k"]),
    *((f"cluster_size=512,refcount_bits={bits}", "20k", ["write -P 1 0 2k", "write -c -P 2 4k 512"]) for bits in (1, 2, 8, 32, 64)),
    ("cluster_size=1k,lazy_refcounts=on", "64k", ["write -P 1 5k 3k"]),
    ("cluster_size=4k", "100k", ["write -P 1 0 4k", "write -c -P 2 8k 4k"]),
    ("cluster_size=16k,extended_l2=on", "64k", ["write -P 1 3k 1k", "write -z 40k 512"]),
]
OPTIONS_OF_HEADERS = ["", "compat=0.10", "cluster_size=2M", "cluster_size=512", "extended_l2=on", "compression_type=zstd", "refcount_bits=1",
                      "refcount_bits=64", "lazy_refcounts=on", "data_file=data.raw", "data_file=data.raw,data_file_raw=on",
                      "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"]


def option(number, data=b""):
    """Of the NBD handshake."""
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def name(text):
    """A string as NBD's options have it."""
    return struct.pack(">I", len(text)) + text


class Seeds:
    def __init__(self, folder):
        self.folder = folder
        self.work = Path(tempfile.mkdtemp(prefix="seeds-"))
        os.chdir(self.work)

    def keep(self, target, name, content):
        path = self.folder / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def keep_image(self, name, content):
        sectors = {at // SECTOR: content[at:at + SECTOR] for at in range(0, len(content), SECTOR)}
        last = max(sectors)
        packed = b"".join(bytes([number]) + sector for number, sector in sectors.items() if any(sector) or number == last)
        self.keep("qcow2_check", name, packed)
        self.keep("qcow2_reading", name, packed)
        self.keep("qcow2_bitmaps", name, b"\0" + packed)
        self.keep("qcow2_header", name, content[:HEADER_BYTES])

    # ---- qcow2 -------------------------------------------------------------------------------------------------------------

    def images(self):
        for number, (options, size, commands) in enumerate(IMAGES):
            run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "i.qcow2", size)
            for command in commands:
                run("qemu-io", "-f", "qcow2", "-c", command, "i.qcow2")
            self.keep_image(f"qemu-{number}", Path("i.qcow2").read_bytes())
            self.entries(number, Path("i.qcow2").read_bytes())
            if number < 2:
                run("qemu-img", "snapshot", "-c", "s", "i.qcow2")
                run("qemu-io", "-f", "qcow2", "-c", "write -P 9 1k 1k", "i.qcow2")
                self.keep_image(f"qemu-{number}-snapshot", Path("i.qcow2").read_bytes())
                self.encrypted(f"qemu-{number}-encrypted", bytearray(Path("i.qcow2").read_bytes()))
            if number == 0:
                run("qemu-img", "bitmap", "--add", "-g", "512", "i.qcow2", "bits")
                run("qemu-io", "-f", "qcow2", "-c", "write -P 9 1k 1k", "i.qcow2")
                self.keep_image(f"qemu-{number}-bitmap", Path("i.qcow2").read_bytes())
                self.directory(Path("i.qcow2").read_bytes())
        for number, options in enumerate(([], ["-c"], ["-c=zstd"])):
            self.raw("d.raw", 48 * KIB)
            run(NASBACKUP, "convert", "--force", *options, "--cluster-size", "512", "-f", "raw", "d.raw", "o.qcow2")
            self.keep_image(f"ours-{number}", Path("o.qcow2").read_bytes())

    @staticmethod
    def raw(name, size):
        with open(name, "wb") as disk:
            disk.write(b"text, text " * 200 + random.Random(1).randbytes(3000))
            disk.truncate(size)

    def entries(self, number, image):
        bits, = struct.unpack_from(">I", image, 20)
        l1, = struct.unpack_from(">Q", image, 40)
        l2 = struct.unpack_from(">Q", image, l1)[0] & 0x00fffffffffffe00
        version = struct.unpack_from(">I", image, 4)[0]
        extended = version > 2 and image[79] >> 4 & 1
        flags = (version == 2) | extended << 1
        words = image[l1:l1 + 8] + image[l2:l2 + 256]
        self.keep("qcow2_l2_entry", f"qemu-{number}", bytes([flags, bits - (14 if extended else 9)]) + words)

    def directory(self, image):
        """Of one bitmap, of two, and the image with a long name to add."""
        at = image.index(struct.pack(">II", 0x23852875, 24))
        count, _, size, offset = struct.unpack_from(">IIQQ", image, at + 8)
        entry = image[offset:offset + size]
        self.keep("qcow2_bitmaps", "directory-1", bytes([1, count]) + entry)
        self.keep("qcow2_bitmaps", "directory-2", bytes([1, 2 * count]) + entry + entry.replace(b"bits", b"more"))
        packed = (self.folder / "qcow2_bitmaps" / "qemu-0-bitmap").read_bytes()
        self.keep("qcow2_bitmaps", "long-name", b"\2" + packed[1:])

    def encrypted(self, name, image):
        """Says of a plain image that it is encrypted: reader and check do not know better."""
        struct.pack_into(">I", image, 32, 2)
        length = struct.unpack_from(">I", image, 100)[0] if image[7] > 2 else 72
        struct.pack_into(">IIQQII", image, length, 0x0537be77, 16, len(image) // 512 * 512 - 1024, 1024, 0, 0)
        self.keep_image(name, bytes(image))

    def headers(self):
        secret = ("--object", "secret,id=s,data=word")
        for number, options in enumerate(OPTIONS_OF_HEADERS):
            run("qemu-img", "create", "-q", *secret, "-f", "qcow2", *(["-o", options] if options else []), "h.qcow2", "16M")
            self.keep("qcow2_header", f"h-{number}", Path("h.qcow2").read_bytes()[:HEADER_BYTES])
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.work / "i.qcow2", "-F", "qcow2", "h.qcow2")
        self.keep("qcow2_header", "h-backing", Path("h.qcow2").read_bytes()[:HEADER_BYTES])

    # ---- clusters, LUKS, sets, NBD, rates ----------------------------------------------------------------------------------

    def clusters(self):
        sizes = (512, 4096, 16384, 65536)
        texts = [b"\0" * 65536, b"abc" * 30000, bytes(range(256)) * 256, random.Random(3).randbytes(600) * 120]
        for kind, size in enumerate(sizes):
            for number, text in enumerate(texts):
                text = text[:size]
                for level in (0, 1, 9):
                    packer = zlib.compressobj(level, zlib.DEFLATED, -12 if level else -15)
                    stream = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
                    if len(stream) < 3000:
                        self.keep("compressed_cluster", f"open-{kind}-{number}-{level}", bytes([kind * 2]) + stream)
                        self.keep("compressed_cluster", f"zlib-{kind}-{number}-{level}", bytes([kind * 2]) + stream + packer.flush())
                self.zstd(kind, number, text)

    def zstd(self, kind, number, text):
        """Through our own writer, whose clusters are frames of the text."""
        size = len(text)
        Path("z.raw").write_bytes(text)
        run(NASBACKUP, "convert", "--force", "-c=zstd", "--cluster-size", size, "-f", "raw", "z.raw", "z.qcow2")
        image = Path("z.qcow2").read_bytes()
        bits, = struct.unpack_from(">I", image, 20)
        l2 = struct.unpack_from(">Q", image, struct.unpack_from(">Q", image, 40)[0])[0] & 0x00fffffffffffe00
        entry = struct.unpack_from(">Q", image, l2)[0] if l2 else 0
        if entry >> 62 & 1:
            shift = 62 - (bits - 8)
            at = entry & (1 << shift) - 1
            sectors = (entry & (1 << 62) - 1) >> shift
            stream = image[at:at + (sectors + 1) * 512 - at % 512].rstrip(b"\0")
            if len(stream) < 3000:
                self.keep("compressed_cluster", f"zstd-{kind}-{number}", bytes([kind * 2 + 1]) + stream)

    def luks(self):
        Path("key").write_bytes(b"word")
        self.raw("d.raw", 64 * KIB)
        run(NASBACKUP, "convert", "--force", "-O", "luks", "-e", "key", *WEAK, "-f", "raw", "d.raw", "o.luks")
        self.keep("luks_header", "ours", Path("o.luks").read_bytes()[:592])
        run("qemu-img", "create", "-q", "--object", "secret,id=s,data=word", "-f", "luks", "-o", "key-secret=s,iter-time=10,cipher-alg=aes-128", "q.luks", "1M")
        content = Path("q.luks").read_bytes()
        self.keep("luks_header", "qemu", content[:592] + struct.pack(">Q", len(content)))

    def sets(self):
        """Manifests and digest files of two small sets."""
        disks = ["--disk", "d.raw", "--disk", "e.raw"]
        self.raw("d.raw", 700 * KIB)
        Path("e.raw").write_bytes(b"")
        os.truncate("e.raw", 5 << 20)
        for name, options in ("plain", []), ("encrypted", ["-e", "key", *WEAK, "-c"]):
            os.mkdir(name)
            run(NASBACKUP, "backup", *disks, "--name", "vm", "--to", name, *options)
            for manifest in Path(name).rglob("manifest.json"):
                text = manifest.read_text()
                self.keep("manifest", name + "-whole", text.encode())
                self.keep("manifest", name, text[:text.index(",\n  \"seal\"")].encode() + b"\n}")
                self.chained(name, json.loads(text))
            for number, file in enumerate(sorted(Path(name).rglob("*.digests"))):
                self.keep("digest_file", f"{name}-{number}", file.read_bytes())

    def chained(self, name, manifest):
        """The same set as an increment, and as one that was merged: what version 3 has besides."""
        encrypted = manifest["options"]["encryption"] == "luks"
        del manifest["seal"]
        first, second = manifest["disks"]
        first |= {"parent_file": first["file"], "parent_bytes": 65536, "has_bitmap": True}
        second |= {"full_because": "raw cannot hold a bitmap"}
        parent = {"set": "2026.11.20.00.00.00", "sha256": "ab" * 32, "hmac_sha256": "cd" * 32 if encrypted else ""}
        increment = manifest | {"kind": "increment", "parent": parent, "checkpoint": "backup-1711586400"}
        self.keep("manifest", name + "-increment", json.dumps(increment, indent=2).encode())
        first |= {"parent_file": "", "parent_bytes": 0}
        merged = manifest | {"merged_from": [{"set": f"2026.11.2{day}.00.00.00", "sha256": "ef" * 32} for day in range(3)]}
        self.keep("manifest", name + "-merged", json.dumps(merged, indent=2).encode())

    def conversations(self):
        def request(kind, offset, length, flags=0, cookie=1):
            return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length)

        flags, allocation = struct.pack(">I", 3), name(b"base:allocation")
        go = option(7, name(b"vda") + struct.pack(">HHH", 2, 1, 3))
        context = option(10, name(b"vda") + struct.pack(">I", 1) + allocation)
        requests = (request(0, 0, 65536) + request(0, 4096, 1 << 25, 4, 2) + request(7, 0, 1 << 20, 0, 8) + request(7, 0, 1 << 20, 8, 3) + request(3, 0, 0)
                    + request(5, 0, 4096) + request(4, 0, 512) + request(6, 0, 512) + request(1, 0, 16) + b"x" * 16 + request(0, 1 << 60, 1) + request(99, 0, 1))
        talks = [flags + option(3) + option(8) + context + go + requests + request(2, 0, 0),
                 flags + option(8) + option(9, name(b"vdb") + struct.pack(">I", 2) + name(b"base:") + allocation) + option(6, name(b"vdb") + b"\0\0") + option(2),
                 flags + option(1, b"a name with spaces") + requests, struct.pack(">I", 0) + option(1) + requests,
                 flags + option(5) + option(3, b"x") + option(7, b"junk") + option(99, b"y" * 70000) + option(7, name(b"none") + b"\0\0") + go + requests,
                 flags + option(10, name(b"vda") + struct.pack(">I", 1) + allocation), struct.pack(">I", 1) + go + requests]
        for number, talk in enumerate(talks):
            self.keep("nbd_session", str(number), bytes([number * 40]) + talk)

    def hellos(self):
        """What qemu-nbd says to formats/nbd_hello's client, for an export that it has and one that it has not."""
        run("qemu-img", "create", "-q", "-f", "qcow2", "served.qcow2", "1M")
        run("qemu-nbd", "--fork", "--persistent", "--read-only", "--socket", self.work / "nbd", "--export-name", "vda", "--allocation-depth",
            "--pid-file", "nbd.pid", "-f", "qcow2", "served.qcow2")
        try:
            for number, (export, context) in enumerate(((b"vda", b"base:allocation"), (b"vda", b"qemu:"), (b"vdz", b"base:allocation"))):
                with socket.socket(socket.AF_UNIX) as server:
                    server.connect(str(self.work / "nbd"))
                    server.sendall(struct.pack(">I", 3) + option(8) + option(10, name(export) + struct.pack(">I", 1) + name(context))
                                   + option(7, name(export) + struct.pack(">HH", 1, 3)))
                    server.settimeout(0.3)
                    said = b""
                    while len(said) < 4096:
                        try:
                            said += server.recv(4096)
                        except TimeoutError:
                            break
                self.keep("nbd_hello", str(number), bytes([number * 20]) + said)
        finally:
            os.kill(int(Path("nbd.pid").read_text()), signal.SIGTERM)

    def rates(self):
        for number, text in enumerate(("08:00-18:00=50M,*=0", "22:00-06:00=1G, *=400Mbit/s", "00:00-12:00=1,12:00-24:00=2", "*=5K", "64KiB", "9223372036854775807", "1T", "50/s")):
            self.keep("rates", str(number), text.encode())


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_seeds.py FOLDER")
    seeds = Seeds(Path(sys.argv[1]).resolve())
    for part in (seeds.images, seeds.headers, seeds.clusters, seeds.luks, seeds.sets, seeds.conversations, seeds.hellos, seeds.rates):
        part()


main()
