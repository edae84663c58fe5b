# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A running VM is compressed, encrypted and throttled in the pass that reads it; the guest writes meanwhile, and qemu-img compares
with what nbdcopy read from the same export."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
from lab import DONE, MIB, GuestWriter  # noqa: E402


class ARunningVm(lab.LabTest):
    def setUp(self):
        super().setUp()
        self.passphrase = self.dir / "passphrase"
        self.passphrase.write_bytes(b"correct horse")

    def back_up(self, *options):
        """Of a VM with two disks that are written to; the set, and what nbdcopy read."""
        domain = self.domain(disks=[self.disk("vda", 256 * MIB, fill=16 * MIB), self.disk("vdb", 128 * MIB, "qcow2", fill=8 * MIB)])
        writers = [GuestWriter(domain, "vda", end=16 * MIB), GuestWriter(domain, "vdb", start=64 * MIB, end=72 * MIB)]
        copies, exec_in_job = self.copies()
        for writer in writers:
            writer.start()
        result = self.backup(domain, *exec_in_job, *options)
        failures = [failure for writer in writers for failure in writer.stop()]
        self.assert_status(result, DONE)
        self.assertEqual(failures, [])
        self.assertGreater(min(writer.writes for writer in writers), 0)
        self.assert_nothing_left(domain, published=1)
        return self.one_set(domain), copies, result.json()

    def check_compressed(self, codec):
        backup_set, copies, report = self.back_up("--compress=" + codec)
        for disk in "vda", "vdb":
            image = self.image(backup_set, disk)
            judge.check(image)
            judge.same(image, copies / f"{disk}.raw")
            self.assertEqual(judge.info(image)["format-specific"]["data"]["compression-type"], codec.split(":")[0])
        self.assertEqual({disk["compression"] for disk in report["disks"]}, {codec})

    def test_is_compressed_with_zlib_while_it_writes(self):
        self.check_compressed("zlib:default")

    def test_is_compressed_with_zstd_while_it_writes(self):
        self.check_compressed("zstd:best")

    def test_is_encrypted_while_it_writes(self):
        backup_set, copies, report = self.back_up("-e", self.passphrase)
        for disk in "vda", "vdb":
            judge.same_encrypted(self.image(backup_set, disk), copies / f"{disk}.raw", self.passphrase)
        self.assertEqual({disk["encryption"] for disk in report["disks"]}, {"luks"})

    def test_is_compressed_and_encrypted_and_throttled_while_it_writes(self):
        backup_set, copies, report = self.back_up("-c", "-e", self.passphrase, "--rate", "16M")
        names = sorted(path.name for path in backup_set.iterdir())
        self.assertEqual(len([name for name in names if name.endswith(".qcow2.luks")]), 2, names)
        self.assertEqual(len([name for name in names if name.endswith(".qcow2")]), 0, names)
        for disk in "vda", "vdb":
            judge.same_encrypted(self.image(backup_set, disk), copies / f"{disk}.raw", self.passphrase)
        # Both disks together: 24 MiB were there, and the guest writes more.
        self.assertGreater(report["seconds"], 1.4)
        self.assertGreater(report["stages"]["throttle"], 1)


if __name__ == "__main__":
    lab.main()
