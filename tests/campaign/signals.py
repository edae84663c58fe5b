#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Calls of nasbackup.sh that are ended by SIGTERM, or killed, at many moments

spread over their whole life: the guest is free afterwards, and nothing half is visible. SIGKILL goes to the supervisor alone, and to the
whole process group. The short form is a part of ./runtests (tests/vm/test_cloudstack_faults.py, ASignal), in a lab of its own as that is.
"""
import argparse
import os
import sys
from pathlib import Path

TEST = Path(__file__).resolve().parents[1] / "vm" / "test_cloudstack_faults.py"


def main():
    parser = argparse.ArgumentParser(prog="./campaign signals", description=" ".join(__doc__.split()))
    parser.add_argument("--points", type=int, default=20, help="moments of a call (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    asked = parser.parse_args()
    os.environ.update(NASBACKUP_SIGNAL_POINTS=str(asked.points), NASBACKUP_SIGNAL_SEED=str(asked.seed))
    sys.stdout.flush()
    os.execv("/usr/bin/python3", ["/usr/bin/python3", str(TEST), "-v", "ASignal"])


main()
