#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Raw targets: files that stay sparse, and NBD exports that are full, read-only, too small, particular, or gone."""

import os
import subprocess
import unittest

from hostile import DONE, FAILED, MIB, TARGET_FULL, TIMED_OUT, USAGE, HostileTest, random_disk

DISK = random_disk(8 * MIB)


class AwkwardTargetTest(HostileTest):
    def setUp(self):
        super().setUp()
        self.disk = self.write_file("disk.raw", DISK)

    def write_to(self, *nbdkit, source=None, options=()):
        uri = self.start_nbdkit(*nbdkit)
        return self.convert(source or self.disk, uri, "-O", "raw", *options, timeout=40)

    def assert_export_is(self, expected):
        copy = self.dir / "copy"
        subprocess.run(["nbdcopy", "--request-size=65536", "nbd+unix:///?socket=" + str(self.socket), copy], check=True)
        self.assertEqual(copy.read_bytes(), expected)


class RawFiles(AwkwardTargetTest):
    def test_the_file_is_the_disk(self):
        for threads in ("1", "2", "16"):
            image = self.out / f"disk{threads}.raw"
            result = self.convert(self.disk, image, "-O", "raw", "-j", threads)
            self.assertEqual(result.returncode, DONE, result.stderr)
            self.assertEqual(image.read_bytes(), DISK)

    def test_zeroes_take_no_room(self):
        image = self.out / "disk.raw"
        self.convert(self.write_file("zeroes.raw", bytes(32 * MIB)), image, "-O", "raw")
        self.assertEqual(image.stat().st_size, 32 * MIB)
        self.assertLess(image.stat().st_blocks * 512, MIB)

    def test_odd_sizes_keep_their_content(self):
        for size in (0, 1, 511, 513, MIB + 777):
            with self.subTest(size=size):
                disk = self.write_file("odd.raw", random_disk(size, data_every=1))
                image = self.out / f"odd{size}.raw"
                result = self.convert(disk, image, "-O", "raw")
                self.assertEqual(result.returncode, DONE, result.stderr)
                content = image.read_bytes()
                self.assertEqual(content[:size], disk.read_bytes())
                self.assertEqual(content[size:].strip(b"\0"), b"")
                self.assertLess(len(content) - size, 512)


class Exports(AwkwardTargetTest):
    def test_an_export_becomes_the_disk(self):
        result = self.write_to("memory", str(len(DISK)))
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assert_export_is(DISK)

    def test_answers_that_come_while_much_is_being_sent_hold_nothing_up(self):
        # Libnbd stops sending for an answer that it is told of, also when there is none; several writes are under way here.
        for _ in range(3):
            content = os.urandom(64 * MIB)
            result = self.write_to("file", self.write_file("export", bytes(len(content))), source=self.write_file("full.raw", content),
                                   options=("--io-timeout", "5"))
            self.assertEqual(result.returncode, DONE, result.stderr)
            self.assert_export_is(content)
            self.end(self.nbdkit)
            self.socket.unlink()

    def test_what_was_on_the_export_is_gone_where_the_disk_has_zeroes(self):
        old = self.write_file("old.raw", b"\xff" * len(DISK))
        result = self.write_to("file", old)
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assert_export_is(DISK)

    def test_an_export_that_cannot_zero_is_written_with_zeroes(self):
        old = self.write_file("old.raw", b"\xff" * len(DISK))
        result = self.write_to("--filter=nozero", "file", old)
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assert_export_is(DISK)

    def test_block_sizes_of_the_export_are_respected(self):
        result = self.write_to("--filter=blocksize-policy", "memory", str(len(DISK)), "blocksize-minimum=4096", "blocksize-preferred=4096",
                               "blocksize-maximum=64K", "blocksize-error-policy=error")
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assert_export_is(DISK)

    def test_a_disk_that_ends_inside_a_block_of_the_export_is_refused(self):
        odd = self.write_file("odd.raw", random_disk(MIB + 777, data_every=1))
        result = self.write_to("--filter=blocksize-policy", "memory", str(MIB + 4096), "blocksize-minimum=4096", "blocksize-preferred=4096",
                               "blocksize-maximum=64K", source=odd)
        self.assert_refused(result, FAILED, "block size")

    def test_an_export_that_is_too_small_is_refused(self):
        self.assert_refused(self.write_to("memory", "1M"), TARGET_FULL, str(len(DISK)))

    def test_a_full_export_is_a_full_target(self):
        result = self.write_to("--filter=error", "memory", str(len(DISK)), "error-pwrite=ENOSPC", "error-pwrite-rate=1")
        self.assert_refused(result, TARGET_FULL, "No space left")

    def test_writes_that_fail_make_the_run_fail(self):
        result = self.write_to("--filter=error", "memory", str(len(DISK)), "error-pwrite=EIO", "error-pwrite-rate=20%")
        self.assert_refused(result, FAILED, "Input/output error")

    def test_zeroing_that_fails_makes_the_run_fail(self):
        result = self.write_to("--filter=error", "memory", str(len(DISK)), "error-zero=EIO", "error-zero-rate=1")
        self.assert_refused(result, FAILED, "Input/output error")

    def test_a_flush_that_fails_makes_the_run_fail(self):
        result = self.write_to("eval", f"get_size=echo {len(DISK)}", "can_write=exit 0", "can_flush=exit 0", "pread=head -c $3 /dev/zero",
                               "pwrite=cat >/dev/null", "flush=echo EIO lost >&2; exit 1")
        self.assert_refused(result, FAILED, "flush.*Input/output error")

    def test_a_read_only_export_is_refused(self):
        self.assert_refused(self.write_to("-r", "memory", str(len(DISK))), FAILED, "read-only")

    def test_a_qcow2_does_not_go_to_an_export(self):
        uri = self.start_nbdkit("memory", "64M")
        self.assert_refused(self.convert(self.disk, uri), USAGE, "-O raw")

    def test_an_export_that_falls_silent_is_given_up(self):
        result = self.write_to("--filter=delay", "memory", str(len(DISK)), "wdelay=600", "delay-zero=600", options=("--io-timeout", "1"))
        self.assert_refused(result, TIMED_OUT)

    def test_nobody_listens(self):
        self.assert_refused(self.convert(self.disk, "nbd+unix:///?socket=" + str(self.socket), "-O", "raw"), FAILED)


if __name__ == "__main__":
    unittest.main()
