# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What the tests of bad input share: a scratch directory, a run of the command, and what must hold after every run."""

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NASBACKUP = os.environ.get("NASBACKUP", str(ROOT / "build" / "tools" / "nasbackup"))
MIB = 1 << 20

DONE, FAILED, NOT_FOUND, LOCKED, TARGET_FULL, SOURCE, TIMED_OUT, USAGE = 0, 1, 10, 11, 14, 15, 16, 64


def random_disk(size, seed=7, data_every=3):
    """A disk of which each `data_every`-th 64 KiB block holds data, the others zeroes."""
    source = random.Random(seed)
    blocks = [source.randbytes(65536) if i % data_every == 0 else bytes(65536) for i in range(size // 65536 + 1)]
    return b"".join(blocks)[:size]


def wait_until(what, holds, limit=30):
    """Waits for a condition; an error and not a judgement when it never comes."""
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain: " + what)
        time.sleep(0.01)


class HostileTest(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="hostile-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.out = self.dir / "out"
        self.out.mkdir()
        self.socket = self.dir / "socket"

    # ---- running -----------------------------------------------------------------------------------------------------------

    def run_command(self, *words, timeout=120):
        return subprocess.run([NASBACKUP, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout)

    def convert(self, source, target=None, *options, timeout=120):
        return self.run_command("convert", *options, source, target or self.out / "disk.qcow2", timeout=timeout)

    def start(self, *words):
        process = subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def start_convert(self, source, *options):
        """A conversion that is slow enough (see `--rate`) to be met half-way; returns once it has begun to write."""
        process = self.start(NASBACKUP, "convert", *options, source, self.out / "disk.qcow2")
        begun = lambda: process.poll() is not None or any(p.stat().st_size > 65536 for p in self.out.iterdir() if p.exists())
        wait_until("the conversion begins to write", begun)
        if process.poll() is not None:
            self.fail(f"ended before anything could happen half-way: {process.returncode} {process.communicate()[1]}")
        return process

    def finish(self, process, timeout=120):
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start_nbdkit(self, *words):
        process = self.nbdkit = self.start("nbdkit", "-f", "--exit-with-parent", "-U", self.socket, *words)
        wait_until("nbdkit listens", lambda: self.socket.exists() or process.poll() is not None)
        self.assertIsNone(process.poll(), "nbdkit ended: " + str(words))
        return "nbd+unix:///?socket=" + str(self.socket)

    def write_file(self, name, content):
        path = self.dir / name
        path.write_bytes(content)
        return path

    # ---- judging -----------------------------------------------------------------------------------------------------------

    def assert_refused(self, result, code, *says):
        """One clear line, the right exit code, nothing left behind."""
        shown = f"exit {result.returncode}\nstdout: {result.stdout}\nstderr: {result.stderr}"
        self.assertEqual(result.returncode, code, shown)
        lines = result.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, "one clear line\n" + shown)
        for text in says:
            self.assertRegex(lines[0], text, shown)
        self.assertEqual(result.stdout, "", shown)
        self.assert_nothing_left()

    def assert_nothing_left(self):
        self.assertEqual(sorted(path.name for path in self.out.iterdir()), [], "left behind")

    def assert_done(self, result, content=None, image=None):
        self.assertEqual(result.returncode, DONE, f"stdout: {result.stdout}\nstderr: {result.stderr}")
        image = image or self.out / "disk.qcow2"
        self.assert_sound(image)
        if content is not None:
            self.assert_same_content(image, content)

    def assert_sound(self, image):
        check = subprocess.run(["qemu-img", "check", "-f", "qcow2", str(image)], capture_output=True, text=True)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def assert_same_content(self, image, content):
        expected = content if isinstance(content, Path) else self.write_file("expected.raw", content)
        compare = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(expected), "file:" + str(image)]
        compared = subprocess.run(compare, capture_output=True, text=True)
        self.assertEqual(compared.returncode, 0, compared.stdout + compared.stderr)

    def image_info(self, image):
        info = subprocess.run(["qemu-img", "info", "--output=json", "file:" + str(image)], capture_output=True, text=True, check=True)
        return json.loads(info.stdout)
