# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""nasbackup.sh when something goes wrong: storage, guest, libvirt, agent, signals. Afterwards no guest is frozen or paused, nothing of the call
is left but what its exit status tells of, and nothing half is visible. Calls that wait for a time-out wait together."""
import contextlib
import os
import random
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
        if call.process.poll() is not None:
            self.fail(f"ended before it had a job: {call.end()}")
        return call

    def partial_bytes(self, domain):
        """Of its images that are being written, seen through a worker."""
        return any(os.path.getsize(path) > MIB // 8 for pid in lab.our_processes()
                   for path in Path(f"/proc/{pid}/root/").glob(f"{os.environ['TMPDIR'][1:]}/csbackup.*/{domain.name}/.partial*/*.qcow2"))

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


class AMountThatWarns(FaultTest):
    def test_is_not_heard_by_java(self):
        """[T18]"""
        domain, nas = self.machine(73), self.called_nas("warns")
        nas.warn("mount: 42\nmount: warning: an option is not known")
        self.assert_size(self.begin_take(domain, nas.store()).end())
        self.assertRegex(self.begin(*cloudstack.stats(nas.store())).end().out, r"\A\S+\n[0-9]+ [0-9]+\n\Z")
        deleted = self.begin(*cloudstack.delete(nas.store(), f"{domain.name}/{TIME}")).end()
        self.assertEqual((deleted.status, deleted.out), (OK, ""))


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

    def test_when_the_backup_has_its_name_leaves_a_row_that_is_kept(self):
        """[3.8, 9: 13883] What is on the storage shall not be forgotten."""
        nas = self.called_nas("late", "unlink", 1)
        disk, content = self.volume("aa79", 8 * MIB, fill=MIB)
        words = cloudstack.TAKES[VERSION]("i-2-79-VM", nas.store(), f"i-2-79-VM/{TIME}", disks=[str(disk)])
        answer = self.begin(*words).end(SOON)
        self.assertTrue(nas.is_hung())
        self.assert_failure(answer, "\\Afuse store: no answer for [^\n]*\nBackup cleanup failed\n\\Z", CLEANUP_FAILED)
        nas.end()
        self.assert_no_leak()
        self.assertEqual(self.visible(nas.backing), [f"i-2-79-VM/{TIME}"])
        image = cloudstack.backup_file(nas.backing / "i-2-79-VM" / TIME, 0, str(disk))
        cloudstack.restore(image, self.dir / "restored.qcow2")
        judge.same(self.dir / "restored.qcow2", content)

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
        wait_until("the second call to see it", lambda: calls[1].process.poll() is not None, 10)  # long before it has read everything
        answers = self.ends(calls)
        self.assert_size(answers[0], [file])
        self.assert_failure(answers[1], f"{by_device.name}: was started while its disks were read")
        self.assert_unharmed(by_device)
        self.assert_no_leak(by_device)
        self.assert_storage_holds(f"{by_file.name}/{TIME}")

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
        self.configure('rate-group = "faults"\nnas.backup.bandwidth.limit.mbps = 3')
        domains = [self.machine(86), self.machine(87)]
        calls = [self.begin_slowly(domain, limit=None) for domain in domains]
        self.assertTrue(domains[0].backup_job(), "they do not work side by side")
        self.assert_failure(self.begin_take(domains[0], path=LATER).end(SOON), "locked")
        for answer in self.ends(calls):
            self.assert_size(answer)
        for domain in domains:
            self.assert_no_leak(domain)
        self.assert_storage_holds(*(f"{domain.name}/{TIME}" for domain in domains))


class ALibvirtd(FaultTest):
    def test_that_is_restarted_in_the_copy_changes_nothing(self):
        domain = self.machine(88)
        call = self.begin_slowly(domain)
        wait_until("it to copy", lambda: self.partial_bytes(domain))
        daemon.stop()
        daemon.start()
        self.assert_size(call.end(SOON))
        self.assert_no_leak(domain)
        self.assert_unharmed(domain)
        self.assert_storage_holds(f"{domain.name}/{TIME}")

    def test_that_is_gone_is_one_line(self):
        daemon.stop()
        self.addCleanup(daemon.start)
        self.assert_failure(self.call(*cloudstack.stats(self.store)), "libvirt")
        self.assert_no_leak()


class TheEnvironment(FaultTest):
    def test_says_how_long_a_backup_may_take(self):
        domain = self.machine(89)
        answer = self.begin_take(domain, limit=1, env={"BACKUP_TIMEOUT": "1"}).end(SOON)
        self.assert_failure(answer, f"\\ABackup timed out after 1s for VM {domain.name}\n\\Z")
        self.assert_failure(self.take(domain.name, env={"BACKUP_TIMEOUT": "soon"}), "soon")
        self.assert_no_leak(domain)
        self.assert_storage_holds()

    def test_says_what_must_be_free_and_a_full_nas_fails_the_backup_and_not_the_guest(self):
        domain = self.machine(90, fill=15)
        self.nas = self.make_nas(16 * MIB)
        self.store = cloudstack.store("ext4", self.nas, "loop")
        self.assert_failure(self.take(domain.name, env={"MIN_FREE_SPACE": str(1 << 40)}),
                            "\\AInsufficient free space on backup target: [0-9]+ MB available, 1048576 MB required\n\\Z")
        self.assert_failure(self.take(domain.name, env={"MIN_FREE_SPACE": "much"}), "much")
        self.assert_failure(self.take(domain.name), "(?i)space|full|room")
        self.assert_no_leak(domain)
        self.assert_unharmed(domain)
        self.assert_storage_holds()


# Stands before libvirt's call that begins the job: there is time then for the agent to die.
LATE_BEGIN = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int virDomainBackupBegin(void* domain, const char* xml, const char* checkpoint, unsigned flags) {
  int (*begin)(void*, const char*, const char*, unsigned) = dlsym(RTLD_NEXT, "virDomainBackupBegin");
  sleep(2);
  return begin(domain, xml, checkpoint, flags);
}
"""

# Nothing of this is on the file systems that are frozen. It dies when it has answered, which it does when they are.
DYING_AGENT = ("(while [ ! -e /run/qga.state.isfrozen ]; do sleep 0.05; done; sleep 0.7; killall -9 qemu-ga; sleep 10;"
               " qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run -f /run/qga.pid) >/dev/null 2>&1 &")
FREEZE_WATCH = "(while [ ! -e /run/qga.state.isfrozen ]; do sleep 0.02; done; touch /run/was-frozen) >/dev/null 2>&1 &"


class AnAgent(FaultTest):
    IO_TIMEOUT = 20

    def boot(self, *names):
        """Guests that start beside each other."""
        guests = []
        for name in names:
            tree = self.dir / "tree"
            tree.mkdir(exist_ok=True)
            (tree / "file").write_bytes(os.urandom(MIB))
            guests.append(self.domain(name, [self.disk("vda", 64 * MIB, "qcow2", name=f"{name}.qcow2", tree=tree)], os_inside=True, start=False))
        for guest in guests:
            guest.handle.create()
        for guest in guests:
            guest.wait_for_agent()
        return guests

    def late_begin(self):
        source, library = self.dir / "late.c", self.dir / "late.so"
        source.write_text(LATE_BEGIN)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        return {"LD_PRELOAD": str(library)}

    def begin_quiesced(self, guest, env=None, timeout=20, **options):
        words = cloudstack.TAKES["main, 4.22 with #13877"](guest.name, self.called_nas(guest.name).store(), f"{guest.name}/{TIME}", quiesce=True, **options)
        return self.begin(*words, "--quiesce-timeout", timeout, env=env)

    def test_that_hangs_or_dies_or_a_job_that_cannot_begin_leaves_no_guest_frozen(self):
        refused, hangs, dies = guests = self.boot("i-2-91-VM", "i-2-92-VM", "i-2-93-VM")
        refused.handle.checkpointCreateXML("<domaincheckpoint><name>backup-1</name></domaincheckpoint>")
        node = next(block["inserted"]["node-name"] for block in refused.qmp("query-block") if block.get("inserted"))
        refused.qmp("block-dirty-bitmap-add", node=node, name="backup-2")  # unknown to libvirt: only QEMU refuses it
        # Freezing writes what is dirty, which takes two minutes now.
        hangs.shell("dd if=/dev/zero of=/mnt/vda/dirty bs=1M count=8 2>/dev/null")
        hangs.handle.setBlockIoTune("vda", {"total_bytes_sec": 65536})
        dies.shell(DYING_AGENT)
        refused.shell(FREEZE_WATCH)
        calls = [self.begin_quiesced(refused, mode="full", bitmap_new="backup-2"), self.begin_quiesced(hangs, timeout=2), self.begin_quiesced(dies, self.late_begin())]
        wait_until("the backup to go on", lambda: hangs.backup_job() or calls[1].process.poll() is not None)
        hangs.handle.setBlockIoTune("vda", {"total_bytes_sec": 0})
        answers = self.ends(calls, 60)
        self.assert_failure(answers[0], f"^Failed to start backup for VM {refused.name}: .*backup-2")  # as libvirt says it [T54]
        self.assertIn("was-frozen", refused.shell("ls /run"))
        self.assert_failure(self.take(refused.name, mode="full", bitmap_new="backup-1"), "checkpoint backup-1: exists already")
        self.assert_size(answers[1])  # [T55]
        self.assertRegex(self.log.read_text(), "did not freeze the file systems within 2 s; not quiesced")
        self.assert_failure(answers[2], f"^Failed to thaw the filesystem for vm {dies.name}: .*agent")  # [T56]
        wait_until("our processes to end", lambda: not lab.our_processes())
        self.assertEqual([point.getName() for point in refused.handle.listAllCheckpoints()], ["backup-1"])
        refused.handle.checkpointLookupByName("backup-1").delete()
        dies.wait_for_agent()
        for guest in guests:
            wait_until("the guest to be thawed", lambda: not guest.frozen())
            guest.shell("echo on >> /mnt/vda/log; sync")
            self.assert_no_leak(guest)
            self.assertEqual(guest.state(), lab.libvirt.VIR_DOMAIN_RUNNING)


class ASignal(FaultTest):
    """./campaign signals has more moments of it."""
    POINTS = int(os.environ.get("NASBACKUP_SIGNAL_POINTS", "6"))
    SEED = int(os.environ.get("NASBACKUP_SIGNAL_SEED", "1"))
    IO_TIMEOUT = 20

    def boot(self):
        tree = self.dir / "tree"
        tree.mkdir()
        (tree / "file").write_bytes(os.urandom(4 * MIB))
        self.guest = self.domain("i-2-95-VM", [self.disk("vda", 32 * MIB, tree=tree)], os_inside=True)
        self.random = random.Random(self.SEED)
        self.number = 0
        self.sets = set()

    def begin_next(self):
        self.number += 1
        self.path = f"2026.11.26.10.{self.number // 60:02}.{self.number % 60:02}"
        return self.begin_take(self.guest, path=self.path, quiesce=True, limit=4)

    def moments(self):
        """Spread over a whole call, from its start to its end: parts of its length, which is the second one's; the first finds cold caches."""
        for _ in range(2):
            began = time.monotonic()
            self.assert_size(self.begin_next().end())
            self.length = time.monotonic() - began
            self.sets.add(self.path)
        return [(i + self.random.random()) / self.POINTS for i in range(self.POINTS)]

    def begin_until(self, moment):
        """A call under way at the moment. One that is quicker than thought tells how long a call takes, and another is begun."""
        for _ in range(3):
            call, began = self.begin_next(), time.monotonic()
            try:
                call.process.wait(moment * self.length)
            except subprocess.TimeoutExpired:
                return call
            self.length = time.monotonic() - began
            self.assert_size(call.end())
            self.sets.add(self.path)
        return self.fail("no call is still under way when its signal comes")

    def visible_sets(self, hidden_too=False):
        with self.mounted() as nas:
            if hidden_too:
                self.assertEqual([str(path) for path in nas.rglob(".*")], [])
            vm = nas / self.guest.name
            found = {path.name for path in vm.iterdir() if not path.name.startswith(".")} if vm.exists() else set()
            for name in found - self.sets:
                self.assertTrue((vm / name / "manifest.json").exists(), name)
                judge.check(next((vm / name).glob("root.*.qcow2")))
            return found

    def assert_free(self):
        self.assertEqual(self.guest.state(), lab.libvirt.VIR_DOMAIN_RUNNING)
        self.assertFalse(self.guest.frozen())
        self.assertEqual(self.guest.leftovers(), [])

    def end_by(self, number, moment):
        call = self.begin_until(moment)
        call.send(number)
        answer = call.end(60)
        self.assert_no_leak(self.guest)
        self.assert_free()
        self.sets |= {self.path} if answer.status == OK else set()
        self.assertEqual(self.visible_sets(hidden_too=True), self.sets, str(answer))
        if answer.status == OK:
            self.assert_size(answer)
        elif answer.status == -number:
            self.assertEqual(answer.out, "")
            self.assertLess(moment, 0.25, "only before it has begun")
        else:
            self.assert_failure(answer, f"^stopped by signal {int(number)}")

    def end_at(self, moments):
        for moment in moments:
            with self.subTest(moment=round(moment, 3)):
                self.end_by(signal.SIGTERM, moment)
        for number in (signal.SIGINT, signal.SIGHUP):
            with self.subTest(signal=number.name):
                self.end_by(number, moments[len(moments) // 2])

    def kill(self, everyone, moment):
        call = self.begin_until(moment)
        if everyone:
            os.killpg(call.process.pid, signal.SIGKILL)
        else:
            call.send(signal.SIGKILL)
        answer = call.end(60)
        wait_until("our processes to end", lambda: not lab.our_processes(), 60)
        self.assert_no_call_mount()
        self.assertEqual(list(Path(os.environ["TMPDIR"]).glob("csbackup.*")), [])
        self.assert_free()
        wait_until("the loop device to go", lambda: str(self.nas) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True, timeout=30).stdout)
        self.assertIn(answer.status, (OK, -signal.SIGKILL), str(answer))
        found = self.visible_sets()
        self.assertLessEqual(found - self.sets, {self.path})
        if answer.status == OK:
            self.assertIn(self.path, found)
        self.sets = found

    def kill_at(self, moments):
        """The supervisor alone and the whole process group; in turn when there are few moments."""
        kinds = [[number % 2 == 0 for number in range(self.POINTS)]] if self.POINTS < 20 else [[True] * self.POINTS, [False] * self.POINTS]
        for kind in kinds:
            for moment, everyone in zip(moments, kind):
                with self.subTest(moment=round(moment, 3), everyone=everyone):
                    self.kill(everyone, moment)
        self.assert_size(self.begin_next().end())
        self.assert_no_leak(self.guest)
        self.assert_storage_holds(*(f"{self.guest.name}/{name}" for name in self.sets | {self.path}))

    def test_at_any_moment_leaves_a_free_guest_and_nothing_half(self):
        self.boot()
        moments = self.moments()
        self.end_at(moments)
        self.kill_at(moments)

    def test_that_kills_every_process_leaves_what_the_next_call_sweeps(self):
        nas = self.called_nas("fuse")  # whose server outlives the call
        machine = self.machine(96)
        call = self.begin_slowly(machine, nas.store())
        for pid in lab.our_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        call.end()
        wait_until("our processes to end", lambda: not lab.our_processes())
        self.assert_size(self.begin_take(machine, nas.store(), LATER).end())
        self.assertEqual([path.name for path in (nas.backing / machine.name).iterdir()], [LATER])
        self.assert_no_leak(machine)
        wait_until("the server to end", lambda: not nas.servers())
        self.assert_no_call_mount()


if __name__ == "__main__":
    lab.main()
