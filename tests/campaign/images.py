# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The images of which campaigns make mutants: every kind of qcow2 that qemu-img or we make, small, in one folder. Of one seed the same, but
for the keys of what is encrypted."""
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import qemu_img  # noqa: E402

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
KEY = "key"
SECRET = ("--object", f"secret,id=s,file={KEY}")
WRITES = ["write -P 1 0 200k", "write -c -P 2 512k 64k", "write -c -P 3 576k 64k", "write -z 768k 64k", "write -P 4 1M 64k", "discard 0 64k"]
SMALL = ["write -P 1 0 20k", "write -c -P 2 32k 4k", "write -c -P 3 36k 4k", "write -z 48k 4k", "write -P 4 64k 8k", "discard 0 4k"]
TINY = ["write -P 1 0 5k", "write -c -P 2 8k 512", "write -c -P 3 9k 512", "write -z 12k 1k", "write -P 4 16k 2k"]


@dataclass
class Image:
    name: str
    encrypted: bool = False
    backing: bool = False
    options: list = field(default_factory=list)  # of qemu-img create


class Maker:
    """Makes them in `folder`, with `command` those that are ours."""

    def __init__(self, folder, command, seed):
        self.folder, self.command = Path(folder), command
        self.chance = random.Random(f"images {seed}")
        self.images = []
        (self.folder / KEY).write_bytes(b"correct horse")

    def run(self, *words):
        qemu_img.run(*words, cwd=self.folder)

    def created(self, name, options="", writes=(), size="2M", **more):
        self.run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", options] if options else []), name, size)
        self.write(name, writes)
        self.images.append(Image(name, **more))
        return name

    def write(self, name, writes):
        if writes:
            self.run("qemu-io", "-f", "qcow2", *[word for line in writes for word in ("-c", line)], name)

    def raw(self, name, size):
        with open(self.folder / name, "wb") as disk:
            for _ in range(12):
                disk.seek(self.chance.randrange(size - 70_000))
                disk.write(self.chance.randbytes(self.chance.randrange(1, 60_000)) if self.chance.random() < 0.3 else b"text, text " * self.chance.randrange(1, 6000))
            disk.truncate(size)

    def make(self):
        self.plain()
        self.with_more_tables()
        self.chains()
        self.encrypted()
        self.converted()
        return self.images

    def plain(self):
        self.created("v3", "", WRITES)
        self.created("v2", "compat=0.10", ["write -P 1 0 200k", "write -c -P 2 512k 64k", "write -P 4 1M 64k"])
        self.created("c512", "cluster_size=512", TINY, "200k")
        self.created("v2c512", "cluster_size=512,compat=0.10", ["write -P 1 0 5k", "write -c -P 2 8k 512"], "200k")
        self.created("c4k", "cluster_size=4k", SMALL, "4M")
        self.created("c2m", "cluster_size=2M", ["write -P 1 0 100k", "write -c -P 2 2M 2M"], "8M")
        self.created("zstd", "compression_type=zstd", WRITES)
        self.created("zstd4k", "compression_type=zstd,cluster_size=4k", SMALL, "4M")
        self.created("ext16k", "extended_l2=on,cluster_size=16k", ["write -P 1 0 50k", "write -P 2 65k 3k", "write -c -P 3 128k 16k", "write -z 200k 1k", "discard 0 16k"])
        self.created("ext64k", "extended_l2=on", ["write -P 1 0 200k", "write -P 2 301k 5k", "write -c -P 3 512k 64k", "write -z 600k 6k"])
        self.created("lazy", "lazy_refcounts=on,cluster_size=4k", SMALL, "1M")
        self.created("prealloc", "preallocation=metadata,cluster_size=4k", ["write -P 5 8k 8k"], "256k")
        for bits in (1, 2, 4, 8, 32, 64):
            self.created(f"refs{bits}", f"refcount_bits={bits},cluster_size=4k", SMALL, "1M")

    def with_more_tables(self):
        self.created("snapshots", "cluster_size=4k", SMALL, "1M")
        for name in "a", "b":
            self.run("qemu-img", "snapshot", "-c", name, "snapshots")
            self.write("snapshots", ["write -P 7 40k 20k", "write -c -P 8 100k 4k"] if name == "a" else ["write -P 9 0 8k"])
        self.created("bitmaps", "cluster_size=4k", SMALL, "1M")
        for name in "first", "second":
            self.run("qemu-img", "bitmap", "--add", "bitmaps", name)
        self.write("bitmaps", ["write -P 9 128k 70k"])

    def chains(self):
        self.raw("base.raw", 1 << 20)
        self.run("qemu-img", "convert", "-O", "qcow2", "-f", "raw", "-o", "cluster_size=4k", "base.raw", "base")
        for name, below, kind in ("overraw", "base.raw", "raw"), ("overqcow2", "base", "qcow2"):
            self.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", below, "-F", kind, name)
            self.write(name, ["write -P 1 100k 30k", "write -z 200k 8k", "write -c -P 2 300k 4k"])
            self.images.append(Image(name, backing=True))

    def encrypted(self):
        self.raw("e.raw", 512 << 10)
        self.run("qemu-img", "convert", *SECRET, "-f", "raw", "-O", "qcow2", "-o",
                 "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,cluster_size=4k", "e.raw", "luks")
        self.run(self.command, "convert", "-f", "raw", "-e", KEY, *WEAK, "e.raw", "ourluks")
        self.images += [Image("luks", encrypted=True), Image("ourluks", encrypted=True)]

    def converted(self):
        self.raw("c.raw", 1 << 20)
        for number, options in enumerate((["-c"], ["-c", "-o", "cluster_size=4k"], ["-c", "-o", "compression_type=zstd"])):
            self.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, "c.raw", f"qemuc{number}")
            self.images.append(Image(f"qemuc{number}"))
        for number, options in enumerate(([], ["-c"], ["-c=zstd"], ["-c", "--cluster-size", "4K"], ["--cluster-size", "512"])):
            self.run(self.command, "convert", "-f", "raw", *options, "c.raw", f"ours{number}")
            self.images.append(Image(f"ours{number}"))
