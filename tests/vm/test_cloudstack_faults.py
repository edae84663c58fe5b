# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""nasbackup.sh when something goes wrong: storage, guest, libvirt, agent, signals. Afterwards no guest is frozen or paused, nothing of the call
is left but what its exit status tells of, and nothing half is visible. Calls that wait for a time-out wait together."""
import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import cloudstack  # noqa: E402
import daemon  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
from called_nas import CalledNas  # noqa: E402
from cloudstack_test import CLEANUP_FAILED, FAILED, OK, TIME, CloudStackTest  # noqa: E402
from hung_nas import HungNas  # noqa: E402
from lab import MIB, wait_until  # noqa: E402

VERSION = "#12898, first head"
LATER = "2026.11.26.09.30.01"
SOON = 20  # seconds: a call that takes longer hangs


class FaultTest(CloudStackTest):
    IO_TIMEOUT = 2

    def configure(self, text=""):
        super().configure(f"io-timeout = {self.IO_TIMEOUT}\n{text}")

    def machine(self, number, mib=32, start=True, fill=2):
        return self.domain(f"i-2-{number}-VM", [self.disk("vda", mib * MIB, fill=fill * MIB, name=f"volume-{number}")], start=start)

    def called_nas(self, name, operation="-", count=1):
        nas = CalledNas(self.dir / name, operation, count)
        self.addCleanup(nas.end)
        return nas

    def begin_take(self, domain, store=None, path=TIME, env=None, **options):
        return self.begin(*cloudstack.TAKES[VERSION](domain.name, store or self.store, f"{domain.name}/{path}", **options), env=env)

    def begin_slowly(self, domain, store=None, path=TIME, limit=2, **options):
        call = self.begin_take(domain, store, path, limit=limit, **options)
        wait_until("the job to begin", lambda: domain.backup_job() or call.process.poll() is not None)
        return call

    def ends(self, calls, timeout=SOON):
        """Their answers, however they hang beside each other."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(lambda call: call.end(timeout), calls))

    def assert_unharmed(self, domain):
        self.assertEqual(domain.state(), lab.libvirt.VIR_DOMAIN_RUNNING)
        self.assertEqual(domain.leftovers(), [])
        self.assertEqual(domain.io_errors(), [])
        domain.write("vda", 0, MIB)

    def visible(self, root):
        """What anybody finds on a storage: no hidden names."""
        return sorted(str(path.relative_to(root)) for vm in Path(root).iterdir() if vm.name != "lost+found"
                      for path in vm.iterdir() if not path.name.startswith("."))

    def assert_storage_holds(self, *sets):
        with self.mounted() as nas:
            self.assertEqual(self.visible(nas), sorted(sets))
            self.assertEqual([str(path) for path in nas.rglob(".*")], [])

    def assert_no_call_mount(self):
        """Nobody has a storage of a call mounted any more, in whatever namespace."""
        for path in Path("/proc").glob("[0-9]*/mountinfo"):
            with contextlib.suppress(OSError):
                self.assertNotIn("csbackup.", path.read_text(), path)


class AMountThatHangs(FaultTest):
    def kernel_hung_store(self):
        """mount(2) looks for its layers on a storage that is gone, and sleeps in the kernel, as with NFS. No loop device: the whole host would
        wait for it, because mount(8) asks every loop device for its file."""
        nas = HungNas(self.dir, "lookup", 1)
        self.addCleanup(nas.end)
        return nas, cloudstack.store("overlay", "overlay", f"lowerdir={nas.place}/one:{nas.place}/two")

    def test_in_its_helper_or_in_the_kernel_ends_the_call_in_time(self):
        helper = self.called_nas("helper")
        helper.hold()
        kernel, kernel_store = self.kernel_hung_store()
        domain = self.machine(70)
        timed, stopped, late = (self.begin_take(domain, kernel_store), self.begin_take(domain, kernel_store),
                                self.begin_take(domain, kernel_store, env={"BACKUP_TIMEOUT": "1"}))
        calls = [self.begin_take(domain, helper.store()), timed, stopped, late, self.begin(*cloudstack.stats(helper.store())),
                 self.begin(*cloudstack.delete(kernel_store, f"{domain.name}/{TIME}"))]
        kernel.wait_until_hung()
        stopped.send(signal.SIGTERM)
        answers = self.ends(calls)
        gone = f"^Failed to mount (overlay|fuse) store: no answer for {self.IO_TIMEOUT} s"
        for answer, says in zip(answers, (gone, gone, "^stopped by signal 15", f"^Backup timed out after 1s for VM {domain.name}", gone, gone)):
            self.assert_failure(answer, says)
        self.assert_no_leak(domain)  # although their mounts still sleep
        self.assertEqual(helper.servers(), [])
        kernel.end()
        wait_until("the mounts to end", lambda: not subprocess.run(["pgrep", "-x", "mount"], stdout=subprocess.DEVNULL).returncode == 0)
        self.assert_no_call_mount()
        self.assert_unharmed(domain)
        self.assert_size(self.take(domain.name))


class ANasThatStopsAnswering(FaultTest):
    HANGS = {"mkdir 1": FAILED, "mkdir 3": CLEANUP_FAILED, "write 20": CLEANUP_FAILED, "fsync 2": CLEANUP_FAILED, "rename 2": CLEANUP_FAILED}

    def test_holds_neither_caller_nor_guest(self):
        cases = []
        for number, (hang, status) in enumerate(self.HANGS.items(), 71):
            cases.append((hang, status, self.machine(number), self.called_nas(hang.replace(" ", "-"), *hang.split(" "))))
        answers = self.ends([self.begin_take(domain, nas.store()) for _, _, domain, nas in cases])
        for (hang, status, domain, nas), answer in zip(cases, answers):
            with self.subTest(hang=hang):
                self.assert_failure(answer, f"\\Afuse store: no answer for {self.IO_TIMEOUT}[^\n]*given up", status)
                self.assertEqual("Backup cleanup failed\n" in answer.out, status == CLEANUP_FAILED)
                self.assertTrue(nas.is_hung())
                self.assert_unharmed(domain)
        self.assertEqual(list(Path(os.environ["TMPDIR"]).glob("csbackup.*")), [])
        for _, _, _, nas in cases:
            nas.end()
        self.assert_no_leak()
        self.assert_no_call_mount()
        for hang, _, domain, nas in cases:
            self.assertEqual(self.visible(nas.backing), [], hang)
            nas.plan("-")
        _, _, domain, nas = cases[2]
        self.assert_size(self.begin_take(domain, nas.store(), LATER).end())
        self.assertEqual([path.name for path in (nas.backing / domain.name).iterdir()], [LATER])
        self.assert_no_leak(domain)

    def test_in_a_deletion_or_when_it_is_asked_for_its_size_holds_nobody(self):
        calls, storages = [], []
        for hang in ("statfs", "rename", "unlink", "rmdir"):
            nas = self.called_nas(hang, hang, 1)
            backup = f"{hang}/{TIME}"
            (nas.backing / backup).mkdir(parents=True)
            (nas.backing / backup / "root.x.qcow2").touch()
            calls.append(self.begin(*(cloudstack.stats(nas.store()) if hang == "statfs" else cloudstack.delete(nas.store(), backup))))
            storages.append(nas)
        for nas, answer in zip(storages, self.ends(calls)):
            self.assert_failure(answer, "^fuse store: no answer")
            self.assertTrue(nas.is_hung())
            nas.end()
        self.assert_no_leak()
        self.assert_no_call_mount()


class AnUmount(FaultTest):
    IO_TIMEOUT = 30

    def worker_and_mount(self):
        for pid in lab.our_processes():
            for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
                if "csbackup." in line:
                    return pid, line.split(" ")[4]
        return None

    def test_that_is_busy_changes_nothing_about_a_good_backup(self):
        domain = self.machine(77)
        call = self.begin_slowly(domain)
        pid, place = wait_until("the mount", self.worker_and_mount)
        user = subprocess.Popen(["nsenter", "-t", str(pid), "-m", "sh", "-c", f"cd {place} && exec sleep 60"])
        self.addCleanup(user.wait)
        self.addCleanup(user.kill)
        wait_until("somebody to use it", lambda: os.readlink(f"/proc/{user.pid}/cwd") == place)
        size = self.assert_size(call.end(SOON))
        self.assertRegex(self.log.read_text(), "umount: .*busy")
        user.kill()
        user.wait()
        self.assert_no_leak(domain)
        self.assert_no_call_mount()
        self.assertEqual(self.assert_stored(domain.name, {domain.disks[0].path: domain.disks[0].path}, texts=True), size)

    def test_that_hangs_in_the_kernel_changes_nothing_about_a_good_backup(self):
        domain, nas = self.machine(78), self.called_nas("hangs")
        programs = self.dir / "programs"
        programs.mkdir()
        umount = programs / "umount"
        umount.write_text(f'#!/bin/sh\nkill -USR1 $(basename -a {nas.folder}/[0-9]*) 2>/dev/null\nwhile [ ! -e {nas.folder}/hung ]; do sleep 0.05; done\n'
                          'stat "$1"\nexec /usr/bin/umount "$@"\n')
        umount.chmod(0o755)
        call = self.begin_take(domain, nas.store(), env={"PATH": f"{programs}:{os.environ['PATH']}"})
        size = self.assert_size(call.end(SOON))
        self.assertTrue(nas.is_hung())
        self.assert_no_leak(domain)
        nas.end()
        self.assert_no_call_mount()
        place = nas.backing / domain.name / TIME
        self.assertEqual(sum(path.stat().st_size for path in place.iterdir()), size)
        judge.check(next(place.glob("root.*.qcow2")))


class AVm(FaultTest):
    IO_TIMEOUT = 20

    def test_that_stops_or_starts_while_the_storage_is_mounted_is_taken_as_it_then_is(self):
        stops, starts = self.machine(80), self.machine(81, start=False)
        disk = str(starts.disks[0].path)
        nas = self.called_nas("held")
        nas.hold()
        without, with_disks = self.begin_take(stops, nas.store()), self.begin_take(starts, nas.store(), disks=[disk])
        wait_until("the mounts", lambda: len(nas.servers()) == 2)
        stops.destroy()
        starts.handle.create()
        nas.let_go()
        self.assert_failure(without.end(SOON), f"{stops.name}: does not run, and no disk paths were given")
        size = self.assert_size(with_disks.end(SOON), [disk])
        self.assert_no_leak(starts)
        self.assert_no_call_mount()
        place = nas.backing / starts.name / TIME
        self.assertEqual(sum(path.stat().st_size for path in place.iterdir()), size)
        self.assertTrue((place / "domain-config.xml").exists())

    def test_that_is_started_while_its_disks_are_read_does_not_start_or_fails_the_backup(self):
        by_file, by_device = self.machine(82, start=False), self.machine(83, start=False)
        device = subprocess.run(["losetup", "-f", "--show", by_device.disks[0].path], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device])
        file = str(by_file.disks[0].path)
        calls = []
        for domain, disk in ((by_file, file), (by_device, device)):
            calls.append(self.begin_take(domain, disks=[disk], limit=1))
            wait_until("it to copy", lambda: self.partial_bytes(domain))
        with self.assertRaisesRegex(lab.libvirt.libvirtError, "lock"):
            by_file.handle.create()
        by_device.handle.create()
        wait_until("the second call to see it", lambda: calls[1].process.poll() is not None)
        answers = self.ends(calls)
        self.assert_size(answers[0], [file])
        self.assert_failure(answers[1], f"{by_device.name}: was started while its disks were read")
        self.assert_unharmed(by_device)
        self.assert_no_leak(by_device)
        self.assert_storage_holds(f"{by_file.name}/{TIME}")

    def partial_bytes(self, domain):
        """Of its images that are being written, seen through a worker."""
        return any(os.path.getsize(path) > MIB // 8 for pid in lab.our_processes()
                   for path in Path(f"/proc/{pid}/root/").glob(f"{os.environ['TMPDIR'][1:]}/csbackup.*/{domain.name}/.partial*/*.qcow2"))

    def test_or_its_job_that_ends_meanwhile_fails_the_backup(self):
        destroyed, aborted = self.machine(84), self.machine(85)
        calls = [self.begin_slowly(destroyed), self.begin_slowly(aborted)]
        destroyed.destroy()
        aborted.handle.abortJob()
        answers = self.ends(calls)
        self.assert_failure(answers[0], f"domain {destroyed.name}: stopped during the backup")
        self.assert_failure(answers[1], f"domain {aborted.name}: the backup job was ended by somebody else")
        self.assert_unharmed(aborted)
        self.assert_no_leak(aborted)
        self.assert_storage_holds()

    def test_is_backed_up_beside_others_and_once_at_a_time(self):
        self.configure(f'rate-group = "{self.dir}/group"\nnas.backup.bandwidth.limit.mbps = 3')
        domains = [self.machine(86), self.machine(87)]
        calls = []
        for domain in domains:
            calls.append(self.begin_take(domain))
            wait_until("its job", domain.backup_job)
        self.assertTrue(domains[0].backup_job(), "they do not work side by side")
        self.assert_failure(self.begin_take(domains[0], path=LATER).end(SOON), "locked")
        for answer in self.ends(calls):
            self.assert_size(answer)
        for domain in domains:
            self.assert_no_leak(domain)
        self.assert_storage_holds(*(f"{domain.name}/{TIME}" for domain in domains))


if __name__ == "__main__":
    lab.main()
