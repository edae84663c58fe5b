#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What info tells of compressed and encrypted images, and that QEMU opens them by the command that it prints."""
import json
import os
import subprocess
import unittest

from cli import *

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
SIZE = 3 * MIB


class InfoTest(CliTest):
    def setUp(self):
        super().setUp()
        self.pw, self.wrong = self.dir / "pass, word's file", self.dir / "wrong"
        self.pw.write_bytes(b"correct horse")
        self.wrong.write_bytes(b"correct horsf")
        self.raw = self.dir / "disk.raw"
        # Random text that repeats after 9000 bytes: only who looks back further than 4 KiB finds that.
        text = os.urandom(4500).hex().encode()
        self.raw.write_bytes((text * (SIZE // len(text) + 1))[:SIZE])

    def made(self, *options, name="an image, of ours.qcow2"):
        image = self.dir / name
        self.assert_status(self.run_command("convert", *options, self.raw, image), DONE)
        return image

    def told(self, image, *options):
        return self.json_of(self.run_command("info", "--json", *options, image))

    def opened_by_the_printed_command(self, way):
        """The command is for a shell; qemu-img says the rest."""
        return json.loads(subprocess.run(way["command"] + " --output=json", shell=True, check=True, capture_output=True).stdout)

    # ---- compression -------------------------------------------------------------------------------------------------------

    def test_says_how_far_the_streams_look_back(self):
        for level, history in ("fast", 4096), ("default", 4096), ("best", 32768):
            image = self.made("-c=zlib:" + level, name=level + ".qcow2")
            self.assertEqual((self.told(image)["compression"], self.told(image)["deflate_history"]), ("zlib", history))
        self.assertIn("zlib, history of 32 KiB", self.run_command("info", image).stdout)

    def test_says_that_qemus_own_streams_look_back_4_kib(self):
        image = self.dir / "qemu.qcow2"
        subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", self.raw, image], check=True)
        self.assertEqual(self.told(image)["deflate_history"], 4096)

    def test_says_nothing_of_a_history_where_there_is_none(self):
        for options in (), ("-c=zstd",):
            self.assertIsNone(self.told(self.made(*options, name=f"none{len(options)}.qcow2"))["deflate_history"])

    # ---- encryption --------------------------------------------------------------------------------------------------------

    def test_prints_the_command_that_opens_an_encrypted_qcow2(self):
        image = self.made("-e", self.pw, *WEAK)
        told = self.told(image)
        self.assertEqual((told["format"], told["encryption"], told["virtual_size"]), ("qcow2", "luks", SIZE))
        self.assertEqual([slot["slot"] for slot in told["luks"]["slots"] if slot["in_use"]], [0])
        self.assertIn("PASSPHRASE-FILE", told["open_with"][0]["command"])
        qemu = self.opened_by_the_printed_command(self.told(image, "-e", self.pw)["open_with"][0])
        self.assertEqual(qemu["format-specific"]["data"]["encrypt"]["uuid"], told["luks"]["uuid"])

    def test_prints_the_command_that_opens_what_a_container_holds(self):
        for name, content, options in ("a.qcow2.luks", "qcow2", ["-c"]), ("b, c.luks", "raw", ["-O", "luks"]):
            image = self.made(*options, "-e", self.pw, *WEAK, name=name)
            told = self.told(image, "-e", self.pw)
            self.assertEqual((told["format"], told["content"], told["virtual_size"]), ("luks", content, SIZE))
            self.assertEqual([way["content"] for way in told["open_with"]], [content])
            qemu = self.opened_by_the_printed_command(told["open_with"][0])
            self.assertEqual((qemu["format"], qemu["virtual-size"]), ("luks" if content == "raw" else "qcow2", SIZE))

    def test_of_a_closed_container_tells_both_ways(self):
        told = self.told(self.made("-c", "-e", self.pw, *WEAK, name="disk.qcow2.luks"))
        self.assertIsNone(told["content"])
        self.assertIsNone(told["virtual_size"])
        self.assertEqual([way["content"] for way in told["open_with"]], ["qcow2", "raw"])
        self.assertNotIn("cluster_size", told)

    def test_with_a_wrong_passphrase_is_12(self):
        for options, name in ((), "a.qcow2"), (("-c",), "a.qcow2.luks"):
            image = self.made(*options, "-e", self.pw, *WEAK, name=name)
            self.assert_one_line(self.run_command("info", image, "-e", self.wrong), WRONG_KEY)

    def test_opens_with_any_of_several_passphrases(self):
        image = self.made("-c", "-e", self.pw, *WEAK)
        self.assertEqual(self.told(image, "-e", self.wrong, "-e", self.pw)["content"], "qcow2")

    def test_of_a_set_knows_sizes_from_the_manifest_and_opens_each_image(self):
        self.assert_status(self.run_command("backup", "--disk", self.raw, "--disk", self.wrong, "--name", "web", "--to", self.out,
                                            "-c=zlib:best", "-e", self.pw, *WEAK), DONE)
        told = self.told(self.out / "web")
        self.assertEqual([image["virtual_size"] for image in told["images"]], [SIZE, 13])
        self.assertEqual(told["virtual_size"], SIZE + 13)
        options = json.loads((self.out / "web" / os.path.basename(told["path"]) / "manifest.json").read_text())["options"]
        self.assertEqual((options["compression"], options["encryption"]), ("zlib:best", "luks"))
        opened = self.told(self.out / "web", "-e", self.pw)
        self.assertEqual([image["content"] for image in opened["images"]], ["qcow2", "qcow2"])
        self.assertEqual(opened["images"][0]["deflate_history"], 32768)

    def test_of_an_image_whose_tables_lie_far_outside_of_it_is_told_from_the_header(self):
        image = self.made("-c")
        for l1_offset in 1 << 40, (1 << 64) - 512:
            with open(image, "r+b") as file:
                file.seek(40)
                file.write(l1_offset.to_bytes(8, "big"))
            self.assertIsNone(self.told(image)["deflate_history"])

    def test_of_what_is_no_image_says_so(self):
        self.assert_one_line(self.run_command("info", self.dir), NOT_FOUND, "a directory, and no set")
        result = self.run_command("info", "nbd://user:secret@host/disk")
        self.assert_one_line(result, USAGE, "nbd://host/disk: is no file")
        self.assertNotIn("secret", result.stderr)

    def test_of_a_set_with_an_image_that_cannot_be_read_tells_the_rest(self):
        self.assert_status(self.run_command("backup", "--disk", self.raw, "--name", "web", "--to", self.out), DONE)
        image = next(self.out.glob("web/*/root.*.qcow2"))
        image.write_bytes(b"QFI\xfb\0\0\0\1" + image.read_bytes()[8:])
        told = self.told(self.out / "web")
        self.assertIn("version: 1", told["note"])
        self.assertEqual((told["images"][0]["format"], told["images"][0]["file_size"]), (None, image.stat().st_size))
        self.assertIn("cannot be read", self.run_command("info", self.out / "web").stdout)

    def test_of_a_container_that_ends_in_its_header_is_damage(self):
        image = self.made("-c", "-e", self.pw, *WEAK)
        os.truncate(image, 300_000)
        self.assert_one_line(self.run_command("info", image, "-e", self.pw), DAMAGED)


if __name__ == "__main__":
    unittest.main()
