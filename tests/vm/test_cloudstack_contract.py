# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Single points of CloudStack's contract that test_cloudstack.py has no place for: bitmaps of stopped VMs, keys of encrypted volumes,
everything at once. Numbers in brackets are the contract's."""
import hashlib
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import cloudstack  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
import qemu_img  # noqa: E402
from lab import MIB  # noqa: E402
from cloudstack_test import FAILED, OK, TIME, CloudStackTest  # noqa: E402


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def bitmaps(image):
    return judge.info(image)["format-specific"]["data"].get("bitmaps", [])


def names_of(image):
    return [bitmap["name"] for bitmap in bitmaps(image)]


class TheBitmapsOfAStoppedVm(CloudStackTest):
    """[T51]"""

    def take_with(self, bitmap, disks, second="00", **more):
        return self.take("i-2-70-VM", f"2026.11.26.10.00.{second}", disks=[str(disk) for disk in disks], mode="full", bitmap_new=bitmap, **more)

    def linked_clone(self):
        self.volume("template", fill=MIB)
        child = self.dir / "5d1e"
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "template", "-F", "qcow2", child)
        qemu_img.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", child)
        return child

    def test_are_added_to_its_qcow2_files_and_to_nothing_else(self):
        child, (plain, _), (raw, _) = self.linked_clone(), self.volume("aa00"), self.volume("bb00", 9 * MIB, "raw", MIB)
        small = self.dir / "cc00"
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k,refcount_bits=1", small, "100M")
        device = subprocess.run(["losetup", "-f", "--show", str(self.volume("dd00", 9 * MIB, "raw", MIB)[0])], check=True, stdout=subprocess.PIPE,
                                text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device])
        untouched = {path: digest(path) for path in (raw, device, self.dir / "template")}
        before = self.dir / "before.raw"
        qemu_img.run("qemu-img", "convert", "-O", "raw", child, before)
        disks = [child, plain, raw, device, small]
        self.assert_size(self.take_with("backup-1", disks), disks)
        self.assert_size(self.take_with("backup-2", disks, "01"), disks)
        for image in (child, plain, small):
            self.assertEqual(names_of(image), ["backup-1", "backup-2"])
            self.assertEqual(bitmaps(image)[0], {"name": "backup-1", "flags": ["auto"], "granularity": 4096 if image == small else 65536})
            judge.check(image)
            self.assertEqual(subprocess.run([lab.NASBACKUP, "check", str(image)], stdout=subprocess.DEVNULL).returncode, 0)
        judge.same(child, before)
        self.assertEqual({path: digest(path) for path in untouched}, untouched)
        with self.mounted() as nas:  # [Q2]
            for image in (nas / "i-2-70-VM").glob("*/*.qcow2"):
                self.assertEqual(bitmaps(image), [])
        qemu_img.run("qemu-img", "bitmap", "--remove", child, "backup-1")
        judge.check(child)
        self.assert_no_leak()

    def test_count_the_writes_of_the_vm_that_is_started_next(self):
        child = self.linked_clone()
        self.assertEqual(self.take_with("backup-1", [child]).status, OK)
        domain = self.domain("i-2-70-VM", [lab.Disk("vda", child, "qcow2")])

        def bitmap():
            return next(bitmap for block in domain.qmp("query-block") for bitmap in block.get("inserted", {}).get("dirty-bitmaps", []))

        self.assertEqual({key: bitmap()[key] for key in ("name", "recording", "persistent", "inconsistent", "count", "granularity") if key in bitmap()},
                         {"name": "backup-1", "recording": True, "persistent": True, "count": 0, "granularity": 65536})
        domain.write("vda", 5 * MIB, 2 * 65536)
        self.assertEqual(bitmap()["count"], 2 * 65536)
        domain.destroy()
        judge.check(child)
        self.assertEqual(names_of(child), ["backup-1"])

    def test_are_all_there_or_none_is(self):
        (one, _), (two, _) = self.volume("aa00"), self.volume("bb00")
        qemu_img.run("qemu-img", "bitmap", "--add", two, "backup-1")
        before = digest(one), digest(two)
        self.assert_failure(self.take_with("backup-1", [one, two]), f"^Failed to pre-seed bitmap backup-1 on {two}: .*is there already")
        self.assertEqual((digest(one), digest(two)), before)
        self.nas = self.make_nas(3 * MIB)
        self.store = cloudstack.store("ext4", self.nas, "loop")
        self.assertEqual(self.take_with("backup-2", [one, two]).status, FAILED)
        self.assertEqual((digest(one), digest(two)), before)
        self.assert_no_leak()

    def test_cannot_be_put_into_an_old_image(self):
        old = self.dir / "aa00"
        qemu_img.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", old, "9M")
        self.assert_failure(self.take_with("backup-1", [old]), f"^Failed to pre-seed bitmap backup-1 on {old}: .*version 2")
        with self.mounted() as nas:
            self.assertEqual([path for path in nas.rglob("*") if path.name != "lost+found"], [])


class AJobThatCannotBegin(CloudStackTest):
    def test_is_told_of_in_upstreams_words_and_libvirts(self):
        """[3.10, T54]"""
        domain = self.domain("i-2-74-VM", [self.disk("vda", 9 * MIB, "qcow2", fill=MIB)])
        self.assertEqual(self.take(domain.name, mode="full", bitmap_new="backup-1").status, OK)
        answer = self.take(domain.name, "2026.11.26.11.30.00", mode="full", bitmap_new="backup-1")
        self.assert_failure(answer, f"^Failed to start backup for VM {domain.name}: .*backup-1")
        self.assertEqual([point.getName() for point in domain.handle.listAllCheckpoints()], ["backup-1"])
        domain.handle.listAllCheckpoints()[0].delete()
        self.assert_no_leak(domain)


class AModeOfOpenBranches(CloudStackTest):
    """[3.3, R9]: raw disks have no bitmaps, so that a full backup takes the place of their increment."""

    def test_is_never_a_full_backup_in_secret(self):
        volume, content = self.volume("aa00", 8 * MIB, "raw", MIB)
        more = {"disks": [str(volume)], "bitmap_new": "backup-2", "bitmap_parent": "backup-1", "parents": "i-2-75-VM/x/root.aa00.qcow2"}
        for second, mode, marked in (("00", "content-full", False), ("01", "content-incremental", True)):
            answer = self.take("i-2-75-VM", f"2026.11.26.11.45.{second}", mode=mode, **more)
            self.assert_size(answer, [volume])
            self.assertEqual(answer.out.startswith(cloudstack.FALLBACK + "\n"), marked, answer)
            self.assertEqual("content-incremental: a full backup instead" in self.log.read_text(), marked)
        self.assert_stored("i-2-75-VM", {volume: content}, "2026.11.26.11.45.01")
        for mode in ("Full", "content", "content-full ", "incremental,full"):
            answer = self.take("i-2-75-VM", "2026.11.26.11.45.02", mode=mode, **more)
            self.assert_failure(answer, f"\\AUnknown mode: {mode}\n")
        with self.mounted() as nas:
            self.assertEqual(sorted(path.name for path in (nas / "i-2-75-VM").iterdir() if not path.name.startswith(".")),
                             ["2026.11.26.11.45.00", "2026.11.26.11.45.01"])


class KeysOfEncryptedVolumes(CloudStackTest):
    """[9: 13197, 13556; keys fork]"""

    SECRET = "5c7b5b0e-55a5-4d4d-9c3c-3a3b9e1f0c11"

    def setUp(self):
        super().setUp()
        self.key = self.dir / "key"
        self.key.write_bytes(b"volume passphrase")

    def luks_qcow2(self, name="ee00"):
        plain, copy = self.volume(name + ".plain", 9 * MIB, "raw", MIB)
        path = self.dir / name
        qemu_img.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "--object", f"secret,id=s,file={self.key}", "-o",
                     "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", plain, path)
        return path, copy

    def luks_raw(self, name="ff00"):
        plain, copy = self.volume(name + ".plain", 9 * MIB, "raw", MIB)
        path = self.dir / name
        qemu_img.run("qemu-img", "convert", "-f", "raw", "-O", "luks", "--object", f"secret,id=s,file={self.key}", "-o",
                     "key-secret=s,iter-time=10", plain, path)
        return path, copy

    def define_secret(self, value=b"volume passphrase"):
        connection = lab.libvirt.open("qemu:///system")
        secret = connection.secretDefineXML(f"<secret ephemeral='no' private='no'><uuid>{self.SECRET}</uuid></secret>")
        self.addCleanup(connection.close)
        self.addCleanup(secret.undefine)
        secret.setValue(value)

    def take_plainly(self, disks, *more, second="00", **options):
        words = self.take_words("i-2-71-VM", f"2026.11.26.11.00.{second}", disks=[str(disk) for disk in disks], **options)
        return self.call(*words, *more)

    def test_are_needed_only_where_plaintext_is_allowed(self):
        disks = [self.luks_qcow2()[0], self.luks_raw()[0]]
        for disk in disks:
            self.assert_failure(self.take_plainly([disk]), f"^{disk}: is encrypted, and the backup would not be")
        self.assert_no_leak()

    def test_come_from_libvirts_secrets_or_from_files(self):
        (qcow2, copy), (raw, raw_copy) = self.luks_qcow2(), self.luks_raw()
        self.configure("allow-plaintext = true")
        self.define_secret()
        by_secret = f"{qcow2.name}:{self.SECRET},{raw.name}:{self.SECRET}"
        for number, words in enumerate((["-S", by_secret], ["-K", f"{qcow2.name}:{self.key},{raw.name}:{self.key}"])):
            answer = self.take_plainly([qcow2, raw], *words, second=f"{number:02}")
            self.assert_size(answer, [qcow2, raw])
            self.assert_stored("i-2-71-VM", {qcow2: copy, raw: raw_copy}, path=f"2026.11.26.11.00.{number:02}")
            self.assertNotIn("volume passphrase", answer.out + answer.err + self.log.read_text())
        self.assert_no_leak()

    def test_that_do_not_fit_or_are_not_there_fail_the_backup_in_one_line(self):
        disk, _ = self.luks_qcow2()
        self.configure("allow-plaintext = true")
        self.assert_failure(self.take_plainly([disk], "-S", f"x:{self.SECRET}"), f"^libvirt secret {self.SECRET}: ")
        self.assert_failure(self.take_plainly([disk], "-S", "scratch"), "^Option -S: 'scratch': neither a directory nor volume:secret")
        self.define_secret(b"another one")
        self.assert_failure(self.take_plainly([disk], "-S", f"x:{self.SECRET}"), f"^Failed to convert disk {disk}: .*(passphrase|key)")
        with self.mounted() as nas:
            self.assertEqual([path for path in nas.rglob("*") if path.name != "lost+found"], [])

    def test_a_running_vm_with_an_encrypted_disk_is_not_backed_up_in_the_clear(self):
        self.define_secret()
        disk, copy = self.luks_qcow2()
        encryption = f"<encryption format='luks'><secret type='passphrase' uuid='{self.SECRET}'/></encryption>"
        domain = self.domain("i-2-73-VM", [lab.Disk("vda", disk, "qcow2", extra=encryption)])
        self.assert_failure(self.take(domain.name), "^vda: is encrypted, and the backup would not be")
        self.configure("allow-plaintext = true")
        other = "00000000-55a5-4d4d-9c3c-3a3b9e1f0c11"  # not there, and of no interest while the VM runs
        self.assert_size(self.call(*self.take_words(domain.name), "-S", f"x:{other}"))
        self.assert_stored(domain.name, {disk: copy}, texts=True)
        self.assert_no_leak(domain)


class EverythingAtOnce(CloudStackTest):
    """Several disks, compression or encryption, throttle, verify, quiesce: all in one call."""

    KINDS = (("encrypted", {"passphrase": True}), ("compressed", {"compress": True}))

    def options(self, kind):
        options = {"quiesce": True, "verify": True, "limit": 40, "version": "#12898, first head", **kind}
        if options.get("passphrase"):
            options["passphrase"] = self.dir / "key"
            options["passphrase"].write_bytes(b"s3cret\n")
        return options

    def assert_whole(self, answer, vm, path, volumes, kind, disks=(), texts=False):
        self.assert_size(answer, disks)
        options = self.options(kind)
        self.assert_stored(vm, volumes, path, texts=texts, passphrase=options.get("passphrase"))
        with self.mounted() as nas:
            images = list((nas / vm / path).glob("*.qcow2"))
            self.assertEqual(len(images), len(volumes))
            for image in images:
                self.assertEqual(judge.info(image).get("encrypted", False), "passphrase" in kind)
            manifest = json.loads((nas / vm / path / "manifest.json").read_text())
            self.assertEqual(manifest["options"]["compression"], "zlib:default" if "compress" in kind else "none")
        self.assertIn("read back and compared", self.log.read_text())

    def test_of_a_running_vm(self):
        disks = [self.disk("vda", 64 * MIB, "qcow2", fill=4 * MIB, name="a1"), self.disk("vdb", 33 * MIB, "raw", fill=2 * MIB, name="a2")]
        domain = self.domain("i-2-80-VM", disks, os_inside=True)
        volumes = {}
        for disk in disks:
            volumes[disk.path] = self.dir / f"{disk.target}.copy"
            qemu_img.run("qemu-img", "convert", "-U", "-O", "raw", "-f", disk.fmt, disk.path, volumes[disk.path])
        for number, (_, kind) in enumerate(self.KINDS):
            path = f"2026.11.26.12.00.{number:02}"
            answer = self.take(domain.name, path, **self.options(kind))
            self.assert_whole(answer, domain.name, path, volumes, kind, texts=True)
            self.assertFalse(domain.frozen())
        self.assert_no_leak(domain)

    def test_of_a_stopped_vm(self):
        volumes = dict([self.volume("b1"), self.volume("b2", 33 * MIB + 512, "raw", 2 * MIB)])
        for number, (_, kind) in enumerate(self.KINDS):
            path = f"2026.11.26.12.01.{number:02}"
            answer = self.take("i-2-81-VM", path, disks=[str(disk) for disk in volumes], **self.options(kind))
            self.assert_whole(answer, "i-2-81-VM", path, volumes, kind, disks=list(volumes))
        self.assert_no_leak()

    def test_in_the_layered_form_that_the_zone_allows(self):
        path, copy = self.volume("c1")
        self.configure("layered = true")
        options = self.options({"passphrase": True, "compress": True})
        self.assertEqual(self.take("i-2-82-VM", disks=[str(path)], **options).status, OK)
        with self.mounted() as nas:
            image = next((nas / "i-2-82-VM" / TIME).glob("*.qcow2.luks"))
            judge.same_encrypted(image, copy, options["passphrase"])


class TheShareOfWindows(CloudStackTest):
    """cifs without a server: a mount of ours in front of mount(8) notes its words [12669, T6, T27]."""

    def words_of_mount(self, address, options):
        tools = self.dir / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "mount").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.dir}/words\nprintf "%s" "$PASSWD" > {self.dir}/password\n'
                                     f'eval "point=\\$4"\nexec {self.real_mount} -t tmpfs none "$point"\n')
        (tools / "mount").chmod(0o755)
        answer = self.call(*cloudstack.stats(cloudstack.store("cifs", address, options)), env={"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"})
        self.assertEqual(answer.status, OK, str(answer))
        cloudstack.storage_use(answer.out)
        return (self.dir / "words").read_text().split()

    real_mount = "/usr/bin/mount"

    def test_is_mounted_with_slashes_and_nobrl_and_its_password_is_not_shown(self):
        words = self.words_of_mount("\\\\host\\share", "username=u,password=pa,vers=3.0")
        self.assertEqual(words[:3] + words[4:], ["-t", "cifs", "//host/share", "-o", "username=u,vers=3.0,nobrl"])
        self.assertEqual((self.dir / "password").read_text(), "pa")
        self.assertEqual(self.words_of_mount("//host/share", "")[4:], ["-o", "nobrl"])
        self.assert_no_leak()


if __name__ == "__main__":
    lab.main()
