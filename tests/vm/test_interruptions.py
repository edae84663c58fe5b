# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Backups that end half-way: whoever dies, the guest is free, nothing half is published, and the next run cleans up."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
from lab import DONE, MIB, SOURCE, wait_until  # noqa: E402


class WhenTheGuestEnds(lab.LabTest):
    def test_by_being_destroyed_nothing_is_published(self):
        domain = self.domain()
        run, _ = self.begin_in_job(domain)
        domain.destroy()
        self.assert_status(run.end(), SOURCE)
        self.assert_nothing_left(domain)

    def test_by_its_qemu_being_killed_while_it_is_read_nothing_is_published(self):
        domain = self.domain(disks=[self.disk("vda", 256 * MIB, fill=64 * MIB)])
        run, _ = self.begin_in_job(domain, "--rate", "8M")
        os.kill(domain.qemu_pid(), signal.SIGKILL)
        self.assert_status(run.end(), SOURCE)
        self.assert_nothing_left(domain)

    def test_the_job_by_somebody_else_nothing_is_published(self):
        domain = self.domain(disks=[self.disk("vda", 256 * MIB, fill=64 * MIB)])
        run, _ = self.begin_in_job(domain, "--rate", "8M")
        domain.handle.abortJob()
        self.assert_status(run.end(), SOURCE)
        self.assert_nothing_left(domain)


# Stands before libnbd's every look at what a server said: a handshake word by word takes a second then.
SLOW_WORDS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int nbd_aio_notify_read(void* nbd) {
  close(creat(getenv("CONNECTED"), 0600));
  int (*notify)(void*) = dlsym(RTLD_NEXT, "nbd_aio_notify_read");
  usleep(600000);
  return notify(nbd);
}
"""


class WhenTheJobEndsInAHandshake(lab.LabTest):
    def test_qemu_does_not_stand_still(self):
        """QEMU 7.2 does for ever, when its NBD server is stopped while it waits for a client's part of a handshake."""
        source, library = self.dir / "slow.c", self.dir / "slow.so"
        source.write_text(SLOW_WORDS)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        domain = self.domain()
        connected = self.dir / "connected"
        run = self.begin(*self.backup_words(domain), env={"LD_PRELOAD": str(library), "CONNECTED": str(connected)})
        wait_until("a connection to the job", connected.exists, pause=0.01)
        domain.handle.abortJob()
        time.sleep(0.3)
        asked = subprocess.run(["virsh", "qemu-monitor-command", domain.name, '{"execute": "query-status"}'], stdout=subprocess.PIPE,
                               stdin=subprocess.DEVNULL, timeout=10)
        self.assertIn(b"running", asked.stdout)
        result = run.end()
        self.assert_status(result, SOURCE)
        self.assert_nothing_left(domain)


class WhenLibvirtd(lab.LabTest):
    def test_is_gone_nothing_is_published_and_the_next_run_sweeps(self):
        domain = self.domain()
        run, _ = self.begin_in_job(domain)
        lab.daemon.stop(signal.SIGKILL)
        self.assert_status(run.end(), SOURCE, "libvirt")
        self.assertEqual(self.sets(domain), [])
        self.assertEqual(judge.partials_under(self.target), [])
        lab.daemon.start()
        wait_until("the guard to end", lambda: not lab.our_processes())
        self.assert_status(self.backup(domain), DONE)
        self.assert_nothing_left(domain, published=1)

    def test_is_restarted_the_backup_goes_on(self):
        domain = self.domain()
        copies, _ = self.copies()
        run, release = self.begin_in_job(domain)
        lab.daemon.stop()
        lab.daemon.start()
        release()
        self.assert_status(run.end(), DONE)
        judge.check(self.image(self.one_set(domain), "vda"))
        self.assert_nothing_left(domain, published=1)

    def test_does_not_answer_for_a_while_the_backup_waits(self):
        domain = self.domain()
        run, release = self.begin_in_job(domain)
        libvirtd = lab.daemon.pid_of(lab.daemon.LIBVIRTD_PID)
        self.addCleanup(os.kill, libvirtd, signal.SIGCONT)
        os.kill(libvirtd, signal.SIGSTOP)
        release()
        time.sleep(3)
        self.assertTrue(run.running(), "the job cannot have been ended")
        os.kill(libvirtd, signal.SIGCONT)
        self.assert_status(run.end(), DONE)
        judge.check(self.image(self.one_set(domain), "vda"))
        self.assert_nothing_left(domain, published=1)


class Signals(lab.LabTest):
    MOMENTS = 8

    def moments(self, domain):
        """Times spread over a run, from just after its start to about its end."""
        result = self.backup(domain, "--rate", "32M")
        self.assert_status(result, DONE)
        return [result.seconds * i / self.MOMENTS for i in range(self.MOMENTS)]

    def judge_all_sets(self, domain):
        listed = self.run_command("list", self.target, "--json")
        self.assert_status(listed, DONE)
        for backup_set in self.sets(domain):
            self.assertIn(str(backup_set), listed.out)
            judge.check(self.image(backup_set, "vda"))

    def test_that_end_it_leave_nothing(self):
        domain = self.domain(disks=[self.disk("vda", 64 * MIB, fill=8 * MIB)])
        published = 1
        for number in (signal.SIGINT, signal.SIGTERM):
            for moment in self.moments(domain):
                with self.subTest(signal=number.name, moment=round(moment, 3)):
                    run = self.begin(*self.backup_words(domain, "--rate", "32M"))
                    time.sleep(moment)
                    run.send(number)
                    result = run.end()
                    self.assertIn(result.status, (DONE, 128 + number, -number), str(result))
                    published = len(self.sets(domain))
                    self.assert_nothing_left(domain, published)
        self.judge_all_sets(domain)

    def test_to_the_whole_group_leave_nothing(self):
        domain = self.domain(disks=[self.disk("vda", 64 * MIB, fill=8 * MIB)])
        run, _ = self.begin_in_job(domain)
        run.send_group(signal.SIGINT)
        self.assert_status(run.end(), 128 + signal.SIGINT)
        self.assert_nothing_left(domain)

    def test_that_kill_only_the_supervisor_leave_no_job_behind_for_long(self):
        domain = self.domain()
        run, _ = self.begin_in_job(domain)
        run.send(signal.SIGKILL)
        run.end()
        wait_until("the job to end", lambda: not domain.backup_job())
        wait_until("the processes to end", lambda: not lab.our_processes())
        self.assertEqual(self.sets(domain), [])
        self.assert_status(self.backup(domain), DONE)
        self.assert_nothing_left(domain, published=1)

    def test_that_kill_everything_while_the_job_begins_leave_libvirtd_alive(self):
        """libvirt 9.0 crashed when the next run deleted the checkpoint of a job that was only just beginning."""
        domain = self.domain(disks=[self.disk("vda", 8 * MIB, "qcow2", fill=MIB)])
        self.assert_status(self.backup(domain, "--full"), DONE)
        daemon = lab.daemon.pid_of(lab.daemon.LIBVIRTD_PID)
        for kill in range(8):
            with self.subTest(kill=kill):
                run = self.begin(*self.backup_words(domain, "--incremental"))
                wait_until("the job's scratch file", lambda: not run.running() or list(domain.folder().glob("*.scratch")), pause=0)
                run.send_group(signal.SIGKILL)
                for pid in lab.our_processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                run.end()
                self.assert_status(self.backup(domain, "--incremental"), DONE)
                self.assertEqual(lab.daemon.pid_of(lab.daemon.LIBVIRTD_PID), daemon)
                self.assertEqual([left for left in domain.leftovers() if "checkpoint" not in left], [])

    def test_that_kill_everything_leave_what_the_next_run_sweeps(self):
        domain = self.domain(disks=[self.disk("vda", 64 * MIB, fill=8 * MIB)])
        run, _ = self.begin_in_job(domain)
        run.kill()
        wait_until("the processes to end", lambda: not lab.our_processes())
        self.assertEqual(self.sets(domain), [])
        self.assert_status(self.backup(domain), DONE)
        self.assert_nothing_left(domain, published=1)


class FiftyKills(lab.LabTest):
    KILLS = 50

    def test_spread_over_a_run_leave_only_whole_sets(self):
        domain = self.domain(disks=[self.disk("vda", 32 * MIB, fill=2 * MIB)])
        whole = self.backup(domain)
        self.assert_status(whole, DONE)
        for kill in range(self.KILLS):
            with self.subTest(kill=kill):
                run = self.begin(*self.backup_words(domain))
                time.sleep(whole.seconds * kill / self.KILLS)
                run.kill()
                listed = self.run_command("list", self.target, "--json")
                self.assert_status(listed, DONE)
                paths = [Path(entry["path"]) for entry in json.loads(listed.out)["sets"]]
                self.assertEqual(sorted(paths), self.sets(domain))
        for backup_set in self.sets(domain):
            judge.check(self.image(backup_set, "vda"))
            judge.same(self.image(backup_set, "vda"), domain.disks[0].path)
        before = len(self.sets(domain))
        self.assert_status(self.backup(domain), DONE)
        self.assert_nothing_left(domain, published=before + 1)


if __name__ == "__main__":
    lab.main()
