# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Where a secret can be seen by others: what processes show of themselves, and what lies in their memory."""
import contextlib
import time
from pathlib import Path


def who_shows(secret):
    """The processes whose command line or environment has it: {pid: command line}."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if secret in line + (process / "environ").read_bytes():
                found[int(process.name)] = line
    return found


def watch(secret, running, pause=0.02):
    """Looks at all processes again and again while running(); how often, and who showed it."""
    looks, seen = 0, {}
    while running():
        seen.update(who_shows(secret))
        looks += 1
        time.sleep(pause)
    return looks, seen


def memory_holds(pid, secret):
    """Whether it lies in what the process may write to."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            places, rights = line.split()[:2]
            start, end = (int(place, 16) for place in places.split("-"))
            if not rights.startswith("rw") or "[v" in line:
                continue
            with contextlib.suppress(OSError):
                memory.seek(start)
                if secret in memory.read(end - start):
                    return True
    return False
