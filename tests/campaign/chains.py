#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A VM, its chains of sets and a model of both go through many generations;
every point that survives is restored and compared (tests/vm/test_chain_model.py)."""
import argparse
import os
import subprocess
import sys
from pathlib import Path

TEST = Path(__file__).resolve().parents[1] / "vm" / "test_chain_model.py"


def main():
    parser = argparse.ArgumentParser(prog="campaign chains", description=__doc__)
    parser.add_argument("--generations", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next take the next ones")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.runs):
        print(f"seed {seed}, {options.generations} generations", flush=True)
        env = {**os.environ, "CHAIN_GENERATIONS": str(options.generations), "CHAIN_SEED": str(seed)}
        failed += subprocess.run(["/usr/bin/python3", str(TEST)], env=env).returncode != 0
    print(f"{options.runs - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
