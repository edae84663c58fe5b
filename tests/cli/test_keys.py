#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Key slots of images that qemu-img made, and of sets: what we change, qemu-img and cryptsetup open. And the ways to give a
passphrase."""
import gzip
import json
import lzma
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import unittest

from cli import *
import qemu_img

SAMPLES = ROOT.parent / "shared" / "samples" / "luks"
WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
HEADER = 2068480


class KeyTest(CliTest):
    def setUp(self):
        super().setUp()
        for name, content in {"old": b"correct horse", "new": b"battery staple\n", "third": b"\xc3\xa4", "wrong": b"correct horsf"}.items():
            (self.dir / name).write_bytes(content)
        self.images = []

    def key(self, action, image, *words, **more):
        return self.run_command("key", action, image, *words, cwd=self.dir, **more)

    def slots(self, image):
        result = self.key("list", image, "--json")
        self.assert_status(result, DONE)
        return [[slot["slot"] for slot in keys["slots"] if slot["in_use"]] for keys in json.loads(result.stdout)["images"]]

    # ---- images, and the judges --------------------------------------------------------------------------------------------

    @classmethod
    def setUpClass(cls):
        """What every test has a copy of: making one takes qemu-img seconds on a busy machine."""
        cls.made = Path(tempfile.mkdtemp(prefix="keys-"))
        cls.addClassCleanup(shutil.rmtree, cls.made, ignore_errors=True)
        (cls.made / "old").write_bytes(b"correct horse")
        secret = ("--object", "secret,id=s,file=old")
        run = lambda *words: qemu_img.run(*words, cwd=cls.made)
        run("qemu-img", "create", "-f", "luks", *secret, "-o", "key-secret=s,iter-time=10", "disk.luks", "4M")
        run("qemu-img", "create", "-f", "qcow2", *secret, "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "disk.qcow2", "4M")
        run("qemu-io", *secret, "--image-opts", "driver=qcow2,file.filename=disk.qcow2,encrypt.key-secret=s", "-c", "write -P 7 0 1M")

    def make_container(self):
        return Path(shutil.copy(self.made / "disk.luks", self.dir))

    def make_qcow2(self):
        return Path(shutil.copy(self.made / "disk.qcow2", self.dir))

    def wait_until_it_computes(self, process, seconds):
        computes = lambda: any(cpu_seconds(child) > seconds for child in children(process.pid))
        wait_until("it computes", lambda: process.poll() is not None or computes())
        self.assertIsNone(process.poll(), "it ended before it could be stopped")

    def both(self):
        return self.make_container(), self.make_qcow2()

    def qemu(self, *words):
        subprocess.run(["qemu-img", *map(str, words)], cwd=self.dir, check=True, capture_output=True)

    def qemu_opens(self, image, passphrase):
        options = f"driver=qcow2,file.filename={image},encrypt.key-secret=s" if image.name.endswith(".qcow2") else \
            f"driver=luks,file.filename={image},key-secret=s"
        raw = self.dir / "read.raw"
        done = subprocess.run(["qemu-img", "convert", "--object", f"secret,id=s,file={passphrase}", "-O", "raw", "--image-opts", options, raw],
                              cwd=self.dir, capture_output=True)
        if done.returncode == 0 and image.name.endswith(".qcow2"):
            self.assertEqual(raw.read_bytes(), b"\7" * MIB + bytes(3 * MIB), "the data has changed")
        return done.returncode == 0

    def cryptsetup_opens(self, image, passphrase):
        done = subprocess.run(["cryptsetup", "luksOpen", "--test-passphrase", "--key-file", passphrase, image], cwd=self.dir, capture_output=True)
        return done.returncode == 0


class KeySlots(KeyTest):
    def test_are_listed_without_a_key(self):
        for image, kind in zip(self.both(), ("luks", "qcow2")):
            told = json.loads(self.key("list", image, "--json").stdout)["images"][0]
            self.assertEqual((told["image"], told["format"], told["cipher"], told["hash"]), (str(image), kind, "aes-xts-plain64", "sha256"))
            self.assertEqual([slot["in_use"] for slot in told["slots"]], [True] + [False] * 7)
            self.assertGreater(told["slots"][0]["iterations"], 1000)
            text = self.key("list", image).stdout
            self.assertRegex(text, r"(?m)^0 +in use +\d+$")
            self.assertRegex(text, r"(?m)^7 +free$")

    def test_that_we_fill_are_opened_by_qemu_img_and_cryptsetup(self):
        for image in self.both():
            self.assert_status(self.key("add", image, "-e", "old", "--new", "new"), DONE)
            self.assertEqual(self.slots(image), [[0, 1]])
            for passphrase in ("old", "new"):
                self.assertTrue(self.qemu_opens(image, passphrase), (image, passphrase))
            self.assertFalse(self.qemu_opens(image, "wrong"))
        container = self.dir / "disk.luks"
        self.assertTrue(self.cryptsetup_opens(container, "new"))
        dump = subprocess.run(["cryptsetup", "luksDump", container], capture_output=True, text=True, check=True).stdout
        self.assertRegex(dump, r"Key Slot 1: ENABLED\s+Iterations:\s+2000000\s")
        self.assertRegex(dump, r"Key Slot 2: DISABLED")

    def test_that_we_empty_are_opened_by_nobody(self):
        for image in self.both():
            self.key("add", image, "-e", "old", "--new", "new", *WEAK)
            self.assert_status(self.key("remove", image, "-e", "old"), DONE)
            self.assertEqual(self.slots(image), [[1]])
            self.assertFalse(self.qemu_opens(image, "old"))
            self.assertTrue(self.qemu_opens(image, "new"))
            start = image.read_bytes().find(b"LUKS\xba\xbe")
            material = image.read_bytes()[start + 4096:start + 4096 + 256000]
            self.assertEqual(material, bytes(256000), "the key material is still there")
            self.assert_status(self.key("add", image, "-e", "new", "--new", "third", *WEAK), DONE)
            self.assertEqual(self.slots(image), [[0, 1]])

    def test_are_emptied_by_their_number(self):
        image = self.make_qcow2()
        self.key("add", image, "-e", "old", "--new", "new", *WEAK)
        self.assert_one_line(self.key("remove", image, "--slot", "3"), USAGE, "key slot 3: is not in use")
        self.assert_one_line(self.key("remove", image, "--slot", "1", "-e", "wrong"), WRONG_KEY)
        self.assert_status(self.key("remove", image, "--slot", "1"), DONE)
        self.assertEqual(self.slots(image), [[0]])

    def test_keep_the_last_key(self):
        for image in self.both():
            before = image.read_bytes()
            for words in (("-e", "old"), ("--slot", "0"), ("--slot", "0", "-e", "old")):
                self.assert_one_line(self.key("remove", image, *words), USAGE, "holds the last key")
            self.assertEqual(image.read_bytes(), before)

    def test_need_the_right_key(self):
        for image in self.both():
            before = image.read_bytes()
            self.assert_one_line(self.key("add", image, "-e", "wrong", "--new", "new"), WRONG_KEY, "the passphrase does not open it")
            self.assert_one_line(self.key("remove", image, "-e", "wrong"), WRONG_KEY, "does not open it")
            self.assertEqual(image.read_bytes(), before)
            self.assert_status(self.key("add", image, "-e", "wrong", "-e", "old", "--new", "new", *WEAK), DONE)

    def test_run_out(self):
        image = self.make_container()
        for _ in range(7):
            self.assert_status(self.key("add", image, "-e", "old", "--new", "new", *WEAK), DONE)
        self.assert_one_line(self.key("add", image, "-e", "old", "--new", "new", *WEAK), FAILED, "all eight key slots are in use")

    def test_of_an_image_in_use_stay_as_they_are(self):
        image = self.make_qcow2()
        before = image.read_bytes()
        user = subprocess.Popen(["qemu-io", "--object", "secret,id=s,file=old", "--image-opts", f"driver=qcow2,file.filename={image},encrypt.key-secret=s"],
                                cwd=self.dir, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(lambda: user.communicate(b"quit\n"))
        wait_until("qemu-io has it open", lambda: b"qemu-io>" in os.read(user.stdout.fileno(), 4096))
        self.assert_one_line(self.key("add", image, "-e", "old", "--new", "new"), LOCKED, "in use")
        self.assertEqual(image.read_bytes(), before)

    def test_are_not_looked_for_in_what_is_not_encrypted(self):
        plain = self.dir / "plain.qcow2"
        self.qemu("create", "-q", "-f", "qcow2", plain, "1M")
        old_way = self.dir / "aes.qcow2"
        old_way.write_bytes(plain.read_bytes()[:32] + (1).to_bytes(4, "big") + plain.read_bytes()[36:])
        for image, says in ((plain, "not encrypted"), (self.make_disk(), "not encrypted"), (old_way, "not with LUKS")):
            self.assert_one_line(self.key("list", image), FAILED, says)
            self.assert_one_line(self.key("add", image, "-e", "old", "--new", "new"), FAILED, says)
        self.assert_one_line(self.key("list", self.dir / "none"), NOT_FOUND, "no such file")

    def test_of_broken_headers_are_refused(self):
        image = self.make_qcow2()
        good = image.read_bytes()
        at = good.find(b"LUKS\xba\xbe")
        pointer = good.find(bytes.fromhex("0537be77"))
        for offset, value, says in ((at + 208 + 44, b"\0\0\0\1", "stripes: 1"), (at + 104, b"\0\0\0\1", "payload_offset: 1"),
                                    (at + 208, b"\0\0\0\0", "active: 0"), (at + 6, b"\0\2", "LUKS2 is not supported"), (at, b"l", "no magic"),
                                    (pointer + 8, b"\xff" * 6, "offset"), (pointer + 16, b"\xff" * 8, "length"), (pointer + 4, b"\0\0\0\x08", "length"),
                                    (pointer, b"\0\0\0\0", "without a full disk encryption header"), (pointer + 8, b"\0\0\1", "beyond the file")):
            with self.subTest(says=says):
                image.write_bytes(good[:offset] + value + good[offset + len(value):])
                self.assert_one_line(self.key("list", image), DAMAGED, says)
                self.assert_one_line(self.key("add", image, "-e", "old", "--new", "new"), DAMAGED, says)

    def test_are_given_up_when_asked_to_stop(self):
        """A header may name a count that takes minutes; past 30 s the worker would be killed, which leaves no clean end."""
        endless = (1 << 28).to_bytes(4, "big")
        for field in (164, 208 + 4):  # the digest's count, slot 0's
            image = self.make_container()
            good = image.read_bytes()
            image.write_bytes(good[:field] + endless + good[field + 4:])
            changed = image.read_bytes()
            for words in (("info", image, "-e", "old"), ("key", "add", image, "-e", "old", "--new", "new"), ("key", "remove", image, "-e", "old")):
                with self.subTest(field=field, verb=words[0]):
                    process = self.begin(*words, cwd=self.dir)
                    self.wait_until_it_computes(process, 0.5)
                    process.send_signal(signal.SIGTERM)
                    self.assert_one_line(self.finish(process, timeout=20), 128 + signal.SIGTERM)
                    self.assertEqual(image.read_bytes(), changed)

    def test_of_a_new_image_are_given_up_when_asked_to_stop(self):
        process = self.begin("convert", self.make_disk(), self.image, "-e", "old", "--pbkdf-iterations", 1 << 28, cwd=self.dir)
        self.wait_until_it_computes(process, 2)
        process.send_signal(signal.SIGTERM)
        self.assert_one_line(self.finish(process, timeout=20), 128 + signal.SIGTERM)
        self.assert_nothing_left()


def cpu_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class KeysOfASet(KeyTest):
    def setUp(self):
        super().setUp()
        self.set = self.dir / "nas" / "vm" / "2026.01.02.03.04.05"
        self.set.mkdir(parents=True)
        self.names = ["datadisk.b.qcow2.luks", "root.a.qcow2"]
        self.make_qcow2().rename(self.set / "root.a.qcow2")
        self.make_container().rename(self.set / "datadisk.b.qcow2.luks")

    def opened(self, passphrase):
        return [self.qemu_opens(self.set / name, passphrase) for name in self.names]

    def test_are_changed_in_every_image(self):
        for path in (self.set, self.set.parent):
            self.assertEqual(self.slots(path), [[0], [0]])
        self.assert_status(self.key("add", self.set, "-e", "old", "--new", "new"), DONE)
        self.assertEqual(self.opened("new"), [True, True])
        self.assert_status(self.key("remove", self.set.parent, "-e", "old"), DONE)
        self.assertEqual(self.opened("old"), [False, False])
        self.assertEqual(self.opened("new"), [True, True])
        self.assertEqual(self.slots(self.set), [[1], [1]])

    def test_share_one_salt(self):
        self.key("add", self.set, "-e", "old", "--new", "new", *WEAK)
        salts = set()
        for name in self.names:
            content = (self.set / name).read_bytes()
            at = content.find(b"LUKS\xba\xbe") + 208 + 48
            salts.add(content[at + 4:at + 40])
        self.assertEqual(len(salts), 1)

    def test_are_changed_in_no_image_when_one_does_not_open(self):
        other = self.set / "datadisk.c.qcow2"
        shutil.copy(self.set / "root.a.qcow2", other)
        self.key("add", other, "-e", "old", "--new", "third", *WEAK)
        self.key("remove", other, "-e", "old")
        before = {path.name: path.read_bytes() for path in self.set.iterdir()}
        self.assert_one_line(self.key("add", self.set, "-e", "old", "--new", "new", *WEAK), WRONG_KEY, "datadisk.c.qcow2: the passphrase does not open it")
        self.assert_one_line(self.key("remove", self.set, "-e", "third"), WRONG_KEY)
        other.write_bytes(b"raw" * 1000)
        self.assert_one_line(self.key("add", self.set, "-e", "old", "--new", "new", *WEAK), FAILED, "not encrypted")
        after = {path.name: path.read_bytes() for path in self.set.iterdir() if path != other}
        self.assertEqual({name: before[name] for name in after}, after)


class APassphrase(KeyTest):
    def setUp(self):
        super().setUp()
        self.image = self.make_qcow2()

    def add(self, *words, **more):
        return self.key("add", self.image, *words, *WEAK, **more)

    def test_comes_from_a_descriptor(self):
        read, write = os.pipe()
        os.write(write, b"correct horse")
        os.close(write)
        self.assert_status(self.add("--encrypt-fd", read, "--new", "new", pass_fds=[read]), DONE)
        os.close(read)
        with open(self.dir / "new", "rb") as stdin:
            self.assert_status(self.add("--encrypt-fd", "0", "--new", "third", stdin=stdin), DONE)
        with open(self.dir / "old", "rb") as stdin:
            self.assert_status(self.add("-e", "/dev/stdin", "--new", "third", stdin=stdin), DONE)
        self.assertTrue(self.qemu_opens(self.image, "third"))

    def test_does_not_come_from_a_descriptor_that_is_open_for_writing_only(self):
        for words in ("--encrypt-fd", "1"), ("-e", "/dev/stdout"):
            result = self.run_command("info", self.image, *words, cwd=self.dir, timeout=20)  # its stdout is a pipe
            self.assert_status(result, USAGE, "passphrase: the descriptor: is open for writing only")

    def test_of_a_descriptor_is_the_workers_alone(self):
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        command = "ls -l /proc/$$/fd > seen; printf 'correct horse'; until [ -e go ]; do sleep 0.01; done"
        process = self.begin("key", "add", self.image, "--encrypt-command", command, "--new-fd", read, *WEAK, cwd=self.dir, pass_fds=[read])
        wait_until("the command has looked", lambda: (self.dir / "seen").exists() and
                   len((self.dir / "seen").read_text().splitlines()) > 3)
        pipe = os.readlink(f"/proc/self/fd/{read}")
        self.assertNotIn(pipe, (self.dir / "seen").read_text())
        self.assertNotIn(Path(pipe), self.open_files(process.pid))
        self.assertIn(Path(pipe), self.open_files(children(process.pid)[-1]))
        os.write(write, b"battery staple\n")
        os.close(write)
        (self.dir / "go").touch()
        self.assert_status(self.finish(process), DONE)
        self.assertTrue(self.qemu_opens(self.image, "new"))

    def test_comes_from_a_process_substitution(self):
        command = f'exec "$0" key add {self.image} -e <(printf "correct horse") --new <(cat new) {" ".join(WEAK)}'
        done = subprocess.run(["bash", "-c", command, NASBACKUP], cwd=self.dir, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (DONE, ""))
        self.assertTrue(self.qemu_opens(self.image, "new"))

    def test_comes_from_a_command(self):
        self.assert_status(self.add("--encrypt-command", "printf 'correct horse'", "--new-command", "cat new"), DONE)
        self.assertTrue(self.qemu_opens(self.image, "new"))
        self.assert_one_line(self.add("--encrypt-command", "printf 'correct horse'; exit 7", "--new", "new"), FAILED, "the command: exit status 7")

    def test_comes_from_the_environment_when_nothing_else_is_said(self):
        environment = {**os.environ, "NASBACKUP_PASSPHRASE_FILE": str(self.dir / "old")}
        self.assert_status(self.add("--new", "new", env=environment), DONE)
        environment["NASBACKUP_PASSPHRASE_FILE"] = str(self.dir / "wrong")
        self.assert_one_line(self.add("--new", "new", env=environment), WRONG_KEY)
        self.assert_status(self.add("-e", "old", "--new", "new", env=environment), DONE)

    def test_is_every_byte(self):
        (self.dir / "line").write_bytes(b"correct horse\n")
        self.assert_one_line(self.add("-e", "line", "--new", "new"), WRONG_KEY)

    def test_is_refused_before_anything_starts(self):
        before = self.image.read_bytes()
        for name, content in {"empty": b"", "nul": b"a\0b", "latin1": b"gr\xfc\xdfe", "huge": bytes((8 << 20) + 1)}.items():
            (self.dir / name).write_bytes(content)
        cases = [("empty", "is empty"), ("none", "No such file"), (".", "is a directory"), ("huge", "longer than 8 MiB")]
        for name, says in cases:
            self.assert_one_line(self.add("-e", name, "--new", "new"), USAGE, "^nasbackup: passphrase: .*" + says)
        for name, says in cases + [("nul", "NUL byte"), ("latin1", "is not UTF-8")]:
            self.assert_one_line(self.add("-e", "old", "--new", name), USAGE, "^nasbackup: passphrase: .*" + says)
        self.assert_one_line(self.key("add", self.image, "-e", "old", "--new", "new", "--pbkdf-iterations", "999999"), USAGE, "must be 1000000 to")
        for name in ("nul", "latin1"):  # may open: another program may have made the image
            self.assert_one_line(self.add("-e", name, "--new", "new"), WRONG_KEY)
        self.assertEqual(self.image.read_bytes(), before)

    def test_may_not_be_readable(self):
        if os.geteuid() != 0:
            self.skipTest("root becomes somebody else here")
        os.chmod(self.dir, 0o755)
        os.chmod(self.dir / "old", 0)
        result = self.add("-e", "old", "--new", "new", user=65534, group=65534, extra_groups=[])
        self.assert_one_line(result, USAGE, "passphrase: old: open: Permission denied")

    def test_leaves_no_core_file(self):
        fifo = self.dir / "fifo"
        os.mkfifo(fifo)
        os.chmod(self.dir, 0o755)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        process = self.begin("key", "add", self.image, "-e", self.dir / "old", "--new", fifo, *WEAK, **nobody)
        wait_until("the worker waits for the FIFO", lambda: any(fifo in self.open_files(pid) for pid in children(process.pid)))
        worker = children(process.pid)[-1]
        self.assertNotIn(fifo, self.open_files(process.pid))
        # The kernel gives the /proc files of a process that it will not dump to root.
        self.assertEqual(os.stat(f"/proc/{process.pid}/maps").st_uid, 0)
        self.assertEqual(os.stat(f"/proc/{worker}/maps").st_uid, 0)

    @staticmethod
    def open_files(pid):
        try:
            return [Path(os.readlink(link)) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:  # gone meanwhile
            return []

    def test_is_waited_for_no_longer_than_asked(self):
        process = self.begin("key", "add", self.image, "--encrypt-command", "sleep 1000", "--new", self.dir / "new")
        wait_until("the command runs", lambda: any(children(pid) for pid in children(process.pid)))
        process.send_signal(signal.SIGTERM)
        self.assert_status(self.finish(process, timeout=20), 128 + signal.SIGTERM, "stopped by signal 15")


@unittest.skipUnless(SAMPLES.is_dir(), "missing: ../shared/samples")
class SamplesOfOthers(KeyTest):
    def unpacked(self, name):
        archive = SAMPLES / name
        path = self.dir / archive.stem
        path.write_bytes((lzma if archive.suffix == ".xz" else gzip).decompress(archive.read_bytes()))
        return path

    def test_that_are_evil_are_refused(self):
        for name, says in (("luks_hdr_damage", "overlaps|stripes|key material"), ("keyslot_overlap", "overlaps"), ("payload_overwrite", "overlaps"),
                           ("stripes_payload_dmg", "stripes"), ("small_luks_device", "beyond the file")):
            with self.subTest(name):
                self.assert_one_line(self.key("list", self.unpacked(f"evil_hdr-{name}.xz")), DAMAGED, "LUKS header: .*" + f"({says})")

    def test_that_are_good_are_listed(self):
        image = self.unpacked("valid_header_file.xz")
        with open(image, "r+b") as file:
            file.truncate(4096 * 512)
        self.assertEqual(len(self.slots(image)), 1)

    def test_of_luks2_are_refused(self):
        for name in ("luks2-aes-xts-plain64.bin.gz", "luks2_valid_hdr.img.xz"):
            self.assert_one_line(self.key("list", self.unpacked(name)), DAMAGED, "LUKS2 is not supported")

    def test_that_overlap_their_header_are_refused_as_by_qemu(self):
        self.assert_one_line(self.key("list", self.unpacked("compatv10image.img.xz")), DAMAGED, "overlaps the header")

    def test_of_other_ciphers_are_listed_and_refused_by_name(self):
        image = self.unpacked("compatimage.img.xz")
        self.assertEqual(len(self.slots(image)), 1)
        self.assert_one_line(self.key("add", image, "-e", "old", "--new", "new"), FAILED, "cipher: aes-cbc-essiv:sha256, only aes-xts-plain64")

    def test_open_when_they_are_aes_xts_and_are_refused_by_name_otherwise(self):
        with tarfile.open(SAMPLES / "luks1-images.tar.xz") as archive:
            archive.extractall(self.dir, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(self.dir)
        key_file = next(self.dir.rglob("keyfile1"))
        images = sorted(path for path in self.dir.rglob("*") if path.is_file() and path.read_bytes()[:6] == b"LUKS\xba\xbe")
        self.assertGreater(len(images), 8)
        ours = 0
        for image in images:
            told = json.loads(self.key("list", image, "--json").stdout)["images"][0]
            supported = told["cipher"] == "aes-xts-plain64" and told["hash"] in ("sha1", "sha256", "sha512")
            ours += supported
            result = self.key("add", image, "-e", key_file, "--new", "new", *WEAK)
            with self.subTest(image.name, cipher=told["cipher"], hash=told["hash"]):
                if supported:
                    self.assert_status(result, DONE)
                    self.assertTrue(self.cryptsetup_opens(image, "new"))
                else:
                    self.assert_one_line(result, FAILED, "cipher: |hash: ")
        self.assertGreater(ours, 0)


if __name__ == "__main__":
    unittest.main()
