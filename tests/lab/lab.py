# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What the tests with VMs share. A test file imports this (tests/lab on its path), derives from LabTest, and ends with
`lab.main()`: run by anybody anywhere, it then re-executes itself inside a lab of its own (see enter)."""
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import dataclass
from pathlib import Path

import libvirt  # noqa: F401 (re-exported: its constants)

import daemon
import judge
from daemon import wait_until  # noqa: F401
from domain import MIB, Disk, Domain, GuestWriter, make_image  # noqa: F401

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NASBACKUP = os.environ.get("NASBACKUP", str(ROOT / "build" / "tools" / "nasbackup"))
GIB = 1 << 30

DONE, FAILED, WARNINGS, NOT_FOUND, LOCKED, WRONG_KEY, DAMAGED, TARGET_FULL = 0, 1, 3, 10, 11, 12, 13, 14
SOURCE, TIMED_OUT, USAGE = 15, 16, 64


@dataclass
class Result:
    """How a run of the command ended."""
    status: int
    out: str
    err: str
    seconds: float

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit {self.status} after {self.seconds:.1f} s\nstdout: {self.out}\nstderr: {self.err}"


class Run:
    """A run of the command under way, in a process group of its own."""

    def __init__(self, words, env=None, before=()):
        if not os.path.exists(NASBACKUP):
            raise RuntimeError(f"{NASBACKUP} is not built (./runtests builds it; $NASBACKUP names another)")
        self._began = time.monotonic()
        self.process = subprocess.Popen([*before, NASBACKUP, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True,
                                        env=dict(os.environ, **(env or {})))

    def running(self):
        return self.process.poll() is None

    def send(self, number):
        """A signal to the process that the caller sees."""
        if self.running():
            os.kill(self.process.pid, number)

    def send_group(self, number):
        """A signal to the whole process group."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def end(self, timeout=120):
        """Waits for end of file on its output and for its exit status."""
        out, err = self.process.communicate(timeout=timeout)
        return Result(self.process.returncode, out, err, time.monotonic() - self._began)

    def kill(self):
        self.send_group(signal.SIGKILL)
        self.process.communicate()


def our_processes():
    """The processes of this namespace that run the command: pid and command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "exe") == os.path.realpath(NASBACKUP):
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            pass
    return found


def what_they_wait_for(processes):
    """For each process its command line and where its threads are in the kernel."""
    told = []
    for pid, words in processes.items():
        stacks = [task.joinpath("stack").read_text().splitlines()[:3] for task in Path(f"/proc/{pid}/task").glob("[0-9]*")]
        told.append(f"{pid} {words}: {stacks}")
    return "\n".join(told)


class LabTest(unittest.TestCase):
    """A temporary folder, a target, domains that are removed afterwards, and runs of the command."""

    qemu_user = "root"
    before_command = ()  # what runs it elsewhere, e.g. SecondHost.before_command

    @classmethod
    def setUpClass(cls):
        if cls.qemu_user != "root":
            daemon.stop()
            daemon.configure(cls.qemu_user)
            daemon.start()

    @classmethod
    def tearDownClass(cls):
        if cls.qemu_user != "root":
            daemon.stop()
            daemon.configure()
            daemon.start()

    def setUp(self):
        daemon.start()  # a test before us may have ended it
        for path in Path("/run/nasbackup").glob("run-*.lock"):
            path.unlink()  # of runs that tests before us have killed
        self.dir = Path(tempfile.mkdtemp())
        self.dir.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.target = self.dir / "nas"
        self.target.mkdir()

    # ---- making --------------------------------------------------------------------------------------------------

    def disk(self, target, size=64 * MIB, fmt="raw", fill=0, name=None, tree=None, **more):
        """A disk with `fill` bytes of random data at its start, and as much again in the middle; or with files on it."""
        path = make_image(self.dir / (name or f"{target}.{fmt}"), size, "raw" if fill else fmt, tree)
        if fill:
            with open(path, "r+b") as image:
                for offset in (0, size // 2):
                    image.seek(offset)
                    image.write(os.urandom(fill))
        if fill and fmt != "raw":
            os.rename(path, raw := path.with_suffix(".plain"))
            subprocess.run(["qemu-img", "convert", "-O", fmt, str(raw), str(path)], check=True)
            raw.unlink()
        return Disk(target, path, fmt, **more)

    def domain(self, name="machine", disks=None, start=True, **more):
        """A running domain, without an operating system unless os_inside is asked for."""
        made = Domain(name, disks if disks is not None else [self.disk("vda", fill=4 * MIB)], **more)
        self.addCleanup(made.remove)
        return made.start() if start else made.define()

    def guest(self, name="guest", disks=("vda", "vdb"), size=128 * MIB):
        """The real guest: ext4 on each disk, mounted in it at /mnt/<disk>."""
        tree = self.dir / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "before").write_bytes(os.urandom(8 * MIB))
        return self.domain(name, [self.disk(disk, size, "qcow2" if i else "raw", tree=tree)
                                  for i, disk in enumerate(disks)], os_inside=True)

    def loop_file_system(self, size, name="small"):
        """A mounted ext4 of `size` bytes."""
        image = make_image(self.dir / f"{name}.img", size)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", str(image)], check=True, stdout=subprocess.DEVNULL)
        place = self.dir / name
        place.mkdir()
        subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)])
        return place

    # ---- running -------------------------------------------------------------------------------------------------

    def begin(self, *words, env=None):
        """Starts the command; it is killed at the end of the test if it still runs."""
        run = Run(words, env, self.before_command)
        self.addCleanup(run.kill)
        return run

    def run_command(self, *words, timeout=120, env=None):
        return self.begin(*words, env=env).end(timeout)

    def backup(self, domain, *options, timeout=120):
        """`nasbackup backup` of a domain to self.target, with --json."""
        return self.run_command(*self.backup_words(domain, *options), timeout=timeout)

    def backup_words(self, domain, *options):
        name = domain if isinstance(domain, str) else domain.name
        return ["backup", name, "--to", self.target, "--json", *options]

    def begin_in_job(self, domain, *options, hold=True):
        """Starts a backup and returns (run, release) once its job has begun; the job stays until release()."""
        begun, go = self.dir / f"begun-{time.monotonic_ns()}", self.dir / f"go-{time.monotonic_ns()}"
        held = f"while [ ! -e {shlex.quote(str(go))} ]; do sleep 0.05; done" if hold else "true"
        run = self.begin(*self.backup_words(domain, "--exec-in-job", f"touch {shlex.quote(str(begun))}; {held}", *options))
        wait_until("the backup job to begin", lambda: begun.exists() or not run.running())
        if not begun.exists():
            self.fail(f"ended before its job had begun: {run.end()}")
        return run, go.touch

    # ---- judging -------------------------------------------------------------------------------------------------

    def sets(self, domain):
        return judge.sets_under(self.target, domain if isinstance(domain, str) else domain.name)

    def one_set(self, domain):
        sets = self.sets(domain)
        self.assertEqual(len(sets), 1, f"sets: {sets}")
        return sets[0]

    def image(self, backup_set, target):
        """The image of a disk in a set, as its manifest says."""
        manifest = json.loads((backup_set / "manifest.json").read_text())
        return backup_set / {entry["name"]: entry["file"] for entry in manifest["disks"]}[target]

    def assert_backed_up(self, domain, expected, backup_set=None):
        """The set holds exactly these disks, each sound and equal to its expected content: {target: raw file}."""
        backup_set = backup_set or self.one_set(domain)
        self.assertEqual(len(list(backup_set.glob("*.qcow2"))), len(expected))
        for target, content in expected.items():
            judge.check(self.image(backup_set, target))
            judge.same(self.image(backup_set, target), content)

    def copies(self):
        """An empty folder, and the words that let nbdcopy read every export of the job into it: {disk}.raw."""
        folder = Path(tempfile.mkdtemp(dir=self.dir))
        return folder, ["--exec-in-job", judge.copy_exports_command(folder)]

    def assert_status(self, result, status, *says):
        self.assertEqual(result.status, status, str(result))
        for text in says:
            self.assertRegex(result.err + result.out, text)

    def assert_nothing_left(self, domain, published=0):
        """No job, scratch file, socket, checkpoint, process, lock or partial set; the guest has seen no I/O error."""
        try:
            wait_until("our processes to end", lambda: not our_processes())
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {what_they_wait_for(our_processes())}") from None
        self.assertEqual(domain.leftovers(), [])
        self.assertEqual(judge.partials_under(self.target), [])
        self.assertEqual(len(self.sets(domain)), published)
        self.assertEqual([str(path) for path in Path("/run/nasbackup").glob("run-*")], [])
        if domain.handle.isActive():
            self.assertEqual(domain.io_errors(), [])


def main():
    """Runs the tests of the calling file, inside a lab."""
    if "NASBACKUP_LAB" not in os.environ:
        script = os.path.abspath(sys.argv[0])
        os.execv(HERE / "enter", [str(HERE / "enter"), "/usr/bin/python3", script, *sys.argv[1:]])
    unittest.main()
