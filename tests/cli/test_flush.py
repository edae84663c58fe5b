#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Writeback and flushes that are begun while a file is still written."""
import errno
import subprocess
import unittest

from cli import DONE, FAILED, MIB, TARGET_FULL, CliTest
from slow_nas import SlowNas
from stepping_nas import SteppingNas


class AFlushOnTheWay(CliTest):
    """What one of them tells of, no later one tells again."""

    def convert_with_failing_flush(self, error):
        backing, place = self.dir / f"nas-{error}", self.dir / f"place-{error}"
        backing.mkdir()
        nas = SteppingNas(backing, place, "fsync", r"disk\.qcow2", 1, "before", error)
        self.addCleanup(nas.end)
        result = self.run_command("convert", self.make_disk(data=160 * MIB, size=160 * MIB), place / "disk.qcow2")
        self.assertTrue(nas.reached(lambda: False), "nothing was flushed")
        return result, list(backing.iterdir())

    def test_that_finds_the_storage_full_or_broken_ends_the_run(self):
        for error, status, says in ((errno.ENOSPC, TARGET_FULL, "No space left"), (errno.EIO, FAILED, "Input/output error")):
            with self.subTest(says):
                result, left = self.convert_with_failing_flush(error)
                self.assert_one_line(result, status, rf"disk\.qcow2.*: fdatasync: .*{says}")
                self.assertEqual(left, [])


class ASlowStorage(CliTest):
    def test_is_not_taken_for_one_that_hangs(self):
        """All of it takes seven seconds, and no call on it may take two."""
        backing = self.dir / "nas"
        backing.mkdir()
        nas = SlowNas(backing, self.dir / "place", 4 * MIB)
        self.addCleanup(nas.end)
        disk = self.make_disk(data=28 * MIB, size=28 * MIB)
        result = self.run_command("convert", disk, nas.place / "disk.qcow2", "--io-timeout", "2")
        self.assert_status(result, DONE)
        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, backing / "disk.qcow2"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    unittest.main()
