# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A model of a VM and its chains of sets: generations of writes, trims, resizes, disks that come, go and are replaced, restarts and crashes, and of
backups that succeed, fail and are killed, fulls, increments, differentials, merges and deletions, all from one seed. Every point that a set
should hold, the model holds too, byte for byte; each set is restored and compared with it, and qemu-img judges each image on its chain. After
each backup the checkpoints of libvirt, the bitmaps of QEMU, the target's ledger and the sets agree.

`./campaign chains --generations N --seed S` runs a long one; here it is short.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
from lab import DONE, MIB, libvirt, wait_until  # noqa: E402

GENERATIONS = int(os.environ.get("CHAIN_GENERATIONS", "12"))
SEED = int(os.environ.get("CHAIN_SEED", "6"))
PIECE = 65536
SECTOR = 512
QUICK = ["--pbkdf-iterations", "1000", "--insecure-pbkdf"]


class ModelDisk:
    """What the guest has written to one disk, in a raw file."""

    def __init__(self, disk, raw):
        self.disk, self.raw = disk, raw
        self.touched = {}  # piece -> the last step in which it was written

    @property
    def size(self):
        return os.path.getsize(self.raw)

    def put(self, offset, data, step):
        with open(self.raw, "r+b") as file:
            file.seek(offset)
            file.write(data)
        for piece in range(offset // PIECE, (offset + len(data) - 1) // PIECE + 1):
            self.touched[piece] = step


class ChainModel(lab.LabTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        self.log, self.step, self.number = [], 0, 0
        self.expected = {}  # name of a set -> {target: raw copy}
        self.made_at = {}   # name of a set -> the step
        self.key = self.dir / "key"
        self.key.write_bytes(b"s3cret")
        self.models = {}
        for target, fmt, size in (("vda", "qcow2", 24 * MIB + 3 * SECTOR), ("vdb", "qcow2", 8 * MIB), ("vdc", "raw", 3 * MIB + SECTOR)):
            self.models[target] = self.new_disk(target, fmt, size)
        self.vm = self.domain("machine", [model.disk for model in self.models.values()])
        self.vm.handle.checkpointCreateXML("<domaincheckpoint><name>foreign</name><disks><disk name='vda' checkpoint='bitmap'/>"
                                           "<disk name='vdb' checkpoint='no'/><disk name='vdc' checkpoint='no'/></disks></domaincheckpoint>")

    def say(self, text):
        self.log.append(f"{self.step}: {text}")

    # ---- disks -----------------------------------------------------------------------------------------------------

    def new_disk(self, target, fmt, size):
        self.number += 1
        path = self.dir / f"{target}-{self.number}.{fmt}"
        cluster = ["-o", f"cluster_size={self.random.choice(['64k', '4k', '256k'])}"] if fmt == "qcow2" else []
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, *cluster, str(path), str(size)], check=True)
        raw = self.dir / f"model-{target}-{self.number}.raw"
        with open(raw, "wb") as file:
            file.truncate(size)
        return ModelDisk(lab.Disk(target, str(path), fmt), raw)

    def device(self, target, command):
        line = f'qemu-io -d /machine/peripheral/ua-{target}/virtio-backend "{command}"'
        said = self.vm.qmp("human-monitor-command", **{"command-line": line})
        self.assertNotRegex(said or "", "(?i)error|invalid|failed", line)

    def flush(self):
        for target in self.models:
            self.device(target, "flush")

    def write(self):
        for _ in range(self.random.randint(1, 5)):
            target = self.random.choice(list(self.models))
            model = self.models[target]
            offset = self.random.randrange(0, model.size // SECTOR - 1) * SECTOR
            length = min(self.random.choice([SECTOR, 4096, 70_144, 300 * 1024]), model.size - offset) // SECTOR * SECTOR
            pattern = self.random.randint(1, 255)
            self.vm.write(target, offset, length, pattern)
            model.put(offset, bytes([pattern]) * length, self.step)
            self.say(f"write {target} {offset}+{length}")
        self.flush()

    def trim(self):
        target = self.random.choice(["vda", "vdb"])
        if target not in self.models:
            return
        model = self.models[target]
        unit = 256 * 1024
        first = self.random.randrange(0, model.size // unit)
        length = min(self.random.randint(1, 8), model.size // unit - first) * unit
        self.device(target, f"write -z -u {first * unit} {length}")
        model.put(first * unit, bytes(length), self.step)
        self.say(f"trim {target} {first * unit}+{length}")
        self.flush()

    def resize(self):
        target = self.random.choice([name for name in self.models])
        model = self.models[target]
        size = model.size + self.random.randint(1, 2 * MIB // SECTOR) * SECTOR
        try:
            self.vm.handle.blockResize(target, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        except libvirt.libvirtError as error:  # QEMU does not, with a bitmap that a crash has left inconsistent
            self.assertIn("inconsistent", str(error))
            return self.say(f"resize {target}: {error}")
        os.truncate(model.raw, size)
        self.say(f"resize {target} to {size}")

    def change_disks(self):
        """The VM is off meanwhile: a disk comes, goes, or another one takes its place, under another name or the same."""
        self.vm.destroy()
        kind = self.random.choice(["add", "remove", "other", "same name"])
        if kind == "add" and "vdd" not in self.models:
            self.models["vdd"] = self.new_disk("vdd", "qcow2", 4 * MIB)
        elif kind == "remove" and "vdd" in self.models:
            del self.models["vdd"]
        elif kind == "other":
            self.models["vdb"] = self.new_disk("vdb", "qcow2", self.models["vdb"].size)
        elif kind == "same name":
            new = self.new_disk("vdb", "qcow2", self.models["vdb"].size)
            os.replace(new.disk.path, self.models["vdb"].disk.path)
            new.disk.path = self.models["vdb"].disk.path
            self.models["vdb"] = new
        self.vm.disks = [model.disk for model in self.models.values()]
        self.vm.start()
        self.say(f"disks: {kind}")

    def restart(self):
        kind = self.random.choice(["plug pulled", "defined anew", "QEMU killed"])
        if kind == "QEMU killed":
            os.kill(self.vm.qemu_pid(), signal.SIGKILL)
            wait_until("the domain to be off", lambda: not self.vm.handle.isActive())
        self.vm.destroy()
        if kind == "defined anew":
            self.vm.handle.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        self.vm.start()
        self.say(f"restart: {kind}")

    # ---- backups ---------------------------------------------------------------------------------------------------

    def options(self):
        options = self.random.choice([[], [], ["-c"], ["-e", self.key, *QUICK], ["-c", "-e", self.key, *QUICK]])
        return options + (["--verify"] if self.random.random() < 0.3 else [])

    def names(self):
        return [path.name for path in self.sets(self.vm)]

    def note_new_sets(self, before):
        """A set that is there is whole, however its run ended: it holds what the disks hold."""
        new = [name for name in self.names() if name not in before]
        self.assertLessEqual(len(new), 1)
        for name in new:
            copies = {}
            for target, model in self.models.items():
                copies[target] = self.dir / f"point-{name}-{target}.raw"
                subprocess.run(["cp", "--sparse=always", str(model.raw), str(copies[target])], check=True)
            self.expected[name], self.made_at[name] = copies, self.step
            self.say(f"set {name}")
            self.check_set(name)
        return new

    def back_up(self):
        kind = self.random.choice(["--full", "--incremental", "--incremental", "--incremental", "--incremental", "differential"])
        if kind == "differential":
            fulls = [name for name in self.names() if self.manifest(name)["kind"] == "full" and self.manifest(name)["checkpoint"]]
            kind = f"--incremental={fulls[-1]}" if fulls else "--full"
        options = self.options()
        self.say(f"backup {kind} {[str(word) for word in options]}")
        before = self.names()
        result = self.backup(self.vm, kind, *options, "--json")
        if kind.startswith("--incremental=") and result.status == lab.USAGE:  # its bitmaps are gone, or it is encrypted otherwise
            self.say(result.err.strip())
            return self.assertEqual(self.names(), before)
        self.assert_status(result, DONE)
        new = self.note_new_sets(before)
        self.assertEqual(len(new), 1)
        self.check_cost(new[0])
        self.check_agreement(settled=True)

    def check_cost(self, name):
        manifest = self.manifest(name)
        for disk in manifest["disks"]:
            if not disk["parent_file"]:
                continue
            since = self.made_at[manifest["parent"]["set"]]
            touched = [piece for piece, step in self.models[disk["name"]].touched.items() if step >= since]
            unit = max(PIECE, 256 * 1024)  # of the bitmap, at most
            self.assertLessEqual(disk["data_bytes"], len({piece * PIECE // unit for piece in touched}) * unit, disk["name"])

    def back_up_in_vain(self):
        kind = self.random.choice(["no room", "job aborted", "SIGTERM"])
        before = self.names()
        if kind == "no room":
            result = self.backup(self.vm, "--incremental", "--min-free", "100000G")
        else:
            run, release = self.begin_in_job(self.vm, "--incremental")
            if kind == "SIGTERM":
                run.send(signal.SIGTERM)
            else:
                self.vm.handle.abortJob()
            result = run.end()
            release()
        self.say(f"backup that fails: {kind}: {result.status}")
        self.assertNotEqual(result.status, DONE)
        self.assertEqual(self.names(), before)
        self.assert_given_back()
        self.check_agreement(settled=False)
        self.assertEqual([name for name in self.checkpoints() if name not in self.in_sets()], [])

    def back_up_killed(self):
        """At a step of the commit, or at any time."""
        place = self.target / self.vm.name
        steps = {"the ledger's entry": lambda: any(place.glob(".checkpoint-*")) and set(place.glob(".checkpoint-*")) != ledger,
                 "the first image": lambda: any(place.glob(".partial-*/*.qcow2*")), "the manifest": lambda: any(place.glob(".partial-*/manifest.json")),
                 "the publication": lambda: len(self.names()) > len(before), "any time": None}
        step, before = self.random.choice(list(steps)), self.names()
        ledger = set(place.glob(".checkpoint-*"))
        run = self.begin("backup", self.vm.name, "--to", self.target, "--min-free", "1M", "--incremental")
        if steps[step] is None:
            time.sleep(self.random.random() * 0.4)
        else:
            until = time.monotonic() + 20
            while not steps[step]() and run.running() and time.monotonic() < until:
                pass
        if self.random.random() < 0.5:
            run.send_group(signal.SIGKILL)
        else:
            run.send(signal.SIGKILL)
        run.kill()
        self.say(f"backup killed at {step}")
        wait_until("our processes to end", lambda: not lab.our_processes(), 60)
        self.note_new_sets(before)
        self.assert_given_back()
        self.check_agreement(settled=False)

    def assert_given_back(self):
        wait_until("the job to end", lambda: not self.vm.backup_job())
        self.assertEqual(self.vm.state(), libvirt.VIR_DOMAIN_RUNNING)

    def delete(self):
        names = self.names()
        if len(names) < 3:
            return
        name = self.random.choice(names)
        above = self.standing_on(name)
        with_children = ["--with-children"] if self.random.random() < 0.3 else []
        result = self.run_command("delete", self.target / self.vm.name / name, *with_children)
        self.say(f"delete {name} {with_children}: {result.status}")
        if above and not with_children:
            self.assertEqual(result.status, lab.FAILED, str(result))
            return self.assertEqual(self.names(), names)
        self.assert_status(result, DONE)
        gone = {name, *above}
        self.assertEqual(self.names(), [other for other in names if other not in gone])
        for other in gone:
            for copy in self.expected.pop(other).values():
                copy.unlink()
        self.check_agreement(settled=True)

    def standing_on(self, name):
        above = set()
        for other in self.names():
            parent = self.manifest(other)["parent"]
            if parent and parent["set"] in above | {name}:
                above.add(other)
        return above

    def merge(self):
        increments = [name for name in self.names() if self.manifest(name)["parent"]]
        if not increments or not self.can_merge():
            return
        name, before = self.random.choice(increments), self.names()
        opens = ["-e", self.key, *QUICK] if self.manifest(name)["options"]["encryption"] != "none" else []
        result = self.run_command("merge", self.target / self.vm.name / name, "--min-free", "1M", *opens)
        self.assert_status(result, DONE)
        new = [other for other in self.names() if other not in before]
        self.assertEqual(len(new), 1)
        self.expected[new[0]] = {}
        for target, copy in self.expected[name].items():
            self.expected[new[0]][target] = self.dir / f"point-{new[0]}-{target}.raw"
            shutil.copyfile(copy, self.expected[new[0]][target])
        self.made_at[new[0]] = self.made_at[name]
        self.assertEqual(self.manifest(new[0])["kind"], "full")
        self.say(f"merge {name} into {new[0]}")
        self.check_set(new[0])

    def can_merge(self):
        if not hasattr(self, "merges"):
            self.merges = self.run_command("merge", "--help").status == DONE
        return self.merges

    # ---- judging ---------------------------------------------------------------------------------------------------

    def manifest(self, name):
        return json.loads((self.target / self.vm.name / name / "manifest.json").read_text())

    def check_set(self, name):
        place = self.target / self.vm.name / name
        manifest = self.manifest(name)
        encrypted = manifest["options"]["encryption"] != "none"
        out = self.dir / "restored"
        out.mkdir()
        self.assert_status(self.run_command("restore", place, "--to", out, "-O", "raw", *(["-e", self.key] if encrypted else [])), DONE)
        self.assertEqual(sorted(disk["name"] for disk in manifest["disks"]), sorted(self.expected[name]))
        for disk in manifest["disks"]:
            copy = self.expected[name][disk["name"]]
            judge.same(next(out.glob(f"*{disk['name']}*")), copy, "raw")
            if not encrypted:
                judge.check(place / disk["file"])
                judge.same(place / disk["file"], copy)
            elif not disk["parent_file"]:
                judge.same_encrypted(place / disk["file"], copy, self.key)
        shutil.rmtree(out)

    def check_all(self):
        self.assertEqual(sorted(self.names()), sorted(self.expected))
        for name in self.names():
            self.check_set(name)
            opens = ["-e", self.key] if self.manifest(name)["options"]["encryption"] != "none" else []
            self.assert_status(self.run_command("verify", self.target / self.vm.name / name, *opens), DONE)

    def checkpoints(self):
        return [point.getName() for point in self.vm.handle.listAllCheckpoints() if point.getName() != "foreign"]

    def in_sets(self):
        return {self.manifest(name)["checkpoint"] for name in self.names()} - {""}

    def check_agreement(self, settled):
        """Every checkpoint, entry and bitmap of ours is that of a set; after a run that ends by itself at most two are left."""
        in_sets = self.in_sets()
        ledger = {path.read_text().strip() for path in (self.target / self.vm.name).glob(".checkpoint-*")}
        found = {block["qdev"].split("ua-")[1].split("/")[0]: {bitmap["name"] for bitmap in block["inserted"].get("dirty-bitmaps", [])}
                 for block in self.vm.qmp("query-block") if block.get("inserted")}
        self.assertIn("foreign", found["vda"])
        bitmaps = set().union(*found.values()) - {"foreign"}
        known = in_sets if settled else in_sets | ledger
        self.assertEqual((set(self.checkpoints()) - known, bitmaps - known), (set(), set()))
        if settled:
            self.assertEqual(ledger - in_sets, set())
            self.assertLessEqual(len(ledger), 3 if getattr(self, "merges", False) else 2)

    def test_every_point_that_survives_is_what_it_was(self):
        events = [(self.write, 6), (self.trim, 2), (self.resize, 1), (self.change_disks, 1), (self.restart, 1), (self.back_up_in_vain, 1),
                  (self.back_up_killed, 2), (self.delete, 1), (self.merge, 1)]
        try:
            for generation in range(1, GENERATIONS + 1):
                for _ in range(2):
                    self.step += 1
                    self.random.choices([event for event, _ in events], [weight for _, weight in events])[0]()
                self.step += 1
                self.back_up()
                if generation % 10 == 0:
                    self.check_all()
            self.check_all()
        except Exception as error:
            raise AssertionError("\n".join([f"{type(error).__name__}: {error}", f"seed {SEED}", *self.log])) from error


if __name__ == "__main__":
    lab.main()
