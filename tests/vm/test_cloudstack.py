# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""nasbackup.sh as CloudStack calls it: argument vectors of every version of its Java, both ways to read the answer, and its restore.
The storage is a real ext4 on a loop device, mounted by the program itself. What goes wrong: test_cloudstack_faults.py. Numbers in names
of rules are the contract's."""
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import cloudstack  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
from cloudstack_test import FAILED, OK, TIME, CloudStackTest  # noqa: E402
from lab import MIB  # noqa: E402


class TheCommandLine(CloudStackTest):
    def test_is_refused_where_upstream_refuses_it(self):
        self.assertRegex(self.call("--bogus").out, r"\AInvalid option: --bogus\n\nUsage")
        self.assertEqual(self.call("--operation=backup").status, FAILED)
        for words in (["-h"], ["--help"]):
            answer = self.call(*words)
            self.assertEqual((answer.status, answer.out[:7]), (FAILED, "\nUsage:"))
        self.assert_failure(self.call("-o"), "needs a value")
        self.assertEqual(self.call("-o", "").out, "")
        self.assertEqual(self.call("-o", "bogus").status, OK)

    def test_is_judged_before_anything_is_mounted(self):
        key = self.dir / "key"
        take = self.take_words("machine", version="#12898, first head")
        nothing = ["-t", "bogus", "-s", "nowhere"]
        self.assert_failure(self.call(*take, *nothing, "-c", "-e", key), "Compression and encryption cannot be combined: qcow2 does not support both")
        for path in (key, self.dir, ""):
            self.assert_failure(self.call(*take, *nothing, "-e", path), "passphrase")
        key.touch()
        self.assert_failure(self.call(*take, *nothing, "-e", key), "passphrase.*empty")
        self.assert_failure(self.call(*take, *nothing, "-M", "bogus"), "Unknown mode: bogus")
        self.assert_failure(self.call(*take, *nothing, "-M", "incremental", "--bitmap-new", "b", "-c"),
                            "Incremental mode cannot be combined with compression or encryption")
        for rate in ("-1", "x", "99999999999", "5M"):
            self.assert_failure(self.call(*take, *nothing, "-b", rate), "bandwidth")
        for path in ("", "machine", "/machine/x", "machine/../x", "../x", "machine/.x", "a/b/c"):
            self.assert_failure(self.call(*take, *nothing, "-p", path), "path")
        self.assert_no_leak()

    def test_that_cannot_be_mounted_says_so_and_leaves_no_directory(self):
        self.store = cloudstack.store("ext4", self.dir / "absent.img", "loop,password=hunter2")
        answer = self.take("machine")
        self.assert_failure(answer, "^Failed to mount ext4 store")
        self.assertNotIn("hunter2", answer.out + answer.err)
        self.assert_no_leak()
        self.assertNotIn("hunter2", self.log.read_text())


class ARunningVm(CloudStackTest):
    def test_is_backed_up_for_every_version_of_java(self):
        disks = [self.disk("vda", 64 * MIB, "qcow2", fill=4 * MIB, name="8f7c"), self.disk("vdb", 33 * MIB, "raw", fill=2 * MIB, name="be12"),
                 self.disk("sdc", MIB, name="cd.iso", device="cdrom")]
        domain = self.domain("i-2-10-VM", disks)
        copies = {}
        for disk in disks[:2]:
            copies[disk.path] = self.dir / f"{disk.target}.copy"
            subprocess.run(["qemu-img", "convert", "-U", "-f", disk.fmt, "-O", "raw", str(disk.path), str(copies[disk.path])], check=True)
        for number, version in enumerate(cloudstack.TAKES):
            with self.subTest(version=version):
                path = f"2026.11.26.09.30.{number:02}"
                size = self.assert_size(self.take(domain.name, path, version))
                self.assertEqual(self.assert_stored(domain.name, copies, path, texts=True), size)
        self.assert_no_leak(domain)

    def test_gets_its_number_also_when_java_took_it_for_stopped(self):
        domain = self.domain("i-2-11-VM")
        self.assert_size(self.take(domain.name, disks=["/nowhere/a", "/nowhere/b"]), disks=["a", "b"])
        self.assert_no_leak(domain)

    def test_is_compressed_encrypted_throttled_and_frozen_as_asked(self):
        domain = self.guest("i-2-12-VM", ["vda"], 64 * MIB)
        key = self.dir / "key"
        key.write_bytes(b"s3cret")
        version = "#12898, first head"
        self.assert_size(self.take(domain.name, "2026.11.26.09.31.00", version, compress=True, quiesce=True, verify=True))
        self.assert_size(self.take(domain.name, "2026.11.26.09.31.01", version, passphrase=key, limit=50, verify=True))
        with self.mounted() as nas:
            for path, kind in (("2026.11.26.09.31.00", {}), ("2026.11.26.09.31.01", {"encrypted": True})):
                place = nas / domain.name / path
                image = next(place.glob("root.*.qcow2"))
                manifest = json.loads((place / "manifest.json").read_text())
                self.assertEqual(manifest["consistency"], "crash" if kind else "filesystem")
                self.assertEqual(manifest["options"]["compression"], "none" if kind else "zlib:default")
                self.assertLessEqual(kind.items(), judge.info(image).items())
                cloudstack.restore(image, self.dir / "restored.qcow2", key)
                (self.dir / "restored.qcow2").unlink()
        self.assertFalse(domain.frozen())
        self.assertEqual(self.log.read_text().count("read back and compared"), 2)
        self.assert_no_leak(domain)

    def test_gets_the_checkpoint_that_was_asked_for_only_with_a_backup(self):
        domain = self.domain("i-2-13-VM", [self.disk("vda", fmt="qcow2", fill=MIB), self.disk("vdb", fill=MIB)])
        self.assertEqual(self.take(domain.name, mode="full", bitmap_new="backup-1").status, OK)
        self.assertEqual([point.getName() for point in domain.handle.listAllCheckpoints()], ["backup-1"])
        answer = self.take(domain.name, "2026.11.26.09.30.01", mode="incremental", bitmap_new="backup-2", bitmap_parent="backup-1",
                           parents=f"{domain.name}/{TIME}/root.vda.qcow2,{domain.name}/{TIME}/datadisk.vdb.qcow2")
        self.assertEqual(answer.out.splitlines()[0], cloudstack.FALLBACK)
        self.assert_size(answer)
        self.nas = self.make_nas(8 * MIB)
        self.store = cloudstack.store("ext4", self.nas, "loop")
        big = self.domain("i-2-14-VM", [self.disk("vda", fmt="qcow2", fill=20 * MIB, name="big")])
        self.assertEqual(self.take(big.name, mode="full", bitmap_new="backup-1").status, FAILED)
        self.assertEqual(big.handle.listAllCheckpoints(), [])
        for point in domain.handle.listAllCheckpoints():
            point.delete()
        self.assert_no_leak(big)


class AStoppedVm(CloudStackTest):
    def test_is_backed_up_by_the_paths_that_java_names(self):
        template, _ = self.volume("template", fill=3 * MIB)
        child = self.dir / "5d1e"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "template", "-F", "qcow2", str(child)], check=True)
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", str(child)], check=True, stdout=subprocess.DEVNULL)
        flat = self.dir / "flat.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(child), str(flat)], check=True)
        raw, raw_copy = self.volume("77aa", 9 * MIB + 512, "raw", MIB)
        with open(raw, "r+b") as disk:  # a raw disk whose first bytes look like a qcow2 [T70] is told by its device
            disk.write(Path(template).read_bytes()[:65536])
        device = subprocess.run(["losetup", "-f", "--show", str(raw)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device])
        raw_copy.write_bytes(Path(raw).read_bytes())
        disks = [str(child), device]
        answer = self.take("i-2-20-VM", disks=disks)
        size = self.assert_size(answer, disks)
        self.assertEqual(self.assert_stored("i-2-20-VM", {child: flat, device: raw_copy}), size)
        self.assert_no_leak()

    def test_without_disk_paths_fails(self):
        domain = self.domain("i-2-21-VM", start=False)
        self.assert_failure(self.take(domain.name), "does not run")
        self.assert_failure(self.take("i-2-99-VM"), "does not run")
        self.assert_no_leak()

    def test_is_refused_with_a_chain_that_leaves_the_pool(self):
        (self.dir / "else").mkdir()
        outside, _ = self.volume("else/secret")
        child = self.dir / "child"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(outside), "-F", "qcow2", str(child)], check=True)
        self.assert_failure(self.take("i-2-22-VM", disks=[str(child)]), "same storage pool")
        self.assert_failure(self.take("i-2-22-VM", disks=[str(self.dir / "absent")]), "absent")
        self.assert_no_leak()

    def test_that_runs_elsewhere_on_the_same_file_is_in_use(self):
        path, _ = self.volume("9c00")
        other = self.domain("other", [lab.Disk("vda", path, "qcow2")])
        self.assert_failure(self.take("i-2-23-VM", disks=[str(path)]), "in use")
        self.assert_no_leak(other)


class OtherOperations(CloudStackTest):
    def test_stats_are_two_lines(self):
        answer = self.call(*cloudstack.stats(self.store))
        self.assertEqual(answer.status, OK, str(answer))
        self.assertRegex(answer.out, r"\A\S+/csbackup\.[A-Za-z0-9]{5}\n[0-9]+ [0-9]+\n\Z")
        total, used = cloudstack.storage_use(answer.out)
        with self.mounted() as nas:
            room = os.statvfs(nas)
        self.assertEqual(total, room.f_blocks * room.f_frsize)
        self.assertLessEqual(used, total)
        self.assert_no_leak()

    def test_delete_takes_one_backup_and_what_a_dead_run_left_of_it(self):
        path, _ = self.volume("0b0b")
        for second in ("00", "01"):
            self.assertEqual(self.take("i-2-30-VM", f"2026.11.26.09.30.{second}", disks=[str(path)]).status, OK)
        with self.mounted() as nas:
            vm = nas / "i-2-30-VM"
            old = vm / "2026.01.01.00.00.00"  # of the script: without a manifest, and with whatever else
            (old / "folder").mkdir(parents=True)
            (old / "folder" / "root.x.qcow2").touch()
            left = vm / f".partial-0123456789abcdef.{TIME}"
            left.mkdir()
            (left / "root.x.qcow2").touch()
        for name in (TIME, "2026.01.01.00.00.00", "2026.02.02.00.00.00"):
            answer = self.call(*cloudstack.delete(self.store, f"i-2-30-VM/{name}"))
            self.assertEqual((answer.status, answer.out), (OK, ""), str(answer))
        self.assertEqual(self.call(*cloudstack.delete(self.store, "i-2-31-VM/2026.02.02.00.00.00")).status, OK)
        with self.mounted() as nas:
            self.assertEqual([path.name for path in (nas / "i-2-30-VM").iterdir()], ["2026.11.26.09.30.01"])
        for name in ("", "/", "..", "i-2-30-VM", "i-2-30-VM/..", "/etc/x", "i-2-30-VM/2026.11.26.09.30.01/../.."):
            self.assert_failure(self.call(*cloudstack.delete(self.store, name)), "path")
        with self.mounted() as nas:
            self.assertTrue((nas / "i-2-30-VM" / "2026.11.26.09.30.01" / "manifest.json").exists())
        self.assert_no_leak()


class TheLog(CloudStackTest):
    def test_is_appended_to_in_the_agents_format_without_secrets(self):
        self.log.write_text("a line of the agent's\n")
        path, _ = self.volume("0c0c")
        self.store = cloudstack.store("ext4", self.nas, "loop,rw")
        self.assertEqual(self.take("i-2-50-VM", disks=[str(path)]).status, OK)
        lines = self.log.read_text().splitlines()
        self.assertEqual(lines[0], "a line of the agent's")
        self.assertGreater(len(lines), 1)
        for line in lines[1:]:
            self.assertRegex(line, r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}-[0-9]{2}-[0-9]{2}> ")


class TheZone(CloudStackTest):
    KEYS = '"nas.backup.compression.enabled" = true\n'

    def test_switches_on_what_the_call_does_not_ask_for(self):
        path, copy = self.volume("0d0d")
        self.config.write_text(f'zone = "one"\n[cloudstack]\nlog-file = "{self.log}"\nmin-free = "1M"\nsize_marker = true\n'
                               "[cloudstack.zones.one]\nnas.backup.compression.enabled = true\nnas.backup.bandwidth.limit.mbps = 500\n")
        answer = self.take("i-2-60-VM", disks=[str(path)])
        self.assertEqual(answer.status, OK, str(answer))
        self.assertEqual(cloudstack.size_14203(answer.out), int(answer.out.splitlines()[-1]))
        with self.mounted() as nas:
            manifest = json.loads((nas / "i-2-60-VM" / TIME / "manifest.json").read_text())
        self.assertEqual(manifest["options"]["compression"], "zlib:default")
        self.assert_stored("i-2-60-VM", {path: copy})

    def test_encrypts_only_for_a_cloudstack_that_can_restore_it(self):
        path, copy = self.volume("0e0e")
        key = '"nas.backup.encryption.enabled" = true\n"nas.backup.encryption.passphrase" = "s3cret"\n'
        self.configure(key)
        self.assert_failure(self.take("i-2-61-VM", disks=[str(path)]), "restore_opens_encrypted")
        self.configure('"nas.backup.encryption.enabled" = true\nrestore_opens_encrypted = true\n')
        self.assert_failure(self.take("i-2-61-VM", disks=[str(path)]), "passphrase")
        self.configure(key + "restore_opens_encrypted = true\n")
        self.assert_size(self.take("i-2-61-VM", disks=[str(path)]), [str(path)])
        passphrase = self.dir / "passphrase"
        passphrase.write_bytes(b"s3cret")
        self.assert_stored("i-2-61-VM", {path: copy}, passphrase=passphrase)

    def test_that_is_broken_fails_every_call_in_one_line(self):
        for text, says in (("bogus = 1", "bogus"), ('"nas.backup.bogus" = 1', "nas.backup.bogus"), ("nas.backup.compression.enabled = 1", "true or false"),
                           ("rate = 5", "bandwidth"), ("nas.backup.bandwidth.limit.mbps = -1", "whole number"), ("= x", "nasbackup.toml")):
            self.configure(text)
            self.assert_failure(self.call(*cloudstack.stats(self.store)), says)


if __name__ == "__main__":
    lab.main()
