#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""VMs whose disks are images of a Ceph cluster (a real one of one node, cephx on): running, shut off, and stopped as CloudStack
calls nasbackup.sh for them. Judges are librbd by Ceph's Python bindings, and qemu-img."""
import base64
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import ceph  # noqa: E402
import cloudstack  # noqa: E402
import exposure  # noqa: E402
import judge  # noqa: E402
import lab  # noqa: E402
import libvirt  # noqa: E402
from lab import DONE, FAILED, MIB, SOURCE, TIMED_OUT, Disk, wait_until  # noqa: E402
from cloudstack_test import CLEANUP_FAILED, TIME, CloudStackTest  # noqa: E402



DAMAGED = 13
WRONG_KEY = "AQAp7Qdr2OhKNxAAcA1tRoRNH6+G5XqzrxzVzg=="


def setUpModule():
    global cluster
    folder = tempfile.mkdtemp(prefix="ceph-")
    unittest.addModuleCleanup(shutil.rmtree, folder, ignore_errors=True)
    cluster = ceph.Cluster(folder, auth="cephx, none")
    unittest.addModuleCleanup(cluster.stop)


class RbdDisk(Disk):
    """A disk of a domain in the cluster. `secret`: uuid of libvirt's secret with the key; None: no <auth>."""

    secret = None
    conf = None

    def xml(self):
        disk = ET.Element("disk", type="network", device="disk")
        ET.SubElement(disk, "driver", name="qemu", type="raw", discard="unmap")
        source = ET.SubElement(disk, "source", protocol="rbd", name=f"rbd/{self.path}")
        ET.SubElement(source, "host", name="127.0.0.1", port=str(cluster.port))
        if self.conf:
            ET.SubElement(source, "config", file=str(self.conf))
        if self.secret:
            auth = ET.SubElement(source, "auth", username="backup")
            ET.SubElement(auth, "secret", type="ceph", uuid=self.secret)
        ET.SubElement(disk, "target", dev=self.target, bus="virtio")
        ET.SubElement(disk, "alias", name="ua-" + self.target)
        return disk


class DisksInCeph:
    """What a test makes there."""

    def volume_in_ceph(self, size=24 * MIB, pieces=((0, 5 * MIB), (9 * MIB + 100, 300), (20 * MIB, MIB))):
        """Named by a uuid, as CloudStack does."""
        name = str(uuid.uuid4())
        cluster.create(name, size)
        cluster.fill(name, pieces)
        return name

    def content(self, image):
        """A raw file with what the image holds."""
        path = self.dir / f"{image}.copy"
        path.write_bytes(cluster.content(image))
        return path

    def secret(self, private=False):
        """libvirt's secret with the client's key; its uuid."""
        connection = libvirt.open("qemu:///system")
        number = str(uuid.uuid4())
        made = connection.secretDefineXML(f"<secret ephemeral='yes' private='{'yes' if private else 'no'}'><uuid>{number}</uuid>"
                                          f"<usage type='ceph'><name>{number}</name></usage></secret>")
        made.setValue(base64.b64decode(cluster.key))
        self.addCleanup(made.undefine)
        return number

    def rbd_disk(self, image, secret=None, conf=None):
        disk = RbdDisk("vda", image)
        disk.secret, disk.conf = secret, conf
        return disk

    def assert_key_is_nowhere(self, *texts):
        """Neither in what was said nor in any file of a set."""
        for text in texts:
            self.assertNotIn(cluster.key, text)
        for path in self.target.rglob("*"):
            if path.is_file():
                self.assertNotIn(cluster.key.encode(), path.read_bytes(), path)


    @contextlib.contextmanager
    def cores_in(self, folder):
        """Core files of what starts here would lie in this folder: one that aborts shows it."""
        here, limits = os.getcwd(), resource.getrlimit(resource.RLIMIT_CORE)
        pattern = Path("/proc/sys/kernel/core_pattern").read_text()
        if pattern.startswith(("|", "/")) or limits[1] == 0:
            self.skipTest(f"core files are not to be had here: {pattern.strip()}, at most {limits[1]} bytes")
        try:
            os.chdir(folder)
            resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
            subprocess.run(["sh", "-c", "kill -ABRT $$"])
            self.assertNotEqual(list(folder.iterdir()), [])
            for core in folder.iterdir():
                core.unlink()
            yield
        finally:
            os.chdir(here)
            resource.setrlimit(resource.RLIMIT_CORE, limits)

    @staticmethod
    def who_writes():
        """The worker, once it has written a MiB of an image; of nasbackup.sh it alone sees the storage."""
        for pid in lab.our_processes():
            for link in Path(f"/proc/{pid}/fd").glob("*"):
                with contextlib.suppress(OSError):
                    if os.readlink(link).endswith(".qcow2") and os.stat(link).st_size > MIB:
                        return pid
        return None


class CallTest(DisksInCeph, CloudStackTest):
    def begin_slowly(self, vm, disks, limit=8):
        """A call that is copying, and does not show the key any more (before its first instruction nobody can hide it); its worker."""
        call = self.begin(*self.take_words(vm, version="#12898, first head", disks=disks, limit=limit))
        wait_until("the key to be hidden", lambda: b"key=xxxx" in Path(f"/proc/{call.process.pid}/cmdline").read_bytes())
        return call, wait_until("the copy to begin", self.who_writes)


class AStoppedVmOfCloudStack(CallTest):
    def test_is_backed_up_in_every_way_and_restored_as_java_does(self):
        image = self.volume_in_ceph()
        raw = self.content(image)
        file, file_copy = self.volume("5d1e", 16 * MIB, fill=MIB)
        key = self.dir / "key"
        key.write_bytes(b"s3cret")
        disks = [cluster.location(image), str(file)]
        ways = {}, {"compress": True, "verify": True}, {"passphrase": key, "limit": 50, "verify": True}
        for number, options in enumerate(ways):
            with self.subTest(**options):
                path = f"2026.11.26.09.30.{number:02}"
                answer = self.take("i-2-70-VM", path, "#12898, first head", disks=disks, **options)
                size = self.assert_size(answer, disks)
                passphrase = options.get("passphrase")
                self.assertEqual(self.assert_stored("i-2-70-VM", {image: raw, file: file_copy}, path, passphrase=passphrase), size)
                self.assert_restored(image, f"i-2-70-VM/{path}", passphrase, exists=bool(number % 2))
        self.assertEqual(cluster.users(image), ([], [], []))
        self.assert_no_leak()

    def assert_restored(self, image, path, passphrase, exists):
        """To a new volume, or over an old one's content."""
        volume = self.volume_in_ceph(pieces=((0, 24 * MIB),)) if exists else str(uuid.uuid4())
        with self.mounted() as nas:
            backup = cloudstack.backup_file(nas / path, 0, image)
            cloudstack.restore_to_rbd(backup, cluster.location(volume), passphrase, exists)
        self.assertEqual(cluster.content(volume), cluster.content(image))

    def test_shows_the_key_of_its_storage_nowhere_and_keeps_to_the_limit(self):
        image = self.volume_in_ceph(pieces=((0, 12 * MIB),))
        began = time.monotonic()
        call, worker = self.begin_slowly("i-2-72-VM", [cluster.location(image)], limit=4)
        key = cluster.key.encode()
        holders = [pid for pid in lab.our_processes() if exposure.memory_holds(pid, key)]
        self.assertEqual(holders, [worker])
        looks, seen = exposure.watch(key, lambda: call.process.poll() is None)
        answer = call.end()
        self.assertGreaterEqual(time.monotonic() - began, 2.5)
        self.assertEqual(seen, {})
        self.assertGreater(looks, 3)
        self.assert_size(answer, ["x"])
        with self.mounted() as nas:
            place = nas / "i-2-72-VM" / TIME
            self.assertEqual(json.loads((place / "manifest.json").read_text())["disks"][0]["source"], f"rbd:rbd/{image}")
            for path in place.iterdir():
                self.assertNotIn(key, path.read_bytes(), path)
        self.assert_key_is_nowhere(answer.out, answer.err, self.log.read_text())

    def test_leaves_no_core_file_and_no_trace_when_it_is_killed(self):
        image = self.volume_in_ceph(40 * MIB, pieces=((0, 40 * MIB),))
        with cluster.image(image) as opened:
            opened.create_snap("kept")
        before = cluster.users(image)
        for number in (signal.SIGABRT, signal.SIGKILL):
            with self.subTest(number):
                folder = self.dir / f"cores-{number}"
                folder.mkdir()
                with self.cores_in(folder):
                    call, worker = self.begin_slowly("i-2-73-VM", [cluster.location(image)])
                os.kill(worker, number)
                # Its part of a backup has to stay: nobody else has the storage mounted.
                self.assert_failure(call.end(), f"was ended by signal {int(number)}", CLEANUP_FAILED)
                self.assertEqual(list(folder.iterdir()), [])
                self.assertEqual(cluster.users(image), before)
                self.assert_no_leak()

    def test_whose_image_is_in_use_is_refused_in_one_line(self):
        image, locked = self.volume_in_ceph(), self.volume_in_ceph()
        cluster.rbd("lock", "add", f"rbd/{locked}", "mine")
        with cluster.image(image):
            for name, says in ((image, "has it open"), (locked, 'holds the lock "mine"')):
                answer = self.take("i-2-74-VM", disks=[cluster.location(name)])
                self.assert_failure(answer, f"rbd:rbd/{name}: in use: client\\.[0-9]+ .*{says}")
                self.assert_key_is_nowhere(answer.out, answer.err, self.log.read_text())
        self.assert_no_leak()

    def test_with_a_wrong_key_is_refused_in_a_line_that_does_not_show_it(self):
        # Asked by Ceph's old protocol, the only one that it speaks, the monitor answers at once.
        monitor = f"127.0.0.1\\:{cluster.port}"
        location = cluster.location(self.volume_in_ceph(), key=WRONG_KEY).replace(monitor, f"[v1\\:{monitor}]")
        answer = self.take("i-2-75-VM", disks=[location])
        self.assert_failure(answer, "does not accept this id and key")
        self.assertNotIn(WRONG_KEY, answer.out + answer.err + self.log.read_text())
        self.assert_no_leak()

    def test_is_restored_by_the_native_command_to_an_image(self):
        image, new = self.volume_in_ceph(), str(uuid.uuid4())
        disks = [cluster.location(image)]
        self.assert_size(self.take("i-2-76-VM", disks=disks), disks)
        with self.mounted() as nas:
            place = nas / "i-2-76-VM" / TIME
            restore = lambda volume: lab.LabTest.begin(self, "restore", place, "--disk", f"disk0={cluster.location(volume)}").end()
            self.assert_status(restore(new), DONE)
            self.assertEqual(cluster.content(new), cluster.content(image))
            self.damage(next(place.glob("root.*.qcow2")))
            self.assert_status(restore(new + "-damaged"), DAMAGED)
        self.assertNotIn(new + "-damaged", "".join(cluster.images()))

    @staticmethod
    def damage(image):
        with open(image, "r+b") as file:
            file.seek(image.stat().st_size // 2)
            file.write(b"damage")


class ARunningVmOfCloudStack(CallTest):
    def test_is_backed_up_through_qemu(self):
        image = self.volume_in_ceph(32 * MIB)
        domain = self.domain("i-2-80-VM", [self.rbd_disk(image, self.secret()), self.disk("vdb", fill=MIB, name="be12")])
        domain.write("vda", 12 * MIB, MIB, 7)
        raw, file = self.content(image), domain.disks[1].path
        answer = self.take(domain.name)
        self.assertEqual(self.assert_stored(domain.name, {image: raw, file: file}, texts=True), self.assert_size(answer))
        self.assert_key_is_nowhere(answer.out, answer.err, self.log.read_text())
        self.assert_no_leak(domain)


class ARunningVm(DisksInCeph, lab.LabTest):
    def test_is_backed_up_while_its_guest_writes(self):
        image = self.volume_in_ceph(32 * MIB)
        domain = self.domain("machine", [self.rbd_disk(image, self.secret())])
        before = self.content(image)
        run, release = self.begin_in_job(domain, "-c", "--verify")
        domain.write("vda", 0, 8 * MIB, 7)
        release()
        self.assert_status(run.end(), DONE)
        self.assert_backed_up(domain, {"vda": before})
        self.assertNotEqual(cluster.content(image), before.read_bytes())
        self.assert_nothing_left(domain, published=1)

    def test_is_whole_each_time_where_the_other_disk_is_an_increment(self):
        image = self.volume_in_ceph(32 * MIB)
        domain = self.domain("machine", [self.rbd_disk(image, self.secret()), self.disk("vdb", 32 * MIB, "qcow2", fill=MIB)])
        self.assert_status(self.backup(domain, "--full"), DONE)
        for target in ("vda", "vdb"):
            domain.write(target, 12 * MIB, MIB, 7)
        result = self.backup(domain, "--incremental", "--verify")
        self.assert_status(result, DONE)
        disks = {disk["name"]: (disk["full_because"], disk["data_bytes"]) for disk in result.json()["disks"]}
        self.assertEqual(disks["vda"][0], "raw cannot hold a bitmap")
        self.assertEqual(disks["vdb"], (None, MIB))
        judge.same(self.image(Path(result.json()["set"]), "vda"), self.content(image))


class AVmThatIsShutOff(DisksInCeph, lab.LabTest):
    def shut_off(self, name, *disks):
        return self.domain(name, list(disks), start=False)

    def test_is_read_with_the_key_that_libvirt_keeps(self):
        image = self.volume_in_ceph()
        domain = self.shut_off("machine", self.rbd_disk(image, self.secret()), self.disk("vdb", fill=MIB, name="be12"))
        log = self.dir / "log"
        run = self.begin(*self.backup_words(domain, "--rate", "8M", "-v", "--log-file", log))
        looks, seen = exposure.watch(cluster.key.encode(), run.running)
        result = run.end()
        self.assertEqual(seen, {})
        self.assertGreater(looks, 3)
        self.assert_status(result, DONE)
        self.assert_backed_up(domain, {"vda": self.content(image), "vdb": domain.disks[1].path})
        self.assertTrue((self.one_set(domain) / f"root.{image}.qcow2").exists())
        self.assert_key_is_nowhere(result.out, result.err, log.read_text())
        self.assertEqual(cluster.users(image), ([], [], []))

    def test_is_read_without_a_key_where_the_cluster_wants_none(self):
        domain = self.shut_off("machine", self.rbd_disk(self.volume_in_ceph()))
        self.assert_status(self.backup(domain), DONE)
        self.assert_backed_up(domain, {"vda": self.content(domain.disks[0].path)})

    def test_whose_key_libvirt_does_not_tell_is_read_with_cephs_keyring(self):
        image, secret = self.volume_in_ceph(), self.secret(private=True)
        keyring, conf = self.dir / "keyring", self.dir / "ceph.conf"
        conf.write_text(f"[global]\nkeyring = {keyring}\n")
        domain = self.shut_off("machine", self.rbd_disk(image, secret, conf))
        keyring.write_text(f"[client.backup]\nkey = {WRONG_KEY}\n")
        refused = self.backup(domain, "--io-timeout", "3")
        self.assertIn(refused.status, (SOURCE, TIMED_OUT), str(refused))
        self.assertRegex(refused.err, "vda: the key of client.backup is sought where Ceph keeps it: .*private")
        self.assertEqual(self.sets(domain), [])
        keyring.write_text(f"[client.backup]\nkey = {cluster.key}\n")
        self.assert_status(self.backup(domain), DONE)
        self.assert_backed_up(domain, {"vda": self.content(image)})

    def test_and_is_started_half_way_is_not_published(self):
        domain = self.shut_off("machine", self.rbd_disk(self.volume_in_ceph(40 * MIB, pieces=((0, 40 * MIB),)), self.secret()))
        run = self.begin(*self.backup_words(domain, "--rate", "8M"))
        wait_until("the copy to be under way", self.who_writes)
        domain.handle.create()
        self.assert_status(run.end(), SOURCE, "was started while its disks were read")
        self.assertEqual(self.sets(domain), [])

    def test_leaves_no_core_file_with_the_key_that_libvirt_told(self):
        image = self.volume_in_ceph(40 * MIB, pieces=((0, 40 * MIB),))
        domain = self.shut_off("machine", self.rbd_disk(image, self.secret()))
        folder = self.dir / "cores"
        folder.mkdir()
        with self.cores_in(folder):
            run = self.begin(*self.backup_words(domain, "--rate", "8M"))
            worker = wait_until("the copy to be under way", self.who_writes)
        self.assertTrue(exposure.memory_holds(worker, cluster.key.encode()))
        os.kill(worker, signal.SIGABRT)
        self.assert_status(run.end(), FAILED, "was ended by signal 6")
        self.assertEqual(list(folder.iterdir()), [])
        self.assertEqual(cluster.users(image), ([], [], []))

    def test_whose_image_another_client_has_open_is_refused(self):
        image = self.volume_in_ceph()
        domain = self.shut_off("machine", self.rbd_disk(image, self.secret()))
        with cluster.image(image):
            self.assert_status(self.backup(domain), SOURCE, f"rbd:rbd/{image}: in use: client")
        self.assertEqual(self.sets(domain), [])


if __name__ == "__main__":
    lab.main()
