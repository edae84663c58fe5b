# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""backup --full and --incremental of a running VM, and what restore, verify and delete make of the chains. What each set must hold,
nbdcopy read from the same job; qemu-img judges the images, with what they stand on."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import dirty_bitmaps  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
from lab import DONE, MIB, NOT_FOUND, USAGE, Disk, wait_until  # noqa: E402

DAMAGED = 13
QUICK = ["--pbkdf-iterations", "1000", "--insecure-pbkdf"]


class ChainTest(lab.LabTest):
    def machine(self, name="machine", size=64 * MIB):
        return self.domain(name, [self.disk("vda", size, "qcow2", fill=4 * MIB), self.disk("vdb", 33 * MIB, "raw", fill=MIB)])

    def take(self, domain, *options, status=DONE):
        """One backup, and what nbdcopy read of each disk in its job."""
        folder, words = self.copies()
        result = self.backup(domain, *options, *words, "--json")
        self.assert_status(result, status)
        if status == DONE:
            result.copies, result.set = folder, Path(result.json()["set"])
        return result

    def disk_of(self, result, name="vda"):
        return next(disk for disk in result.json()["disks"] if disk["name"] == name)

    def restored(self, backup_set, *options):
        out = Path(self.dir / f"restored-{time.monotonic_ns()}")
        out.mkdir()
        result = self.run_command("restore", backup_set, "--to", out, "-O", "raw", *options)
        self.assert_status(result, DONE)
        return out

    def assert_restores(self, taken, *options):
        out = self.restored(taken.set, *options)
        for copy in taken.copies.glob("*.raw"):
            judge.same(next(out.glob(f"*{copy.stem}*.raw")), copy, "raw")

    def checkpoints(self, domain):
        return sorted(point.getName() for point in domain.handle.listAllCheckpoints())

    def ledger(self, domain):
        """The checkpoints of this target, by its own account."""
        return sorted(path.read_text().strip() for path in (self.target / domain.name).glob(".checkpoint-*"))

    def assert_agree(self, domain, *sets):
        """Checkpoints are those of these sets, and nobody thinks otherwise."""
        expected = sorted(json.loads((taken.set / "manifest.json").read_text())["checkpoint"] for taken in sets)
        self.assertEqual(self.checkpoints(domain), expected)
        self.assertEqual(self.ledger(domain), expected)

    def verify(self, path, *options):
        return self.run_command("verify", path, *options, timeout=120)


class AChain(ChainTest):
    def test_holds_what_changed_and_every_point_of_it_is_restored(self):
        vm = self.machine()
        taken = [self.take(vm, "--full")]
        for number in (1, 2, 3):
            vm.write("vda", number * 9 * MIB + 512, 100_000, number)
            vm.write("vda", 65536 * number, 65536, 0)  # a range that became zero is no data
            taken.append(self.take(vm, "--incremental"))
            disk = self.disk_of(taken[-1])
            self.assertLessEqual(disk["data_bytes"], 3 * 65536)
            self.assertEqual(disk["parent_bytes"] + disk["read_bytes"], 64 * MIB)
            self.assertEqual(disk["parent_bytes"] + disk["data_bytes"] + disk["zero_bytes"], 64 * MIB)
            self.assertGreaterEqual(disk["zero_bytes"], 65536)  # found in what was read
            self.assertEqual(self.disk_of(taken[-1], "vdb")["full_because"], "raw cannot hold a bitmap")
            image = self.image(taken[-1].set, "vda")
            info = judge.info(image)
            self.assertEqual(info["backing-filename"], f"../{taken[-2].set.name}/{image.name}")
            self.assertEqual(info["backing-filename-format"], "qcow2")
            self.assert_agree(vm, taken[0], taken[-1])
        for one in taken:
            judge.check(self.image(one.set, "vda"))
            judge.same(self.image(one.set, "vda"), one.copies / "vda.raw")
            self.assert_restores(one)
        self.assert_status(self.verify(taken[-1].set), DONE, "no errors were found")

    def test_stores_a_trimmed_range_as_zeroes_and_not_as_data(self):
        vm = self.machine()
        self.take(vm, "--full")
        line = 'qemu-io -d /machine/peripheral/ua-vda/virtio-backend "discard 0 2M"'
        vm.qmp("human-monitor-command", **{"command-line": line})
        taken = self.take(vm, "--incremental")
        self.assertEqual([self.disk_of(taken)[key] for key in ("read_bytes", "data_bytes", "zero_bytes")], [0, 0, 2 * MIB])
        mapped = json.loads(judge.output_of("qemu-img", "map", "--output=json", str(self.image(taken.set, "vda")))[1])
        self.assertTrue(mapped[0]["zero"] and mapped[0]["depth"] == 0 and mapped[0]["length"] >= 2 * MIB, mapped[0])
        self.assert_restores(taken)

    def test_is_compressed_and_encrypted_like_any_backup(self):
        key = self.dir / "key"
        key.write_bytes(b"s3cret")
        vm = self.machine()
        for options in (["-c"], ["-e", key, *QUICK], ["-c=zstd", "-e", key, *QUICK]):
            with self.subTest(options=options):
                opens = ["-e", key] if "-e" in options else []
                taken = [self.take(vm, "--full", *options, "--verify")]
                for number in (1, 2):
                    vm.write("vda", number * MIB + 70_000, 200_000, number + len(options))
                    taken.append(self.take(vm, "--incremental", *options, "--verify"))
                    self.assertIsNone(self.disk_of(taken[-1])["full_because"])
                for one in taken:
                    self.assert_restores(one, *opens)
                self.assert_status(self.verify(taken[-1].set, *opens), DONE)
                self.assert_agree(vm, taken[0], taken[-1])

    def test_has_a_block_device_as_a_whole_each_time(self):
        image = self.disk("vdb", 33 * MIB, fill=MIB, name="device.img").path
        device = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device])
        vm = self.domain("machine", [self.disk("vda", 64 * MIB, "qcow2", fill=4 * MIB), Disk("vdb", device)])
        self.take(vm, "--full")
        for target in ("vda", "vdb"):
            vm.write(target, 20 * MIB, MIB, 7)
        taken = self.take(vm, "--incremental")
        self.assertEqual((self.disk_of(taken)["full_because"], self.disk_of(taken)["data_bytes"]), (None, MIB))
        self.assertEqual(self.disk_of(taken, "vdb")["full_because"], "raw cannot hold a bitmap")
        self.assert_restores(taken)

    def test_can_be_a_differential(self):
        vm = self.machine()
        full = self.take(vm, "--full")
        for number in (1, 2):
            vm.write("vda", number * 10 * MIB, MIB, number)
            taken = self.take(vm, f"--incremental={full.set.name}")
            self.assertEqual(self.disk_of(taken)["data_bytes"], number * MIB)
            self.assertIn(f"../{full.set.name}/", judge.info(self.image(taken.set, "vda"))["backing-filename"])
            self.assert_restores(taken)
        self.assert_status(self.backup(vm, "--incremental=2020.01.01.00.00.00"), NOT_FOUND, "has no such set")

    def test_has_a_parent_only_where_one_can_be(self):
        vm = self.machine()
        taken = self.take(vm, "--incremental")
        self.assertEqual((taken.json()["kind"], self.disk_of(taken)["full_because"]), ("full", "there is no earlier set"))
        self.assertEqual(self.take(vm).json()["kind"], "full")  # leaves no checkpoint
        self.assert_agree(vm, taken)
        second = self.take(vm, "--incremental")  # on the set before
        self.assertIn(taken.set.name, judge.info(self.image(second.set, "vda"))["backing-filename"])
        self.assertEqual(self.disk_of(self.take(vm, "--incremental", "--cluster-size", "1M"))["full_because"],
                         f"{second.set.name} has clusters of another size")
        key = self.dir / "key"
        key.write_bytes(b"s3cret")
        self.assertRegex(self.disk_of(self.take(vm, "--incremental", "-e", key, *QUICK))["full_because"], "is not encrypted")


class ADisk(ChainTest):
    """That cannot be an increment is stored as a whole, and the others are not."""

    def two(self):
        return self.domain("machine", [self.disk("vda", 64 * MIB, "qcow2", fill=4 * MIB), self.disk("vdb", 32 * MIB, "qcow2", fill=MIB)])

    def assert_only(self, taken, target, because):
        for name in ("vda", "vdb"):
            reason = self.disk_of(taken, name)["full_because"]
            self.assertRegex(reason or "", because if name == target else r"\A\Z", name)
        manifest = json.loads((taken.set / "manifest.json").read_text())
        self.assertRegex(next(disk for disk in manifest["disks"] if disk["name"] == target)["full_because"], because)
        self.assert_restores(taken)

    def test_that_was_resized(self):
        vm = self.two()
        self.take(vm, "--full")
        vm.handle.blockResize("vdb", 48 * MIB, lab.libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        self.assert_only(self.take(vm, "--incremental"), "vdb", "was resized from 33554432 to 50331648 bytes")

    def test_that_is_new_or_was_replaced(self):
        vm = self.two()
        self.take(vm, "--full", "--disk", "vda")
        self.assert_only(self.take(vm, "--incremental"), "vdb", "does not have it")
        vm.destroy()
        vm.disks[1] = self.disk("vdb", 32 * MIB, "qcow2", fill=2 * MIB, name="other")
        vm.start()
        self.assert_only(self.take(vm, "--incremental"), "vdb", "was replaced")

    def test_whose_bitmap_is_gone_or_broken(self):
        vm = self.two()
        self.take(vm, "--full")
        node = next(block["inserted"]["node-name"] for block in vm.qmp("query-block") if "vdb" in block["inserted"]["file"])
        vm.qmp("block-dirty-bitmap-remove", node=node, name=self.checkpoints(vm)[0])
        self.assert_only(self.take(vm, "--incremental"), "vdb", "bitmap is missing or inconsistent")
        os.kill(vm.qemu_pid(), signal.SIGKILL)
        wait_until("the domain to be off", lambda: not vm.handle.isActive())
        vm.start()
        broken = self.take(vm, "--incremental")
        self.assertEqual(broken.json()["kind"], "full")
        self.assertRegex(self.disk_of(broken)["full_because"], "missing or inconsistent")
        self.assert_agree(vm, broken)
        good = self.take(vm, "--incremental")
        self.assertEqual(good.json()["kind"], "increment")
        self.assert_restores(good)

    def test_whose_vm_was_restarted_and_defined_anew(self):
        vm = self.two()
        self.take(vm, "--full")
        vm.write("vda", 9 * MIB, MIB, 7)
        vm.destroy()
        vm.handle.undefineFlags(lab.libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        vm.start()
        vm.write("vdb", 9 * MIB, MIB, 8)
        taken = self.take(vm, "--incremental")
        self.assertEqual([self.disk_of(taken, name)["data_bytes"] for name in ("vda", "vdb")], [MIB, MIB])
        self.assert_restores(taken)

    def test_whose_vm_was_saved_and_resumed(self):
        vm = self.two()
        full = self.take(vm, "--full")
        vm.write("vda", 9 * MIB, MIB, 7)
        vm.handle.managedSave()
        asleep = self.backup(vm, "--incremental")
        self.assert_status(asleep, lab.WARNINGS, "its saved memory")
        vm.handle.create()
        vm.write("vdb", 9 * MIB, MIB, 8)
        taken = self.take(vm, "--incremental")
        self.assertEqual([self.disk_of(taken, name)["data_bytes"] for name in ("vda", "vdb")], [MIB, MIB])
        self.assert_restores(taken)
        self.assert_agree(vm, full, taken)

    def test_that_got_a_snapshot_and_lost_it_again(self):
        """libvirt carries bitmaps into an overlay and back; the overlay's path is another."""
        vm = self.two()
        self.take(vm, "--full")
        for in_between in (False, True):
            self.snapshot(vm)
            vm.write("vda", 9 * MIB, MIB, 7 + in_between)
            if in_between:
                self.assertRegex(self.disk_of(self.take(vm, "--incremental"))["full_because"], "was replaced")
            self.commit(vm)
            vm.write("vda", 20 * MIB, MIB, 8 + in_between)
            taken = self.take(vm, "--incremental", "--verify")
            if in_between:
                self.assertRegex(self.disk_of(taken)["full_because"], "was replaced")
            else:
                self.assertEqual([(self.disk_of(taken, name)["data_bytes"]) for name in ("vda", "vdb")], [2 * MIB, 0])
            self.assert_restores(taken)

    def snapshot(self, vm):
        flags = lab.libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | lab.libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        vm.handle.snapshotCreateXML(f"<domainsnapshot><name>snapshot-{time.monotonic_ns()}</name></domainsnapshot>", flags)

    def commit(self, vm):
        for disk in vm.disks:
            vm.handle.blockCommit(disk.target, None, None, 0, lab.libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
            wait_until("the commit to be ready", lambda: "<mirror" in vm.handle.XMLDesc() and "ready='yes'" in vm.handle.XMLDesc())
            vm.handle.blockJobAbort(disk.target, lab.libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            wait_until("the pivot", lambda: not vm.handle.blockJobInfo(disk.target))


class ABrokenChain(ChainTest):
    def test_is_found_by_verify_of_what_stands_on_it(self):
        vm = self.machine()
        full = self.take(vm, "--full")
        vm.write("vda", 20 * MIB, MIB)
        taken = self.take(vm, "--incremental")
        image = self.image(full.set, "vda")
        whole = image.read_bytes()
        image.write_bytes(whole[:MIB] + bytes([whole[MIB] ^ 1]) + whole[MIB + 1:])
        self.assert_status(self.verify(taken.set), DAMAGED, f"{image}.*differs from what was backed up")
        out = self.dir / "out"
        out.mkdir()
        self.assert_status(self.run_command("restore", taken.set, "--to", out), DAMAGED)
        self.assertEqual(list(out.iterdir()), [])
        image.write_bytes(whole[:-512])
        self.assert_status(self.verify(taken.set), DAMAGED, f"{image}: has .* bytes")
        named = [f"--incremental={one.set.name}" for one in (full, taken)]
        for words in named:  # asked for by its name, damage is no reason to do something else
            self.assert_status(self.backup(vm, words), DAMAGED, f"{image.name}:? has .* bytes")
        self.assertEqual(self.take(vm, "--incremental").json()["kind"], "full")
        image.write_bytes(whole)
        self.assert_status(self.verify(taken.set), DONE)
        (full.set / "manifest.json").rename(self.dir / "manifest.json")
        self.assert_status(self.backup(vm, named[1]), DAMAGED, full.set.name)
        self.assert_status(self.verify(taken.set), DAMAGED, full.set.name)

    def test_whose_image_names_another_backing_file_is_damaged(self):
        vm = self.machine()
        self.take(vm, "--full")
        taken = self.take(vm, "--incremental")
        image = self.image(taken.set, "vda")
        subprocess.run(["qemu-img", "rebase", "-u", "-b", "/etc/passwd", "-F", "raw", str(image)], check=True)
        result = self.run_command("restore", taken.set, "--disk", f"vda={self.dir / 'out.raw'}", "-O", "raw")
        self.assert_status(result, DAMAGED)
        self.assertFalse((self.dir / "out.raw").exists())

    def test_comes_to_light_when_the_bitmap_lies(self):
        """The disk was changed behind QEMU's back: the bitmap does not know."""
        vm = self.machine()
        self.take(vm, "--full")
        vm.destroy()
        mapped = json.loads(judge.output_of("qemu-img", "map", "--output=json", "-U", str(vm.disks[0].path))[1])
        place = next(run["offset"] for run in mapped if run["data"])
        with open(vm.disks[0].path, "r+b") as disk:
            disk.seek(place)
            disk.write(b"behind its back" * 100)
        vm.start()
        result = self.backup(vm, "--incremental", "--verify")
        self.assert_status(result, DAMAGED, "vda: guest bytes .*the bitmap calls them unchanged")
        self.assertEqual(len(self.sets(vm)), 1)
        self.assertEqual(len(self.checkpoints(vm)), 1)
        self.assert_status(self.backup(vm, "--full", "--verify"), DONE)


class Checkpoints(ChainTest):
    def test_of_others_are_left_alone(self):
        vm = self.machine()
        vm.handle.checkpointCreateXML("<domaincheckpoint><name>foreign</name></domaincheckpoint>"
                                      .replace("</name>", "</name><disks><disk name='vda' checkpoint='bitmap'/><disk name='vdb' checkpoint='no'/></disks>"))
        other = self.dir / "other"
        other.mkdir()
        first = self.take(vm, "--full")
        elsewhere = self.run_command("backup", vm.name, "--to", other, "--full", "--min-free", "1M")
        self.assert_status(elsewhere, DONE)
        second = self.take(vm, "--incremental")
        self.assertEqual(second.json()["kind"], "increment")
        self.assertEqual(len(self.checkpoints(vm)), 4)
        self.assertIn("foreign", self.checkpoints(vm))
        self.assertEqual(len(self.ledger(vm)), 2)
        self.assert_status(self.run_command("delete", first.set, "--with-children"), DONE)
        self.assertEqual(len(self.checkpoints(vm)), 2)
        self.assertIn("foreign", self.checkpoints(vm))

    def test_go_with_the_sets_that_are_deleted(self):
        vm = self.machine()
        taken = [self.take(vm, "--full"), self.take(vm, "--incremental"), self.take(vm, "--incremental")]
        self.assert_status(self.run_command("delete", taken[0].set), lab.FAILED, "stand on it")
        self.assert_agree(vm, taken[0], taken[2])
        self.assert_status(self.run_command("delete", taken[2].set), DONE)
        self.assert_agree(vm, taken[0])
        vm.write("vda", 9 * MIB, MIB, 5)
        after = self.take(vm, "--incremental")  # on the full one
        self.assertEqual(self.disk_of(after)["data_bytes"], MIB)
        self.assert_restores(after)
        vm.destroy()  # what cannot be deleted now is when it runs again
        self.assert_status(self.run_command("delete", after.set), DONE)
        self.assertEqual(len(self.ledger(vm)), 2)
        vm.start()
        last = self.take(vm, "--incremental")
        self.assert_agree(vm, taken[0], last)
        self.assertEqual(sorted(bitmap["name"] for block in vm.qmp("query-block") if block.get("inserted")
                                for bitmap in block["inserted"].get("dirty-bitmaps", [])), self.checkpoints(vm))

    def test_of_a_run_that_fails_or_is_killed_leave_the_next_increment_possible(self):
        vm = self.machine()
        full = self.take(vm, "--full")
        vm.write("vda", 5 * MIB, MIB, 1)
        self.assert_status(self.backup(vm, "--incremental", "--min-free", "100000G"), lab.TARGET_FULL)
        self.assert_agree(vm, full)
        run, release = self.begin_in_job(vm, "--incremental")
        run.send_group(signal.SIGKILL)
        run.kill()
        release()
        wait_until("our processes to end", lambda: not lab.our_processes())
        wait_until("the guard to give the guest back", lambda: not vm.backup_job() and self.checkpoints(vm) == self.ledger(vm)[:0] + [
            json.loads((full.set / "manifest.json").read_text())["checkpoint"]])
        vm.write("vda", 15 * MIB, MIB, 2)
        taken = self.take(vm, "--incremental")
        self.assertEqual(self.disk_of(taken)["data_bytes"], 2 * MIB)
        self.assert_restores(taken)
        self.assert_agree(vm, full, taken)

    def test_are_for_running_vms_and_targets_that_keep_something(self):
        vm = self.machine()
        self.assert_status(self.run_command("backup", vm.name, "--to", "null:", "--incremental"), USAGE, "null:")
        self.assert_status(self.backup(vm, "--incremental", "--full"), USAGE)
        vm.destroy()
        self.assert_status(self.backup(vm, "--incremental"), DONE)
        self.assertEqual(json.loads((self.one_set(vm) / "manifest.json").read_text())["checkpoint"], "")


class AMillionDirtyPieces(ChainTest):
    SIZE = 128 << 30
    MEASURE = ("import resource, subprocess, sys; print(subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode,"
               " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")

    def peak(self, *words):
        """The most that one of the command's processes had in memory, in MiB."""
        done = subprocess.run([sys.executable, "-c", self.MEASURE, lab.NASBACKUP, *map(str, words)], capture_output=True, text=True, timeout=120)
        status, kibibytes = map(int, done.stdout.split())
        self.assertEqual(status, DONE, done.stderr)
        return kibibytes / 1024

    def make_dirty(self, vm, disk):
        """Each second piece, which no guest of ours could write in time: into each of its bitmap's clusters once, the rest by hand."""
        for offset in range(0, self.SIZE, 32 << 30):
            vm.write("vda", offset, 65536, offset >> 35 or 9)
        vm.destroy()
        dirty_bitmaps.fill(disk.path, b"\x55")
        vm.handle.create()

    def test_need_little_memory(self):
        disk = self.disk("vda", self.SIZE, "qcow2")
        vm = self.domain(disks=[disk])
        self.assert_status(self.backup(vm, "--full"), DONE)
        for options in ((), ("-c",)):
            self.make_dirty(vm, disk)
            with self.subTest(options=options):
                self.assertLess(self.peak(*self.backup_words(vm, "--incremental", *options)), 256)
                newest = self.sets(vm)[-1]
                stored = json.loads((newest / "manifest.json").read_text())["disks"][0]
                self.assertEqual((stored["parent_bytes"], stored["data_bytes"] + stored["zero_bytes"]), (self.SIZE // 2, self.SIZE // 2))
                for words in (("verify", newest), ("restore", newest, "--disk", f"vda={self.dir}/restored{len(options)}.qcow2"), ("merge", newest)):
                    self.assertLess(self.peak(*words), 256)
                judge.same(self.dir / f"restored{len(options)}.qcow2", disk.path, "qcow2", "qcow2")


if __name__ == "__main__":
    lab.main()
