#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""bench/compare on a tiny disk: it runs, judges content, and says n/a where it must. Times are not judged."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NASBACKUP = Path(os.environ.get("NASBACKUP", ROOT / "build" / "tools" / "nasbackup"))
sys.path.insert(0, str(ROOT / "bench" / "lib"))
import contests  # noqa: E402
import goals  # noqa: E402
import runner  # noqa: E402

# One that says "done" and has written nothing but holes.
LIAR = """#!/bin/sh
for last; do :; done
[ "$1" = convert ] && exec qemu-img create -q -f qcow2 "$last" 64M
echo liar
"""


def sample(seconds, user=1.0, pss=0):
    return {"seconds": seconds, "user": user, "system": 0.0, "peak_pss": pss, "peak_rss": pss}


def result(name, *seconds):
    found = runner.Result(name)
    found.samples = [sample(value) for value in seconds]
    return found


class Compare(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="bench-test-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def compare(self, *words, build=None):
        return subprocess.run([ROOT / "bench" / "compare", "--data", "8M", "--runs", "1", "--patience", "0", "--dir", self.dir,
                               "--tree", "/usr/share/perl", "--json", self.dir / "out.json", "--chart", self.dir / "out.svg",
                               "--build", build or NASBACKUP.parents[1], *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)

    def fake_build(self, script):
        tool = self.dir / "build" / "tools" / "nasbackup"
        tool.parent.mkdir(parents=True)
        tool.write_text(script)
        tool.chmod(0o755)
        return self.dir / "build"

    def test_runs_every_row_that_needs_no_vm_and_accepts_every_output(self):
        run = self.compare("--strict", "--only", "nbdkit", "raw", "cpu", "depth", "fragments")
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        told = json.loads((self.dir / "out.json").read_text())
        self.assertEqual({goal["row"] for goal in told["goals"]}, {"nbdkit", "raw", "cpu", "depth", "fragments"})
        for contest in told["contests"].values():
            for one in contest["results"]:
                self.assertGreater(one["samples"][0]["seconds"], 0, one["name"])
        self.assertIn("| raw file: against qemu-img convert", run.stdout)
        self.assertGreater(len(ET.parse(self.dir / "out.svg").findall(".//{http://www.w3.org/2000/svg}rect")), 4)

    def test_runs_compression_and_encryption_against_qemu_and_accepts_every_output(self):
        run = self.compare("--strict", "--slow-runs", "1", "--only", "compress", "encrypt", "both", "scaling", "auto")
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        told = json.loads((self.dir / "out.json").read_text())
        self.assertEqual({goal["row"] for goal in told["goals"]}, {"compress", "encrypt", "both", "scaling", "auto"})
        for contest in told["contests"].values():
            for one in contest["results"]:
                self.assertGreater(one["samples"][0]["output_bytes"], 0, one["name"])
        self.assertIn("| busy seconds |", run.stdout)

    def test_runs_restore_verify_check_and_serve_against_qemu_and_accepts_every_output(self):
        rows = {"restore", "verify", "check", "verified", "serve"}
        run = self.compare("--strict", "--only", *sorted(rows))
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        told = json.loads((self.dir / "out.json").read_text())
        self.assertEqual({goal["row"] for goal in told["goals"]}, rows)

    def test_leaves_nothing_beside_what_was_asked_for(self):
        self.compare("--only", "raw")
        self.assertEqual(sorted(path.name for path in self.dir.iterdir()), ["out.json", "out.svg"])

    def test_an_output_that_differs_from_the_source_is_not_available_and_fails_strict(self):
        run = self.compare("--strict", "--only", "raw", build=self.fake_build(LIAR))
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        self.assertIn("content differs", run.stdout)
        self.assertEqual(json.loads((self.dir / "out.json").read_text())["goals"][0]["verdict"], "n/a")

    def test_an_absent_program_is_not_available_and_fails_only_strict(self):
        self.assertEqual(self.compare("--only", "raw", build="/nonexistent").returncode, 0)
        run = self.compare("--strict", "--only", "raw", build="/nonexistent")
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        self.assertIn("absent", run.stdout)

    def test_a_folder_below_dev_is_refused(self):
        run = self.compare("--only", "raw", "--dir", "/dev/shm")
        self.assertEqual(run.returncode, 2, run.stdout + run.stderr)
        self.assertIn("--dir: below /dev", run.stderr)


class Goals(unittest.TestCase):
    def verdict(self, goal, ours, theirs):
        results = {"C": {"nasbackup": ours, "rival": theirs}}
        return goals.judge(goal, results)["verdict"]

    def test_a_ratio_of_medians_is_compared_with_the_limit(self):
        goal = goals.Goal("r", "t", "C", 0.8, rival="rival")
        self.assertEqual(self.verdict(goal, result("nasbackup", 8, 1, 9), result("rival", 10, 10, 10)), "met")
        self.assertEqual(self.verdict(goal, result("nasbackup", 9, 1, 9), result("rival", 10, 10, 10)), "not met")

    def test_at_least_is_the_other_way_round(self):
        goal = goals.Goal("r", "t", "C", 10, rival="rival", least=True)
        self.assertEqual(self.verdict(goal, result("nasbackup", 1), result("rival", 10)), "met")
        self.assertEqual(self.verdict(goal, result("nasbackup", 2), result("rival", 10)), "not met")

    def test_equal_does_not_meet_a_goal_that_says_below(self):
        goal = goals.Goal("r", "t", "C", 1, rival="rival", strictly=True)
        self.assertEqual(self.verdict(goal, result("nasbackup", 1), result("rival", 1)), "not met")

    def test_memory_is_judged_by_its_worst_run(self):
        goal = goals.alone("memory", "C", "nasbackup", 64, "MiB", "t", goals.mebibytes)
        ours = result("nasbackup", 1, 1, 1)
        for index, mib in enumerate((10, 65, 10)):
            ours.samples[index]["peak_pss"] = mib << 20
        self.assertEqual(self.verdict(goal, ours, None), "not met")

    def test_a_contender_with_a_reason_makes_its_goals_not_available(self):
        goal = goals.Goal("r", "t", "C", 1, rival="rival")
        rival = result("rival", 1)
        rival.reason = "absent"
        self.assertEqual(self.verdict(goal, result("nasbackup", 1), rival), "n/a")

    def test_every_goal_names_a_row_that_can_be_asked_for(self):
        rows = {"libvirt", "increment", "merge", "nbdkit", "rbd", "raw", "empty", "memory", "cpu", "depth", "fragments", "limit", "compress", "encrypt", "both",
                "live-compress", "scaling", "auto", "tune", "restore", "verify", "check", "verified", "serve", "call"}
        self.assertEqual({goal.row for goal in goals.all_goals()}, rows)


class Absent(unittest.TestCase):
    def test_a_rival_that_is_absent_comes_with_the_command_that_installs_it(self):
        self.assertIn(": tests/lab/install-packages build test bench", runner.told_absent("virtnbdbackup"))
        self.assertEqual(runner.told_absent("/build/tools/nasbackup"), "/build/tools/nasbackup is absent")
        self.assertIsNone(runner.told_absent(None))


class Stopwatch(unittest.TestCase):
    def test_counts_what_a_command_left_behind(self):
        found = runner.time_steps([["sh", "-c", "(setsid sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done' &)"]])
        self.assertEqual(found["status"], 0)
        self.assertGreater(found["user"] + found["system"], 0.02)

    def test_stops_at_the_first_command_that_fails(self):
        self.assertEqual(runner.time_steps([["sh", "-c", "exit 7"], ["sh", "-c", "exit 8"]])["status"], 7)

    def test_gives_a_command_up_that_takes_too_long(self):
        self.assertEqual(runner.time_steps([["sleep", "60"]], timeout=0.5)["status"], "timed out")

    def test_sees_the_memory_of_grandchildren(self):
        hungry = "import time; data = b'x' * (64 << 20); time.sleep(0.5)"
        found = runner.time_steps([["sh", "-c", f'/usr/bin/python3 -c "{hungry}"; true']], detail=True)
        self.assertGreater(found["peak_pss"], 64 << 20)


class Statistics(unittest.TestCase):
    def test_the_mean_size_of_reads_is_what_nbdkit_counted(self):
        text = "total: 9 ops\nread: 8 ops, 0.000230 s, 4.00 MiB, 13.43 GiB/s op, 147.83 KiB/s total\n"
        self.assertEqual(contests.mean_read(text), (4 << 20) / 8)


if __name__ == "__main__":
    unittest.main()
