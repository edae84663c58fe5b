# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What cannot be backed up: the right exit status, one line that says why, nothing published and nothing left."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
from lab import DONE, LOCKED, MIB, NOT_FOUND, SOURCE, TARGET_FULL, Disk  # noqa: E402


class ABackup(lab.LabTest):
    def refused(self, domain, status, *says, options=()):
        name = domain if isinstance(domain, str) else domain.name
        result = self.run_command("backup", name, "--to", self.target, *options)
        self.assert_status(result, status, *says)
        self.assertEqual(len(result.err.strip().splitlines()), 1, result.err)
        self.assertEqual(result.out, "")
        self.assertEqual(self.sets(name), [])
        self.assertEqual(judge.partials_under(self.target), [])

    def test_of_an_unknown_domain_is_refused(self):
        self.refused("nobody", NOT_FOUND, "nobody")

    def test_beside_a_foreign_job_is_refused_and_the_job_goes_on(self):
        domain = self.domain()
        domain.begin_foreign_job(self.dir)
        self.refused(domain, SOURCE, "job")
        self.assertIn(str(self.dir / "foreign.sock"), domain.backup_job() or "no job any more")
        domain.handle.abortJob()

    def test_of_a_vm_whose_backup_is_under_way_is_refused(self):
        domain = self.domain()
        run, release = self.begin_in_job(domain)
        second = self.run_command("backup", domain.name, "--to", self.target)
        self.assert_status(second, LOCKED, "machine|another run|run ")
        elsewhere = self.dir / "other-nas"
        elsewhere.mkdir()
        self.assert_status(self.run_command("backup", domain.name, "--to", elsewhere), LOCKED)
        release()
        self.assert_status(run.end(), DONE)
        self.assert_nothing_left(domain, published=1)

    def test_over_a_remote_connection_is_refused(self):
        self.domain()
        self.refused("machine", SOURCE, "local|remote", options=["--connect", "qemu+ssh://root@192.0.2.1/system"])

    def test_without_a_libvirtd_is_refused(self):
        lab.daemon.stop()
        self.refused("machine", SOURCE, "libvirt")

    def test_of_a_vm_without_disks_is_refused(self):
        domain = self.domain(disks=[Disk("sdc", "", device="cdrom")])
        self.refused(domain, SOURCE)
        self.assert_nothing_left(domain)

    def test_to_a_target_that_is_not_there_is_refused(self):
        domain = self.domain()
        self.target.rmdir()
        result = self.run_command("backup", domain.name, "--to", self.target)
        self.assert_status(result, NOT_FOUND, str(self.target))
        self.assertEqual(domain.leftovers(), [])

    def test_to_a_target_without_room_is_refused_before_the_job_begins(self):
        domain = self.domain()
        small = self.loop_file_system(64 * MIB)
        result = self.run_command("backup", domain.name, "--to", small)
        self.assert_status(result, TARGET_FULL)
        self.assertEqual([path.name for path in small.iterdir()], ["lost+found"])
        self.assertEqual(domain.leftovers(), [])

    def test_that_fills_its_target_leaves_nothing_there(self):
        domain = self.domain(disks=[self.disk("vda", 128 * MIB, fill=32 * MIB)])
        small = self.loop_file_system(48 * MIB)
        result = self.run_command("backup", domain.name, "--to", small, "--min-free", "0")
        self.assert_status(result, TARGET_FULL)
        self.assertEqual([path.name for path in small.iterdir()], ["lost+found"])
        self.assertEqual(domain.leftovers(), [])
        self.assertEqual(domain.io_errors(), [])

    def test_names_a_command_in_the_job_that_failed(self):
        domain = self.domain()
        result = self.backup(domain, "--exec-in-job", "exit 3")
        self.assert_status(result, lab.WARNINGS, "exec-in-job")
        self.assert_nothing_left(domain, published=1)


if __name__ == "__main__":
    lab.main()
