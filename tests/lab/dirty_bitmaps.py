# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Writes into the persistent bitmaps of a qcow2 that nobody has open (qcow2.txt, "Bitmaps extension"): what a guest would take hours to dirty."""
import struct

BITMAPS = 0x23852875


def extension(image, kind):
    image.seek(100)
    image.seek(struct.unpack(">I", image.read(4))[0])
    while True:
        found, length = struct.unpack(">II", image.read(8))
        if found == kind:
            return image.read(length)
        if not found:
            raise AssertionError(f"no header extension {kind:#x}")
        image.seek(-length % 8 + length, 1)


def fill(path, pattern):
    """Every cluster of every bitmap becomes `pattern` over and over; a bitmap must have all its clusters."""
    with open(path, "r+b") as image:
        image.seek(20)
        cluster = 1 << struct.unpack(">I", image.read(4))[0]
        count, _, size, at = struct.unpack(">IIQQ", extension(image, BITMAPS))
        image.seek(at)
        directory, at = image.read(size), 0
        for _ in range(count):
            table, entries, _, _, _, name, extra = struct.unpack_from(">QIIBBHI", directory, at)
            image.seek(table)
            for entry in struct.unpack(f">{entries}Q", image.read(8 * entries)):
                offset = entry & 0x00FFFFFFFFFFFE00
                assert offset, "a bitmap without one of its clusters"
                image.seek(offset)
                image.write(pattern * (cluster // len(pattern)))
            at += (24 + extra + name + 7) // 8 * 8
