# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Whether `nasbackup tune` recommends what a full sweep finds to be best, and names the stage that limits it."""
import json
import os

from contender import NoOutput
from contests import Contest, ServedContest

SWEEP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tune_sweep.py")
ITEMS, CONNECTIONS = ["128K", "256K", "512K", "1M", "2M", "4M"], [1, 2, 4, 8]
NAME = "nasbackup tune, and the sweep"


class Sweep(NoOutput):
    """Both, one after the other; the figures come from the script."""

    def __init__(self, binary, source, options, keeps, connections):
        super().__init__(NAME, lambda out: [[SWEEP, self.arguments(out), out]], None, output="sweep.json")
        self.binary, self.source, self.options, self.keeps, self.connections = binary, source, options, keeps, connections

    def arguments(self, out):
        return json.dumps({"binary": self.binary, "source": self.source, "options": self.options, "connections": self.connections,
                           "folder": os.path.dirname(out) if self.keeps else "", "items": ITEMS, "rounds": 3,
                           "threads": sorted({1, len(os.sched_getaffinity(0))})})

    def output_bytes(self, place):
        return 0

    def after(self, place):
        path = os.path.join(place, self.output)
        if not os.path.exists(path):
            return {}
        with open(path) as told:
            found = json.load(told)
        return {**found, "limit_wrong": 1 - found["limit_right"]}


class TuneNbd(ServedContest):
    row = "tune"
    title = "tune: nbdkit file, -c → nothing"
    warm_rounds = 0
    runs = 1

    def start(self):
        source = self.house.realistic()
        self.warm = [source]
        self.contenders = [Sweep(self.house.binary, [self.serve("-r", "file", source)], ["-c"], False, CONNECTIONS)]


class TuneRaw(Contest):
    row = "tune"
    title = "tune: raw file, -c → the target file system"
    warm_rounds = 0
    runs = 1

    def start(self):
        source = self.house.realistic()
        self.warm = [source]
        self.contenders = [Sweep(self.house.binary, ["-f", "raw", source], ["-c"], True, [])]
