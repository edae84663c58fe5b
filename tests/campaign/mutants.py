#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""mutants: `check` and `convert` of mutated qcow2 images, judged by `qemu-img check` and `qemu-img convert`.

Of each mutant it must hold: no program of ours ends by a signal, takes more than 20 seconds or more memory than --most-memory; `check` does not end
with 0 where qemu-img finds damage, nor with 3 where it finds corruption; and where both convert, both give the same bytes. What of the image is of no
consequence (free space, plain data) must not be seen. docs/formats/check.md has the differences that are ours.
"""
import argparse
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import images
import mutations

ROOT = Path(__file__).resolve().parents[2]
NASBACKUP = os.environ.get("NASBACKUP", str(ROOT / "build" / "tools" / "nasbackup"))
CLEAN, NOT_COMPLETED, CORRUPT, LEAKS, NO_CHECK = 0, 1, 2, 3, 63
CHECK_STATUSES = (CLEAN, NOT_COMPLETED, CORRUPT, LEAKS, NO_CHECK)
# of convert: done, failed, warnings, not found, wrong key, damaged, target full, source, usage
CONVERT_STATUSES = (0, 1, 3, 10, 12, 13, 14, 15, 64)
DONE = (0, 3)
SECONDS = 20
CHUNK = 1 << 20


class Ran:
    """A program that has run: status (None: it took too long), what it said, seconds, the most memory that it or a child had, MiB."""

    def __init__(self, folder, *words):
        start = time.monotonic()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen([*map(str, words)], cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
            late = threading.Event()
            timer = threading.Timer(3 * SECONDS, lambda: (late.set(), process.kill()))
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            timer.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            self.said = said.read(1 << 20).decode(errors="replace").strip()
        self.seconds = time.monotonic() - start
        self.status = None if late.is_set() else process.returncode
        self.memory = usage.ru_maxrss >> 10

    def last_line(self):
        return self.said.splitlines()[-1] if self.said else ""


def stretches(file, size):
    """Where a file has data."""
    at = 0
    while at < size:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError:
            return
        at = os.lseek(file, start, os.SEEK_HOLE)
        yield start, at


def first_difference(a, b):
    """The first offset at which two files differ, by their data alone; None: nowhere."""
    with open(a, "rb") as one, open(b, "rb") as two:
        sizes = [os.fstat(file.fileno()).st_size for file in (one, two)]
        if sizes[0] != sizes[1]:
            return f"sizes {sizes[0]} and {sizes[1]}"
        for file in one, two:
            for start, end in stretches(file.fileno(), sizes[0]):
                for at in range(start, end, CHUNK):
                    length = min(CHUNK, end - at)
                    x, y = os.pread(one.fileno(), length, at), os.pread(two.fileno(), length, at)
                    if x != y:
                        return f"byte {at + next(i for i in range(length) if x[i] != y[i])}"
    return None


class Mutant:
    """One of them, and what is to be said about it."""

    def __init__(self, campaign, number):
        self.campaign, self.number = campaign, number
        self.chance = random.Random(f"mutant {campaign.seed} {number}")
        self.image = self.chance.choice(campaign.images)
        self.wrong = []  # what must not be
        self.more = []   # what we refuse and qemu-img does not
        self.less = []   # the other way round
        content, self.told = mutations.mutated(campaign.content[self.image.name], self.chance)
        self.path = campaign.folder / f"m{number}"
        self.path.write_bytes(content)

    def name(self):
        return f"mutant {self.number} of {self.image.name}: " + "; ".join(f"{kind} at {offset:#x}: {old:#x} -> {new:#x}" for kind, offset, old, new in self.told)

    def judge(self):
        try:
            self.judge_check()
            self.judge_convert()
        finally:
            if self.wrong and self.campaign.kept:
                shutil.copyfile(self.path, self.campaign.kept / f"{self.campaign.seed}-{self.number}-{self.image.name}.qcow2")
            for path in self.path, self.path.with_suffix(".ours"), self.path.with_suffix(".qemu"):
                path.unlink(missing_ok=True)
        return self

    # ---- the programs ------------------------------------------------------------------------------------------------------

    def ours(self, verb, *words):
        ran = Ran(self.campaign.folder, NASBACKUP, verb, *words)
        if ran.status is None or ran.seconds > SECONDS:
            self.wrong.append(f"{verb}: took {ran.seconds:.0f} seconds")
        elif ran.status not in (CHECK_STATUSES if verb == "check" else CONVERT_STATUSES):
            self.wrong.append(f"{verb}: ended with {ran.status}: {ran.said}")
        if ran.memory > self.campaign.most_memory:
            self.wrong.append(f"{verb}: {ran.memory} MiB of memory")
        self.campaign.memory = max(self.campaign.memory, ran.memory)
        return ran

    def qemu(self, verb, *words):
        if self.image.encrypted:
            opened = f"driver=qcow2,encrypt.key-secret=s,file.filename={self.path}"
            return Ran(self.campaign.folder, "qemu-img", verb, *images.SECRET, "--image-opts", *words[:-1], opened)
        return Ran(self.campaign.folder, "qemu-img", verb, "-f", "qcow2", *words)

    def judge_check(self):
        ours = self.ours("check", self.path)
        theirs = self.qemu("check", self.path)
        if self.image.encrypted and theirs.status not in CHECK_STATUSES:
            theirs = self.qemu("check", self.path)
        self.check = ours.status, theirs.status
        self.said = ours.said, theirs.said
        if ours.status == NO_CHECK and not any(kind == "header: magic" or offset < 4 for kind, offset, *_ in self.told) and len(self.path.read_bytes()) > 4:
            self.wrong.append("check: says that it is no qcow2")
        if theirs.status not in (CLEAN, None) and ours.status == CLEAN and not self.looks_further(theirs):
            self.wrong.append(f"check: ends with 0, qemu-img with {theirs.status}: {theirs.said[:300]}")
        if theirs.status == CORRUPT and ours.status == LEAKS:
            self.wrong.append("check: finds leaks, qemu-img corruption")
        if all(kind in mutations.OF_NO_CONSEQUENCE for kind, *_ in self.told) and ours.status != self.campaign.untouched[self.image.name]:
            self.wrong.append(f"check: finds what is of no consequence: {ours.said}")

    @staticmethod
    def looks_further(theirs):
        """Backing files and the keys of what is encrypted are not looked at by our check, which needs no passphrase."""
        return theirs.status == NOT_COMPLETED and any(text in theirs.said for text in ("backing", "Invalid password"))

    def judge_convert(self):
        ours_out, theirs_out = self.path.with_suffix(".ours"), self.path.with_suffix(".qemu")
        key = ("--source-key", images.KEY) if self.image.encrypted else ()
        ours = self.ours("convert", "-f", "qcow2", "-O", "raw", *key, self.path, ours_out)
        theirs = self.qemu_convert(theirs_out)
        self.convert = ours.status, theirs.status
        if ours.status in DONE and theirs.status == 0:
            difference = first_difference(ours_out, theirs_out)
            if difference:
                self.wrong.append(f"convert: differs from qemu-img at {difference}")
        elif theirs.status == 0:
            self.more.append(ours.last_line())
        elif ours.status in DONE:
            self.less.append(theirs.last_line())
        if self.check[0] == CLEAN and ours.status not in (*DONE, *self.may_end_with()):
            self.wrong.append(f"convert: refuses what our check calls sound: {ours.said}")
        if self.check[0] == CLEAN and theirs.status not in (0, None) and not self.may_end_with():
            self.wrong.append(f"check: calls sound what qemu-img cannot convert: {theirs.said[:300]}")
        if ours.status in DONE and ours_out.stat().st_size == 0 and theirs.status == 0 and theirs_out.stat().st_size:
            self.wrong.append("convert: wrote nothing")

    def may_end_with(self):
        """Of a sound image that stands on something else: there may be nothing of that name, or no key that fits."""
        return (10, 12, 13, 15) if self.image.backing or self.image.encrypted or "backing" in str(self.told) else ()

    def qemu_convert(self, out):
        if self.image.encrypted:
            opened = f"driver=qcow2,encrypt.key-secret=s,file.filename={self.path}"
            return Ran(self.campaign.folder, "qemu-img", "convert", *images.SECRET, "--image-opts", "-O", "raw", opened, out)
        return Ran(self.campaign.folder, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.path, out)


class Campaign:
    def __init__(self, folder, seed, most_memory, kept):
        self.folder, self.seed, self.most_memory, self.kept = Path(folder), seed, most_memory, kept
        self.memory = 0
        self.images = images.Maker(self.folder, NASBACKUP, seed).make()
        self.content = {image.name: (self.folder / image.name).read_bytes() for image in self.images}
        self.untouched = {image.name: Ran(self.folder, NASBACKUP, "check", image.name).status for image in self.images}

    def run(self, numbers):
        with ThreadPoolExecutor(os.cpu_count()) as several:
            yield from several.map(lambda number: Mutant(self, number).judge(), numbers)


def without_places(line):
    """A message without the file's name and without numbers: its class."""
    text = re.sub(r"0x[0-9a-f]+|\d+", "N", re.sub(r"'[^']*'|/tmp/\S+", "…", line))
    return text.removeprefix("nasbackup: ").removeprefix("qemu-img: ")


def report(mutants, memory, seconds):
    """The numbers; returns how many were wrong."""
    classes = collections.Counter(kind for mutant in mutants for kind, *_ in mutant.told)
    check = collections.Counter(mutant.check for mutant in mutants)
    convert = collections.Counter(tuple("done" if status == 0 else status if status is None else "refused" for status in
                                        (0 if mutant.convert[0] in DONE else mutant.convert[0], mutant.convert[1])) for mutant in mutants)
    print("\nchanges by class: " + ", ".join(f"{kind} {count}" for kind, count in sorted(classes.items())))
    print("\ncheck, ours and qemu-img's:")
    for (ours, theirs), count in sorted(check.items(), key=str):
        print(f"  {ours!s:>4} {theirs!s:>4} {count:6}")
    print("\nconvert, ours and qemu-img's:")
    for (ours, theirs), count in sorted(convert.items(), key=str):
        print(f"  {ours!s:>8} {theirs!s:>8} {count:6}")
    for title, which in ("convert refuses what qemu-img takes", "more"), ("convert takes what qemu-img refuses", "less"):
        print(f"\n{title}:")
        for text, count in collections.Counter(without_places(line) for mutant in mutants for line in getattr(mutant, which)).most_common():
            print(f"  {count:5} {text}")
    wrong = [mutant for mutant in mutants if mutant.wrong]
    print(f"\n{len(mutants)} mutants in {seconds:.0f} seconds, at most {memory} MiB of memory, {len(wrong)} wrong")
    return len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="how many mutants (1000)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--only", type=int, metavar="N", help="the mutant of that number alone")
    parser.add_argument("--most-memory", type=int, default=400, metavar="MIB", help="resident memory of one of our processes (400)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where mutants go about which something is wrong")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        campaign = Campaign(folder, options.seed, options.most_memory, options.keep)
        numbers = range(options.count) if options.only is None else [options.only]
        mutants = []
        for mutant in campaign.run(numbers):
            mutants.append(mutant)
            for text in mutant.wrong:
                print(f"WRONG: {mutant.name()}\n       {text}", flush=True)
        if options.only is not None:
            mutant = mutants[0]
            print(mutant.name(), "check", mutant.check, *mutant.said, "convert", mutant.convert, *mutant.more, sep="\n")
        wrong = report(mutants, campaign.memory, time.monotonic() - start)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
