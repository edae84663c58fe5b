# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A model of chains of backups: what each disk of a VM holds, what each set must hold, and which bitmaps tell what changed. From a
seed it lets the VM, its disks, the target and the runs go through generations of whatever may happen to them, and compares after
each: sets with the model byte for byte, images with qemu-img, checkpoints and bitmaps of QEMU with sets and ledger."""
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import lab
from domain import Disk, make_image
from lab import DONE, MIB, wait_until

from chain_content import FOREIGN, PIECE, Content, ModelDisk, Point, Shot
from chain_endings import STEPS_OF_DELETE, STEPS_OF_MERGE, ChainEndings
from chain_events import ChainEvents
from chain_judges import ChainJudges

STYLES = {"plain": (), "c": ("-c",), "e": ("-e",), "c-e": ("-c=zstd", "-e")}


class ChainModelTest(ChainEvents, ChainEndings, ChainJudges, lab.LabTest):
    """Derived classes call play()."""

    SIZE = 6 * MIB

    # ---- the beginning -------------------------------------------------------------------------------------------------------

    def play(self, seed, generations, tell=False):
        self.seed, self.tell, self.log = seed, tell, []
        try:
            self.begin_model()
            for number in range(generations):
                self.generation(number)
                self.judge_points([point for point in self.points.values() if number % 10 == 9 or not point.checked])
            self.settle_at_the_end()
            self.judge_points(self.points.values())
        except BaseException:
            print(f"\nchain model: seed {seed}\n" + "\n".join(self.log), flush=True)
            raise

    def settle_at_the_end(self):
        if not self.on():
            self.start()
        self.note("the last one")
        self.back_up("--incremental", None, self.go_well)

    def note(self, line):
        self.log.append(line)
        if self.tell:
            print(line, flush=True)

    def begin_model(self):
        self.chance = random.Random(self.seed)
        self.key = self.dir / "key"
        self.key.write_bytes(b"s3cret")
        self.style = self.chance.choice(list(STYLES))
        self.points, self.live, self.bitmaps, self.serial, self.forgotten, self.runs = {}, set(), {}, 0, False, 0
        self.detached, self.wandered, self.held = {}, set(), False
        self.foreign, self.foreign_stored = True, False
        self.disks = {"vda": self.make_disk("vda", "qcow2", 65536), "vdb": self.make_disk("vdb", "qcow2", 262144),
                      "vdc": self.make_disk("vdc", "raw", 4096)}
        self.vm = self.domain("machine", [disk.disk for disk in self.disks.values()])
        self.assertEqual(self.vm.state(), lab.libvirt.VIR_DOMAIN_RUNNING)
        self.vm.handle.checkpointCreateXML(
            f"<domaincheckpoint><name>{FOREIGN}</name><disks><disk name='vda' checkpoint='bitmap'/>"
            "<disk name='vdb' checkpoint='no'/><disk name='vdc' checkpoint='no'/></disks></domaincheckpoint>")
        self.note(f"style {self.style}")

    def make_disk(self, target, fmt, cluster, path=None):
        self.serial += 1
        size = self.SIZE + self.chance.randrange(0, 300) * 512 * 7
        path = path or self.dir / f"{target}-{self.serial}.{fmt}"
        plain = make_image(self.dir / "plain", size)
        content = Content(size)
        with open(plain, "r+b") as file:
            for _ in range(2):
                file.seek(self.chance.randrange(size // 512 - 2048) * 512)
                file.write(self.chance.randbytes(MIB // 2))
        content.take(plain)
        options = ["-o", f"cluster_size={cluster}"] if fmt == "qcow2" else []
        subprocess.run(["qemu-img", "convert", "-O", fmt, *options, str(plain), str(path)], check=True)
        plain.unlink()
        return ModelDisk(Disk(target, path, fmt, bus="scsi" if target.startswith("s") else ""), self.serial, cluster, content)

    # ---- a backup ------------------------------------------------------------------------------------------------------------

    def words(self, target, chain, *more, min_free="1M"):
        options = [word if word != "-e" else f"-e={self.key}" for word in STYLES[self.style]]
        if "-e" in STYLES[self.style]:
            options += ["--pbkdf-iterations", "1000", "--insecure-pbkdf"]
        return ["backup", "machine", "--to", target, "--json", "--min-free", min_free, chain, *options, *more]

    def snapshots(self):
        shots = {}
        for target, disk in self.disks.items():
            shots[target] = Shot(disk.serial, disk.qcow2, disk.content.snapshot(), set(disk.unmapped),
                                 {name: set(pieces) for name, pieces in disk.since.items()})
            disk.touched = set()
        return shots

    def how_it_ends(self):
        whole = [(self.go_well, 10), (self.write_meanwhile, 5)]
        broken = [(self.lack_room, 1), (self.get_a_signal, 6), (self.break_at_a_step, 9), (self.lack_scratch, 2),
                  (self.lose_the_job, 2), (self.lose_qemu, 1)]
        ends = whole if self.held else whole + broken
        return self.chance.choices([end for end, _ in ends], [weight for _, weight in ends])[0]

    def generation(self, number):
        if self.chance.random() < 0.08:
            self.style = self.chance.choice(list(STYLES))
        if not self.on():
            self.start()
        self.note(f"generation {number}, {self.style}")
        self.change_vm()
        if self.points and self.chance.random() < 0.2:
            self.delete()
        if self.points and self.chance.random() < 0.2:
            self.merge()
        chain, parent = self.choose_chain()
        end = self.how_it_ends()
        if self.points and not self.held and self.chance.random() < 0.06:
            self.stop()
            chain, end = "--incremental", self.go_well
        self.back_up(chain, parent, end)

    def choose_chain(self):
        """The option, and the parent if one was named."""
        kind = self.chance.choices(["--full", "--incremental", "older"], [2, 7, 2])[0]
        older = [point for point in self.points.values() if self.can_be_parent(point)]
        if kind != "older" or not older:
            return ("--incremental" if kind == "older" else kind), None
        parent = self.chance.choice(older)
        return f"--incremental={parent.name}", parent

    def usable(self, point):
        """The disks whose bitmap tells what changed since the set."""
        known = self.bitmaps.get(point.checkpoint, {}) if point.checkpoint else {}
        return {target for target, disk in self.disks.items() if target in point.shots and known.get(target) == disk.serial}

    def can_be_parent(self, point):
        return bool(self.usable(point)) and point.encrypted == ("-e" in STYLES[self.style])

    def back_up(self, chain, parent, end):
        before, was_on = {path.name for path in self.sets(self.vm)}, self.on()
        shots = self.snapshots()
        if chain == "--incremental":
            parent = next((point for point in reversed(self.in_order()) if self.can_be_parent(point)), None)
        expected = self.expected_parents(parent, shots) if was_on else set()
        began, counts = time.monotonic(), self.qemus_counts(parent)
        self.note(f"  {end.__name__}")
        result, certain = end(chain)
        self.wait_for_processes()
        new = [path for path in self.sets(self.vm) if path.name not in before]
        self.note(f"{chain} {end.__name__}: exit {result.status}, {time.monotonic() - began:.2f} s, "
                  f"set {[path.name for path in new]} {result.err.strip() if result.status else ''}")
        self.assertLessEqual(len(new), 1)
        self.assertLessEqual(before, {path.name for path in self.sets(self.vm)})
        if result.status in (DONE, lab.WARNINGS):
            self.assertEqual(len(new), 1, f"it says that it went well: {result}")
        elif certain:
            self.assertEqual(new, [], str(result))
        if end in (self.go_well, self.write_meanwhile):
            self.assert_status(result, DONE)
        for path in new:
            self.adopt(path, shots, expected, parent, was_on, result.status in (DONE, -signal.SIGKILL))
        if result.status == DONE:
            self.held = False
            self.assert_disks_said(result, shots, expected, parent, counts)
        self.assert_agree(exactly=end in (self.go_well, self.write_meanwhile))

    def ended(self, run):
        try:
            return run.end(40)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"a run does not end: {lab.what_they_wait_for(lab.our_processes())}") from None

    def wait_for_processes(self):
        try:
            wait_until("our processes to end", lambda: not lab.our_processes())
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {lab.what_they_wait_for(lab.our_processes())}") from None

    def adopt(self, path, shots, expected, parent, was_on, clean):
        """A set was published."""
        point = Point(path.name, path, json.loads((path / "manifest.json").read_text()), shots)
        self.points[point.name] = point
        for target, disk in self.disks.items():
            disk.since[point.name] = set(disk.touched)
        stored = {disk["name"]: disk for disk in point.manifest["disks"]}
        self.assertEqual(set(stored), set(shots))
        said = {target for target, disk in stored.items() if disk.get("parent_file")}
        why = {target: disk.get("full_because") for target, disk in stored.items()}
        self.assertEqual(said, expected, f"increments are these disks and not those; the manifest says {why}")
        self.assertEqual(point.parent, parent.name if expected else None)
        self.assertEqual(bool(point.checkpoint), was_on)
        if clean:
            self.assertIn(point.checkpoint, self.ledger() if was_on else {""})
        ledger = self.ledger()
        if point.checkpoint in ledger:  # a run that fails after all, its set published, takes its checkpoint back
            self.live.add(point.checkpoint)
            self.bitmaps[point.checkpoint] = {target: shot.serial for target, shot in shots.items() if shot.qcow2}
            if not self.on() or point.checkpoint not in self.qemus_bitmaps()["vda"]:  # gone, and a NAS that is away still lists it
                self.assertFalse(clean)
                self.bitmaps[point.checkpoint], self.forgotten = {}, True
        self.settle()

    def expected_parents(self, parent, shots):
        if parent is None:
            return set()
        return {target for target in self.usable(parent)
                if shots[target].qcow2 and parent.shots[target].content.size == shots[target].content.size}

    def assert_disks_said(self, result, shots, expected, parent, counts):
        """The cost follows the change: what QEMU's bitmap counts is read, and of that not what was trimmed."""
        for disk in result.json()["disks"]:
            target = disk["name"]
            if target not in expected:
                continue
            trimmed = len(shots[target].since[parent.name] & shots[target].unmapped) * PIECE
            self.assertLessEqual(disk["virtual_size"] - disk["parent_bytes"], counts[target], disk)
            self.assertLessEqual(disk["read_bytes"], counts[target] - trimmed, disk)

    # ---- delete and merge ----------------------------------------------------------------------------------------------------

    def in_order(self):
        return [self.points[name] for name in sorted(self.points)]

    def standing_on(self, name):
        found = {name}
        for point in self.in_order():
            if point.parent in found:
                found.add(point.name)
        return found

    def delete(self):
        name = self.chance.choice(sorted(self.points))
        doomed = self.standing_on(name)
        force = ["--with-children"] if self.chance.random() < 0.6 else []
        refused = len(doomed) > 1 and not force
        result, broken = self.sometimes_broken_at(STEPS_OF_DELETE, lambda place: ["delete", place / "machine" / name, *force])
        self.note(f"  delete {name} {force}: exit {result.status} {result.err.strip()}")
        left = {path.name for path in self.sets(self.vm)}
        if refused:
            doomed = set()
        if not broken:
            self.assert_status(result, *((lab.FAILED, "stand") if refused else (DONE,)))
        if result.status == DONE:
            self.assertEqual(left, set(self.points) - doomed)
        self.assertLessEqual(set(self.points) - doomed, left)
        for gone in set(self.points) - left:
            self.points.pop(gone)
        self.assertLessEqual({point.parent for point in self.points.values()} - {None}, left, "a set lost what it stands on")
        self.settle()
        self.assertEqual(left, set(self.points))
        self.assert_agree(exactly=False)

    def merge(self):
        increments = [point for point in self.points.values() if point.parent]
        if not increments:
            return
        point = self.chance.choice(increments)
        opens = [f"-e={self.key}", "--pbkdf-iterations", "1000", "--insecure-pbkdf"] if point.encrypted else []
        result, broken = self.sometimes_broken_at(STEPS_OF_MERGE, lambda place: ["merge", place / "machine" / point.name, "--json", *opens])
        self.note(f"  merge {point.name}: exit {result.status} {result.err.strip()}")
        new = [path for path in self.sets(self.vm) if path.name not in self.points]
        self.assertLessEqual(len(new), 1)
        if not broken:
            self.assert_status(result, DONE)
        if result.status == DONE:
            self.assertEqual([path.name for path in new], [Path(result.json()["set"]).name])
        for path in new:
            self.adopt_merged(path, point)

    def adopt_merged(self, path, point):
        merged = Point(path.name, path, json.loads((path / "manifest.json").read_text()), point.shots)
        self.assertIsNone(merged.parent)
        self.points[merged.name] = merged
        for disk in [*self.disks.values(), *self.detached.values()]:
            if point.name in disk.since:
                disk.since[merged.name] = set(disk.since[point.name])
        self.settle()  # it may be the newest full set, and then the old one's checkpoint goes with the next run
