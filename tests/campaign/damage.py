# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""damage.py [--count N] [--seed N] [--jobs N]: single bytes of sets are changed, everywhere, and verify must find each change
that alters what would be restored, and say where.

Sets of every kind (plain, compressed, encrypted, both) with real files in their disks, XML and firmware variables. For each change
verify runs; when it finds nothing, restore runs, and what it wrote is compared with the original. What ends by a signal, takes
long, or restores something else is a failure. tests/cli/test_verify.py does the same at some hundred places.
"""
import argparse
import collections
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
import set_reader  # noqa: E402
import set_writer  # noqa: E402

NASBACKUP = os.environ.get("NASBACKUP", str(ROOT / "build" / "tools" / "nasbackup"))
PASSPHRASE = b"correct horse"
WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
KINDS = {"plain": (), "c": ("-c",), "zstd": ("-c=zstd",), "e": ("-e", "key"), "c-e": ("-c", "-e", "key")}
DONE, WARNINGS, WRONG_KEY, DAMAGED = 0, 3, 12, 13
LONGEST = 20  # seconds that a run may take on a busy machine
XML = b"<domain type='kvm'>\n  <name>web</name>\n  <memory>1048576</memory>\n  <devices>\n" + b"".join(
    b"    <controller type='usb' index='%d'/>\n" % i for i in range(40)) + b"  </devices>\n</domain>\n"
SECRETS = {"nvram.fd": bytes(range(256)) * 16}


class Place:
    """One byte of a set."""

    def __init__(self, kind, what, file, offset, mask):
        self.kind, self.what, self.file, self.offset, self.mask = kind, what, file, offset, mask

    def __str__(self):
        return f"{self.kind}: {self.what}: {self.file}, byte {self.offset}, mask {self.mask:#04x}"


# ---- the sets -------------------------------------------------------------------------------------------------------------------

def make_disk(path, tree, megabytes):
    """An ext4 of real files."""
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tree, path, f"{megabytes}M"], check=True,
                   capture_output=True)


def make_tree(folder, megabytes):
    """A folder with some real files, so many bytes of them."""
    folder.mkdir()
    left = megabytes << 20
    for path in sorted(Path("/usr/share/doc").glob("*/*")) + sorted(Path("/usr/bin").glob("[a-m]*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < min(left, 300_000):
            shutil.copyfile(path, folder / f"{path.parent.name}-{path.name}")
            left -= path.stat().st_size
        if left < 10_000:
            return


def make_set(folder, kind, disks):
    """A set of that kind; its path."""
    words = [word for disk in disks for word in ("--disk", disk)]
    options = KINDS[kind] + (WEAK if "-e" in KINDS[kind] else ())
    done = subprocess.run([NASBACKUP, "backup", *words, "--name", kind, "--to", folder, "--min-free", "0", "--json", *options],
                          cwd=folder, capture_output=True, text=True)
    if done.returncode != DONE:
        raise RuntimeError(done.stdout + done.stderr)
    made = Path(json.loads(done.stdout)["set"])
    set_writer.add_files(made, {"domain-config.xml": XML}, SECRETS, PASSPHRASE if "-e" in options else None)
    return made


class Sets:
    """A folder with a set of each kind, and what they were made of."""

    def __init__(self, folder, kinds=tuple(KINDS)):
        self.folder = Path(folder)
        (self.folder / "key").write_bytes(PASSPHRASE)
        make_tree(self.folder / "tree", 2)
        self.disks = [self.folder / "vda.raw", self.folder / "vdb.raw"]
        make_disk(self.disks[0], self.folder / "tree", 4)
        shutil.copyfile(self.folder / "tree" / sorted(os.listdir(self.folder / "tree"))[0], self.disks[1])
        os.truncate(self.disks[1], 300 * 1024)
        self.sets = {kind: make_set(self.folder, kind, self.disks) for kind in kinds}

    def copy_of(self, folder):
        """The same for another thread."""
        other = object.__new__(Sets)
        other.folder, other.disks, other.sets = Path(folder), self.disks, {}
        (other.folder / "key").write_bytes(PASSPHRASE)
        for kind, made in self.sets.items():
            shutil.copytree(made, other.folder / kind / made.name)
            other.sets[kind] = other.folder / kind / made.name
        return other


# ---- what lies where --------------------------------------------------------------------------------------------------------------

def tables_of(read):
    """Where a qcow2 has something else than guest data: (offset, length) of each."""
    head = read(0, 112)
    cluster = 1 << struct.unpack_from(">I", head, 20)[0]
    l1_entries, = struct.unpack_from(">I", head, 36)
    l1, refcounts = struct.unpack_from(">QQ", head, 40)
    refcount_clusters, = struct.unpack_from(">I", head, 56)
    found = [(0, 1024), (l1, 8 * l1_entries), (refcounts, cluster * refcount_clusters)]
    for table, entries in ((l1, l1_entries), (refcounts, cluster * refcount_clusters // 8)):
        for entry in struct.unpack(f">{entries}Q", read(table, 8 * entries)):
            if entry & 0x00FFFFFFFFFFFE00:
                found.append((entry & 0x00FFFFFFFFFFFE00, cluster))
    return found


def areas_of(image):
    """The parts of an image by what they are: {what: [(file offset, length), …]}."""
    data = image.read_bytes()
    areas = {}
    if data[:4] == b"QFI\xfb":
        header = len(data) - len(set_reader.luks_header(image)) if struct.unpack_from(">I", data, 32)[0] == 2 else None
        tables = tables_of(lambda offset, length: data[offset:offset + length])
    else:
        header, start = 0, 512 * struct.unpack_from(">I", data, 104)[0]
        payload = data[start:len(data) - (len(data) - start) % 512]
        plain = set_reader.decrypt(set_reader.volume_key(image, PASSPHRASE), payload)
        tables = [(start + offset, length) for offset, length in tables_of(lambda offset, length: plain[offset:offset + length])]
    if header is not None:
        areas["LUKS header"] = [(header, 592), (header + 4096, 64 * 4000), (header + 4096, 64 * 4000), (header, 2 << 20)]
    areas["image tables"] = tables
    taken = sorted(tables + ([(header, 2 << 20)] if header is not None else []))
    at, rest = 0, []
    for offset, length in taken:
        if offset > at:
            rest.append((at, offset - at))
        at = max(at, offset + length)
    areas["image data"] = rest + ([(at, len(data) - at)] if at < len(data) else [])
    return areas


def places_in(sets, chance):
    """Endless changes, the kinds of bytes in turn, and the kinds of sets."""
    areas = collections.defaultdict(lambda: collections.defaultdict(list))  # what -> kind -> [(file, offset, length)]
    for kind, made in sets.sets.items():
        for path in sorted(made.iterdir()):
            if path.name.endswith((".qcow2", ".luks")):
                for what, parts in areas_of(path).items():
                    areas[what][kind] += [(path.name, offset, length) for offset, length in parts]
                continue
            what = ("digest file" if path.name.endswith(".digests") else "manifest" if path.name == "manifest.json" else
                    "XML" if path.suffix == ".xml" else "firmware variables")
            areas[what][kind].append((path.name, 0, path.stat().st_size))
    while True:
        for what, kinds in areas.items():
            kind = chance.choice(sorted(kinds))
            parts = kinds[kind]
            # Tables and headers are small: each part as often as the other. Of data each byte.
            weights = None if what in ("image tables", "LUKS header") else [length for _, _, length in parts]
            file, offset, length = chance.choices(parts, weights)[0]
            reach = min(length, 256) if what == "image tables" and chance.random() < 0.5 else length
            mask = 1 << chance.randrange(8) if chance.random() < 0.5 else chance.randrange(1, 256)
            yield Place(kind, what, file, offset + chance.randrange(reach), mask)


# ---- one change -------------------------------------------------------------------------------------------------------------------

def run(sets, *words):
    return subprocess.run([NASBACKUP, *map(str, words)], cwd=sets.folder, capture_output=True, text=True, timeout=LONGEST)


def change(path, offset, mask):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def is_as_it_was(sets, kind, opened):
    """What restore gives back; a line on what is wrong with it, or nothing."""
    back = sets.folder / "back"
    shutil.rmtree(back, ignore_errors=True)
    back.mkdir()
    done = run(sets, "restore", sets.sets[kind], "--to", back, "-O", "raw", *opened)
    if done.returncode != DONE:
        return f"restore ends with {done.returncode}: {done.stderr}"
    for index, disk in enumerate(sets.disks):
        if (back / f"disk{index}.raw").read_bytes() != disk.read_bytes():
            return f"restore wrote another disk{index}"
    if (back / "web_VARS.fd").read_bytes() != SECRETS["nvram.fd"]:
        return "restore wrote other firmware variables"
    if "<name>web</name>" not in (back / "web.xml").read_text() or (back / "web.xml").read_text().count("<controller") != 40:
        return "restore wrote another domain"
    return None


def probe(sets, place):
    """Changes the byte, looks what verify says, changes it back. Returns (exit status, complaint or None)."""
    path = sets.sets[place.kind] / place.file
    opened = ("-e", "key") if "-e" in KINDS[place.kind] else ()
    change(path, place.offset, place.mask)
    try:
        result = run(sets, "verify", sets.sets[place.kind], "--json", *opened)
        complaint = judge(sets, place, result, opened)
        return result.returncode, complaint
    except subprocess.TimeoutExpired as error:
        return None, f"still runs after {LONGEST} s: {error.cmd[1]}"
    finally:
        change(path, place.offset, place.mask)


def judge(sets, place, result, opened):
    if result.returncode in (DONE, WARNINGS):
        return is_as_it_was(sets, place.kind, opened)
    if result.returncode not in (DAMAGED, WRONG_KEY):
        return f"verify ends with {result.returncode}: {result.stdout}{result.stderr}"
    if result.returncode == WRONG_KEY and place.what not in ("LUKS header", "image tables"):
        return f"the key is blamed: {result.stderr}"
    report = json.loads(result.stdout)
    lines = [damage["line"] for damage in report.get("damage", [])] or [report["error"]]
    if not any(place.file in line or str(sets.sets[place.kind]) in line for line in lines):
        return f"verify does not say where: {lines}"
    return None


# ---- all of them ------------------------------------------------------------------------------------------------------------------

class Campaign:
    def __init__(self, sets, count, seed):
        self.sets, self.left, self.lock = sets, count, threading.Lock()
        self.places = places_in(sets, random.Random(seed))
        self.counts, self.complaints, self.done = collections.Counter(), [], 0

    def take(self):
        with self.lock:
            self.left -= 1
            return next(self.places) if self.left >= 0 else None

    def work(self, sets):
        while (place := self.take()) is not None:
            status, complaint = probe(sets, place)
            with self.lock:
                self.counts[place.what, status] += 1
                self.done += 1
                if self.done % 1000 == 0:
                    print(f"{self.done} changes, {len(self.complaints)} failures", flush=True)
                if complaint:
                    self.complaints.append(f"{place}: {complaint}")
                    print(f"FAILED: {place}: {complaint}", flush=True)

    def run(self, jobs):
        with tempfile.TemporaryDirectory(prefix="damage-") as folder:
            threads = []
            for job in range(jobs):
                (Path(folder) / str(job)).mkdir()
                threads.append(threading.Thread(target=self.work, args=(self.sets.copy_of(Path(folder) / str(job)),)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def report(self):
        statuses = sorted({status for _, status in self.counts}, key=str)
        print(f"{'':20}" + "".join(f"{'exit ' + str(status):>10}" for status in statuses) + f"{'all':>10}")
        for what in sorted({what for what, _ in self.counts}):
            row = [self.counts[what, status] for status in statuses]
            print(f"{what:20}" + "".join(f"{number:10}" for number in row) + f"{sum(row):10}")
        print(f"{self.done} changes, {len(self.complaints)} failures", flush=True)
        return 1 if self.complaints or not self.done else 0


def main():
    parser = argparse.ArgumentParser(description="single bytes of sets are changed, and verify must find them")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="damage-sets-") as folder:
        campaign = Campaign(Sets(folder), options.count, options.seed)
        campaign.run(options.jobs)
    status = campaign.report()
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
    sys.exit(status)


if __name__ == "__main__":
    main()
