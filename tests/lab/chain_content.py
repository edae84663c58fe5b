# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What the model of chains knows: what a disk holds, what it held when a backup began, and which set was made of it."""
import os
from dataclasses import dataclass, field
from pathlib import Path

from domain import Disk

PIECE = 65536
ZEROES = bytes(PIECE)
FOREIGN = "foreign"  # a checkpoint that is none of ours


class Content:
    """What a disk holds, in pieces that its snapshots share."""

    def __init__(self, size, pieces=None):
        self.size, self.pieces = size, pieces or [ZEROES] * -(-size // PIECE)

    def snapshot(self):
        return Content(self.size, list(self.pieces))

    def fill(self, offset, length, pattern):
        """Returns the pieces that were touched."""
        first, last = offset // PIECE, (offset + length - 1) // PIECE
        for number in range(first, last + 1):
            begin, end = max(offset - number * PIECE, 0), min(offset + length - number * PIECE, PIECE)
            old = self.pieces[number]
            self.pieces[number] = old[:begin] + bytes([pattern]) * (end - begin) + old[end:]
        return range(first, last + 1)

    def take(self, path):
        """What a raw file holds."""
        with open(path, "rb") as file:
            self.pieces = [file.read(PIECE).ljust(PIECE, b"\0") for _ in self.pieces]

    def grow(self, size):
        self.pieces += [ZEROES] * (-(-size // PIECE) - len(self.pieces))
        self.size = size

    def save(self, path):
        with open(path, "wb") as file:
            file.truncate(self.size)
            for number, piece in enumerate(self.pieces):
                if piece != ZEROES:
                    file.seek(number * PIECE)
                    file.write(piece[:self.size - number * PIECE])

    def difference(self, path):
        """A line on the first place where a raw file differs; nothing when none does."""
        if os.path.getsize(path) != self.size:
            return f"{path} has {os.path.getsize(path)} bytes and not {self.size}"
        with open(path, "rb") as file:
            for number, piece in enumerate(self.pieces):
                if file.read(PIECE) != piece[:self.size - number * PIECE]:
                    return f"{path}: the 64 KiB at {number * PIECE} differ"
        return None


@dataclass
class ModelDisk:
    disk: Disk
    serial: int  # of the file; another one of the same name has another
    cluster: int
    content: Content
    touched: set = field(default_factory=set)  # pieces, since the last snapshot
    since: dict = field(default_factory=dict)  # pieces, by the set since which
    unmapped: set = field(default_factory=set)  # pieces that QEMU knows to be zero

    @property
    def qcow2(self):
        return self.disk.fmt == "qcow2"

    def mark(self, pieces):
        self.touched.update(pieces)
        for since in self.since.values():
            since.update(pieces)


@dataclass
class Shot:
    """A disk when a backup began."""
    serial: int
    qcow2: bool
    content: Content
    unmapped: set
    since: dict


@dataclass
class Point:
    """A published set."""
    name: str
    path: Path
    manifest: dict
    shots: dict
    checked: int = 0

    @property
    def parent(self):
        return (self.manifest.get("parent") or {}).get("set")

    @property
    def checkpoint(self):
        return self.manifest["checkpoint"]

    @property
    def encrypted(self):
        return self.manifest["options"]["encryption"] != "none"
