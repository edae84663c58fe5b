#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Files that shrink, targets that are full or read-only, sizes and names that are not nice."""

import os
import shutil
import subprocess
import unittest
from pathlib import Path

from hostile import DONE, FAILED, MIB, NASBACKUP, NOT_FOUND, SOURCE, TARGET_FULL, HostileTest, random_disk

DISK = random_disk(5 * MIB)


class Sources(HostileTest):
    def test_a_file_that_shrinks_half_way_is_refused(self):
        disk = self.write_file("disk.raw", random_disk(24 * MIB, data_every=1))
        process = self.start_convert(disk, "--rate", "8M")
        os.truncate(disk, 4 * MIB)
        self.assert_refused(self.finish(process), SOURCE, "disk.raw: (shrank|changed) while it was read")

    def test_a_file_that_grows_half_way_is_refused(self):
        disk = self.write_file("disk.raw", random_disk(24 * MIB, data_every=1))
        process = self.start_convert(disk, "--rate", "8M")
        os.truncate(disk, 40 * MIB)
        self.assert_refused(self.finish(process), SOURCE, "disk.raw: .*changed while it was read")

    def test_a_file_that_is_not_there(self):
        self.assert_refused(self.convert(self.dir / "nowhere.raw"), NOT_FOUND, "nowhere.raw")

    def test_a_directory(self):
        self.assert_refused(self.convert(self.dir), NOT_FOUND, str(self.dir))

    def test_a_pipe_does_not_hang_us(self):
        os.mkfifo(self.dir / "pipe")
        self.assert_refused(self.convert(self.dir / "pipe"), SOURCE, "pipe")

    def test_a_character_device(self):
        self.assert_refused(self.convert("/dev/zero"), SOURCE, "/dev/zero")

    def test_a_file_without_permission_names_the_reason(self):
        disk = self.write_file("disk.raw", DISK)
        os.chmod(disk, 0)
        os.chmod(self.dir, 0o755)
        os.chmod(self.out, 0o777)
        command = shutil.copy(NASBACKUP, self.dir)  # the build may lie where only we may go
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", command, "convert", str(disk), str(self.out / "disk.qcow2")]
        result = subprocess.run(words, capture_output=True, text=True, timeout=60)
        self.assert_refused(result, SOURCE, "disk.raw.*Permission denied")

    def test_a_raw_file_with_the_header_of_a_qcow2_that_has_a_backing_file_is_refused(self):
        base = self.write_file("base.raw", bytes(MIB))
        posing = self.dir / "posing.raw"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", posing], check=True)
        result = self.convert(posing)
        self.assertNotEqual(result.returncode, DONE, "a guest's disk posed as another format")
        self.assert_nothing_left()

    def test_a_raw_file_is_read_as_raw_when_asked_to_whatever_it_looks_like(self):
        looks = self.dir / "looks.raw"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", looks, "1M"], check=True)
        self.assert_done(self.convert(looks, None, "-f", "raw"), looks)


class Sizes(HostileTest):
    def check(self, size, *options):
        disk = self.write_file("disk.raw", random_disk(size, data_every=1))
        self.assert_done(self.convert(disk, None, *options), disk)
        self.assertEqual(self.image_info(self.out / "disk.qcow2")["virtual-size"], -(-size // 512) * 512)

    def test_sizes_that_are_no_multiple_of_a_sector_are_rounded_up(self):
        for size in (1, 511, 513, 65535, 65537, 3 * MIB + 777):
            with self.subTest(size=size):
                self.check(size)
                (self.out / "disk.qcow2").unlink()

    def test_a_size_that_is_no_multiple_of_a_cluster_is_kept(self):
        for cluster in ("512", "4K", "64K", "2M"):
            with self.subTest(cluster=cluster):
                self.check(3 * MIB + 512, "--cluster-size", cluster)
                (self.out / "disk.qcow2").unlink()

    def test_an_empty_file_makes_an_empty_image(self):
        self.check(0)

    def test_a_file_that_is_one_hole_makes_an_image_without_data(self):
        disk = self.dir / "disk.raw"
        disk.touch()
        os.truncate(disk, 1 << 40)
        self.assert_done(self.convert(disk), disk)
        self.assertLess((self.out / "disk.qcow2").stat().st_size, MIB)

    def test_a_file_that_ends_in_a_hole_keeps_its_size(self):
        disk = self.write_file("disk.raw", DISK)
        os.truncate(disk, 64 * MIB + 4096)
        self.assert_done(self.convert(disk), disk)
        self.assertEqual(self.image_info(self.out / "disk.qcow2")["virtual-size"], 64 * MIB + 4096)


class Names(HostileTest):
    """QEMU splits some names; we never do."""

    NAMES = ("with space.raw", "a,b,,c.raw", "driver=null-co,size=1.raw", "it's \"quoted\".raw", "dots..raw", "..raw", "-starts-with-dash.raw",
             "json:{}.raw", "new\nline.raw", "tab\there.raw", "ünïcödé-日本.raw", "percent%20.raw", "back\\slash.raw", "semi;colon|pipe.raw", "$HOME.raw")

    def test_awkward_names_of_sources_and_targets_work(self):
        for name in self.NAMES:
            with self.subTest(name=name):
                source = self.dir / name
                source.write_bytes(DISK)
                image = self.out / (name + ".qcow2")
                self.assert_done(self.convert(source, image), source, image)
                self.assertEqual([path.name for path in self.out.iterdir()], [image.name])
                image.unlink()

    def test_names_that_are_not_utf8_work(self):
        source = os.fsencode(str(self.dir)) + b"/\xff\xfe.raw"
        with open(source, "wb") as disk:
            disk.write(DISK)
        image = os.fsencode(str(self.out)) + b"/\xff.qcow2"
        result = subprocess.run([os.fsencode(NASBACKUP), b"convert", source, image], capture_output=True, timeout=60)
        self.assertEqual(result.returncode, DONE, result.stderr)
        os.rename(image, self.out / "disk.qcow2")
        self.assert_sound(self.out / "disk.qcow2")
        self.assert_same_content(self.out / "disk.qcow2", DISK)

    def test_a_relative_name_with_a_colon_is_a_file(self):
        (self.dir / "a:b.raw").write_bytes(DISK)
        result = subprocess.run([NASBACKUP, "convert", "a:b.raw", "out/c:d.qcow2"], cwd=self.dir, capture_output=True, text=True, timeout=60)
        self.assert_done(result, DISK, self.out / "c:d.qcow2")

    def test_a_way_through_the_parent_directory_is_followed(self):
        source = self.write_file("disk.raw", DISK)
        image = self.out / ".." / "out" / "disk.qcow2"
        self.assert_done(self.convert(self.out / ".." / source.name, image), DISK)

    def test_a_name_with_a_line_break_does_not_break_the_message(self):
        result = self.convert(self.dir / "no\nsuch.raw")
        self.assert_refused(result, NOT_FOUND)

    def test_the_longest_name_works(self):
        source = self.write_file("disk.raw", DISK)
        image = self.out / ("x" * 255)
        self.assert_done(self.convert(source, image), DISK, image)

    def test_a_name_that_is_too_long_is_refused(self):
        source = self.write_file("disk.raw", DISK)
        self.assert_refused(self.convert(source, self.out / ("x" * 256)), FAILED, "too long")

    def test_an_empty_name_is_refused(self):
        source = self.write_file("disk.raw", DISK)
        for words in ((source, ""), ("", self.out / "disk.qcow2")):
            result = self.run_command("convert", *words)
            self.assertNotEqual(result.returncode, DONE)
            self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
            self.assert_nothing_left()


class Targets(HostileTest):
    def setUp(self):
        super().setUp()
        self.disk = self.write_file("disk.raw", random_disk(24 * MIB, data_every=1))

    def convert_inside(self, mount, *options, source=None):
        """Runs with `mount` done over the target directory, in a mount namespace of its own; what is left there is listed."""
        script = f'{mount} || exit 99; "$@"; code=$?; ls -A "$0" >"$0.left"; exit $code'
        words = ["unshare", "--mount", "sh", "-c", script, str(self.out), NASBACKUP, "convert", *options, str(source or self.disk),
                 str(self.out / "disk.qcow2")]
        result = subprocess.run(words, capture_output=True, text=True, timeout=120)
        self.assertNotEqual(result.returncode, 99, result.stderr)
        self.left = Path(str(self.out) + ".left").read_text().split()
        return result

    def test_a_full_target_is_told_and_left_as_it_was(self):
        result = self.convert_inside('mount -t tmpfs -o size=4m none "$0"')
        self.assert_refused(result, TARGET_FULL, "No space left|bytes")
        self.assertEqual(self.left, [])

    def test_a_target_that_is_full_to_the_last_byte(self):
        result = self.convert_inside('mount -t tmpfs -o size=64k none "$0"; dd if=/dev/zero of="$0/full" bs=64k count=1 2>/dev/null')
        self.assert_refused(result, TARGET_FULL)
        self.assertEqual(self.left, ["full"])

    def test_a_full_target_with_a_real_file_system(self):
        image = self.dir / "small.ext4"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", image, "8M"], check=True)
        result = self.convert_inside(f'mount -o loop {image} "$0" && rmdir "$0/lost+found"')
        self.assert_refused(result, TARGET_FULL)
        self.assertEqual(self.left, [])

    def test_a_read_only_target_is_refused(self):
        result = self.convert_inside('mount -t tmpfs -o ro none "$0"')
        self.assert_refused(result, FAILED, "Read-only file system")
        self.assertEqual(self.left, [])

    def test_a_target_without_inodes_is_refused(self):
        result = self.convert_inside('mount -t tmpfs -o nr_inodes=1 none "$0"')
        self.assert_refused(result, TARGET_FULL, "No space left")
        self.assertEqual(self.left, [])

    def test_a_target_directory_that_is_not_there_is_refused(self):
        result = self.convert(self.disk, self.out / "nowhere" / "disk.qcow2")
        self.assert_refused(result, FAILED, "No such file or directory")

    def test_a_target_directory_that_is_a_file_is_refused(self):
        result = self.convert(self.disk, self.disk / "disk.qcow2")
        self.assert_refused(result, FAILED, "Not a directory")

    def test_a_target_that_is_a_directory_is_refused(self):
        (self.out / "disk.qcow2").mkdir()
        result = self.convert(self.disk)
        (self.out / "disk.qcow2").rmdir()
        self.assert_refused(result, FAILED, "disk.qcow2")

    def test_a_target_that_exists_is_not_touched(self):
        there = self.out / "disk.qcow2"
        there.write_bytes(b"mine")
        result = self.convert(self.disk)
        self.assertNotEqual(result.returncode, DONE)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        self.assertIn("exists", result.stderr)
        self.assertEqual(there.read_bytes(), b"mine")
        self.assertEqual(len(list(self.out.iterdir())), 1)

    def test_a_target_that_exists_stays_when_its_replacement_fails(self):
        there = self.out / "disk.qcow2"
        there.write_bytes(b"mine")
        result = self.convert(self.dir / "nowhere.raw", None, "--force")
        self.assertEqual(result.returncode, NOT_FOUND)
        self.assertEqual(there.read_bytes(), b"mine")
        self.assertEqual(len(list(self.out.iterdir())), 1)

    def test_a_target_that_exists_is_replaced_when_asked_to(self):
        (self.out / "disk.qcow2").write_bytes(b"old")
        self.assert_done(self.convert(self.disk, None, "--force"), self.disk)
        self.assertEqual(len(list(self.out.iterdir())), 1)

    def test_the_source_is_not_its_own_target(self):
        before = self.disk.read_bytes()
        result = self.convert(self.disk, self.disk, "--force")
        self.assertNotEqual(result.returncode, DONE)
        self.assertEqual(self.disk.read_bytes(), before)

    def test_a_symbolic_link_in_place_of_the_target_is_not_written_through(self):
        victim = self.write_file("victim", b"precious")
        (self.out / "disk.qcow2").symlink_to(victim)
        self.convert(self.disk)
        self.assertEqual(victim.read_bytes(), b"precious")

    def test_a_run_that_is_ended_by_a_signal_leaves_nothing(self):
        for name, number in (("SIGTERM", 15), ("SIGINT", 2)):
            with self.subTest(signal=name):
                process = self.start_convert(self.disk, "--rate", "8M")
                process.send_signal(number)
                result = self.finish(process)
                self.assertEqual(result.returncode, 128 + number, result.stderr)
                self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
