# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""One who runs in a contest: its commands, what it needs, and where it leaves its output.

`place` is a fresh folder on the target file system. The commands of steps() are timed together; before(), after() and
check() are not. check() returns None when the output holds what the source holds, else the reason why not.
"""
import glob
import json
import os
import shutil
import subprocess
from dataclasses import dataclass

COMPARE_TIMEOUT = 900


def compare(source, source_format, image, image_format):
    """qemu-img as the judge."""
    run = subprocess.run(["qemu-img", "compare", "-f", source_format, "-F", image_format, source, image],
                         capture_output=True, text=True, timeout=COMPARE_TIMEOUT)
    return None if run.returncode == 0 else (run.stdout + run.stderr).strip()[-300:]


def empty_image(image, size):
    """None when the image is of this size and all hole: its map proves that without reading 16 TiB."""
    found = [subprocess.run(["qemu-img", *command, "--output=json", image], capture_output=True, text=True,
                            timeout=COMPARE_TIMEOUT) for command in (["info"], ["map"])]
    if any(run.returncode for run in found):
        return found[-1].stderr.strip()[-300:]
    info, extents = (json.loads(run.stdout) for run in found)
    if info["virtual-size"] != size or any(extent["data"] or not extent["zero"] for extent in extents):
        return f"{info['virtual-size']} bytes, not all of them holes"
    return None


@dataclass
class EmptyDisk:
    """In place of a source that holds nothing."""
    size: int


class Contender:
    """Commands given as a function of the output's path."""

    self_timed = False  # its last line of stdout is {"seconds": …}, which is taken in place of the wall time
    slow = False        # takes part in the first rounds only (--slow-runs), and in none that does not count

    def __init__(self, name, steps, source, output="out.qcow2", output_format="qcow2", source_format="raw"):
        self.name = name
        self._steps = steps
        self.source, self.source_format = source, source_format
        self.output, self.output_format = output, output_format

    def missing(self):
        """The program that is not there, or None."""
        for argv in self._steps("-"):
            if shutil.which(argv[0]) is None:
                return argv[0]
        return None

    def before(self, place):
        """Makes ready what the timing leaves out; may return figures for the report."""
        return {}

    def after(self, place):
        return {}

    def steps(self, place):
        return self._steps(os.path.join(place, self.output))

    def found(self, place):
        return glob.glob(os.path.join(place, self.output))

    def output_bytes(self, place):
        return sum(os.path.getsize(path) for path in self.found(place))

    def check(self, place):
        found = self.found(place)
        if len(found) != 1:
            return f"{len(found)} files match {self.output}"
        if isinstance(self.source, EmptyDisk):
            return empty_image(found[0], self.source.size)
        return self.compare(found[0])

    def compare(self, image):
        return compare(self.source, self.source_format, image, self.output_format)


class NoOutput(Contender):
    """Reads and keeps nothing."""

    def check(self, place):
        return None


class Ours(Contender):
    """`nasbackup convert`."""

    def __init__(self, name, binary, arguments, source, **others):
        super().__init__(name, lambda out: [[binary, "convert", "--json", "--progress=none", *arguments, out]],
                         source, **others)


class QemuImg(Contender):
    """`qemu-img convert`, and `sync` of the file, because it does not flush."""

    def __init__(self, uri, source, options=(), name="qemu-img convert + sync", slow=False):
        self.slow = slow
        super().__init__(name, lambda out: [["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, uri, out],
                                            ["sync", out]], source)
