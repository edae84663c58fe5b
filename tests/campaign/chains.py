#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A VM in QEMU, its disks, its backups and their target go through generations of
what may happen, from a seed, and each is compared with a model.

See tests/lab/chain_model.py; tests/vm/test_chain_model.py is a short one. Each failure prints its seed and what had happened.
"""
import argparse
import os
import sys
import time
import unittest
from pathlib import Path

LAB = Path(__file__).resolve().parents[1] / "lab"
sys.path.insert(0, str(LAB))


def main():
    parser = argparse.ArgumentParser(description="chains of backups against a model")
    parser.add_argument("--generations", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1, help="of the first one")
    parser.add_argument("--count", type=int, default=1, help="so many seeds, one after the other")
    parser.add_argument("--tell", action="store_true", help="print what happens")
    options = parser.parse_args()
    if "NASBACKUP_LAB" not in os.environ:
        os.execv(LAB / "enter", [str(LAB / "enter"), "/usr/bin/python3", os.path.abspath(sys.argv[0]), *sys.argv[1:]])
    from chain_endings import REACHED, STEPS, STEPS_OF_DELETE
    from chain_model import ChainModelTest

    class Seed(ChainModelTest):
        def __init__(self, seed):
            super().__init__("test")
            self.seed = seed

        def test(self):
            self.play(self.seed, options.generations, options.tell)

        def __str__(self):
            return f"seed {self.seed}"

    began = time.monotonic()
    suite = unittest.TestSuite(Seed(seed) for seed in range(options.seed, options.seed + options.count))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    print(f"{result.testsRun} seeds of {options.generations} generations, {len(result.failures) + len(result.errors)} failed, "
          f"{time.monotonic() - began:.0f} s")
    steps = [(when, *step) for step in dict.fromkeys([*STEPS, *STEPS_OF_DELETE]) for when in ("before", "after")]
    for step in steps:
        print(f"{REACHED[step]:4}  {' '.join(map(str, step))}")
    print(f"{sum(REACHED[step] > 0 for step in steps)} of {len(steps)} steps of a backup, a merge or a delete were reached, before they were carried out or after")
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
