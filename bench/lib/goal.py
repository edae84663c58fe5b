# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""One goal of the benchmark: what is measured of whom, and what it has to come to."""
from dataclasses import dataclass

import statistics_of as stats
from contests import OURS

MIB = 1 << 20


@dataclass
class Goal:
    """`ours` of `contest` divided by `rival` (or alone, without one) is at most `limit`."""
    row: str
    text: str
    contest: str
    limit: float
    ours: str = OURS
    rival: str = ""
    measure: callable = stats.seconds
    least: bool = False       # at least `limit`, and rival divided by ours
    strictly: bool = False    # below, not at most
    unit: str = "×"
    allowance: float = 0      # of `ours`, that does not count: a fixed cost


def against(row, contest, rival, limit, text, **others):
    return Goal(row, text, contest, limit, rival=rival, **others)


def alone(row, contest, ours, limit, unit, text, measure):
    return Goal(row, text, contest, limit, ours=ours, unit=unit, measure=measure)


def mebibytes(sample):
    return stats.peak_memory(sample) / MIB
