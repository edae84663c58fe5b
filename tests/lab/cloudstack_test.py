# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What the tests of nasbackup.sh share: a call as the agent makes it, its answer, and a storage that the call mounts by itself. Numbers
in brackets are the contract's."""
import contextlib
import os
import signal
import stat
import subprocess
import threading
from pathlib import Path

import cloudstack
import judge
import lab
from lab import MIB, wait_until

# Whoever runs us under nohup: what is tested starts as from an agent.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

OK, FAILED, CLEANUP_FAILED = 0, 1, 20
TIME = "2026.11.26.09.30.00"


class Answer:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __str__(self):
        return f"exit {self.status}\nstdout: {self.out!r}\nstderr: {self.err!r}"


class Call:
    """As Java's Script does it: stdin stays open, stderr is a pipe that nobody reads, stdout is read to its end [R1-R4]."""

    def __init__(self, program, words, env, before=()):
        self.process = subprocess.Popen([*before, program, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True, env={**os.environ, **env})

    def end(self, timeout=120):
        watchdog = threading.Timer(timeout, self.process.kill)
        watchdog.start()
        try:
            out = self.process.stdout.read().decode()
            status = self.process.wait()
        finally:
            watchdog.cancel()
            self.process.stdin.close()
        err = self.process.stderr.read().decode()
        return Answer(status, out, err)

    def send(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


class CloudStackTest(lab.LabTest):
    def setUp(self):
        super().setUp()
        self.program = self.dir / "nasbackup.sh"
        self.program.symlink_to(os.path.realpath(lab.NASBACKUP))
        self.nas = self.make_nas(512 * MIB)
        self.store = cloudstack.store("ext4", self.nas, "loop")
        self.log = self.dir / "agent.log"
        self.config = self.dir / "nasbackup.toml"
        self.configure()

    def make_nas(self, size):
        image = lab.make_image(self.dir / f"nas-{size}.img", size)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", str(image)], check=True, stdout=subprocess.DEVNULL)
        return image

    def configure(self, text=""):
        self.config.write_text(f'[cloudstack]\nlog-file = "{self.log}"\nmin-free = "1M"\npbkdf-iterations = 1000000\n{text}\n')

    def begin(self, *words, env=None):
        call = Call(self.program, words, {"NASBACKUP_CONFIG": str(self.config), **(env or {})}, self.before_command)
        self.addCleanup(call.kill)
        return call

    def call(self, *words, env=None, timeout=120):
        return self.begin(*words, env=env).end(timeout)

    def take(self, vm, path=TIME, version="main, 4.22 with #13877", env=None, **options):
        return self.call(*self.take_words(vm, path, version, **options), env=env)

    def take_words(self, vm, path=TIME, version="main, 4.22 with #13877", **options):
        return cloudstack.TAKES[version](vm, self.store, f"{vm}/{path}", **options)

    @contextlib.contextmanager
    def mounted(self, nas=None):
        place = self.dir / "look"
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", str(nas or self.nas), str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def assert_size(self, answer, disks=()):
        """The answer is one decimal line, and every version reads the same number [R10]."""
        self.assertEqual(answer.status, OK, str(answer))
        out = cloudstack.without_marker(answer.out)
        self.assertRegex(out, r"\A[0-9]+\n\Z", str(answer))
        size = cloudstack.size_strict(out, disks)
        self.assertEqual(cloudstack.size_tolerant(answer.out, disks), size)
        self.assertLess(len(answer.err), 4096)
        return size

    def assert_failure(self, answer, says, status=FAILED):
        self.assertEqual(answer.status, status, str(answer))
        self.assertRegex(answer.out, says)
        if status == FAILED:
            self.assertRegex(answer.out, r"\A[^\n]+\n\Z", str(answer))
        self.assertLess(len(answer.err), 4096)

    def assert_no_leak(self, domain=None):
        wait_until("our processes to end", lambda: not lab.our_processes())
        self.assertEqual([line for line in Path("/proc/self/mounts").read_text().splitlines() if "csbackup" in line], [])
        self.assertEqual(list(Path(os.environ.get("TMPDIR", "/tmp")).glob("csbackup.*")), [])
        self.assertEqual([path.name for path in Path("/run/nasbackup").iterdir() if path.name.startswith(("run-", "mount-"))], [])
        wait_until("the loop device to go", lambda: str(self.nas) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True, timeout=30).stdout)
        if domain is not None:
            self.assertEqual(domain.leftovers(), [])

    def assert_stored(self, vm, expected, path=TIME, texts=False, passphrase=None):
        """What Java would restore holds what the disks held: {path of the volume: raw copy}."""
        with self.mounted() as nas:
            place = nas / vm / path
            for number, (volume, content) in enumerate(expected.items()):
                image = cloudstack.backup_file(place, number, str(volume))
                restored = self.dir / "restored.qcow2"
                cloudstack.restore(image, restored, passphrase)
                judge.same(restored, content)
                restored.unlink()
            names = {path.name for path in place.iterdir()}
            wanted = {"domain-config.xml", "dominfo.xml", "domiflist.xml", "domblklist.xml"}
            self.assertEqual(names & wanted, wanted if texts else set())
            self.assertEqual([name for name in names if name.startswith(".") or name.endswith((".tmp", ".luks"))], [])
            for path in place.iterdir():
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o644, path)
            return sum(path.stat().st_size for path in place.iterdir())

    def volume(self, name, size=64 * MIB, fmt="qcow2", fill=4 * MIB):
        """A disk with data, and a raw copy of it."""
        disk = self.disk("vda", size, fmt, fill=fill, name=name)
        raw = self.dir / f"{name}.copy"
        subprocess.run(["qemu-img", "convert", "-O", "raw", "-f", fmt, str(disk.path), str(raw)], check=True)
        return disk.path, raw
