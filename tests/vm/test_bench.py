#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""bench/compare over a libvirt VM with a tiny disk: every contender's output holds what the source holds."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NASBACKUP = Path(os.environ.get("NASBACKUP", ROOT / "build" / "tools" / "nasbackup"))


class CompareOverAVm(unittest.TestCase):
    def test_backs_a_vm_up_in_every_way(self):
        folder = Path(tempfile.mkdtemp(prefix="bench-test-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, folder)
        run = subprocess.run([ROOT / "bench" / "compare", "--only", "libvirt", "merge", "live-compress", "call", "--data", "8M", "--runs", "1",
                              "--patience", "0", "--dir", folder, "--tree", "/usr/share/perl",
                              "--json", folder / "out.json", "--build", NASBACKUP.parents[1]],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        told = json.loads((folder / "out.json").read_text())["contests"]
        results = told["Vm"]["results"]
        for one in results:
            if "virtnbdbackup is absent" in str(one["reason"]):  # a rival, not part of what the tests install
                continue
            self.assertIsNone(one["reason"], one["name"])
            self.assertEqual(len(one["samples"]), 1, one["name"])
        self.assertEqual(len(results), 5)
        for contest in ("Merge", "MergeCompressed", "VmCompress", "VmCall", "VmCallCompress"):
            for one in told[contest]["results"]:
                self.assertIsNone(one["reason"], one["name"])
        script = told["VmCall"]["results"][1]["samples"][0]
        self.assertLess(script["report"]["poll_seconds"], script["seconds"])


if __name__ == "__main__":
    unittest.main()
