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

    def test_of_a_zone_that_is_not_there_are_refused(self):
        done = self.run_command("details", "--zone", "four", "--config", self.config)
        self.assertEqual((done.returncode, done.stdout), (64, ""))
        self.assertIn("four", done.stderr)
        self.assertEqual(self.run_command("details", "--config", self.config).returncode, 64)

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
