# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""When the room for scratch runs out, and when the NAS hangs: the guest must not notice either."""
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
from hung_nas import HungNas  # noqa: E402
from lab import DONE, MIB, SOURCE, TIMED_OUT, wait_until  # noqa: E402


class AFullScratch(lab.LabTest):
    def guest_with_a_full_disk(self):
        """The guest with 400 MiB of data on vda: overwriting them fills a scratch file."""
        tree = self.dir / "data"
        tree.mkdir()
        (tree / "old").write_bytes(os.urandom(400 * MIB))
        return self.domain("guest", [self.disk("vda", 768 * MIB, tree=tree)], os_inside=True)

    def overwrite(self, guest, mib):
        """The guest overwrites its data and says whether every write succeeded."""
        guest.shell(f"dd if=/dev/zero of=/mnt/vda/old bs=1M count={mib} conv=notrunc,fsync 2>&1 && sync", seconds=120)

    def assert_guest_is_well(self, guest):
        self.assertEqual(guest.io_errors(), [])
        self.assertNotIn("error", guest.shell("dmesg | grep -i 'i/o error' || true"))
        self.assertIn("rw", guest.shell("grep /mnt/vda /proc/mounts"))

    def test_of_64_mib_never_fails_a_guests_write(self):
        guest = self.guest_with_a_full_disk()
        scratch = self.loop_file_system(64 * MIB, "scratch")
        run = self.begin(*self.backup_words(guest, "--scratch", scratch, "--rate", "1M"))
        self.overwrite(guest, 200)
        self.assert_status(run.end(), SOURCE, "scratch")
        self.assert_guest_is_well(guest)
        self.assert_nothing_left(guest)

    def test_that_fills_while_the_job_runs_ends_the_job_and_not_the_guests_writes(self):
        guest = self.guest_with_a_full_disk()
        scratch = self.loop_file_system(450 * MIB, "scratch")
        run, _ = self.begin_in_job(guest, "--scratch", scratch, "--rate", "1M")
        self.overwrite(guest, 400)
        self.assert_status(run.end(), SOURCE, "scratch")
        self.assert_guest_is_well(guest)
        self.assert_nothing_left(guest)
        self.assertEqual([path.name for path in scratch.iterdir()], ["lost+found"])


class AHungNas(lab.LabTest):
    TIMEOUT = 4

    def hang(self, operation, count):
        domain = self.domain(f"machine-{operation}", [self.disk("vda", 64 * MIB, fill=8 * MIB, name=f"{operation}.raw")])
        folder = self.dir / operation
        folder.mkdir()
        nas = HungNas(folder, operation, count)
        self.addCleanup(nas.end)
        run = self.begin("backup", domain.name, "--to", nas.place, "--json", "--min-free", "0", "--io-timeout", self.TIMEOUT)
        hung_at = nas.wait_until_hung()
        result = run.end(60)  # end of file on stdout and stderr, and the exit status
        self.assert_status(result, TIMED_OUT)
        self.assertLessEqual(time.monotonic() - hung_at, self.TIMEOUT + 2)
        self.assertEqual(domain.leftovers(), [])
        self.assertEqual(domain.io_errors(), [])
        domain.write("vda", MIB, MIB)
        nas.end()
        wait_until("the worker to end", lambda: not lab.our_processes())
        self.assertEqual([path for path in judge.sets_under(nas.backing, domain.name)], [])
        self.assert_status(self.run_command("backup", domain.name, "--to", self.target), DONE)
        self.assertEqual(domain.leftovers(), [])

    def test_in_a_write_holds_neither_caller_nor_guest(self):
        self.hang("write", 20)

    def test_in_an_fsync_holds_neither_caller_nor_guest(self):
        self.hang("fsync", 1)

    def test_in_a_mkdir_holds_neither_caller_nor_guest(self):
        self.hang("mkdir", 1)

    def test_in_the_rename_holds_neither_caller_nor_guest(self):
        self.hang("rename", 2)

    def test_from_the_beginning_holds_neither_caller_nor_guest(self):
        self.hang("getattr", 1)


if __name__ == "__main__":
    lab.main()
