# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A running VM is backed up with --verify: it has no job any more, and is not frozen, while what was written is read back."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import lab  # noqa: E402
from lab import DONE, MIB, wait_until  # noqa: E402


class ARunningVm(lab.LabTest):
    def test_is_free_while_its_backup_is_read_back(self):
        domain = self.domain(disks=[self.disk("vda", 64 * MIB, fill=12 * MIB), self.disk("vdb", 64 * MIB, "qcow2", fill=4 * MIB)])
        run = self.begin(*self.backup_words(domain, "--verify", "--rate", "16M", "--progress=json"))
        wait_until("it verifies", lambda: not run.running() or '"verifying"' in run.process.stderr.readline())
        self.assertTrue(run.running(), "it ended before it was seen to verify")
        self.assertEqual(domain.leftovers(), [])
        self.assertTrue(run.running(), "it ended before it was seen that its job is gone")
        result = run.end()
        self.assert_status(result, DONE)
        report = result.json()
        self.assertEqual((report["verified"], {disk["read_back"] for disk in report["disks"]}), ("data", {"dropped"}))
        self.assertGreater(report["verify_seconds"], 1)
        self.assert_nothing_left(domain, published=1)


if __name__ == "__main__":
    lab.main()
