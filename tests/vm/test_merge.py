# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""nasbackup merge makes a full set of an increment and its parents, and the VM's next increment stands on it. What it must hold,
nbdcopy read from the job of the increment; qemu-img judges the images. And how QEMU opens a chain, as info says."""
import hashlib
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "lab"), str(Path(__file__).resolve().parent)]
import judge  # noqa: E402
import lab  # noqa: E402
import qemu_img  # noqa: E402
from lab import DAMAGED, DONE, MIB, USAGE, WRONG_KEY, wait_until  # noqa: E402
from test_increments import QUICK, ChainTest  # noqa: E402


def manifest_of(backup_set):
    return json.loads((backup_set / "manifest.json").read_text())


def contents_of(backup_set):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in backup_set.iterdir()}


class MergeTest(ChainTest):
    def setUp(self):
        super().setUp()
        self.key = self.dir / "key"
        self.key.write_bytes(b"s3cret")

    def chain(self, *options, each=None, **more):
        """A VM and three sets of it, with data that shrinks and data that does not, and ranges that became zero. `each`: options of
        each of the sets."""
        disks = [self.disk("vda", 64 * MIB, "qcow2", fill=2 * MIB), self.disk("vdb", 33 * MIB, "raw", fill=MIB)]
        vm = self.domain("machine", disks, **more)
        vm.write("vda", 8 * MIB, 4 * MIB, 0x77)
        each = each or [options] * 3
        taken = [self.take(vm, "--full", *each[0])]
        for number in (1, 2):
            vm.write("vda", 8 * MIB + number * 200_000, 100_000, number)
            vm.write("vda", (10 + number) * MIB, 65536 * number, 0)
            vm.write("vda", MIB, 300_000 * number, 0x30 + number)
            taken.append(self.take(vm, "--incremental", *each[number]))
            self.assertIsNone(self.disk_of(taken[-1])["full_because"])
        return vm, taken

    def merge(self, path, *options, status=DONE, says=()):
        result = self.run_command("merge", path, "--json", *options)
        self.assert_status(result, status, *says)
        if status == DONE:
            result.set = Path(result.json()["set"])
        return result

    def partials(self):
        return [path for path in judge.partials_under(self.target) if ".checkpoint-" not in path and not path.endswith("/.nasbackup")]

    def assert_holds(self, backup_set, taken, key=None, *opens):
        """What nbdcopy read, by qemu-img and by us."""
        for disk in "vda", "vdb":
            image, copy = self.image(backup_set, disk), taken.copies / f"{disk}.raw"
            if key:
                judge.same_encrypted(image, copy, key)
            else:
                judge.check(image)
                judge.same(image, copy)
            self.assertNotIn("backing-filename", judge.info(image))
        self.assert_status(self.verify(backup_set, *opens), DONE, "no errors were found")

    def assert_nothing_left_of_runs(self, vm, published):
        wait_until("our processes to end", lambda: not lab.our_processes())
        self.assertEqual(self.partials(), [])
        self.assertEqual(len(self.sets(vm)), published)

    def assert_qemu_opens(self, taken, *opens):
        """The chain of three with the command that info prints of its end."""
        told = self.run_command("info", taken[2].set, "--json", *opens).json()
        self.assertEqual([link["set"] for link in told["chain"]], [one.set.name for one in taken])
        self.assertEqual(told["chain"][2]["stored_bytes"], told["stored_bytes"])
        image = next(image for image in told["images"] if "vda" in image["path"])
        files = [self.image(one.set, "vda") for one in (taken[1], taken[0])]
        self.assertEqual(image["stands_on"], [{"path": str(file), "file_size": file.stat().st_size} for file in files])
        words = shlex.split(image["open_with"][0]["command"])
        raw = f"driver=raw,file.driver=file,file.filename={taken[2].copies}/vda.raw"
        self.assertIn("identical", qemu_img.run(words[0], "compare", *words[2:], raw))
        qemu_img.run(words[0], "convert", *words[2:], "-O", "raw", self.dir / "out.raw")
        judge.same(self.dir / "out.raw", taken[2].copies / "vda.raw", "raw")
        alone = self.run_command("info", self.image(taken[2].set, "vda"), "--json", *opens).json()
        self.assertEqual((alone["open_with"], alone["stands_on"]), (image["open_with"], image["stands_on"]))
        text = self.run_command("info", taken[2].set, *opens).out
        self.assertRegex(text, f"stands on: +{taken[1].set.name} .increment, .*, on {taken[0].set.name} .full, ")
        self.assertIn(image["open_with"][0]["command"], text)

    def assert_served(self, taken):
        """The increment's disk, flattened, and where it is zero."""
        socket = self.dir / "socket"
        server = self.begin("serve", taken.set, "--socket", socket)
        wait_until("the server", lambda: socket.exists() or not server.running())
        uri = f"nbd+unix:///vda?socket={socket}"
        judge.same(uri, taken.copies / "vda.raw", "raw")
        status, text = judge.output_of("nbdinfo", "--map", "--json", uri)
        self.assertEqual(status, 0, text)
        self.assertEqual(sum(run["length"] for run in json.loads(text)), 64 * MIB)
        zero = sum(run["length"] for run in json.loads(text) if run["type"] == 3)
        self.assertGreater(zero, 50 * MIB)
        self.assertLess(zero, 64 * MIB - 7 * MIB)
        subprocess.run(["nbdcopy", uri, str(self.dir / "copied.raw")], check=True)
        judge.same(self.dir / "copied.raw", taken.copies / "vda.raw", "raw")
        server.send(signal.SIGTERM)
        self.assertEqual(server.end().status, DONE)


class AMergedSet(MergeTest):
    def test_is_full_and_the_next_increment_stands_on_it_when_the_chain_is_gone(self):
        vm, taken = self.chain()
        before = {one.set: contents_of(one.set) for one in taken}
        self.assert_qemu_opens(taken)
        self.assert_served(taken[2])
        merged = self.merge(taken[2].set, "--verify")
        manifest, newest = manifest_of(merged.set), manifest_of(taken[2].set)
        self.assertEqual((manifest["kind"], manifest["parent"]), ("full", None))
        self.assertEqual(manifest["merged_from"], [{"set": one.set.name, "sha256": manifest_of(one.set)["seal"]["sha256"]} for one in taken])
        for key in "time", "checkpoint", "consistency", "vm", "options":
            self.assertEqual(manifest[key], newest[key], key)
        for old, new in zip(newest["disks"], manifest["disks"]):
            for key in "name", "id", "file", "source", "has_bitmap", "virtual_size", "order":
                self.assertEqual(new[key], old[key], key)
            self.assertEqual((new["parent_file"], new["parent_bytes"]), ("", 0))
        self.assertEqual((merged.set / "domain-config.xml").read_bytes(), (taken[2].set / "domain-config.xml").read_bytes())
        self.assert_holds(merged.set, taken[2])
        self.assertEqual({one.set: contents_of(one.set) for one in taken}, before)
        self.assert_nothing_left_of_runs(vm, 4)
        self.assert_status(self.run_command("delete", taken[0].set, "--with-children"), DONE)
        self.assert_agree(vm, merged)
        vm.write("vda", 30 * MIB, MIB, 9)
        after = self.take(vm, "--incremental")
        self.assertEqual(self.disk_of(after)["data_bytes"], MIB)
        self.assertEqual(manifest_of(after.set)["parent"]["set"], merged.set.name)
        self.assert_restores(after)

    def test_has_the_streams_of_a_compressed_chain(self):
        vm, taken = self.chain("-c")
        merged = self.merge(taken[2].set)
        disk = self.disk_of(merged)
        self.assertGreater(disk["copied_clusters"], 60)
        self.assertEqual((disk["copied_clusters"], disk["compression"]), (disk["compressed_clusters"], "zlib:default"))
        self.assert_holds(merged.set, taken[2])
        again = self.merge(taken[2].set, "-c=zstd")
        self.assertEqual(self.disk_of(again)["copied_clusters"], 0)
        self.assertGreater(self.disk_of(again)["compressed_clusters"], 60)
        self.assert_holds(again.set, taken[2])
        self.merge(merged.set, status=USAGE, says=["is a full set"])
        middle = self.merge(taken[1].set, "--cluster-size", "128K")
        self.assertGreater(self.disk_of(middle)["compressed_clusters"], 30)
        self.assert_holds(middle.set, taken[1])
        listed = json.loads(self.run_command("list", self.target, "--json").out)["sets"]  # the newest stays the newest
        self.assertEqual([Path(one["path"]) for one in listed], [taken[0].set, taken[1].set, middle.set, taken[2].set, merged.set, again.set])
        self.assertEqual(manifest_of(self.take(vm, "--incremental", "-c").set)["parent"]["set"], again.set.name)

    def test_of_a_mixed_chain_has_those_that_were_compressed_alike(self):
        _, taken = self.chain(each=[("--cluster-size", "64K"), ("-c=zstd",), ("-c",)])
        merged = self.merge(taken[2].set)
        disk = self.disk_of(merged)
        self.assertGreater(disk["copied_clusters"], 5)
        self.assertGreater(disk["compressed_clusters"], disk["copied_clusters"] + 40)
        self.assert_holds(merged.set, taken[2])

    def test_of_an_encrypted_chain_has_keys_of_its_own(self):
        opens = ["-e", self.key, *QUICK]
        for each in ([opens] * 3, [["-c", *opens]] * 3, [["-c", *opens], opens, ["-c", *opens]]):
            options = each[2]
            with self.subTest(each=each):
                vm, taken = self.chain(each=each, nvram=self.dir / "vars.fd", memory_mib=64)
                self.assert_qemu_opens(taken, "-e", self.key)
                merged = self.merge(taken[2].set, *opens, "--verify")
                self.assert_holds(merged.set, taken[2], self.key, "-e", self.key)
                newest, manifest = manifest_of(taken[2].set), manifest_of(merged.set)
                self.assertTrue(set(disk["luks_uuid"] for disk in manifest["disks"]).isdisjoint(disk["luks_uuid"] for disk in newest["disks"]))
                self.assertTrue(set(manifest["seal"]["keys"]).isdisjoint(newest["seal"]["keys"]))
                self.assertNotEqual((merged.set / "nvram.fd.sealed").read_bytes(), (taken[2].set / "nvram.fd.sealed").read_bytes())
                self.assertEqual(self.disk_of(merged)["copied_clusters"] > 30, "-c" in options)
                # One derivation opens all of them: the slot's salt (LUKS1, "partition header") is the same in all containers.
                headers = [image.read_bytes()[:248] for one in self.sets(vm) for image in one.glob("*.luks")]
                self.assertEqual(len({header[216:248] for header in headers}), min(1, len(headers)))
                self.assertEqual(len({header[168:208] for header in headers}), len(headers))  # and no other key or uuid is
                # The firmware may have written to the file itself since.
                variables = [(self.restored(one, "-e", self.key) / "machine_VARS.fd").read_bytes() for one in (merged.set, taken[2].set)]
                self.assertEqual(*variables)
                self.assertEqual(manifest_of(self.take(vm, "--incremental", *options).set)["parent"]["set"], merged.set.name)
                vm.remove()
                for one in self.sets(vm)[::-1]:
                    self.assert_status(self.run_command("delete", one, "--with-children"), DONE)

    def test_gets_another_passphrase_or_none_when_that_is_asked_for(self):
        _, taken = self.chain("-e", self.key, *QUICK)
        other = self.dir / "other"
        other.write_bytes(b"another")
        self.merge(taken[2].set, "-e", other, *QUICK, status=WRONG_KEY)
        merged = self.merge(taken[2].set, "-e", other, "--source-key", self.key, *QUICK)
        self.assert_holds(merged.set, taken[2], other, "-e", other)
        self.merge(taken[2].set, "--source-key", self.key, status=USAGE, says=["would be written unencrypted"])
        plain = self.merge(taken[2].set, "--source-key", self.key, "--allow-plaintext")
        self.assert_holds(plain.set, taken[2])

    def test_is_not_made_of_what_is_damaged_and_an_interrupted_run_leaves_nothing(self):
        for options in ((), ("-c",)):
            with self.subTest(options=options):
                vm, taken = self.chain(*options)
                run = self.begin("merge", taken[2].set, "--rate", "1M", "--progress=none")
                wait_until("the partial set", self.partials)
                run.send(signal.SIGTERM)
                self.assertEqual(run.end().status, 128 + signal.SIGTERM)
                self.assert_nothing_left_of_runs(vm, 3)
                image = self.image(taken[0].set, "vda")
                data = bytearray(image.read_bytes())
                data[MIB + 2000] ^= 1
                image.write_bytes(data)
                self.merge(taken[2].set, status=DAMAGED, says=["differ from what was backed up|compressed cluster"])
                self.assert_nothing_left_of_runs(vm, 3)
                vm.remove()
                self.assert_status(self.run_command("delete", taken[0].set, "--with-children"), DONE)


if __name__ == "__main__":
    lab.main()
