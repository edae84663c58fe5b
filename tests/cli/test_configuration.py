#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what it may say, who wins, and that what is wrong in it is told by file and line."""
import os
import unittest

from cli import *

# A file, and what is said about it; FILE stands for its name. Its last line but one is the wrong one unless it says more.
REFUSED = [
    ("rate = \n", "FILE:1: "),
    ("\n\n[convert\n", "FILE:3: "),
    ("rate = 5\nrate = 6\n", "FILE:2: "),
    ("\nrte = 5\n", "FILE:2: rte: no such option: write rate$"),
    ("xyzzy = 5\n", "FILE:1: xyzzy: no such option: nasbackup VERB --help"),
    ("[bakcup]\nrate = 5\n", r"FILE:1: \[bakcup\]: no such verb"),
    ("[convert]\n\nquiesce = true\n", "FILE:3: quiesce: not an option of this verb"),
    ("[convert.more]\nrate = 5\n", "FILE:1: more: no such option"),
    ("[convert]\nrate.more = 5\n", "FILE:2: rate: write RATE"),
    ("rate = 5.5\n", "FILE:1: rate: write RATE, a string or a whole number"),
    ("rate = true\n", "FILE:1: rate: write RATE"),
    ("rate = [5, 6]\n", "FILE:1: rate: write RATE"),
    ("rate = 08:00:00\n", "FILE:1: rate: write RATE"),
    ("rate = ''\n", "FILE:1: rate: write RATE"),
    ("to = \"a\\u0000b\"\n", "FILE:1: to: write DIR"),
    ("rate = -5\n", "FILE:1: rate -5: write a rate such as"),
    ("rate = 'fast'\n", "FILE:1: rate fast: write a rate such as"),
    ("rate = 5\n[convert]\nrate = 'fast'\n", "FILE:3: rate fast"),
    ("verbose = 'yes'\n", "FILE:1: verbose: write true or false"),
    ("progress = 'loud'\n", "FILE:1: progress: write auto, tty, json or none"),
    ("rate = 5\nrate-schedule = '*=5'\n", "FILE:2: --rate and --rate-schedule contradict each other"),
    ("rate-schedule = '08:00-09:00=5'\n", "FILE:1: rate-schedule 00:00 has no rate"),
    ("burst = '1M'\n", "FILE:1: --burst without a limit means nothing"),
    ("threads = 0\n", "FILE:1: threads 0: write a whole number"),
    ("json = true\n", "FILE:1: json: belongs on the command line: write --json there"),
    ("[backup]\ndisk = 'vda'\n", "FILE:2: disk: belongs on the command line"),
    ("exec-in-job = 'rm'\n", "FILE:1: exec-in-job: belongs on the command line"),
    ("config = 'x'\n", "FILE:1: config: belongs on the command line"),
    ("a = " + "[" * 1000 + "\n", "FILE:1: "),
    ("# " + "x" * (64 << 10), "FILE: larger than 64 KiB"),
]


class Configuration(CliTest):
    def setUp(self):
        super().setUp()
        self.file = self.dir / "nasbackup.toml"
        self.disk = self.make_disk(data=MIB, size=2 * MIB)

    def convert(self, *options, text=None):
        if text is not None:
            self.file.write_text(text)
        return self.run_command("convert", "--force", "--config", self.file, *options, self.disk, self.image)

    def test_that_is_wrong_is_refused_by_file_and_line(self):
        for text, says in REFUSED:
            with self.subTest(text=text[:80]):
                self.assert_one_line(self.convert(text=text), USAGE, "^nasbackup: " + says.replace("FILE", str(self.file)))
        self.assert_nothing_left()

    def test_is_told_as_an_object_when_json_was_asked_for(self):
        result = self.convert("--json", text="rte = 5\n")
        self.assert_status(result, USAGE)
        self.assertIn("nasbackup.toml:1: rte", json.loads(result.stdout)["error"])

    def test_that_is_no_file_is_refused(self):
        for path in (self.dir, "/dev/zero", self.dir / "absent"):
            self.assert_one_line(self.run_command("convert", "--config", path, self.disk, self.image), USAGE, str(path))
        os.mkfifo(self.dir / "fifo")
        self.assert_one_line(self.run_command("convert", "--config", self.dir / "fifo", self.disk, self.image), USAGE, "not a file")

    def test_that_everybody_may_write_to_is_refused(self):
        self.file.write_text("rate = 5\n")
        self.file.chmod(0o666)
        self.assert_one_line(self.convert(), USAGE, "everybody may write to it")

    def test_gives_options_to_every_verb_or_to_one(self):
        self.assertIn("disk0: busy", self.convert(text="verbose = true\n").stderr)
        self.assertIn("disk0: busy", self.convert(text="verbose = false\n[convert]\nverbose = true\n").stderr)
        self.assertNotIn("disk0: busy", self.convert(text="verbose = true\n[convert]\nverbose = false\n").stderr)
        self.assertNotIn("disk0: busy", self.convert(text="[backup]\nverbose = true\nquiesce = true\n").stderr)
        self.assert_status(self.convert(text="quiesce = true\nconnect = 'test:///default'\n[list]\nverbose = true\n"), DONE)

    def test_loses_against_the_command_line(self):
        self.assert_status(self.convert("-j2", text="threads = 0\n"), DONE)
        self.assert_status(self.convert("--memory", "64M", text="memory = '1M'\n"), DONE)

    def test_of_the_limit_is_nothing_when_the_command_line_names_one(self):
        for options in (["-b", "100"], ["--rate-schedule", "*=100"], ["-b0"]):
            self.assert_status(self.convert(*options, text="rate-schedule = '*=1k'\nburst = '1k'\n"), DONE)
        self.assert_status(self.convert(text="rate-schedule = '*=1k'\n[convert]\nrate = '1G'\n"), DONE)

    def test_of_the_passphrase_is_nothing_when_the_command_line_names_one(self):
        for name in "file", "other":
            (self.dir / name).write_text(name)
        weak = ("--pbkdf-iterations", "1000", "--insecure-pbkdf")
        for configured in f"encrypt = '{self.dir}/file'\n", "encrypt-command = 'printf file'\n":
            self.assert_status(self.convert("-e", self.dir / "other", *weak, text=configured), DONE)
            self.assert_status(self.convert("--encrypt-command", "printf other", *weak), DONE)
            self.assert_status(self.run_command("info", self.image, "-e", self.dir / "other"), DONE)
            self.assert_status(self.run_command("info", self.image, "--config", self.file), WRONG_KEY)
            # What lists the keys needs none.
            self.assert_status(self.run_command("key", "list", self.image, "--config", self.file), DONE)

    def test_of_what_a_run_does_not_do_does_not_disturb_it(self):
        text = "pbkdf-iterations = 2000000\ncompress = true\n"
        self.assert_status(self.convert(text=text), DONE)
        self.assert_status(self.convert("-O", "raw", text=text), DONE)

    def test_about_vms_does_not_disturb_a_backup_without_one(self):
        self.file.write_text(f"[backup]\nquiesce = true\nquiesce-timeout = 5\nscratch = '/tmp'\nto = '{self.out}'\nmin-free = 0\n")
        self.assert_status(self.run_command("backup", "--config", self.file, "--disk", self.disk, "--name", "n"), DONE)
        self.assertTrue((self.out / "n").is_dir())


if __name__ == "__main__":
    unittest.main()
