#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""--memory bounds the whole run, however many disks it has."""
import subprocess
import sys
import unittest

from cli import *

DISKS = 12


class Memory(CliTest):
    def make_sets(self, *options):
        """Runs a backup of many disks; its outcome, and the most that one of its processes had in memory, in MiB."""
        disks = [word for index in range(DISKS) for word in ("--disk", self.make_disk(data=24 * MIB, size=32 * MIB, name=f"disk{index}.raw"))]
        # The kernel's figure begins with what the forking process has: an interpreter that has done nothing else.
        measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = subprocess.run([sys.executable, "-c", measure, NASBACKUP, "backup", "--name", "many", *map(str, disks), "--to", self.out, *options],
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, DONE, done.stderr)
        return int(done.stdout.split()[-1]) / 1024

    def test_is_kept_with_many_disks(self):
        for options in (("--memory", "128M", "-c", "--cluster-size", "2M", "--verify"), ("--memory", "80M", "-c=zstd", "--cluster-size", "1M", "-j", "4"),
                        ("--memory", "48M", "--verify"), ("--memory", "64M", "--cluster-size", "2M")):
            with self.subTest(options=options):
                self.assertLess(self.make_sets(*options), int(options[1][:-1]))

    def test_that_one_disk_cannot_do_with_is_refused(self):
        result = self.run_command("convert", self.make_disk(), self.image, "-c", "--cluster-size", "2M", "--memory", "48M")
        self.assert_one_line(result, USAGE, r"--memory: 50331648: too little for .*: write at least \d+M")
        self.assert_nothing_left()
        least = result.stderr.split()[-1]
        self.assert_status(self.run_command("convert", self.dir / "disk.raw", self.image, "-c", "--cluster-size", "2M", "--memory", least), DONE)


if __name__ == "__main__":
    unittest.main()
