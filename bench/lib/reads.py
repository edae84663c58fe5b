# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The reads that a server saw: nbdkit's log filter wrote them down, each when it came in. Pure but for read_log()."""
import datetime
import re

# 2026-11-25 19:38:12.080415 connection=1 Read id=2 offset=0x0 count=0x10000 ...
LINE = re.compile(r"^(\S+ \S+) connection=\d+ Read id=\d+ offset=0x[0-9a-f]+ count=0x([0-9a-f]+)")


def parse(line):
    """(time, bytes) of a read, or None."""
    found = LINE.match(line)
    if not found:
        return None
    # nbdkit writes in local time.
    return datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S.%f").timestamp(), int(found[2], 16)


def read_log(path):
    """[(time since the epoch, bytes)] of every read, in the order in which they came."""
    try:
        with open(path) as log:
            return list(filter(None, map(parse, log)))
    except FileNotFoundError:
        return []


def bytes_between(reads, begin, end):
    return sum(length for when, length in reads if begin <= when < end)


def busiest(reads, seconds):
    """The most bytes in any stretch of so many seconds, wherever it begins."""
    most = held = first = 0
    for when, length in reads:
        held += length
        while when - reads[first][0] >= seconds:
            held -= reads[first][1]
            first += 1
        most = max(most, held)
    return most
