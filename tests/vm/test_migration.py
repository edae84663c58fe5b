#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A VM moves to another host in the middle of its chain, and is backed up there: QEMU takes its bitmaps along, libvirt forgets the
checkpoints. What each set must hold, nbdcopy read from the same job."""
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import lab  # noqa: E402
from lab import DONE, MIB  # noqa: E402
from second_host import SecondHost  # noqa: E402
from test_cloudstack_increments import IncrementTest  # noqa: E402
from test_increments import ChainTest  # noqa: E402


class Moving:
    """For tests that have a second host."""

    def setUp(self):
        folder = Path(tempfile.mkdtemp())
        self.host = SecondHost(folder / "host")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.addCleanup(self.host.remove)  # after its VMs: those are made later
        super().setUp()

    def move(self, vm, with_disks=False):
        """The VM, and whoever runs commands, is on the second host from now on."""
        vm.move_to(self.host, self.dir, with_disks)
        self.before_command = self.host.before_command
        self.assertEqual(vm.handle.listAllCheckpoints(), [])


class AChain(Moving, ChainTest):
    def test_goes_on_where_the_hosts_share_the_disks(self):
        vm = self.machine()
        full = self.take(vm, "--full")
        vm.write("vda", 5 * MIB, 100_000, 7)
        self.move(vm)
        vm.write("vda", 55 * MIB, 65536, 8)
        taken = self.take(vm, "--incremental", "--verify")
        disk = self.disk_of(taken)
        self.assertEqual((disk["full_because"], disk["data_bytes"]), (None, 3 * 65536))
        self.assert_restores(taken)
        self.assert_agree(vm, full, taken)
        self.assert_status(self.verify(taken.set), DONE, "no errors were found")

    def test_begins_anew_for_a_disk_that_was_copied(self):
        vm = self.machine()
        self.take(vm, "--full")
        vm.write("vda", 5 * MIB, 100_000, 7)
        self.move(vm, with_disks=True)
        taken = self.take(vm, "--incremental")
        self.assertRegex(self.disk_of(taken)["full_because"], "was replaced")
        self.assert_restores(taken)
        vm.write("vda", 9 * MIB, 65536, 9)
        after = self.take(vm, "--incremental")
        self.assertEqual(self.disk_of(after)["data_bytes"], 65536)
        self.assert_restores(after)
        self.assert_agree(vm, taken, after)


class AChainOfCloudStacks(Moving, IncrementTest):
    """CloudStack defines the VM anew on the other host, as libvirt does here."""

    def test_goes_on_where_the_hosts_share_the_disks(self):
        self.assert_size(self.full(0))
        self.vm.write("vda", 5 * MIB, MIB, 7)
        self.move(self.vm)
        self.vm.write("vdb", 7 * MIB, MIB, 8)
        self.assert_increment(self.increment(1, 0), 1, 0)
        self.assertEqual(self.checkpoints(), ["backup-1"])

    def test_becomes_a_full_backup_when_the_disks_were_copied(self):
        self.assert_size(self.full(0))
        self.move(self.vm, with_disks=True)
        self.vm.write("vda", 5 * MIB, MIB, 7)
        self.assert_fallback(self.increment(1, 0), 1)
        self.assertRegex(self.log.read_text(), "was replaced")


if __name__ == "__main__":
    lab.main()
