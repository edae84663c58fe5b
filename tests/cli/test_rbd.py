#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Images of a Ceph cluster as source and target: a real cluster of one monitor and one OSD, cephx on. Judges are librbd itself (by
Ceph's Python bindings), the rbd command, and qemu-img through QEMU's own RBD driver."""
import json
import os
import random
import subprocess
import time
import unittest

from cli import *

import ceph
import exposure
import rbd

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
KIB = 1 << 10
LAYERING, EXCLUSIVE_LOCK, OBJECT_MAP, FAST_DIFF = 1, 4, 8, 16
WITH_OBJECT_MAP = LAYERING | EXCLUSIVE_LOCK | OBJECT_MAP | FAST_DIFF


def setUpModule():
    global cluster
    folder = tempfile.mkdtemp(prefix="ceph-")
    unittest.addModuleCleanup(shutil.rmtree, folder, ignore_errors=True)
    cluster = ceph.Cluster(folder)
    unittest.addModuleCleanup(cluster.stop)


class RbdTest(CliTest):
    made = 0

    def make_image(self, size=24 * MIB, pieces=((0, 5 * MIB), (9 * MIB + 100, 300), (20 * MIB, MIB)), features=None, **more):
        """A new image of the cluster with random data here and there; its name."""
        RbdTest.made += 1
        name = f"volume-{RbdTest.made}"
        cluster.create(name, size, features, **more)
        cluster.fill(name, pieces)
        return name

    def raw_of(self, source, *options):
        """The raw file into which the source is converted."""
        raw = self.dir / f"raw-{RbdTest.made}"
        raw.unlink(missing_ok=True)
        self.assert_status(self.run_command("convert", source, raw, "-O", "raw", *options), DONE)
        return raw

    def assert_same(self, image, file, snapshot=None):
        content = cluster.content(image, snapshot)
        got = Path(file).read_bytes()
        self.assertEqual(len(got), len(content))
        if got != content:
            first = next(i for i in range(len(got)) if got[i] != content[i])
            self.fail(f"{image}: differs from byte {first} on")

    def assert_qemu_finds_no_difference(self, image, file, *options):
        done = subprocess.run(["qemu-img", "compare", *options, file, cluster.as_qemu(image)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Source(RbdTest):
    def test_is_read_byte_for_byte_whatever_its_objects_are(self):
        mib = MIB
        kinds = {"an object map": {"features": WITH_OBJECT_MAP}, "layering alone": {"features": LAYERING},
                 "small objects": {"order": 16}, "large objects": {"order": 24}, "a size of no cluster": {"size": 21 * mib + 513},
                 "a size below an object": {"size": 70_001, "pieces": ((5000, 1000),)},
                 "stripes": {"order": 20, "stripe_unit": 64 * KIB, "stripe_count": 3, "size": 20 * mib},
                 "stripes without an object map": {"order": 20, "stripe_unit": 64 * KIB, "stripe_count": 5, "features": LAYERING, "size": 20 * mib},
                 "nothing in it": {"pieces": ()}}
        for name, how in kinds.items():
            with self.subTest(name):
                how = dict(how)
                size = how.setdefault("size", 24 * mib)
                how.setdefault("pieces", [(at, length) for at, length in ((0, 700_001), (3 * mib, 5), (size - 40_000, 40_000)) if at >= 0])
                image = self.make_image(**how)
                self.assert_same(image, self.raw_of(cluster.location(image)))

    def test_that_is_a_clone_has_the_data_of_its_parents_too(self):
        draw = random.Random(5)
        for features, parent_size in ((WITH_OBJECT_MAP, 9 * MIB + 12_345), (LAYERING, 12 * MIB)):
            with self.subTest(features=features):
                parent = self.make_image(size=parent_size, pieces=((0, 100_000), (5 * MIB, 200_000), (parent_size - 70_000, 70_000)), features=features)
                with cluster.image(parent) as image:
                    image.create_snap("base")
                    image.protect_snap("base")
                child = f"{parent}-child"
                rbd.RBD().clone(cluster.io, parent, "base", cluster.io, child, features=features)
                with cluster.image(child) as image:
                    image.resize(30 * MIB + 1000)
                    for _ in range(6):
                        image.write(os.urandom(draw.randrange(1, 100_000)), draw.randrange(0, 29 * MIB))
                    image.discard(4 * MIB, 6 * MIB)
                    image.create_snap("later")
                    image.write(os.urandom(5000), 26 * MIB)
                    image.discard(20 * MIB, 4 * MIB)
                self.assert_same(child, self.raw_of(cluster.location(child)))
                self.assert_same(child, self.raw_of(cluster.location(child + "@later")), "later")

    def test_may_be_a_snapshot_which_others_may_go_on_writing_behind(self):
        image = self.make_image()
        with cluster.image(image) as writer:
            writer.create_snap("evening")
            before = cluster.content(image)
            writer.write(b"new" * 100_000, MIB)
            raw = self.raw_of(cluster.location(image + "@evening"))
            self.assertEqual(cluster.users(image)[2], ["evening"])
        self.assertEqual(raw.read_bytes(), before)

    def test_shows_its_holes_so_that_they_are_not_read(self):
        for features, size in ((WITH_OBJECT_MAP, 1 << 40), (LAYERING, 4 << 30)):  # where each object must be asked for
            image = self.make_image(size=size, pieces=((0, MIB), (size - (1 << 30), MIB)), features=features)
            result = self.run_command("convert", cluster.location(image), self.image, "--json", "--force")
            self.assert_status(result, DONE)
            report = self.json_of(result)
            self.assertLessEqual(report["read_bytes"], 8 * MIB)
            self.assertLess(report["seconds"], 20)

    def test_goes_into_a_set_under_its_images_name(self):
        image = self.make_image()
        secret = self.dir / "passphrase"
        secret.write_bytes(b"correct horse")
        for number, (options, ending) in enumerate({(): ".qcow2", ("-c",): ".qcow2", ("-e", secret, *WEAK): ".qcow2",
                                                    ("-c=zstd", "-e", secret, *WEAK): ".qcow2.luks"}.items()):
            with self.subTest(options):
                to = self.out / str(number)
                to.mkdir()
                result = self.run_command("backup", "--disk", cluster.location(image), "--name", "rbd-web", "--to", to, "--json", *options)
                self.assert_status(result, DONE)
                path = Path(self.json_of(result)["set"])
                self.assertTrue((path / f"root.{image}{ending}").exists(), list(path.iterdir()))
                manifest = json.loads((path / "manifest.json").read_text())
                self.assertEqual(manifest["disks"][0]["source"], f"rbd:rbd/{image}")
                opened = ("-e", secret) if "-e" in options else ()
                proved = self.run_command("verify", path, *opened, "--json")
                self.assertIn(proved.returncode, (DONE, WARNINGS), proved.stderr)
                self.assertTrue(json.loads(proved.stdout)["proved"])
                self.assert_status(self.run_command("restore", path, "--disk", f"disk0={self.dir / 'back.raw'}", *opened), DONE)
                self.assert_same(image, self.dir / "back.raw")
                (self.dir / "back.raw").unlink()
                if not opened:
                    self.assert_qemu_finds_no_difference(image, path / f"root.{image}{ending}")

    def test_is_always_raw(self):
        qcow2 = self.dir / "guest.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", qcow2, "4M"], check=True)
        image = self.make_image(size=4 * MIB, pieces=())
        with cluster.image(image) as opened:
            opened.write(qcow2.read_bytes(), 0)
        self.assert_same(image, self.raw_of(cluster.location(image)))
        self.assert_one_line(self.run_command("convert", cluster.location(image), self.image, "-f", "qcow2"), USAGE, "read raw")

    def test_is_read_no_faster_than_the_limit(self):
        image = self.make_image(size=24 * MIB, pieces=((0, 24 * MIB),))
        report = self.json_of(self.run_command("convert", cluster.location(image), self.image, "-b", "16M", "--json"))
        self.assertEqual(report["data_bytes"], 24 * MIB)
        self.assertGreaterEqual(report["seconds"], 1.5 * 0.97)
        self.assertLess(report["seconds"], 1.5 * 3)  # the machine may be busy

    def test_leaves_nothing_on_stderr_and_no_trace_in_the_cluster(self):
        image = self.make_image()
        with cluster.image(image, read_only=True) as opened:
            before = opened.access_timestamp(), opened.modify_timestamp()
        result = self.run_command("convert", cluster.location(image), self.image)
        self.assert_status(result, DONE)
        self.assertEqual(result.stderr, "")
        self.assertEqual(cluster.users(image), ([], [], []))
        with cluster.image(image, read_only=True) as opened:
            self.assertEqual((opened.access_timestamp(), opened.modify_timestamp()), before)


class InUse(RbdTest):
    def convert(self, image, *options):
        return self.run_command("convert", cluster.location(image), self.image, *options)

    def test_by_another_client_it_is_not_read(self):
        image = self.make_image()
        with cluster.image(image):
            self.assert_one_line(self.convert(image), SOURCE, f"rbd:rbd/{image}: in use: client\\.[0-9]+ at .* has it open")
            self.assert_nothing_left()
            self.assert_status(self.convert(image, "-U"), DONE)
        self.assert_same(image, self.raw_of(cluster.location(image)))

    def test_by_qemu_it_is_not_read(self):
        image = self.make_image()
        qemu = subprocess.Popen(["qemu-io", "-f", "raw", cluster.as_qemu(image)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.addCleanup(qemu.wait)
        self.addCleanup(qemu.stdin.close)
        wait_until("qemu-io has it open", lambda: cluster.users(image)[0])
        self.assert_one_line(self.convert(image), SOURCE, "in use: client")

    def test_by_a_lock_it_is_not_read(self):
        image = self.make_image()
        cluster.rbd("lock", "add", f"rbd/{image}", "mine")
        self.assert_one_line(self.convert(image), SOURCE, 'in use: client\\.[0-9]+ holds the lock "mine"')

    def test_half_way_nothing_is_published(self):
        image = self.make_image(size=30 * MIB, pieces=((0, 30 * MIB),))
        made = time.monotonic()
        for name, rate, meanwhile, says in (
                ("one who wrote and is gone", "14M", lambda: cluster.fill(image, [(0, 10)]), "changed while it was read"),
                ("one who made it larger", "40M", lambda: cluster.rbd("resize", f"rbd/{image}", "--size", "40M", "--no-progress"), "changed while it was read"),
                ("a snapshot is nobody", "40M", lambda: cluster.rbd("snap", "create", f"rbd/{image}@x", "--no-progress"), None)):
            with self.subTest(name):
                self.image.unlink(missing_ok=True)
                process = self.begin("convert", cluster.location(image), self.image, "-b", rate)
                self.wait_until_it_writes(process)
                time.sleep(max(0, made + 2 - time.monotonic()))  # the image's time of change is told in seconds
                meanwhile()
                result = self.finish(process)
                if says is None:
                    self.assert_status(result, DONE)
                    continue
                self.assert_one_line(result, SOURCE, says)
                self.assert_nothing_left()
        self.image.unlink()
        process = self.begin("convert", cluster.location(image), self.image, "-b", "40M")
        self.wait_until_it_writes(process)
        with cluster.image(image):
            self.assert_one_line(self.finish(process), SOURCE, "came into use while it was read")

    def test_by_a_run_that_was_killed_it_is_not_any_more(self):
        image = self.make_image()
        with cluster.image(image) as opened:
            opened.create_snap("kept")
        before = cluster.users(image)
        process = self.begin("convert", cluster.location(image), self.image, "-b", "2M")
        self.wait_until_it_writes(process)
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        self.assert_status(self.finish(process), FAILED, "was ended by signal 9")
        self.assertEqual(cluster.users(image), before)
        self.assertEqual(before, ([], [], ["kept"]))


class Trouble(RbdTest):
    def convert(self, location, *options, **more):
        return self.run_command("convert", location, self.image, *options, **more)

    def test_with_key_image_pool_and_options_is_told_of_in_one_line(self):
        image = self.make_image()
        known, port = cluster.location(image), str(cluster.port)
        cases = {"a wrong key": (cluster.location(image, key="AQAp7Qdr2OhKNxAAcA1tRoRNH6+G5XqzrxzVzg==").replace("127.0.0.1\\:" + port, "[v1\\:127.0.0.1\\:" + port + "]"), SOURCE, "does not accept this id and key"),
                 "no key": (cluster.location(image, key=False), SOURCE, f"rbd:rbd/{image}: connect: "),
                 "a key that is none": (cluster.location(image, key="x y"), SOURCE, f"rbd:rbd/{image}: "),
                 "no such image": (known.replace(image, "nothing"), SOURCE, "rbd:rbd/nothing: open: No such file"),
                 "no such snapshot": (known.replace(image, image + "@never"), SOURCE, "@never: open: No such file"),
                 "no such pool": (known.replace("rbd:rbd/", "rbd:other/"), SOURCE, "pool other: No such file"),
                 "no such option": (known + ":colour=red", USAGE, "option colour: No such file"),
                 "no such conf": (known + ":conf=/nowhere/ceph.conf", SOURCE, "conf /nowhere/ceph.conf: No such file"),
                 "no image in it": ("rbd:rbd", USAGE, "no pool in it"),
                 "an option without value": (known + ":colour", USAGE, "option without a name or a value")}
        for name, (location, status, says) in cases.items():
            with self.subTest(name):
                self.assert_one_line(self.convert(location, "--io-timeout", "10"), status, says)
                self.assert_nothing_left()

    def test_of_a_monitor_that_is_not_there_ends_in_time(self):
        image = self.make_image()
        nobody = cluster.location(image).replace(str(cluster.port), str(ceph.free_port())).replace(":client_mount_timeout=30", "")
        began = time.monotonic()
        self.assert_one_line(self.convert(nobody, "--io-timeout", "3"), TIMED_OUT, "does not answer")
        self.assertLess(time.monotonic() - began, 6)

    def test_of_a_cluster_that_stops_answering_ends_in_time(self):
        image = self.make_image(size=24 * MIB, pieces=((0, 24 * MIB),))
        process = self.begin("convert", cluster.location(image), self.image, "-b", "4M", "--io-timeout", "3")
        self.wait_until_it_writes(process)
        cluster.pause()
        try:
            began = time.monotonic()
            result = self.finish(process)
            took = time.monotonic() - began
        finally:
            cluster.go_on()
        self.assert_status(result, TIMED_OUT)
        self.assertLess(took, 8)
        self.assert_nothing_left()


class Target(RbdTest):
    def filled_disk(self, size=24 * MIB):
        path = self.dir / "guest.raw"
        with open(path, "wb") as disk:
            for at in (0, 9 * MIB + 100):
                disk.seek(at)
                disk.write(os.urandom(2 * MIB))
            disk.truncate(size)
        return path

    def convert_to(self, image, *options):
        return self.run_command("convert", self.disk, cluster.location(image), "-O", "raw", *options)

    def setUp(self):
        super().setUp()
        self.disk = self.filled_disk()
        RbdTest.made += 1
        self.name = f"target-{RbdTest.made}"

    def test_is_made_when_it_is_not_there_and_stays_sparse(self):
        self.assert_status(self.convert_to(self.name), DONE)
        self.assert_same(self.name, self.disk)
        with cluster.image(self.name, read_only=True) as image:
            extents = []
            image.diff_iterate(0, 24 * MIB, None, lambda offset, length, exists: extents.append(length), whole_object=True)
        self.assertLess(sum(extents), 20 * MIB)
        self.assert_qemu_finds_no_difference(self.name, self.disk, "-f", "raw")

    def test_of_an_odd_size_is_exactly_as_large(self):
        os.truncate(self.disk, 11 * MIB + 77)
        self.assert_status(self.convert_to(self.name), DONE)
        self.assert_same(self.name, self.disk)

    def test_that_is_there_is_written_over_only_by_force(self):
        image = self.make_image(size=30 * MIB, pieces=((0, 30 * MIB),))
        before = cluster.content(image)
        self.assert_one_line(self.convert_to(image), FAILED, f"rbd:rbd/{image}: exists; write --force")
        self.assertEqual(cluster.content(image), before)
        self.assert_status(self.convert_to(image, "--force"), DONE)
        after = cluster.content(image)
        self.assertEqual(after[:24 * MIB], self.disk.read_bytes())  # its zeroes too
        self.assertEqual(after[24 * MIB:], before[24 * MIB:])

    def test_that_is_too_small_in_use_or_the_source_is_refused(self):
        image = self.make_image(size=8 * MIB, pieces=((0, MIB),))
        before = cluster.content(image)
        self.assert_one_line(self.convert_to(image, "--force"), TARGET_FULL, "image of 8388608 bytes, 25165824 are needed")
        larger = self.make_image(size=24 * MIB, pieces=())
        with cluster.image(larger):
            self.assert_one_line(self.convert_to(larger, "--force"), LOCKED, "in use: client")
        self.assert_one_line(self.run_command("convert", cluster.location(image), cluster.location(image), "-O", "raw", "--force"), USAGE, "is the source too")
        self.assert_one_line(self.run_command("convert", self.disk, cluster.location(self.name)), USAGE, "write -O raw")
        self.assert_one_line(self.convert_to(image + "@s"), USAGE, "is a snapshot")
        self.assertEqual(cluster.content(image), before)
        self.assertFalse([name for name in cluster.images() if name.startswith(self.name)])

    def test_is_gone_when_the_run_fails(self):
        copy = self.dir / "copy.qcow2"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.disk, copy], check=True)
        os.truncate(copy, copy.stat().st_size - MIB)
        before = cluster.images()
        self.assertNotEqual(self.run_command("convert", copy, cluster.location(self.name), "-O", "raw").returncode, DONE)
        self.assertEqual(cluster.images(), before)

    def test_of_a_killed_run_is_made_anew(self):
        process = self.begin("convert", self.disk, cluster.location(self.name), "-O", "raw", "-b", "2M")
        unfinished = self.name + ".nasbackup-unfinished"
        wait_until("it is written, under a lock", lambda: self.is_used(unfinished) and cluster.users(unfinished)[1])
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        self.finish(process)
        self.assertNotIn(self.name, cluster.images())
        wait_until("the cluster forgets the dead client", lambda: not self.is_used(unfinished))
        self.assertRegex(cluster.users(unfinished)[1][0][1], "^auto ")  # whose lock stays, and is nobody's
        self.raw_of(cluster.location(unfinished))
        self.assert_status(self.convert_to(self.name), DONE)
        self.assert_same(self.name, self.disk)
        self.assertEqual([name for name in cluster.images() if name.startswith(self.name)], [self.name])

    @staticmethod
    def is_used(name):
        try:
            return bool(cluster.users(name)[0])
        except rbd.ImageNotFound:
            return False

    def test_that_was_made_in_part_is_made_anew(self):
        # All that is there is the object that says which image has the name.
        cluster.io.write_full(f"rbd_id.{self.name}.nasbackup-unfinished", b"\x0c\0\0\0" + b"123456789abc")
        self.assert_status(self.convert_to(self.name), DONE)
        self.assert_same(self.name, self.disk)

    def test_gets_a_disk_of_a_set_and_a_luks_container(self):
        self.assert_status(self.run_command("backup", "--disk", self.disk, "--name", "rbd-web", "--to", self.out, "-c"), DONE)
        result = self.run_command("restore", self.out / "rbd-web", "--disk", f"disk0={cluster.location(self.name)}", "--json")
        self.assert_status(result, DONE)
        self.assertEqual(json.loads(result.stdout)["disks"][0]["image"], f"rbd:rbd/{self.name}")
        self.assert_same(self.name, self.disk)
        again = self.run_command("restore", self.out / "rbd-web", "--disk", f"disk0={cluster.location(self.name)}")
        self.assert_one_line(again, FAILED, "exists; write --force")
        secret = self.dir / "passphrase"
        secret.write_bytes(b"correct horse")
        box = self.name + "-luks"
        self.assert_status(self.run_command("convert", self.disk, cluster.location(box), "-O", "luks", "-e", secret, *WEAK), DONE)
        qemu = [f"driver=luks,key-secret=s,file.driver=rbd,file.pool=rbd,file.image={box},file.conf={cluster.conf},file.user=admin", "driver=raw,file.driver=file,file.filename=" + str(self.disk)]
        done = subprocess.run(["qemu-img", "compare", "--object", f"secret,id=s,file={secret}", "--image-opts", *qemu], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_of_a_damaged_set_is_not_left(self):
        self.assert_status(self.run_command("backup", "--disk", self.disk, "--name", "rbd-web", "--to", self.out), DONE)
        image = next(self.out.rglob("root.*.qcow2"))
        with open(image, "r+b") as file:
            file.seek(image.stat().st_size // 2)
            file.write(b"damage")
        before = cluster.images()
        self.assert_status(self.run_command("restore", self.out / "rbd-web", "--disk", f"disk0={cluster.location(self.name)}"), DAMAGED)
        self.assertEqual(cluster.images(), before)


class TheKey(RbdTest):
    """Of the cluster's client, which stands on the command line of our caller."""

    def test_is_in_no_command_line_log_message_or_file(self):
        key = cluster.key.encode()
        image = self.make_image(size=4 * MIB, pieces=((0, 4 * MIB),))
        log = self.dir / "log"
        process = self.begin("backup", "--disk", cluster.location(image), "--name", "rbd-web", "--to", self.out, "-b", "2M", "-v", "--json", "--log-file", log,
                             "--progress=json")
        # Between the exec, which is our caller's, and our first instruction nobody can hide it.
        wait_until("it has begun", lambda: b"key=xxxx" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        looks, seen = exposure.watch(key, lambda: process.poll() is None)
        self.assertEqual(seen, {})
        self.assertGreater(looks, 1)
        ended = self.finish(process)
        self.assert_status(ended, DONE)
        places = {"stdout": ended.stdout.encode(), "stderr": ended.stderr.encode(), "log": log.read_bytes()}
        places.update({str(path): path.read_bytes() for path in self.out.rglob("*") if path.is_file()})
        self.assertIn(f"rbd:rbd/{image}".encode(), places["stdout"])
        for place, content in places.items():
            self.assertNotIn(key, content, place)

    def test_is_in_no_core_file_of_any_process(self):
        image = self.make_image()
        os.chmod(self.dir, 0o755)
        os.chmod(self.out, 0o777)
        process = self.begin("convert", cluster.location(image), self.image, "-b", "4M", user=65534, group=65534, extra_groups=[])
        self.wait_until_it_writes(process)
        supervisor, worker = process.pid, children(process.pid)[-1]
        held = {pid: exposure.memory_holds(pid, cluster.key.encode()) for pid in (supervisor, worker)}
        # The worker needs it, and writes no core file: the kernel gives the /proc files of such a process to root.
        self.assertEqual(held, {supervisor: False, worker: True})
        self.assertEqual([os.stat(f"/proc/{pid}/maps").st_uid for pid in (supervisor, worker)], [0, 0])

    def test_that_is_nobodys_is_refused(self):
        location = cluster.location("x", key=False) + ":stored_key=7"
        self.assert_one_line(self.run_command("convert", location, self.image), USAGE, "stored_key 7: there is no such key")


if __name__ == "__main__":
    unittest.main()
