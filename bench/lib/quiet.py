# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Waits for the machine to be idle before a run, as long as patience lasts. One thread uses it."""
import time

LOOK = 0.2
IDLE = 0.9  # of all cores together


def cpu_ticks():
    """(idle, all) of all cores since boot."""
    with open("/proc/stat") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def idle_share():
    idle, total = cpu_ticks()
    time.sleep(LOOK)
    later_idle, later_total = cpu_ticks()
    return (later_idle - idle) / max(1, later_total - total)


def wait(patience):
    """Returns the share of all cores that others use still."""
    until = time.monotonic() + patience
    while True:
        share = idle_share()
        if share >= IDLE or time.monotonic() > until:
            return 1 - share
