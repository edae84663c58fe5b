#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Flushes that are begun while a file is still written: what one of them tells of, no later one tells again."""
import errno
import unittest

from cli import FAILED, MIB, TARGET_FULL, CliTest
from stepping_nas import SteppingNas


class AFlushOnTheWay(CliTest):
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


if __name__ == "__main__":
    unittest.main()
