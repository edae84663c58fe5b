# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Compression, encryption and both, from the raw file of real files. Our own runs and the rivals' are in one contest, so that each
round has both under the same load."""
import os
import subprocess

import disks
from contender import COMPARE_TIMEOUT, Contender, Ours, QemuImg
from contests import OURS, Contest

MIB = 1 << 20
WEAK = ["--pbkdf-iterations", "1000", "--insecure-pbkdf"]  # key stretching taken off
QEMU_ZLIB = "qemu-img convert -c + sync"
QEMU_ZLIB_THREADS = "qemu-img convert -c -m 16 -W + sync"
QEMU_ZSTD_THREADS = "qemu-img convert -c -o compression_type=zstd -m 16 -W + sync"
QEMU_LUKS = "qemu-img convert with LUKS + sync"


def ours(*options):
    return " ".join([OURS, *options])


class EncryptedOutput(Contender):
    """Compared through QEMU's own layers with the passphrase's file."""

    secret, container = None, False

    def compare(self, image):
        layers = ("driver=qcow2,file.driver=luks,file.key-secret=sec0,file.file.driver=file,file.file.filename=" if self.container else
                  "driver=qcow2,encrypt.key-secret=sec0,file.driver=file,file.filename=")
        run = subprocess.run(["qemu-img", "compare", "--object", f"secret,id=sec0,file={self.secret}", "--image-opts",
                              f"driver=raw,file.driver=file,file.filename={self.source}", layers + image],
                             capture_output=True, text=True, timeout=COMPARE_TIMEOUT)
        return None if run.returncode == 0 else (run.stdout + run.stderr).strip()[-300:]


class OursEncrypted(EncryptedOutput, Ours):
    """`nasbackup convert -e`, with or without -c, which makes it a container."""

    def __init__(self, name, binary, options, source, secret):
        super().__init__(name, binary, [*options, "-e", secret, "-f", "raw", source], source)
        self.secret, self.container = secret, any(option.startswith("-c") for option in options)


class QemuImgLuks(EncryptedOutput, QemuImg):
    def __init__(self, source, secret):
        super().__init__(source, source, ["--object", f"secret,id=sec0,file={secret}", "-o", "encrypt.format=luks,encrypt.key-secret=sec0"],
                         QEMU_LUKS, slow=True)
        self.secret = secret


class TransformContest(Contest):
    """From the raw file that the contest `raw` reads too."""

    def source(self):
        self.warm = [self.house.realistic()]
        return self.warm[0]

    def plain(self, *options):
        source = self.source()
        return Ours(ours(*options), self.house.binary, [*options, "-f", "raw", source], source)

    def encrypted(self, *options, weak):
        words = [*options, *(WEAK if weak else [])]
        name = ours(*options, "-e") + (", key stretching off" if weak else "")
        return OursEncrypted(name, self.house.binary, words, self.source(), self.house.passphrase())


class Compress(TransformContest):
    row = "compress"
    title = "raw file → compressed qcow2"

    def start(self):
        source = self.source()
        rival = lambda options, name: QemuImg(source, source, ["-c", *options], name, slow=True)
        self.contenders = [self.plain("-c"), self.plain("-c=zlib:fast"), self.plain("-c=zlib:best"), self.plain("-c=zstd"),
                           rival([], QEMU_ZLIB), rival(["-m", "16", "-W"], QEMU_ZLIB_THREADS),
                           rival(["-o", "compression_type=zstd", "-m", "16", "-W"], QEMU_ZSTD_THREADS)]


class Encrypt(TransformContest):
    row = "encrypt"
    title = "raw file → qcow2 with LUKS inside"

    def start(self):
        self.contenders = [self.plain(), self.encrypted(weak=True), self.encrypted(weak=False), QemuImgLuks(self.source(), self.house.passphrase())]


class Both(TransformContest):
    row = "both"
    title = "raw file → compressed qcow2 in a LUKS container"

    def start(self):
        self.contenders = [self.plain("-c"), self.encrypted("-c", weak=True), self.encrypted("-c", weak=False)]


class Scaling(TransformContest):
    """One core and one thread, against all there are."""

    row = "scaling"
    title = "-c from a raw file: one core, two cores"
    shows_stages = True
    ONE, TWO = "nasbackup -c -j 1 on one core", "nasbackup -c -j 2"

    def start(self):
        source = self.source()
        two = Ours(self.TWO, self.house.binary, ["-c", "-j", "2", "-f", "raw", source], source)
        one = Contender(self.ONE, lambda out: [["taskset", "-c", "0", self.house.binary, "convert", "--json", "--progress=none", "-c", "-j",
                                                "1", "-f", "raw", source, out]], source)
        self.contenders = [one, two]


class Auto(TransformContest):
    """A limit at a quarter of what `fast` does without one, measured first."""

    row = "auto"
    FAST, AUTO = "nasbackup -c=zlib:fast -b ¼", "nasbackup -c=auto -b ¼"
    warm_rounds = 0
    runs = 3

    def start(self):
        source = self.source()
        rate = max(1, self.free_speed(source) // (4 * MIB))
        self.title = f"auto: a limit of {rate} MiB/s, a quarter of the free speed of zlib:fast"
        self.contenders = [Ours(name, self.house.binary, [codec, "-b", f"{rate}M", "-f", "raw", source], source)
                           for name, codec in ((self.FAST, "-c=zlib:fast"), (self.AUTO, "-c=auto"))]

    def free_speed(self, source):
        """Bytes read as data per second, the best of three."""
        import runner
        out = os.path.join(self.house.work, "free.qcow2")
        command = [self.house.binary, "convert", "--force", "--progress=none", "-c=zlib:fast", "-f", "raw", source, out]
        seconds = min(runner.time_steps([command])["seconds"] for _ in range(3))
        os.unlink(out)
        return int(disks.data_bytes(source) / seconds)


class AutoRandom(Contest):
    """What looking costs where nothing can be won."""

    row = "auto"
    title = "auto: a disk of random data"
    PLAIN, AUTO = "nasbackup, plain", "nasbackup -c=auto"

    def start(self):
        source = self.house.dense(self.house.data)
        self.warm = [source]
        self.contenders = [Ours(self.PLAIN, self.house.binary, ["-f", "raw", source], source),
                           Ours(self.AUTO, self.house.binary, ["-c=auto", "-f", "raw", source], source)]


class MemoryTransforms(TransformContest):
    row = "memory"
    title = "peak memory, compressing and encrypting the realistic disk"
    detail = True
    warm_rounds = 0
    WORK = (["-c"], ["-c=zlib:best"], ["-c=zstd:best"], ["-c=auto"])

    def start(self):
        self.contenders = []
        for options in self.WORK:
            for bound in ([], ["--memory", "64M"]):
                self.contenders.append(self.encrypted(*options, *bound, weak=True))
