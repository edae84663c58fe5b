# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""How much of a file is in this host's memory, and how much was when somebody first read from it: every read waits until it was
looked (fanotify's permission events)."""
import ctypes
import os
import select
import struct
import threading
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
PAGE = os.sysconf("SC_PAGESIZE")
FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_ACCESS_PERM, FAN_ALLOW = 4, 1, 0x20000, 1
EVENT = struct.Struct("=IBBHQii")


def checked(result):
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def pages_in_memory(descriptor):
    """Of an open file: (pages in memory, pages)."""
    size = os.fstat(descriptor).st_size
    pages = -(-size // PAGE)
    if not pages:
        return 0, 0
    place = checked(LIBC.mmap(None, size, 1, 1, descriptor, 0))
    found = ctypes.create_string_buffer(pages)
    checked(LIBC.mincore(place, size, found))
    checked(LIBC.munmap(place, size))
    return sum(byte & 1 for byte in found.raw), pages


def pages_of(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return pages_in_memory(descriptor)
    finally:
        os.close(descriptor)


class FirstReads:
    """While it is entered: `found` has, for each of the files that was read from, what was in memory just before."""

    def __init__(self, files):
        self.files, self.found = list(files), {}

    def __enter__(self):
        self.group = checked(LIBC.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY))
        for path in self.files:
            checked(LIBC.fanotify_mark(self.group, FAN_MARK_ADD, ctypes.c_uint64(FAN_ACCESS_PERM), -1, os.fsencode(path)))
        self.wake, self.end = os.pipe()
        self.thread = threading.Thread(target=self.answer)
        self.thread.start()
        return self

    def __exit__(self, *error):
        os.close(self.end)
        self.thread.join()
        os.close(self.wake)
        os.close(self.group)  # whoever still waits may go on

    def answer(self):
        while True:
            ready, _, _ = select.select([self.group, self.wake], [], [])
            if self.wake in ready:
                return
            events = os.read(self.group, 4096)
            at = 0
            while at < len(events):
                length, _, _, _, _, descriptor, _ = EVENT.unpack_from(events, at)
                name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
                if name not in self.found:
                    self.found[name] = pages_in_memory(descriptor)
                os.write(self.group, struct.pack("=iI", descriptor, FAN_ALLOW))
                os.close(descriptor)
                at += length
