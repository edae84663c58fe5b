# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A domain's disk and a run that reads or writes the same file: whoever comes second is refused, and nobody's data is wrong."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
import libvirt  # noqa: E402
from lab import DONE, LOCKED, MIB, SOURCE  # noqa: E402
from daemon import wait_until  # noqa: E402


class ADisk(lab.LabTest):
    def test_of_a_running_domain_is_not_read_behind_its_back(self):
        domain = self.domain()
        out = self.dir / "out.qcow2"
        result = self.run_command("convert", "-f", "raw", domain.disks[0].path, out)
        self.assert_status(result, SOURCE, "in use")
        self.assertFalse(out.exists())

    def test_of_a_running_domain_is_not_replaced(self):
        domain = self.domain()
        source = self.disk("vdz", fill=MIB)
        result = self.run_command("convert", "-f", "raw", "-O", "raw", "--force", source.path, domain.disks[0].path)
        self.assert_status(result, LOCKED, "in use")
        self.assertEqual(domain.io_errors(), [])

    def test_that_is_being_read_cannot_be_started_on(self):
        domain = self.domain(disks=[self.disk("vda", fill=8 * MIB)], start=False)
        path, out = domain.disks[0].path, self.dir / "out.qcow2"
        run = self.begin("convert", "-f", "raw", "-b", "4M", path, out)  # 16 MiB: four seconds
        wait_until("the target to be made, which comes after the source was locked", lambda: list(self.dir.glob(".out.qcow2.*")))
        with self.assertRaises(libvirt.libvirtError) as refused:
            domain.handle.create()
        self.assertIn("lock", str(refused.exception))
        self.assertTrue(run.running())
        self.assert_status(run.end(), DONE)
        judge.check(out)
        judge.same(out, path)
        domain.start()  # free again


if __name__ == "__main__":
    lab.main()
