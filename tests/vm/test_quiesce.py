# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Freezing the real guest while the job begins, and thawing it always."""
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
from lab import DONE, MIB, WARNINGS, wait_until  # noqa: E402

# Stands in the way of libvirt's call that begins the job: says so, and never comes back.
STUCK_BEGIN = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int virDomainBackupBegin(void* domain, const char* xml, const char* checkpoint, unsigned flags) {
  (void)domain, (void)xml, (void)checkpoint, (void)flags;
  close(open(getenv("STUCK_BEGIN"), O_CREAT | O_WRONLY, 0600));
  for (;;) pause();
}
"""


class TheRealGuest(lab.LabTest):
    def keep_writing(self, guest):
        guest.shell_start("i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); dd if=/dev/urandom of=/mnt/vda/f$((i%4)) bs=64k "
                          "count=8; echo $i > /mnt/vdb/counter; sync; done 2>/dev/null")
        wait_until("the guest to write", lambda: guest.shell("cat /mnt/vdb/counter 2>/dev/null || true").strip())

    def fsck(self, image):
        """e2fsck on a copy of the backup must find a file system that needs no repair."""
        raw = self.dir / "restored.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
        done = subprocess.run(["e2fsck", "-fn", str(raw)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_is_backed_up_whole_while_it_writes(self):
        guest = self.guest()
        self.keep_writing(guest)
        copies, exec_in_job = self.copies()
        result = self.backup(guest, "--quiesce", *exec_in_job)
        self.assert_status(result, DONE)
        frozen = result.json()["frozen_seconds"]
        self.assertGreater(frozen, 0)
        self.assertLess(frozen, 1)
        self.assertFalse(guest.frozen())
        self.assert_backed_up(guest, {disk: copies / f"{disk}.raw" for disk in ("vda", "vdb")})
        for disk in ("vda", "vdb"):
            self.fsck(self.image(self.one_set(guest), disk))
        counter = guest.shell("cat /mnt/vdb/counter")
        wait_until("the guest to go on", lambda: guest.shell("cat /mnt/vdb/counter") != counter)
        self.assert_nothing_left(guest, published=1)

    def test_is_not_frozen_unless_asked_for(self):
        guest = self.guest(disks=("vda",))
        result = self.backup(guest)
        self.assert_status(result, DONE)
        self.assertEqual(result.json()["frozen_seconds"], 0)

    def test_is_thawed_when_the_whole_process_group_is_killed_between_freeze_and_begin(self):
        guest = self.guest(disks=("vda",))
        source, library, reached = self.dir / "stuck.c", self.dir / "stuck.so", self.dir / "reached"
        source.write_text(STUCK_BEGIN)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        run = self.begin(*self.backup_words(guest, "--quiesce"),
                         env={"LD_PRELOAD": str(library), "STUCK_BEGIN": str(reached)})
        wait_until("the call that begins the job", lambda: reached.exists() or not run.running())
        self.assertTrue(reached.exists(), "the job was not asked for" if run.running() else str(run.end()))
        self.assertTrue(guest.frozen())
        run.kill()
        wait_until("the guest to be thawed", lambda: not guest.frozen())
        wait_until("the guard to end", lambda: not lab.our_processes())
        guest.shell("echo on >> /mnt/vda/log; sync")
        self.assertEqual(self.sets(guest), [])
        self.assert_status(self.backup(guest, "--quiesce"), DONE)
        self.assert_nothing_left(guest, published=1)

    def test_is_thawed_after_a_freeze_that_was_not_answered_in_time(self):
        guest = self.guest(disks=("vda",))
        guest.pause()  # the agent cannot answer
        run = self.begin(*self.backup_words(guest, "--quiesce", "--quiesce-timeout", "2"))
        time.sleep(3)
        guest.resume()
        self.assert_status(run.end(), WARNINGS)
        wait_until("the guest to be thawed", lambda: not guest.frozen())
        guest.shell("echo on >> /mnt/vda/log; sync")
        self.assert_nothing_left(guest, published=1)


class AGuestWithoutAgent(lab.LabTest):
    def test_is_backed_up_with_a_warning(self):
        for channel in (False, True):
            with self.subTest(channel=channel):
                domain = self.domain(f"machine-{channel}", [self.disk("vda", fill=MIB, name=f"{channel}.raw")],
                                     agent_channel=channel)
                result = self.backup(domain, "--quiesce")
                self.assert_status(result, WARNINGS, "agent")
                judge.check(self.image(self.one_set(domain), "vda"))
                self.assertTrue(result.json()["warnings"])
                self.assert_nothing_left(domain, published=1)


if __name__ == "__main__":
    lab.main()
