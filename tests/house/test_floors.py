#!/usr/bin/env python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Floors include only downward (ARCHITECTURE.md). Reads every include line of the house and knows no exception."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
SYSTEM = re.compile(r'^\s*#\s*include\s+<([^>]+)>', re.MULTILINE)

# A room, and the rooms whose files it may include besides its own. The longest matching prefix is a file's room.
MAY_INCLUDE = {
    "throttle": set(),
    "crypto": set(),
    "formats": {"crypto"},
    "engine/io": {"throttle", "formats", "crypto"},
    "engine/pipeline": {"engine/io", "throttle", "formats", "crypto"},
    "engine/serve": {"engine/pipeline", "engine/io", "throttle", "formats", "crypto"},
    "engine/set": {"engine/io", "formats", "crypto"},
    "engine/vm": {"engine/io", "formats", "crypto"},
    # nasbackup.h and what implements it
    "engine": {"engine/serve", "engine/vm", "engine/set", "engine/pipeline", "engine/io", "throttle", "formats", "crypto"},
    "tools": set(),
}
# The one file of another floor that tools may see, and what it is made of: installed together, so they include each other as neighbours.
PUBLIC_HEADER = "engine/nasbackup.h"
PUBLIC_ROOM = "engine/api/"

# What only some rooms may know of the world outside.
KNOWS = {
    "libnbd.h": {"engine/io"},
    "rados/": {"engine/io"},
    "rbd/": {"engine/io"},
    "libvirt/": {"engine/vm"},
    "boost/asio": {"engine/io", "engine/pipeline", "engine/serve", "engine"},
    "thread": {"engine/io", "engine/pipeline", "engine/vm", "engine/set", "engine", "tools"},
}


def room_of(path):
    matching = [room for room in MAY_INCLUDE if path == room or path.startswith(room + "/")]
    return max(matching, key=len) if matching else None


def is_installed_neighbour(path, included):
    return re.fullmatch(r"api/\w+\.h" if path == PUBLIC_HEADER else r"\w+\.h", included) is not None


def breaches(path, text):
    """The forbidden edges of one file."""
    room = room_of(path)
    found = []
    installed = path == PUBLIC_HEADER or path.startswith(PUBLIC_ROOM)
    for included in INCLUDE.findall(text):
        if installed:
            if not is_installed_neighbour(path, included):
                found.append(f"{path}: an installed header must stand alone, without {included}")
            continue
        target = room_of(included)
        if target == room or target in MAY_INCLUDE[room] or (room == "tools" and included == PUBLIC_HEADER):
            continue
        found.append(f"{path}: {room} must not include {included}")
    for included in SYSTEM.findall(text):
        for name, rooms in KNOWS.items():
            matches = included == name or (name.endswith(("/", "asio")) and included.startswith(name))
            if matches and room not in rooms:
                found.append(f"{path}: {room} must not know <{included}>")
    return found


def sources(root):
    for room in ("throttle", "crypto", "formats", "engine", "tools"):
        for file in sorted((root / room).rglob("*")):
            if file.suffix in (".h", ".cc"):
                yield file.relative_to(root).as_posix(), file.read_text()


class Floors(unittest.TestCase):
    def test_every_include_of_the_house_goes_downward(self):
        files = list(sources(ROOT))
        self.assertGreater(len(files), 50, "the house was not found")
        self.assertEqual([edge for path, text in files for edge in breaches(path, text)], [])

    def test_each_forbidden_include_is_found(self):
        kept = ROOT / "tests/house/forbidden_includes"
        files = list(sources(kept))
        self.assertGreaterEqual(len(files), 8)
        for path, text in files:
            with self.subTest(path):
                self.assertEqual(len(breaches(path, text)), 1, path)

    def test_interfaces_have_at_most_five_virtuals(self):
        for path, text in sources(ROOT):
            for name, body in re.findall(r"class (\w+)[^;{]*\{(.*?)\n\};", text, re.DOTALL):
                virtuals = len(re.findall(r"\bvirtual (?!~)", body))
                self.assertLessEqual(virtuals, 5, f"{path}: {name}")

    def test_every_file_says_its_licence_and_its_purpose(self):
        for path, text in sources(ROOT):
            lines = text.splitlines()
            self.assertTrue(lines[1].startswith("// SPDX-License-Identifier: Apache-2.0"), path)
            purpose = next((line for line in lines[2:4] if line.startswith("// ")), None)
            self.assertIsNotNone(purpose, f"{path}: no purpose comment")


if __name__ == "__main__":
    unittest.main()
