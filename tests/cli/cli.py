# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: a scratch directory, a disk, and runs of the command."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lab"))
NASBACKUP = os.environ.get("NASBACKUP", str(ROOT / "build" / "tools" / "nasbackup"))
MIB = 1 << 20

DONE, FAILED, WARNINGS, NOT_FOUND, LOCKED, WRONG_KEY, DAMAGED, TARGET_FULL = 0, 1, 3, 10, 11, 12, 13, 14
SOURCE, TIMED_OUT, USAGE = 15, 16, 64

# Whoever runs us under nohup: what is tested starts as from a terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_until(what, holds, limit=60):
    """Waits for a condition; an error and not a judgement when it never comes."""
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain: " + what)
        time.sleep(0.01)


def children(pid):
    """The processes that `pid` has started and that have not ended."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if Path(f"/proc/{child}/stat").read_text().rsplit(")")[1].split()[0] != "Z":
                found.append(int(child))
        except OSError:
            pass
    return found


def alive(pid):
    """Whether any thread of it is; the first one may be dead while another sleeps in the kernel."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            if stat.read_text().rsplit(")")[1].split()[0] not in "ZX":
                return True
        except OSError:
            pass
    return False


class CliTest(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.out = self.dir / "out"
        self.out.mkdir()
        self.image = self.out / "disk.qcow2"

    def make_disk(self, data=4 * MIB, size=16 * MIB, name="disk.raw"):
        path = self.dir / name
        with open(path, "wb") as disk:
            disk.write(os.urandom(data))
            disk.truncate(size)
        return path

    # ---- running -----------------------------------------------------------------------------------------------------------

    def run_command(self, *words, timeout=60, **more):
        more = {**({} if "input" in more else {"stdin": subprocess.DEVNULL}), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.run([NASBACKUP, *map(str, words)], text=True, timeout=timeout, **more)

    def begin(self, *words, **more):
        """Starts the command; it is killed at the end of the test if it still runs."""
        more = {**({} if "input" in more else {"stdin": subprocess.DEVNULL}), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen([NASBACKUP, *map(str, words)], text=True, **more)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def begin_slow(self, *options, **more):
        """A conversion that would take minutes; returns it and its worker once it has begun to write."""
        process = self.begin("convert", self.make_disk(data=16 * MIB), self.image, "--rate", "64K", *options, **more)
        self.wait_until_it_writes(process)
        return process, children(process.pid)[-1]

    def wait_until_it_writes(self, process):
        begun = lambda: process.poll() is not None or any(path.stat().st_size > 0 for path in self.out.iterdir() if path.exists())
        wait_until("the conversion begins to write", begun)
        self.assertIsNone(process.poll(), "it ended before anything could happen half-way")

    def finish(self, process, timeout=60):
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    # ---- judging -----------------------------------------------------------------------------------------------------------

    def assert_status(self, result, status, *says):
        shown = f"exit {result.returncode}\nstdout: {result.stdout}\nstderr: {result.stderr}"
        self.assertEqual(result.returncode, status, shown)
        for text in says:
            self.assertRegex(result.stderr, text, shown)

    def assert_one_line(self, result, status, *says):
        """One clear line on stderr, nothing on stdout."""
        self.assert_status(result, status, *says)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("nasbackup: "), result.stderr)
        self.assertEqual(result.stdout, "")

    def json_of(self, result):
        report = json.loads(result.stdout)
        self.assertEqual(report["exit_status"], result.returncode)
        return report

    def assert_nothing_left(self):
        self.assertEqual(sorted(path.name for path in self.out.iterdir()), [], "left behind")


__all__ = [name for name in dir() if not name.startswith("_")]
