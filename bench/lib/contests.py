# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The contests: which source, who runs. What the results have to be stands in goals.py."""
import os
import subprocess

import disks
from contender import EmptyDisk, NoOutput, Ours, QemuImg
from servers import Nbdkit, fill

OURS = "nasbackup"
SMALL_MEMORY = "nasbackup --memory 64M"


class Contest:
    """A source and its contenders. start() and stop() enclose all runs."""

    row = ""            # the name that --only takes
    title = ""
    detail = False      # dense memory sampling; such runs are not for timing
    shows_stages = False
    warm_rounds = 1
    runs = None         # None: as many as asked for

    def __init__(self, house):
        self.house = house
        self.contenders = []
        self.warm = []

    @property
    def name(self):
        return type(self).__name__

    def start(self):
        pass

    def stop(self):
        pass


class ServedContest(Contest):
    """A contest over an nbdkit server."""

    server = None

    def serve(self, *arguments):
        self.server = Nbdkit(self.house.work, self.name, list(arguments))
        self.server.start()
        return self.server.uri

    def stop(self):
        if self.server:
            self.server.stop()

    def both(self, uri, source):
        binary = self.house.binary
        self.contenders = [Ours(OURS, binary, [uri], source), QemuImg(uri, source)]


class NbdkitMemory(ServedContest):
    row = "nbdkit"
    title = "nbdkit, memory → qcow2"

    def start(self):
        source = self.house.realistic()
        uri = self.serve("memory", str(os.path.getsize(source)))
        fill(self.server, source)
        self.both(uri, source)


class NbdkitFile(ServedContest):
    row = "nbdkit"
    title = "nbdkit, file → qcow2"

    def start(self):
        source = self.house.realistic()
        self.warm = [source]
        self.both(self.serve("-r", "file", source), source)


class RawFile(Contest):
    row = "raw"
    title = "raw file → qcow2"

    def start(self):
        source = self.house.realistic()
        self.warm = [source]
        self.contenders = [Ours(OURS, self.house.binary, ["-f", "raw", source], source),
                           QemuImg(source, source, ["-W", "-m", "16"], "qemu-img convert -W -m 16 + sync")]


class EmptyFile(Contest):
    row = "empty"
    warm_rounds = 0

    def start(self):
        path = os.path.join(self.house.work, "empty.raw")
        size = disks.make_empty(path)
        self.title = f"empty disk of {size / disks.TIB:.12g} TiB, sparse file → qcow2"
        self.contenders = [Ours(OURS, self.house.binary, ["-f", "raw", path], EmptyDisk(size)),
                           QemuImg(path, EmptyDisk(size), ["-W", "-m", "16"], "qemu-img convert -W -m 16 + sync")]

    def stop(self):
        os.unlink(os.path.join(self.house.work, "empty.raw"))


class EmptyNbd(ServedContest):
    row = "empty"
    plugin = "null"
    warm_rounds = 0

    def start(self):
        self.title = f"empty disk of 16 TiB, nbdkit {self.plugin} → qcow2"
        self.both(self.serve(self.plugin, "16T"), EmptyDisk(16 * disks.TIB))


class EmptyNbdMemory(EmptyNbd):
    """The memory plugin looks at each of its 32 KiB pages, one question at a time: its own CPU time is the floor."""

    plugin = "memory"


class Memory(ServedContest):
    """Peaks only: sampling this densely costs time."""

    row = "memory"
    title = "peak memory, realistic disk"
    detail = True
    warm_rounds = 0

    def start(self):
        source, binary = self.house.realistic(), self.house.binary
        uri = self.serve("-r", "file", source)
        self.warm = [source]
        for suffix, bound in (("", []), (" --memory 64M", ["--memory", "64M"])):
            self.contenders += [Ours(f"nasbackup{suffix} from NBD", binary, [*bound, uri], source),
                                Ours(f"nasbackup{suffix} from the raw file", binary, [*bound, "-f", "raw", source], source)]


class MemoryEmpty(ServedContest):
    row = "memory"
    title = "peak memory, empty disk of 16 TiB"
    detail = True
    warm_rounds = 0

    def start(self):
        uri, binary = self.serve("memory", "16T"), self.house.binary
        source = EmptyDisk(16 * disks.TIB)
        self.contenders = [Ours(OURS, binary, [uri], source), Ours(SMALL_MEMORY, binary, ["--memory", "64M", uri], source)]


class Depth(ServedContest):
    """A server that delays each read by 10 ms. The one request in flight is of the size that we ask with."""

    row = "depth"
    title = "10 ms for each read (nbdkit delay)"
    warm_rounds = 0
    runs = 3

    def start(self):
        source = self.house.dense(max(8 * disks.MIB, self.house.data // 4))
        self.warm = [source]
        uri = self.serve("-r", "--filter=stats", "--filter=delay", "file", source, "rdelay=10ms",
                         "statsfile=" + self.statistics())
        ours = Ours("nasbackup --connections 4", self.house.binary, ["--connections", "4", uri], source)
        size = self.request_size(ours, uri, source)
        self.title += f", requests of {size // disks.KIB} KiB"
        alone = ["nbdcopy", "--synchronous", "--connections=1", "--requests=1", "--threads=1",
                 f"--request-size={size}", uri, "null:"]
        self.contenders = [ours, NoOutput("one request in flight (nbdcopy to null:)", lambda out: [alone], None)]

    def statistics(self):
        return os.path.join(self.house.work, "stats.txt")

    def request_size(self, ours, uri, source):
        """The mean size of our reads, rounded up to a power of two: nbdkit's stats filter counted them in a run of their own."""
        mean = 256 * disks.KIB
        if not ours.missing():
            subprocess.run(ours.steps(self.house.work)[0], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.server.stop()
            with open(self.statistics()) as text:
                mean = mean_read(text.read()) or mean
            os.unlink(os.path.join(self.house.work, ours.output))
            self.server.start()
        return 1 << max(12, min(25, (int(mean) - 1).bit_length()))


def mean_read(statistics):
    """Mean bytes of a read in what nbdkit's stats filter wrote: "read: 12 ops, 0.1 s, 6.00 MiB, …"."""
    units = {"bytes": 1, "KiB": disks.KIB, "MiB": disks.MIB, "GiB": disks.GIB}
    for line in statistics.splitlines():
        words = line.replace(",", "").split()
        if words[:1] != ["read:"] or "ops" not in words:
            continue
        count = int(words[words.index("ops") - 1])
        for unit in units.keys() & set(words):
            return float(words[words.index(unit) - 1]) * units[unit] / max(count, 1)
    return None


class FragmentsFile(Contest):
    """Against ourselves only: qemu-img's output is itself in fragments, which ext4 may need minutes to remove."""

    row = "fragments"
    title = "4 KiB of data, 4 KiB of hole in turn, raw file → qcow2"

    def start(self):
        full, torn, binary = self.house.dense(self.house.data), self.house.fragments(), self.house.binary
        flat, self.warm = self.house.flat_fragments(), [full, torn]
        self.contenders = [Ours("nasbackup, fragments", binary, ["-f", "raw", torn], flat),
                           Ours("nasbackup, full", binary, ["-f", "raw", full], full)]


class FragmentsNbd(Contest):
    row = "fragments"
    title = "4 KiB of data, 4 KiB of hole in turn, nbdkit file → qcow2"

    def start(self):
        full, torn, binary = self.house.dense(self.house.data), self.house.fragments(), self.house.binary
        flat, self.warm = self.house.flat_fragments(), [full, torn]
        self.servers = [Nbdkit(self.house.work, name, ["-r", "file", path]) for name, path in (("full", full), ("torn", torn))]
        for server in self.servers:
            server.start()
        full_uri, torn_uri = (server.uri for server in self.servers)
        self.contenders = [Ours("nasbackup, fragments", binary, [torn_uri], flat),
                           Ours("nasbackup, full", binary, [full_uri], full)]

    def stop(self):
        for server in getattr(self, "servers", []):
            server.stop()


class FragmentsMemory(Contest):
    row = "fragments"
    title = "peak memory, fragments"
    detail = True
    warm_rounds = 0
    runs = 1

    def start(self):
        torn, binary = self.house.fragments(), self.house.binary
        flat, self.warm = self.house.flat_fragments(), [torn]
        self.server = Nbdkit(self.house.work, "torn", ["-r", "file", torn])
        self.server.start()
        self.contenders = [Ours("nasbackup from NBD", binary, [self.server.uri], flat),
                           Ours("nasbackup from the raw file", binary, ["-f", "raw", torn], flat)]

    def stop(self):
        self.server.stop()


class House:
    """Where everything lies, and the disks and other files, each made when it is first asked for."""

    def __init__(self, binary, work, data, tree="/usr"):
        self.binary, self.work, self.data, self.tree = binary, work, data, tree

    def _file(self, name, make):
        path = os.path.join(self.work, name)
        if not os.path.exists(path):
            make(path)
        return path

    def realistic(self):
        return self._file("realistic.raw", lambda path: disks.make_realistic(path, self.data, self.tree))

    def passphrase(self):
        """A file with one; the same for everybody."""
        def write(path):
            with open(path, "w") as out:
                out.write("correct horse battery staple")

        return self._file("passphrase", write)

    def dense(self, size):
        return self._file(f"dense-{size}.raw", lambda path: disks.make_dense(path, size))

    def fragments(self):
        return self._file("fragments.raw", lambda path: disks.make_fragments(path, self.data))

    def flat_fragments(self):
        """The same bytes without holes, for the comparison: qemu-img takes half a minute for 1 GiB of fragments."""
        return self._file("flat.raw", lambda path: disks.copy_flat(self.fragments(), path))
