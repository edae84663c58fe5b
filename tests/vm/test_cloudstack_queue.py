# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The cap of backups that calls of nasbackup.sh make at once on a host (max_per_host; the contract's 9: #12847)."""
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import cloudstack  # noqa: E402
import lab  # noqa: E402
from called_nas import CalledNas  # noqa: E402
from cloudstack_test import OK, CloudStackTest  # noqa: E402
from lab import MIB, wait_until  # noqa: E402

SOON = 20


class ACapPerHost(CloudStackTest):
    def setUp(self):
        super().setUp()
        self.disk_path, self.copy = self.volume("aa00", 8 * MIB, fill=MIB)
        self.slow = CalledNas(self.dir / "slow")
        self.addCleanup(self.slow.end)

    def begin_backup(self, number, store=None, env=None):
        vm = f"i-2-{number}-VM"
        words = cloudstack.take_main(vm, store or self.store, f"{vm}/2026.11.26.09.30.00", disks=[str(self.disk_path)])
        return self.begin(*words, env=env)

    def begin_first(self):
        """Whose storage takes its time to be mounted."""
        self.slow.hold()
        call = self.begin_backup(1, self.slow.store())
        wait_until("the first call to mount its storage", self.slow.is_asked)
        return call

    def logged(self, text):
        return self.log.exists() and text in self.log.read_text()

    def begin_waiting(self, number, env=None):
        call = self.begin_backup(number, env=env)
        wait_until(f"call {number} to wait", lambda: self.logged(f"backup of VM i-2-{number}-VM: waits for its turn, for 0s: "))
        return call

    def test_lets_calls_in_by_their_order_and_takes_the_turn_of_a_dead_one(self):
        self.configure("max_per_host = 1")
        first = self.begin_first()
        second, third = self.begin_waiting(2), self.begin_waiting(3)
        self.assertTrue(self.logged("i-2-3-VM: waits for its turn, for 0s: 2 before it, max_per_host is 1"))
        self.assertEqual(cloudstack.storage_use(self.call(*cloudstack.stats(self.store), timeout=SOON).out)[0] > 0, True)  # does not wait
        self.assertEqual([call.process.poll() for call in (second, third)], [None, None])
        with self.mounted() as nas:
            self.assertEqual([path.name for path in nas.iterdir() if path.name != "lost+found"], [])
        first.process.kill()
        for call in (second, third):
            self.assert_size(call.end(SOON), [self.disk_path])
        self.assertLess(self.log.read_text().index("i-2-2-VM: its turn after"), self.log.read_text().index("i-2-3-VM: its turn after"))
        self.slow.end()
        self.assert_no_leak()

    def test_ends_a_wait_by_a_signal_the_time_out_or_the_deadline_with_one_line(self):
        self.configure("max_per_host = 1")
        first = self.begin_first()
        second, late = self.begin_waiting(2), self.begin_waiting(3, env={"BACKUP_TIMEOUT": "1"})
        second.send(signal.SIGTERM)
        sent = time.monotonic()
        self.assert_failure(second.end(SOON), r"\Abackup of VM i-2-2-VM: stopped by signal 15 \(Terminated\) while it waited for its turn\n")
        self.assertLess(time.monotonic() - sent, 5)
        self.assert_failure(late.end(SOON), r"\ABackup timed out after 1s for VM i-2-3-VM\n")
        self.configure("max_per_host = 1\nqueue_timeout = 1")
        self.assert_failure(self.begin_backup(4).end(SOON),
                            r"\Abackup of VM i-2-4-VM: it waited 1s for its turn \(queue_timeout\): 1 are before it, and max_per_host is 1\n")
        self.configure("max_per_host = 2")
        self.assert_size(self.begin_backup(5).end(SOON), [self.disk_path])
        self.configure()
        self.assert_size(self.begin_backup(6).end(SOON), [self.disk_path])
        self.slow.let_go()
        self.assertEqual(first.end(SOON).status, OK)
        self.slow.end()
        self.assert_no_leak()
        self.assertEqual([path.name for path in Path("/run/nasbackup").iterdir() if path.name.startswith("queue-")], [])

    def test_counts_the_wait_as_part_of_the_calls_time(self):
        self.configure("max_per_host = 1")
        first = self.begin_first()
        other = CalledNas(self.dir / "other")
        self.addCleanup(other.end)
        other.hold()
        began = time.monotonic()
        second = self.begin_backup(2, other.store(), env={"BACKUP_TIMEOUT": "3"})
        wait_until("it to wait", lambda: self.logged("i-2-2-VM: waits"))
        time.sleep(2)
        first.process.kill()
        wait_until("it to mount its storage", other.is_asked)
        self.assert_failure(second.end(SOON), r"\ABackup timed out after 3s for VM i-2-2-VM\n")
        self.assertLess(time.monotonic() - began, 4.9)
        self.slow.end()
        other.end()


class ACommonLimit(CloudStackTest):
    """[F8]: `rate-group`"""
    RATE, SIZE, WINDOW = 8, 32, 2  # MiB/s; MiB of data that each of two calls reads; seconds

    def written(self):
        """Bytes of images that are being written, by VM, seen through the workers."""
        sizes = {}
        for pid in lab.our_processes():
            for path in Path(f"/proc/{pid}/root/").glob(f"{os.environ['TMPDIR'][1:]}/csbackup.*/*/.partial*/*.qcow2"):
                sizes[path.parts[-3]] = path.stat().st_size
        return sizes

    def test_is_that_of_all_calls_together(self):
        self.configure(f'nas.backup.bandwidth.limit.mbps = {self.RATE}\nrate-group = "backups"')
        disks = [self.volume(f"bb0{number}", 64 * MIB, fill=self.SIZE * MIB)[0] for number in range(2)]
        stores = [self.store, cloudstack.store("ext4", self.make_nas(64 * MIB), "loop")]
        calls = [self.begin(*cloudstack.take_main(vm, store, f"{vm}/2026.11.26.09.30.00", disks=[str(disk)]))
                 for vm, store, disk in zip(("i-2-7-VM", "i-2-8-VM"), stores, disks)]
        wait_until("both to copy", lambda: len([size for size in self.written().values() if size > 2 * MIB]) == 2)
        before, began = sum(self.written().values()), time.monotonic()
        time.sleep(self.WINDOW)
        rate = (sum(self.written().values()) - before) / MIB / (time.monotonic() - began)
        self.assertEqual([call.process.poll() for call in calls], [None, None])
        self.assertLess(rate, 1.5 * self.RATE, "MiB a second, of both")
        self.assertGreater(rate, 0.3 * self.RATE)
        for call in calls:
            call.send(signal.SIGTERM)
        for call in calls:
            self.assert_failure(call.end(SOON), "^stopped by signal 15")


if __name__ == "__main__":
    lab.main()
