#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What a run tells: the result on stdout, the messages on stderr, the exit status; for people and as JSON."""
import os
import pty
import unittest

from cli import *


class JobResultTest(CliTest):
    def setUp(self):
        super().setUp()
        self.disk = self.make_disk(data=4 * MIB, size=16 * MIB)

    def backup(self, *options, name="web 1"):
        return self.run_command("backup", "--disk", self.disk, "--name", name, "--to", self.out, "--min-free", "1M", *options)


class AResultForPeople(JobResultTest):
    def test_is_three_lines_and_a_table(self):
        result = self.run_command("convert", self.disk, self.image)
        self.assert_status(result, DONE)
        self.assertEqual(result.stderr, "")
        lines = result.stdout.splitlines()
        self.assertEqual(lines[0], f"{self.image}: written from {self.disk}")
        self.assertRegex(lines[1], r"^4\.00 MiB of data in 16\.0 MiB, 4\.\d\d MiB stored, 12\.0 MiB are zero$")
        self.assertRegex(lines[2], r"^[\d.]+ s, .*B/s$")
        self.assertEqual(lines[4].split(), ["disk", "size", "data", "zero", "stored", "time", "image"])
        self.assertTrue(lines[5].startswith("disk0"))
        self.assertTrue(lines[5].endswith("disk.qcow2"))

    def test_of_a_backup_names_the_set(self):
        result = self.backup()
        self.assert_status(result, DONE)
        self.assertRegex(result.stdout.splitlines()[0], rf"^web 1: backed up to {self.out}/web 1/[\d.]{{19}}$")

    def test_of_the_null_target_names_none(self):
        self.assertIn("nothing kept", self.run_command("convert", self.disk, "null:").stdout)
        self.assertIn("web 1: read, nothing kept", self.run_command("backup", "--disk", self.disk, "--name", "web 1", "--to", "null:").stdout)

    def test_of_info_and_list(self):
        self.backup()
        listed = self.run_command("list", self.out)
        self.assert_status(listed, DONE)
        self.assertRegex(listed.stdout, r"VM +time +kind +disks +size +stored +set\nweb 1 +\d{4}-\d\d-\d\dT[\d:]{8}Z  full  1 +16\.0 MiB ")
        told = self.run_command("info", self.out / "web 1")
        self.assertRegex(told.stdout, r"(?s)set: .*VM: +web 1\n.*virtual size: +16\.0 MiB\n.*format: +qcow2\n.*cluster size: +64\.0 KiB")

    def test_of_an_empty_target_says_so(self):
        self.assertEqual(self.run_command("list", self.out).stdout, f"{self.out}: no sets\n")

    def test_keeps_names_from_breaking_lines_and_terminals(self):
        awkward = self.out / "new\nline \x1b[31mred 'quoted\" \u202e日本.qcow2"
        result = self.run_command("convert", self.disk, awkward)
        self.assert_status(result, DONE)
        self.assertIn("new\\x0aline \\x1b[31mred 'quoted\" \\xe2\\x80\\xae日本.qcow2", result.stdout)
        self.assertEqual(len(result.stdout.splitlines()), 6)
        again = self.run_command("convert", self.disk, awkward)
        self.assert_one_line(again, FAILED, "exists")


class AJsonResult(JobResultTest):
    KEYS = {"virtual_size", "read_bytes", "data_bytes", "zero_bytes", "stored_bytes", "seconds", "stages"}

    def test_has_the_keys_that_people_script_against(self):
        for place, result in (("set", self.backup("--json")), ("image", self.run_command("convert", self.disk, self.image, "--json"))):
            self.assert_status(result, DONE)
            report = self.json_of(result)
            self.assertLessEqual(self.KEYS | {place, "verified", "warnings", "disks"}, set(report))
            self.assertEqual((report["outcome"], report["verified"], report["warnings"]), ("done", None, []))
            self.assertEqual((report["virtual_size"], report["data_bytes"], report["zero_bytes"]), (16 * MIB, 4 * MIB, 12 * MIB))
            (disk,) = report["disks"]
            self.assertLessEqual(self.KEYS | {"name", "source", "image"}, set(disk))
            self.assertEqual(disk["stored_bytes"], os.path.getsize(disk["image"]))
            self.assertTrue(os.path.exists(report[place]))

    def test_of_a_failure_tells_the_error(self):
        result = self.run_command("convert", self.dir / "nowhere", self.image, "--json")
        report = self.json_of(result)
        self.assertEqual((result.returncode, report["outcome"]), (NOT_FOUND, "not_found"))
        self.assertIn("nowhere", report["error"])
        self.assertEqual(result.stderr, f"nasbackup: {report['error']}\n")

    def test_of_info_and_list(self):
        self.backup()
        (listed,) = self.json_of(self.run_command("list", self.out, "--json"))["sets"]
        self.assertEqual((listed["vm"], listed["kind"], listed["virtual_size"]), ("web 1", "full", 16 * MIB))
        self.assertRegex(listed["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        told = self.json_of(self.run_command("info", listed["path"], "--json"))
        self.assertEqual(told["images"], listed["images"])
        image = self.json_of(self.run_command("info", listed["images"][0]["path"], "--json"))
        self.assertEqual((image["format"], image["virtual_size"], image["cluster_size"], image["encryption"]), ("qcow2", 16 * MIB, 65536, "none"))
        raw = self.json_of(self.run_command("info", self.disk, "--json"))
        self.assertEqual((raw["format"], raw["virtual_size"]), ("raw", 16 * MIB))
        self.assertNotIn("cluster_size", raw)

    def test_survives_every_name(self):
        name = "new\nline \"quoted\" \\ ".encode() + b"\xff.qcow2"
        result = self.run_command("convert", self.disk, os.fsdecode(os.fsencode(self.out) + b"/" + name), "--json")
        self.assert_status(result, DONE)
        self.assertTrue(self.json_of(result)["image"].endswith("/new\nline \"quoted\" \\ \ufffd.qcow2"))


class TheExitStatus(JobResultTest):
    def test_failed(self):
        self.image.touch()
        self.assert_one_line(self.run_command("convert", self.disk, self.image), FAILED, "exists")

    def test_not_found(self):
        for words in (["convert", "nowhere", self.image], ["info", "nowhere"], ["list", "nowhere"]):
            self.assert_one_line(self.run_command(*words, cwd=self.dir), NOT_FOUND, "nowhere")

    def test_locked(self):
        slow = self.begin("backup", "--disk", self.disk, "--name", "web 1", "--to", self.out, "--min-free", "1M", "--rate", "64K")
        wait_until("it holds the lock", lambda: list(self.out.rglob("*")) or slow.poll() is not None)
        self.assert_one_line(self.backup(), LOCKED)
        slow.terminate()
        self.assert_status(self.finish(slow), 128 + signal.SIGTERM)

    def test_damaged(self):
        self.run_command("convert", self.disk, self.image)
        with open(self.image, "r+b") as image:
            image.seek(20)
            image.write(b"\xff" * 4)  # cluster_bits
        self.assert_one_line(self.run_command("info", self.image), DAMAGED)

    def test_target_full(self):
        self.assert_one_line(self.backup("--min-free", "1E"), USAGE)  # given twice
        result = self.run_command("backup", "--disk", self.disk, "--name", "n", "--to", self.out, "--min-free", "1P")
        self.assert_one_line(result, TARGET_FULL)

    def test_source_problem(self):
        self.assert_one_line(self.run_command("convert", "/dev/zero", self.image), SOURCE)

    def test_timed_out(self):
        result = self.run_command("convert", self.disk, self.image, "--rate", "64K", "--deadline", "1")
        self.assert_one_line(result, TIMED_OUT, "convert: not done within --deadline 1")
        self.assert_nothing_left()

    def test_done_but_the_result_cannot_be_delivered(self):
        with open("/dev/full", "w") as full:
            self.assert_status(self.run_command("convert", self.disk, self.image, stdout=full), WARNINGS, "stdout: No space left")
        self.assertTrue(self.image.exists())


class Progress(JobResultTest):
    def test_is_not_shown_when_nobody_looks(self):
        self.assertEqual(self.run_command("convert", self.disk, self.image, "--rate", "8M").stderr, "")

    def bar(self, **env):
        """What a terminal would get: the carriage returns matter."""
        with open(self.dir / "stderr", "w+b") as stderr:
            result = self.run_command("convert", self.disk, self.image, "--rate", "4M", "--progress=tty", stderr=stderr, env=env)
            self.assertEqual(result.returncode, DONE)
            stderr.seek(0)
            return stderr.read().decode()

    def test_is_a_bar_when_asked_for(self):
        text = self.bar()
        self.assertRegex(text, r"\r\x1b\[Kcopying +\d+ % \[\x1b\[32m=* *\x1b\[0m\] read .*B/s, written .*B/s, .* left")
        self.assertTrue(text.endswith("\r\x1b[K"), "the bar is taken away at the end")
        for line in text.replace("\x1b[32m", "").replace("\x1b[0m", "").split("\r\x1b[K"):
            self.assertLess(len(line), 80)

    def test_has_no_colour_when_asked_not_to(self):
        self.assertRegex(self.bar(NO_COLOR="1"), r"copying +\d+ % \[=* *\] ")

    def test_is_a_bar_on_a_terminal(self):
        for term, shown in (("xterm", True), ("dumb", False)):
            master, slave = pty.openpty()
            process = self.begin("convert", self.disk, self.image, "--force", "--rate", "4M", stderr=slave, env=dict(os.environ, TERM=term))
            os.close(slave)
            text = b""
            try:
                while chunk := os.read(master, 4096):
                    text += chunk
            except OSError:  # EIO: the last one has closed the terminal
                pass
            os.close(master)
            self.assertEqual(self.finish(process).returncode, DONE)
            self.assertEqual(b"copying" in text, shown, text)

    def test_is_an_object_on_each_line_when_asked_for(self):
        result = self.run_command("convert", self.disk, self.image, "--rate", "2M", "--progress=json", "-v")
        objects = [json.loads(line) for line in result.stderr.splitlines()]
        progress = [item for item in objects if "progress" in item]
        self.assertGreaterEqual(len(progress), 2)
        self.assertEqual(progress, sorted(progress, key=lambda item: item["done_bytes"]))
        for item in progress:
            self.assertLessEqual({"phase", "total_bytes", "done_bytes", "read_bytes", "stored_bytes", "seconds_left"}, set(item))
            self.assertTrue(0 <= item["progress"] <= 1)
        self.assertIn({"message": "copying"}, objects)

    def test_is_printed_once_on_sigusr1(self):
        process, _ = self.begin_slow()
        process.send_signal(signal.SIGUSR1)
        self.assertRegex(process.stderr.readline(), r"^nasbackup: copying: \d+ %, .* of 16\.0 MiB, read .*\n$")
        process.terminate()
        self.finish(process)


class TheLog(JobResultTest):
    TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"

    def test_has_every_message_with_its_time(self):
        log = self.dir / "log"
        self.run_command("convert", self.disk, self.image, "--rate", "8M", "--log-file", log, "-v")
        self.run_command("convert", self.disk, self.image, f"--log-file={log}")
        lines = log.read_text().splitlines()
        for line in lines:
            self.assertRegex(line, rf"^{self.TIME} nasbackup")
        text = "\n".join(lines)
        self.assertRegex(text, r"(?s)convert, run [0-9a-f]{16}\n.*: copying\n.*disk0: busy .*done, exit status 0\n.*convert, run .*exists.*failed, exit status 1$")
        self.assertEqual(log.stat().st_mode & 0o777, 0o600)

    def test_that_cannot_be_written_ends_the_run_before_it_begins(self):
        result = self.run_command("convert", self.disk, self.image, "--log-file", self.dir / "no" / "log")
        self.assert_one_line(result, FAILED, "--log-file .*/no/log: cannot be opened: No such file")
        self.assert_nothing_left()

    def test_that_hangs_does_not_hang_us(self):
        os.mkfifo(self.dir / "log")
        result = self.run_command("convert", self.disk, self.image, "--log-file", self.dir / "log", "--io-timeout", "1")
        self.assert_one_line(result, TIMED_OUT, "--log-file .*no answer")
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
