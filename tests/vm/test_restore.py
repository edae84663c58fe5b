#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A VM comes back: its disks, by the domain XML that restore wrote, with the files that its guest had written."""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import lab  # noqa: E402
from domain import Domain  # noqa: E402
from lab import DONE, MIB  # noqa: E402


class ARestoredVm(lab.LabTest):
    def come_back(self, options, opened, *restore):
        guest = self.guest(size=192 * MIB)
        guest.shell("echo what the guest wrote > /mnt/vda/letter; dd if=/dev/urandom of=/mnt/vdb/noise bs=1M count=8 2>/dev/null; sync")
        sums = guest.shell("sha256sum /mnt/vda/letter /mnt/vdb/noise")
        self.assert_status(self.backup(guest, "--quiesce", *options), DONE)
        backup_set = self.one_set(guest)
        guest.remove()
        for disk in guest.disks:  # nothing of the original may be needed
            Path(disk.path).rename(str(disk.path) + ".away")
        self.assert_status(self.run_command("verify", backup_set, *opened), DONE)
        place = self.dir / "restored"
        place.mkdir()
        result = self.run_command("restore", backup_set, "--to", place, *restore, *opened, "--json")
        self.assert_status(result, DONE)
        report = result.json()
        self.assertTrue(report["verified"])
        xml = Path(report["domain_xml"]).read_text()
        again = Domain(re.search("<name>(.*?)</name>", xml)[1], guest.disks, os_inside=True)
        self.addCleanup(again.remove)
        again.connection.defineXML(xml)
        again.handle.create()
        again.wait_for_agent()
        self.assertEqual(again.shell("sha256sum /mnt/vda/letter /mnt/vdb/noise"), sums)
        self.assertEqual(again.shell("cat /mnt/vda/letter").strip(), "what the guest wrote")
        return xml, place

    def test_finds_its_files(self):
        xml, place = self.come_back((), ())
        self.assertIn(f"{place}/vda.qcow2", xml)
        self.assertEqual(sorted(path.name for path in place.iterdir()), ["guest.xml", "vda.qcow2", "vdb.qcow2"])

    def test_of_a_compressed_and_encrypted_set_under_a_new_name(self):
        key = self.dir / "key"
        key.write_bytes(b"correct horse")
        xml, place = self.come_back(("-c", "-e", key), ("-e", key), "-O", "raw", "--new-name", "another", "--new-uuid", "--new-macs")
        self.assertIn("<name>another</name>", xml)
        self.assertNotIn("<uuid>", xml)
        self.assertEqual(sorted(path.name for path in place.iterdir()), ["another.xml", "vda.raw", "vdb.raw"])


if __name__ == "__main__":
    lab.main()
