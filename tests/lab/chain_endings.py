# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""How a backup of the model ends: well, or broken off by whatever may happen to it, at each step that changes the target."""
import collections
import contextlib
import errno
import os
import signal
import subprocess
import time

import lab
from lab import MIB, TARGET_FULL, wait_until
from stepping_nas import SteppingNas

# Each step at which a run changes the target, in order, and the path that it is about.
STEPS = [("create", r"/\.checkpoint-\w+$", 1), ("write", r"/\.checkpoint-\w+$", 1), ("fsyncdir", r"/machine$", 1),
         ("mkdir", r"/\.partial-\w+$", 1),
         ("create", r"vda[^/]*\.(qcow2|luks)$", 1), ("write", r"\.(qcow2|luks)$", 3), ("fsync", r"\.(qcow2|luks)$", 2),
         ("write", r"\.digests$", 1), ("create", r"/manifest\.json$", 1), ("write", r"/manifest\.json$", 1),
         ("fsync", r"/manifest\.json$", 1), ("fsyncdir", r"/\.partial-\w+$", 1), ("rename", r"/20[0-9.]+$", 1),
         ("fsyncdir", r"/machine$", 2), ("unlink", r"/\.checkpoint-\w+$", 1), ("unlink", r"/\.checkpoint-\w+$", 2),
         ("rename", r"", 3), ("rmdir", r"", 1)]
STEPS_OF_MERGE = [step for step in STEPS if "checkpoint" not in step[1]]
STEPS_OF_DELETE = [("rename", r"/\.deleting-", 1), ("rename", r"/\.deleting-", 2), ("unlink", r"/\.deleting-", 1), ("unlink", r"/\.deleting-", 3),
                   ("rmdir", r"/\.deleting-", 1), ("rmdir", r"/\.deleting-", 2), ("fsyncdir", r"/machine$", 1), ("unlink", r"/\.checkpoint-\w+$", 1)]
# How often each was come to, before it was carried out or after, by all seeds of this process.
REACHED = collections.Counter()


class ChainEndings:
    """Of a ChainModelTest. Each ending: the result, and whether a failure leaves no set for certain."""

    def go_well(self, chain):
        return self.run_command(*self.words(self.target, chain)), True

    def begin_held(self, chain, *more):
        """A run whose job has begun, and what lets it go on."""
        begun, go = self.dir / f"begun-{time.monotonic_ns()}", self.dir / f"go-{time.monotonic_ns()}"
        held = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done"
        run = self.begin(*self.words(self.target, chain, "--exec-in-job", held, *more))
        wait_until("the job to begin", lambda: begun.exists() or not run.running(), pause=0.01)
        self.assertTrue(begun.exists(), "the run ended before its job had begun" + ("" if run.running() else str(run.end())))
        return run, go.touch

    def write_meanwhile(self, chain):
        run, release = self.begin_held(chain)
        for _ in range(self.chance.randrange(1, 6)):
            self.write(only_writes=True)
        release()
        return self.ended(run), True

    def lack_room(self, chain):
        result = self.run_command(*self.words(self.target, chain, min_free="100000G"))
        self.assert_status(result, TARGET_FULL)
        return result, True

    def lack_scratch(self, chain):
        place = self.dir / f"scratch-{time.monotonic_ns()}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96M", "scratch", str(place)], check=True)
        try:
            run, release = self.begin_held(chain, "--scratch", place)
            room = os.statvfs(place)
            (place / "filler").write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - MIB)))
            for _ in range(6):
                self.write(only_writes=True)
            release()
            return self.ended(run), True
        finally:
            self.wait_for_processes()
            subprocess.run(["umount", "-l", str(place)], check=True)

    def lose_the_job(self, chain):
        run, release = self.begin_held(chain, "--rate", "1M")
        time.sleep(0.3)  # QEMU 7.2 hangs for ever in nbd-server-stop, guest and all, while a client shakes hands
        self.vm.handle.abortJob()
        release()
        return self.ended(run), True

    def lose_qemu(self, chain):
        self.flush()
        run, release = self.begin_held(chain)
        os.kill(self.vm.qemu_pid(), signal.SIGKILL)
        release()
        result = self.ended(run)
        self.qemu_was_killed()
        return result, True

    def get_a_signal(self, chain):
        run = self.begin(*self.words(self.target, chain))
        moment = self.chance.random() * 0.7
        time.sleep(moment)
        action = self.chance.choice([self.term, self.kill_supervisor, self.kill_group, self.kill_all])
        action(run)
        self.note(f"  {action.__name__} after {moment:.3f} s")
        return self.ended(run), False

    def break_at_a_step(self, chain):
        step = self.chance.choice(STEPS)
        actions = [self.term, self.kill_group, self.kill_group, self.kill_all, self.drop_job, None, None]
        return self.broken_at(step, actions, lambda place: self.words(place, chain)), False

    def broken_at(self, step, actions, words_on):
        """How the command ends that has words_on(PLACE), PLACE being the target but for the one step, which fails, or hangs until one of
        the actions is taken."""
        when = self.chance.choice(["before", "after"])
        action = self.chance.choice(actions)
        what = "hang" if action else self.chance.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT])
        nas = SteppingNas(self.target, self.dir / "stepping-nas", *step, when, what)
        try:
            run = self.begin(*words_on(nas.place))
            reached = nas.reached(run.running)
            REACHED[when, *step] += reached
            self.note(f"  {when} {' '.join(map(str, step))}: {action.__name__ if action else errno.errorcode[what]}"
                      f"{'' if reached else ': did not come to that'}")
            if action and reached:
                action(run)
                time.sleep(0.1)
                nas.end()
            return self.ended(run)
        finally:
            if nas.process.poll() is None:
                self.wait_for_processes()
                nas.end()

    def sometimes_broken_at(self, steps, words_on):
        """How a command ends that has no part in the VM's jobs, and whether it was to be broken off."""
        if self.chance.random() < 0.5:
            return self.run_command(*words_on(self.target)), False
        result = self.broken_at(self.chance.choice(steps), [self.term, self.kill_group, self.kill_group, None, None], words_on)
        self.wait_for_processes()
        return result, True

    def term(self, run):
        run.send(signal.SIGTERM)

    def kill_supervisor(self, run):
        run.send(signal.SIGKILL)

    def kill_group(self, run):
        run.send_group(signal.SIGKILL)

    def kill_all(self, run):
        """Also the guard: the job may stay until the next run."""
        for _ in range(3):
            for pid in lab.our_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.held = True

    def drop_job(self, run):
        try:
            self.vm.handle.abortJob()
        except lab.libvirt.libvirtError:
            pass  # it has ended already
