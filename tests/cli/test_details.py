#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The details map of CloudStack's backup command: printed from a zone's configuration, and read by a backup."""
import json
import os
import subprocess
import unittest

import cli

ZONES = """
zone = "one"
[cloudstack]
nas.backup.bandwidth.limit.mbps = 70
[cloudstack.zones.one]
"nas.backup.compression.enabled" = true
[cloudstack.zones."zone two"]
nas.backup.encryption.enabled = true
nas.backup.encryption.passphrase = "s3cret"
nas.backup.integrity.check = true
nas.backup.bandwidth.limit.mbps = 0
[cloudstack.zones.three]
[cloudstack.zones.capped]
max_per_host = 3
[cloudstack.zones.hasty]
max_per_host = 1
queue_timeout = 60
"""


class Details(cli.CliTest):
    def setUp(self):
        super().setUp()
        self.config = self.dir / "nasbackup.toml"
        self.config.write_text(ZONES)
        self.source = self.dir / "disk.raw"
        self.source.write_bytes(os.urandom(65536) + bytes(1 << 20))

    def details(self, zone, *words):
        done = self.run_command("details", "--zone", zone, "--config", self.config, *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def backup(self, *words, **more):
        return self.run_command("backup", "--disk", self.source, "-f", "raw", "--name", "vm", "--to", self.dir / "nas", "--json", "--min-free", "1M",
                                *words, **more)

    def file(self, text):
        path = self.dir / "details.json"
        path.write_text(text)
        return path

    def test_of_a_zone_are_those_of_its_table_and_of_all_zones(self):
        self.assertEqual(self.details("one"), {"compression": "true", "bandwidth_limit": "70"})
        self.assertEqual(self.details("three"), {"bandwidth_limit": "70"})
        self.assertEqual(self.details("zone two"), {"encryption": "true", "encryption_passphrase": None, "integrity_check": "true"})
        self.assertEqual(self.details("zone two", "--with-secrets")["encryption_passphrase"], "s3cret")

    def test_tell_of_a_cap_of_backups_per_host(self):
        self.assertEqual(self.details("capped"), {"bandwidth_limit": "70", "max_per_host": "3", "queue_timeout": "7200"})
        self.assertEqual(self.details("hasty"), {"bandwidth_limit": "70", "max_per_host": "1", "queue_timeout": "60"})
        path = self.file(json.dumps(self.details("hasty")))
        (self.dir / "nas").mkdir()
        self.assertEqual(self.backup("--details", path).returncode, 0)  # of no meaning to it

    def test_of_a_zone_that_is_not_there_are_refused(self):
        done = self.run_command("details", "--zone", "four", "--config", self.config)
        self.assertEqual((done.returncode, done.stdout), (64, ""))
        self.assertIn("four", done.stderr)
        self.assertEqual(self.run_command("details", "--config", self.config).returncode, 64)

    def test_of_a_file_that_is_wrong_anywhere_are_refused_in_one_line(self):
        for text, says in (("zone = 5", "zone: write a string"), ('zone = "fuor"\n[cloudstack.zones.four]', "zone fuor: there is no table"), ("cloudstack = 5", "cloudstack: not a table"),
                           ("[cloudstack]\nzones = 5", "zones"), ("[cloudstack.zones]\none = 5", "one: not a table"),
                           ("[cloudstack]\nbogus = 1", "bogus"), ("[cloudstack]\nnas.backup.bogus = 1", "nas.backup.bogus"),
                           ("[cloudstack.bogus]", "bogus"), ("[cloudstack.zones.one.inner]", "inner"),
                           ("[cloudstack]\nnas.backup.compression.enabled = 1", "true or false"),
                           ("[cloudstack]\nnas.backup.encryption.enabled = 'true'", "true or false"),
                           ("[cloudstack]\nnas.backup.integrity.check = []", "true or false"),
                           ("[cloudstack]\nnas.backup.encryption.passphrase = 5", "write a string"),
                           ("[cloudstack]\nnas.backup.bandwidth.limit.mbps = '5'", "whole number"),
                           ("[cloudstack]\nnas.backup.bandwidth.limit.mbps = -1", "whole number"),
                           ("[cloudstack]\nnas.backup.bandwidth.limit.mbps = 5.5", "whole number"),
                           ("[cloudstack]\nnas.backup.bandwidth.limit.mbps = 1048577", "whole number"),
                           ("[cloudstack]\nmax_per_host = -1", "1 to 1024"), ("[cloudstack]\nmax_per_host = 1025", "1 to 1024"),
                           ("[cloudstack]\nmax_per_host = '2'", "1 to 1024"), ("[cloudstack]\nqueue_timeout = '2 h'", "whole number"),
                           ("[cloudstack]\nrate = '5M'", "bandwidth"), ("[cloudstack]\ncompress = 'lzma'", "lzma"), ("= x", "nasbackup.toml:1"),
                           ("[cloudstack]\nlayered = 'yes'", "true or false"), ("[cloudstack.zones.two]\nsize_marker = 1", "true or false")):
            self.config.write_text(text + "\n")
            done = self.front_end()
            with self.subTest(text):
                self.assertEqual((done.returncode, done.stdout.count("\n")), (1, 1), done.stdout)
                self.assertIn(says, done.stdout)

    def front_end(self):
        script = self.dir / "nasbackup.sh"
        if not script.exists():
            script.symlink_to(os.path.realpath(cli.NASBACKUP))
        return subprocess.run([script, "-o", "backup", "-v", "vm", "-t", "nfs", "-s", "x", "-m", "", "-p", "vm/time", "-d", "", "-c"], capture_output=True, text=True,
                              env={**os.environ, "NASBACKUP_CONFIG": str(self.config)})

    def test_switch_on_only_what_says_true(self):
        (self.dir / "nas").mkdir()
        words = {"compression": "TRUE", "encryption": "yes", "integrity_check": "1", "bandwidth_limit": "0", "encryption_passphrase": None, "another": "x"}
        for map_ in (words, {}, {key: None for key in words}):
            done = self.backup("--details", self.file(json.dumps(map_)))
            self.assertEqual(done.returncode, 0, done.stderr)
            told = json.loads(done.stdout)
            self.assertEqual((told["disks"][0]["compression"], told["disks"][0]["encryption"], told["verified"]), (None, "none", None), told)

    def test_make_the_backup_what_they_say(self):
        (self.dir / "nas").mkdir()
        done = self.backup("--details", self.file('{"compression": "true", "encryption": "false", "bandwidth_limit": "500"}'))
        self.assertEqual(done.returncode, 0, done.stderr)
        disk = json.loads(done.stdout)["disks"][0]
        self.assertEqual((disk["compression"], disk["encryption"]), ("zlib:default", "none"))

    def test_may_come_through_a_pipe_with_the_passphrase_in_them(self):
        (self.dir / "nas").mkdir()
        text = json.dumps({"encryption": "true", "encryption_passphrase": "s3cret", "compression": None})
        done = self.backup("--details", "/dev/stdin", "--pbkdf-iterations", "1000000", input=text)
        self.assertEqual(done.returncode, 0, done.stderr)
        image = json.loads(done.stdout)["disks"][0]["image"]
        key = self.file("s3cret")
        opened = subprocess.run(["qemu-img", "info", "--object", f"secret,id=s,file={key}", "--image-opts",
                                 f"driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename={image}"], capture_output=True, text=True)
        self.assertEqual(opened.returncode, 0, opened.stderr)

    def test_lose_against_the_command_line(self):
        (self.dir / "nas").mkdir()
        done = self.backup("-c=zstd", "--details", self.file('{"compression": "true"}'))
        self.assertEqual(json.loads(done.stdout)["disks"][0]["compression"], "zstd:default")

    def test_of_a_zone_may_be_named_to_a_backup_itself(self):
        (self.dir / "nas").mkdir()
        done = self.backup("--config", self.config, "--zone", "one")
        self.assertEqual(json.loads(done.stdout)["disks"][0]["compression"], "zlib:default", done.stderr)
        self.assertIsNone(json.loads(self.backup("--config", self.config).stdout)["disks"][0]["compression"])

    def test_that_make_no_sense_are_refused_before_anything_starts(self):
        for text, says in (('{"encryption": "true"}', "passphrase"), ('{"encryption": "true", "encryption_passphrase": ""}', "passphrase"),
                           ('{"encryption": "true", "encryption_passphrase": "x", "compression": "true"}', "cannot be combined"),
                           ('{"bandwidth_limit": "-5"}', "MiB/s"), ('{"bandwidth_limit": 5}', "bandwidth_limit"), ("[]", "JSON object"),
                           ("{", "JSON object"), ('{"compression": ' + "[" * 60000, "JSON object"), (" " * 70000, "64 KiB")):
            done = self.backup("--details", self.file(text))
            self.assertEqual(done.returncode, 64, text[:80])
            self.assertIn(says, done.stderr)
        self.assertEqual(self.backup("--details", self.dir / "absent").returncode, 64)


if __name__ == "__main__":
    unittest.main()
