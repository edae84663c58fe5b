# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The disks that the benchmark reads: a file system of real files, an empty one, a dense one, one in fragments.

All are sparse raw files, made anew for each run of the benchmark and the same each time on the same machine.
"""
import hashlib
import os
import random
import shutil
import subprocess

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
FRAGMENT = 4 * KIB
LARGEST_FILE = 64 * MIB  # one huge file must not be most of the disk
UUID = "6e617362-6163-6b75-7000-000000000001"


def files_under(top):
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def choose_files(top, amount):
    """Files of `top` in an order that mixes all of it and is the same every time, until `amount` bytes are reached."""
    chosen, total = [], 0
    for path in sorted(files_under(top), key=lambda p: hashlib.sha256(os.fsencode(p)).digest()):
        size = -(-os.stat(path).st_size // FRAGMENT) * FRAGMENT  # whole blocks of the file system
        if size <= LARGEST_FILE and total + size <= amount:
            chosen.append(path)
            total += size
    return chosen


def copy_tree(paths, top, target):
    for path in paths:
        copy = os.path.join(target, os.path.relpath(path, top))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(path, copy)
        os.utime(copy, (1_700_000_000, 1_700_000_000))


def make_realistic(path, data, top="/usr"):
    """An ext4 file system with about `data` bytes of real files in a disk eight times as large."""
    tree = path + ".tree"
    os.makedirs(tree)
    copy_tree(choose_files(top, int(data * 0.96)), top, tree)  # the rest: metadata
    with open(path, "wb") as disk:
        disk.truncate(max(8 * data, 64 * MIB))
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, "-U", UUID, "-m", "0",
                    "-E", f"hash_seed={UUID},nodiscard", path],
                   check=True, env={**os.environ, "E2FSPROGS_FAKE_TIME": "1700000000"})
    shutil.rmtree(tree)


def random_blocks(size, block, seed):
    """Bytes that do not compress, the same each time."""
    source = random.Random(seed)
    for _ in range(size // block):
        yield source.randbytes(block)


def make_dense(path, size):
    with open(path, "wb") as disk:
        for block in random_blocks(size, MIB, 1):
            disk.write(block)


def make_fragments(path, size):
    """4 KiB of data and 4 KiB of hole in turn."""
    with open(path, "wb", buffering=0) as disk:
        disk.truncate(size)
        for index, block in enumerate(random_blocks(size // 2, FRAGMENT, 2)):
            os.pwrite(disk.fileno(), block, 2 * index * FRAGMENT)


def copy_flat(path, copy):
    """The same bytes, with zeroes in place of holes."""
    subprocess.run(["cp", "--sparse=never", "--reflink=never", path, copy], check=True)


def make_empty(path, size=16 * TIB):
    """A hole of `size`, or of the largest size below it that the file system takes. Returns the size."""
    for smaller in (0, 4 * KIB, 64 * KIB, 8 * TIB, 14 * TIB, 15 * TIB, 16 * TIB - 64 * GIB):
        try:
            with open(path, "wb") as disk:
                disk.truncate(size - smaller)
            return size - smaller
        except OSError:
            continue
    raise OSError(f"{path}: this file system takes no file of 64 GiB")


def data_extents(path):
    """(offset, length) of what is stored in a sparse file."""
    with open(path, "rb") as disk:
        size, offset = os.fstat(disk.fileno()).st_size, 0
        while offset < size:
            try:
                offset = os.lseek(disk.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(disk.fileno(), offset, os.SEEK_HOLE)
            yield offset, end - offset
            offset = end


def data_bytes(path):
    return sum(length for _, length in data_extents(path))


def warm(path):
    """Reads everything that is stored, so that it is in the page cache."""
    buffer = bytearray(4 * MIB)
    with open(path, "rb", buffering=0) as disk:
        for offset, length in data_extents(path):
            end = offset + length
            while offset < end:
                part = memoryview(buffer)[:min(len(buffer), end - offset)]
                got = os.preadv(disk.fileno(), [part], offset)
                if got == 0:
                    return
                offset += got
