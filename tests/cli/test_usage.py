#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What is not understood: exit 64 and one line that says what to write instead. And the texts that must agree with what is accepted."""
import re
import subprocess
import unittest

from cli import *

VERBS = ("backup", "convert", "restore", "verify", "info", "check", "list", "delete", "merge", "key", "serve", "details", "tune")

# What is written, and what the line says to write instead.
REFUSED = [
    ([], "write backup, convert, restore, verify, info, check, list, delete, merge, key, serve, details or tune, or --help"),
    (["convrt", "a", "b"], "convrt: no such verb: write convert$"),
    (["combine", "a"], "combine: no such verb: write backup, convert, restore, verify, info, check, list, delete, merge, key, serve, details or tune"),
    (["-v", "convert", "a", "b"], "-v: write the verb first"),
    (["-j2"], "write the verb first"),
    (["--help", "convert"], "write the verb first"),
    (["convert"], "write nasbackup convert SRC DST"),
    (["convert", "a"], "write nasbackup convert SRC DST"),
    (["convert", "a", "b", "c"], "c: one word too many: write nasbackup convert SRC DST"),
    (["convert", "a", ""], "an empty name"),
    (["info"], "write nasbackup info SET.IMAGE"),
    (["list", "a", "b"], "b: one word too many: write nasbackup list DIR"),
    (["convert", "--rat=5", "a", "b"], "--rat: no such option: write --rate$"),
    (["convert", "--thraeds", "5", "a", "b"], "write --threads$"),
    (["convert", "--conn", "5", "a", "b"], "--conn: no such option: write --connections$"),
    (["convert", "--xyzzyx", "a", "b"], "nasbackup convert --help lists the options"),
    (["convert", "-x", "a", "b"], "-x: no such option"),
    (["convert", "-threads", "2", "a", "b"], "no such option: write --threads$"),
    (["convert", "--verify=all", "a", "b"], "--verify all: write metadata or data"),
    (["verify", "--verify", "a"], "--verify is not an option of verify: leave it out .it belongs to backup, convert"),
    (["verify", "a", "--sample", "5"], "--sample 5: write a part such as 5% or 0.5%"),
    (["convert", "-c=gzip", "a", "b"], "--compress: must be zlib, zstd or auto"),
    (["convert", "-c=zlib:10", "a", "b"], "zlib level must be fast, default, best, auto or 1 to 9: 10"),
    (["convert", "--compress=zstd:23", "a", "b"], "zstd level must be fast, default, best, auto or -7 to 22 without 0: 23"),
    (["convert", "-c", "-O", "raw", "a", "b"], "--compress: -O raw cannot hold it: write -O qcow2, or leave -c out"),
    (["convert", "-e", "/dev/null", "-O", "luks", "a", "b"], "passphrase: /dev/null"),
    (["convert", "-O", "luks", "a", "b"], "-O luks: needs a passphrase: write -e FILE too"),
    (["convert", "--quiesce", "a", "b"], "--quiesce is not an option of convert: leave it out .it belongs to backup"),
    (["list", "--force", "d"], "leave it out .it belongs to convert"),
    (["backup", "-U", "vm", "--to", "d"], "-U is not an option of backup"),
    (["info", "-b", "5", "a"], "-b is not an option of info"),
    (["convert", "--json=1", "a", "b"], "--json takes no value: write --json$"),
    (["convert", "-v=1", "a", "b"], "-v takes no value: write -v$"),
    (["convert", "a", "b", "--rate"], "--rate needs a value: write --rate RATE"),
    (["convert", "a", "b", "-b"], "--rate needs a value: write --rate RATE"),
    (["backup", "vm", "--to", "--quiesce"], "--to needs a value: write --to DIR"),
    (["backup", "vm", "--to", "--"], "--to needs a value"),
    (["backup", "vm", "--to="], "--to: the value is empty"),
    (["convert", "--progress=loud", "a", "b"], "--progress loud: write auto, tty, json or none"),
    (["convert", "-O", "vmdk", "a", "b"], "--target-format vmdk: write qcow2, raw or luks"),
    (["convert", "-f", "vmdk", "a", "b"], "--source-format vmdk: write raw, qcow2 or luks"),
    (["convert", "-j", "0", "a", "b"], "--threads 0: write a whole number from 1 to 1024"),
    (["convert", "-j", "two", "a", "b"], "--threads two: write a whole number"),
    (["convert", "-j", "-1", "a", "b"], "--threads -1: write a whole number"),
    (["convert", "-j", "2.5", "a", "b"], "--threads 2.5: write a whole number"),
    (["convert", "-j", "99999999999999999999", "a", "b"], "write a whole number"),
    (["convert", "--connections", "1000", "a", "b"], "--connections 1000: write a whole number from 1 to 64"),
    (["convert", "--rate", "fast", "a", "b"], "--rate fast: write a rate such as 50"),
    (["convert", "--rate", "50MB", "a", "b"], "--rate 50MB: write a rate"),
    (["convert", "--rate", "-5", "a", "b"], "--rate -5: write a rate"),
    (["convert", "--rate", "9999999999999", "a", "b"], "write a rate"),
    (["convert", "--rate", "400Mbits", "a", "b"], "write a rate"),
    (["convert", "--memory", "16E", "a", "b"], "--memory 16E: write a size"),
    (["convert", "--memory", "1M", "a", "b"], "--memory.*write at least"),
    (["convert", "--memory", "1 G", "a", "b"], "--memory 1 G: write a size"),
    (["convert", "--cluster-size", "50000", "a", "b"], "--cluster-size.*power of two"),
    (["convert", "--cluster-size", "4M", "a", "b"], "--cluster-size.*power of two"),
    (["convert", "--cluster-size", "64K", "-O", "raw", "a", "b"], "--cluster-size means nothing with -O raw"),
    (["convert", "--burst", "1M", "a", "b"], "write --rate too"),
    (["convert", "--burst", "1M", "-b", "0", "a", "b"], "write --rate too"),
    (["convert", "--burst", "0", "-b", "5", "a", "b"], "write a size such as 1M, or leave it out"),
    (["convert", "--rate", "99999999999T", "a", "b"], "--rate 99999999999T: write a rate"),
    (["convert", "--burst", "1M", "--rate-group", "g", "a", "b"], "write --rate too"),
    (["convert", "--rate", "5", "--rate-schedule", "*=5", "a", "b"], "contradict each other: write one of them"),
    (["convert", "--rate-schedule", "08:00-18:00=50M", "a", "b"], "--rate-schedule 00:00 has no rate: add .=RATE"),
    (["convert", "--rate-schedule", "08:00-18:00=5,17:00-19:00=6,*=0", "a", "b"], "17:00-19:00=6: 17:00 is in another range too"),
    (["convert", "--rate-schedule", "*=99999999999T", "a", "b"], "write a rate such as"),
    (["convert", "--rate-schedule", "at night", "a", "b"], "--rate-schedule at night: write ranges such as"),
    (["convert", "--priority", "high", "a", "b"], "--priority high: write auto, normal, low or idle"),
    (["convert", "--config", "/nonexistent", "a", "b"], "^nasbackup: /nonexistent: No such file"),
    (["convert", "--io-timeout", "0", "a", "b"], "--io-timeout 0: write whole seconds"),
    (["convert", "--deadline", "6h", "a", "b"], "--deadline 6h: write whole seconds"),
    (["convert", "-b", "5", "-b", "6", "a", "b"], "--rate is given twice"),
    (["backup"], "write nasbackup backup VM --to DIR, or --disk SRC --name NAME --to DIR"),
    (["backup", "vm"], "write --to DIR"),
    (["backup", "vm", "vm2", "--to", "d"], "vm2: one word too many"),
    (["backup", "--disk", "a", "--to", "d"], "write --name NAME"),
    (["backup", "--disk", "a", "--name", "n"], "write --to DIR"),
    (["backup", "--disk", "a", "--name", "n", "--to", "d", "-q"], "--quiesce is about a VM"),
    (["backup", "--disk", "a", "--name", "n", "--to", "d", "--exec-in-job", "true"], "--exec-in-job is about a VM"),
    (["backup", "vm", "--name", "n", "--to", "d"], "--name is for images without a VM"),
    (["backup", "vm", "-f", "raw", "--to", "d"], "-f is for images without a VM"),
    (["backup", "vm", "--to", "d", "--quiesce-timeout", "5"], "write --quiesce too"),
    (["backup", "vm", "--to", "d", "--disk", "vda", "--exclude", "vda"], "contradict each other"),
    (["backup", "vm", "--to", "d", "--min-free", "lots"], "--min-free lots: write a size"),
    (["convert", "-e", "f", "-e", "g", "a", "b"], "more than one passphrase: write one of"),
    (["convert", "-e", "f", "--encrypt-fd", "0", "a", "b"], "more than one passphrase: write one of"),
    (["convert", "--pbkdf-iterations", "3000000", "a", "b"], "--pbkdf-iterations without a passphrase means nothing: write -e FILE too"),
    (["convert", "--insecure-pbkdf", "a", "b"], "--insecure-pbkdf without a passphrase means nothing"),
    (["merge"], "write nasbackup merge SET"),
    (["merge", "a", "-f", "qcow2"], "-f is not an option of merge"),
    (["delete"], "write nasbackup delete SET"),
    (["delete", ""], "an empty name"),
    (["delete", "a", "-e", "f"], "-e is not an option of delete"),
    (["restore", "a", "--disk", "vda=b", "--define"], "--define are about the domain XML, which goes to --to DIR"),
    (["key"], "write nasbackup key add.remove.list SET.IMAGE"),
    (["key", "list"], "write nasbackup key add.remove.list SET.IMAGE"),
    (["key", "change", "a"], "change: write add, remove or list"),
    (["key", "list", "a", "-e", "f"], "list needs no passphrase: leave --encrypt out"),
    (["key", "list", "a", "--slot", "1"], "--slot belongs to key remove: leave it out"),
    (["key", "remove", "a", "-e", "f", "--new", "g"], "--new belongs to key add: leave it out"),
    (["key", "remove", "a"], "write --slot N, or -e FILE"),
    (["key", "remove", "a", "-e", "f", "-e", "g"], "write --slot N, or -e FILE .* once"),
    (["key", "remove", "a", "--slot", "8"], "--slot 8: write 0 to 7"),
    (["key", "remove", "a", "--slot", "x"], "--slot x: write 0 to 7"),
    (["key", "add", "a", "--new", "g"], "with which passphrase is it opened. write -e FILE"),
    (["key", "add", "a", "-e", "f"], "what is the new passphrase. write --new FILE, once"),
    (["key", "add", "a", "-e", "f", "--new", "g", "--new-fd", "0"], "write --new FILE, once"),
    (["key", "add", "a", "-e", "f", "--new", "g", "--pbkdf-iterations", "many"], "--pbkdf-iterations many: write a whole number"),
    (["key", "add", "a", "--encrypt-fd", "x", "--new", "g"], "--encrypt-fd x: write a whole number"),
    (["key", "add", "a", "--encrypt-fd", "99", "--new", "g"], "passphrase: descriptor 99: Bad file descriptor"),
]


class WhatIsNotUnderstood(CliTest):
    def test_is_refused_in_one_line_that_says_what_to_write(self):
        for words, says in REFUSED:
            with self.subTest(words=words):
                self.assert_one_line(self.run_command(*words, cwd=self.out), USAGE, says)
        self.assert_nothing_left()

    def test_is_an_object_when_json_was_asked_for(self):
        for words in (["convert", "--json"], ["convert", "--rat", "--json"], ["convert", "--memory", "1M", "--json", "a", "b"]):
            result = self.run_command(*words)
            self.assert_status(result, USAGE)
            report = json.loads(result.stdout)
            self.assertEqual((report["outcome"], report["exit_status"]), ("usage", USAGE))
            self.assertIn(report["error"], result.stderr)

    def test_is_not_an_object_when_json_is_an_operand(self):
        self.assert_one_line(self.run_command("convert", "--", "--json"), USAGE)

    def test_does_not_break_the_line_or_the_terminal(self):
        for word in ("--evil\n\x1b[2J", "-\x1b"):
            result = self.run_command("convert", word, "a", "b")
            self.assert_one_line(result, USAGE)
            self.assertNotIn("\x1b", result.stderr)


class WhatIsAccepted(CliTest):
    def setUp(self):
        super().setUp()
        self.disk = self.make_disk(data=MIB, size=2 * MIB)

    def test_each_way_to_write_a_value(self):
        for words in (["-j2"], ["-j", "2"], ["-j=2"], ["--threads=2"], ["--threads", "2"], ["-Uj2"], ["-vUj", "2"], ["-b50", "-b50M", "--rate=50MiB"][:1]):
            with self.subTest(words=words):
                self.assert_status(self.run_command("convert", "--force", *words, self.disk, self.image), DONE)

    def test_each_way_to_write_a_size_and_a_rate(self):
        for words in (["--rate", "50"], ["--rate", "50M"], ["--rate", "50MiB/s"], ["--rate", "1G"], ["--rate", "400Mbit"], ["--rate", "0"],
                      ["--memory", "64M"], ["--memory", "67108864"], ["--memory", "1gib"], ["--cluster-size", "512"], ["--cluster-size", "2MiB"]):
            with self.subTest(words=words):
                self.assert_status(self.run_command("convert", "--force", *words, self.disk, self.image), DONE)

    def test_options_may_stand_between_and_behind_operands(self):
        self.assert_status(self.run_command("convert", self.disk, "-j2", self.image, "--json"), DONE)

    def test_two_dashes_end_the_options(self):
        (self.dir / "--json").write_bytes(bytes(MIB))
        result = self.run_command("convert", "-j2", "--", "--json", self.image, cwd=self.dir)
        self.assert_status(result, DONE)
        self.assertTrue(self.image.exists())

    def test_the_same_value_twice_is_no_contradiction(self):
        self.assert_status(self.run_command("convert", "-b5", "--rate=5", self.disk, self.image), DONE)


class Help(CliTest):
    def options_in(self, text):
        return set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", text, re.M))

    def help_of(self, *words):
        result = self.run_command(*words)
        self.assert_status(result, DONE)
        self.assertEqual(result.stderr, "")
        return result.stdout

    def test_tells_the_verbs_four_examples_and_the_exit_statuses_in_about_60_lines(self):
        text = self.help_of("--help")
        self.assertEqual(text, self.help_of("-h"))
        self.assertLessEqual(len(text.splitlines()), 66)
        self.assertLessEqual(max(map(len, text.splitlines())), 110)
        self.assertEqual(len(re.findall(r"^  nasbackup .*/", text, re.M)), 4, text)
        for verb in VERBS:
            self.assertRegex(text, rf"(?m)^  nasbackup {verb} ")
        for status in ("0", "1", "2", "3", "10", "11", "12", "13", "14", "15", "16", "63", "64", r"128\+N"):
            self.assertRegex(text, rf"(?m)(^| ) {status} +\w")

    def test_of_a_verb_tells_the_options_that_it_takes_and_no_other(self):
        every = set().union(*(self.options_in(self.help_of(verb, "--help")) for verb in VERBS))
        self.assertGreater(len(every), 25)
        for verb in VERBS:
            told = self.options_in(self.help_of(verb, "--help"))
            for option in every:
                refused = self.run_command(verb, option + "=", cwd=self.out).stderr
                with self.subTest(verb=verb, option=option):
                    self.assertEqual("is not an option of" in refused or "no such option" in refused, option not in told, refused)
        self.assert_nothing_left()

    def test_of_a_verb_comes_also_when_something_else_is_missing(self):
        self.assertIn("nasbackup convert SRC DST", self.help_of("convert", "-h"))
        self.assertIn("nasbackup convert SRC DST", self.help_of("convert", "a", "--json", "--help"))

    def test_names_nothing_that_is_not_built(self):
        texts = self.help_of("--help") + "".join(self.help_of(verb, "--help") for verb in VERBS) + self.help_of("--manual-page")
        for absent in ("doctor", "--manual-page", "--bash-completion"):
            self.assertNotIn(absent, texts)

    def test_the_manual_has_every_option_of_the_help_and_no_mistake(self):
        page = self.help_of("--manual-page")
        written = page.replace("\\-", "-")
        for verb in VERBS:
            for option in self.options_in(self.help_of(verb, "--help")):
                self.assertIn(f"\\fB{option}\\fR", written)
        for status in ("0", "1", "2", "3", "10", "11", "12", "13", "14", "15", "16", "63", "64", "128+N"):
            self.assertIn(f".TP\n\\fB{status}\\fR\n", page)
        checked = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8"], input=page, capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_the_completion_offers_what_the_help_tells(self):
        for verb in VERBS:
            self.assertEqual(self.complete("nasbackup", verb, "--"), self.options_in(self.help_of(verb, "--help")), verb)
        self.assertEqual(self.complete("nasbackup", ""), {*VERBS, "--help", "--version"})
        self.assertEqual(self.complete("nasbackup", "co"), {"convert"})
        self.assertEqual(self.complete("nasbackup", "convert", "--progress", "=", "t"), {"tty"})
        self.assertEqual(self.complete("nasbackup", "convert", "--progress", "="), {"auto", "tty", "json", "none"})
        self.assertEqual(self.complete("nasbackup", "convert", "-O", "q"), {"qcow2"})
        self.assertEqual(self.complete("nasbackup", "backup", "--to", "o"), {"out"})

    def complete(self, *words):
        quoted = " ".join(f"'{word}'" for word in words)
        script = f"{self.help_of('--bash-completion')}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n_nasbackup; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", script], cwd=self.dir, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return set(done.stdout.split())

    def test_version(self):
        self.assertRegex(self.help_of("--version"), r"^nasbackup \d+\.\d+\.\d+\n$")

    def test_that_nobody_can_take_is_told(self):
        with open("/dev/full", "w") as full:
            self.assert_status(self.run_command("--help", stdout=full), FAILED, "stdout: No space left")


if __name__ == "__main__":
    unittest.main()
