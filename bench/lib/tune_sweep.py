#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""tune_sweep.py ARGUMENTS OUTPUT: what `nasbackup tune` recommends, against every combination of threads, connections and item sizes.

ARGUMENTS is JSON: binary, source (words of the command line), options, folder ("" for null:), connections, items, threads, rounds. The
rounds go over all combinations, the recommended one among them, so that a slow moment hits all alike; the best run of each counts.
Writes {"of_best": …, "limit_right": share of the recommended runs whose busiest stage was the limit that was named, …}.
"""
import itertools
import json
import os
import subprocess
import sys
import time


def run(binary, words):
    began = time.monotonic()
    done = subprocess.run([binary, *words, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return time.monotonic() - began, json.loads(done.stdout)


def combinations(asked):
    for connections, item, threads in itertools.product(asked["connections"] or [None], asked["items"], asked["threads"]):
        yield [*(["--connections", str(connections)] if connections else []), "--item-size", item, "-j", str(threads), *asked["options"]]


def copy(asked, settings):
    target = os.path.join(asked["folder"], "out.qcow2") if asked["folder"] else "null:"
    try:
        os.sync()
        return run(asked["binary"], ["convert", "--progress=none", *settings, *asked["source"], target])
    finally:
        if asked["folder"] and os.path.exists(target):
            os.unlink(target)


def main():
    asked = json.loads(sys.argv[1])
    to = ["--to", asked["folder"]] if asked["folder"] else []
    advice = run(asked["binary"], ["tune", *asked["options"], *to, *asked["source"]])[1]
    recommended = advice["arguments"].split()
    settings = [recommended, *(one for one in combinations(asked) if one != recommended)]
    seconds, busiest = {}, []
    for _ in range(asked["rounds"]):
        for one in settings:
            took, report = copy(asked, one)
            seconds.setdefault(" ".join(one), []).append(took)
            if one is recommended:
                busiest.append(max(report["stages"], key=report["stages"].get))
    best = min(seconds, key=lambda one: min(seconds[one]))
    with open(sys.argv[2], "w") as out:
        json.dump({"of_best": min(seconds[" ".join(recommended)]) / min(seconds[best]),
                   "limit_right": busiest.count(advice["limit"]) / len(busiest), "recommended": " ".join(recommended), "best": best,
                   "limit": advice["limit"], "busiest": busiest, "sweep_seconds": seconds}, out)


if __name__ == "__main__":
    main()
