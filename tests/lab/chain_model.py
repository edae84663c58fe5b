# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A model of chains of backups: what each disk of a VM holds, what each set must hold, and which bitmaps tell what changed. From a
seed it lets the VM, its disks, the target and the runs go through generations of whatever may happen to them, and compares after
each: sets with the model byte for byte, images with qemu-img, checkpoints and bitmaps of QEMU with sets and ledger."""
import collections
import errno
import json
import os
import random
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import judge
import lab
import qemu_img
from domain import Disk, Domain, make_image
from lab import DONE, MIB, TARGET_FULL, wait_until
from stepping_nas import SteppingNas

PIECE = 65536
ZEROES = bytes(PIECE)
FOREIGN = "foreign"
STYLES = {"plain": (), "c": ("-c",), "e": ("-e",), "c-e": ("-c=zstd", "-e")}

# Each step at which a run changes the target, in order, and the path that it is about.
STEPS = [("create", r"/\.checkpoint-\w+$", 1), ("write", r"/\.checkpoint-\w+$", 1), ("fsyncdir", r"/machine$", 1),
         ("mkdir", r"/\.partial-\w+$", 1),
         ("create", r"vda[^/]*\.(qcow2|luks)$", 1), ("write", r"\.(qcow2|luks)$", 3), ("fsync", r"\.(qcow2|luks)$", 2),
         ("write", r"\.digests$", 1), ("create", r"/manifest\.json$", 1), ("write", r"/manifest\.json$", 1),
         ("fsync", r"/manifest\.json$", 1), ("fsyncdir", r"/\.partial-\w+$", 1), ("rename", r"/20[0-9.]+$", 1),
         ("fsyncdir", r"/machine$", 2), ("unlink", r"/\.checkpoint-\w+$", 1), ("unlink", r"/\.checkpoint-\w+$", 2),
         ("rename", r"", 3), ("rmdir", r"", 1)]
STEPS_OF_MERGE = [step for step in STEPS if "checkpoint" not in step[1]]
STEPS_OF_DELETE = [("rename", r"/\.deleting-", 1), ("rename", r"/\.deleting-", 2), ("unlink", r"/\.deleting-", 1), ("unlink", r"/\.deleting-", 3),
                   ("rmdir", r"/\.deleting-", 1), ("rmdir", r"/\.deleting-", 2), ("fsyncdir", r"/machine$", 1), ("unlink", r"/\.checkpoint-\w+$", 1)]
# How often each was come to, before it was carried out or after, by all seeds of this process.
REACHED = collections.Counter()


class Content:
    """What a disk holds, in pieces that its snapshots share."""

    def __init__(self, size, pieces=None):
        self.size, self.pieces = size, pieces or [ZEROES] * -(-size // PIECE)

    def snapshot(self):
        return Content(self.size, list(self.pieces))

    def fill(self, offset, length, pattern):
        """Returns the pieces that were touched."""
        first, last = offset // PIECE, (offset + length - 1) // PIECE
        for number in range(first, last + 1):
            begin, end = max(offset - number * PIECE, 0), min(offset + length - number * PIECE, PIECE)
            old = self.pieces[number]
            self.pieces[number] = old[:begin] + bytes([pattern]) * (end - begin) + old[end:]
        return range(first, last + 1)

    def take(self, path):
        """What a raw file holds."""
        with open(path, "rb") as file:
            self.pieces = [file.read(PIECE).ljust(PIECE, b"\0") for _ in self.pieces]

    def grow(self, size):
        self.pieces += [ZEROES] * (-(-size // PIECE) - len(self.pieces))
        self.size = size

    def save(self, path):
        with open(path, "wb") as file:
            file.truncate(self.size)
            for number, piece in enumerate(self.pieces):
                if piece != ZEROES:
                    file.seek(number * PIECE)
                    file.write(piece[:self.size - number * PIECE])

    def difference(self, path):
        """A line on the first place where a raw file differs; nothing when none does."""
        if os.path.getsize(path) != self.size:
            return f"{path} has {os.path.getsize(path)} bytes and not {self.size}"
        with open(path, "rb") as file:
            for number, piece in enumerate(self.pieces):
                if file.read(PIECE) != piece[:self.size - number * PIECE]:
                    return f"{path}: the 64 KiB at {number * PIECE} differ"
        return None


@dataclass
class ModelDisk:
    disk: Disk
    serial: int  # of the file; another one of the same name has another
    cluster: int
    content: Content
    touched: set = field(default_factory=set)  # pieces, since the last snapshot
    since: dict = field(default_factory=dict)  # pieces, by the set since which
    unmapped: set = field(default_factory=set)  # pieces that QEMU knows to be zero

    @property
    def qcow2(self):
        return self.disk.fmt == "qcow2"

    def mark(self, pieces):
        self.touched.update(pieces)
        for since in self.since.values():
            since.update(pieces)


@dataclass
class Shot:
    """A disk when a backup began."""
    serial: int
    qcow2: bool
    content: Content
    unmapped: set
    since: dict


@dataclass
class Point:
    """A published set."""
    name: str
    path: Path
    manifest: dict
    shots: dict
    checked: int = 0

    @property
    def parent(self):
        return (self.manifest.get("parent") or {}).get("set")

    @property
    def checkpoint(self):
        return self.manifest["checkpoint"]

    @property
    def encrypted(self):
        return self.manifest["options"]["encryption"] != "none"


class ChainModelTest(lab.LabTest):
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

    # ---- what happens to the VM ----------------------------------------------------------------------------------------------

    def on(self):
        return bool(self.vm.handle.isActive())

    def some_disk(self, chosen=lambda disk: True):
        found = [disk for disk in self.disks.values() if chosen(disk)]
        return self.chance.choice(found) if found else None

    def write(self, only_writes=False):
        disk = self.some_disk()
        target, size = disk.disk.target, disk.content.size
        kind = "write" if only_writes else self.chance.choice(["write", "write", "write", "zero", "discard"])
        unit = disk.cluster if kind == "discard" else 512
        offset = self.chance.randrange(size // unit) * unit
        length = min(self.chance.choice([512, 4096, 70_144, 300_032, MIB]) // unit * unit or unit, (size - offset) // unit * unit)
        if kind == "write":
            pattern = self.chance.randrange(256)
            self.vm.write(target, offset, length, pattern)
        else:
            pattern = 0
            self.vm.qemu_io(target, f"write -z -u {offset} {length}" if kind == "zero" else f"discard {offset} {length}")
        self.note(f"  {kind} {target} {offset} {length} {pattern}")
        touched = disk.content.fill(offset, length, pattern)
        disk.mark(touched)
        wide = max(disk.cluster // PIECE, 1)  # a write into a zero cluster makes all of it data
        disk.unmapped.difference_update(range(touched[0] // wide * wide, (touched[-1] // wide + 1) * wide))
        if kind != "write":
            begin, end = -(-offset // disk.cluster) * disk.cluster, (offset + length) // disk.cluster * disk.cluster
            disk.unmapped.update(range(-(-begin // PIECE), end // PIECE))

    def resize(self):
        disk = self.some_disk(lambda disk: disk.content.size < 3 * self.SIZE)
        if disk is None:
            return
        size = disk.content.size + self.chance.randrange(1, 2000) * 512
        try:
            self.vm.handle.blockResize(disk.disk.target, size, lab.libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        except lab.libvirt.libvirtError as error:  # QEMU's rule, until a backup has taken the bitmap away
            self.assertIn("is inconsistent and cannot be used", str(error))
            return
        disk.content.grow(size)
        self.note(f"  resize {disk.disk.target} to {size}")

    def flush(self):
        for target in self.disks:
            self.vm.qemu_io(target, "flush")

    def stop(self):
        """QEMU writes its bitmaps into the disks."""
        self.vm.destroy()
        self.foreign_stored = True

    def start(self):
        self.vm.disks = [disk.disk for disk in self.disks.values()]
        self.vm.start()

    def restart(self):
        self.stop()
        self.start()
        self.note("  restart")

    def kill_qemu(self):
        """QEMU could not say in the disks that their bitmaps are whole."""
        self.flush()
        os.kill(self.vm.qemu_pid(), signal.SIGKILL)
        self.qemu_was_killed()
        self.note("  QEMU killed")

    def qemu_was_killed(self):
        wait_until("the domain to be off", lambda: not self.on())
        self.foreign = self.foreign and self.foreign_stored
        for known in self.bitmaps.values():
            for target in self.disks:
                known.pop(target, None)

    def kill_and_start(self):
        self.kill_qemu()
        self.start()

    def define_anew(self):
        self.stop()
        self.vm.handle.undefineFlags(lab.libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        self.start()
        self.forgotten = True
        self.note("  defined anew")

    def attach(self):
        free = [target for target in ("vdd", "sda", "sdb") if target not in self.disks]
        if not free:
            return
        target = self.chance.choice(free)
        disk = self.detached.pop(target, None) if self.chance.random() < 0.5 else None
        disk = disk or self.make_disk(target, self.chance.choice(["qcow2", "qcow2", "raw"]), self.chance.choice([65536, 262144]))
        both = lab.libvirt.VIR_DOMAIN_AFFECT_LIVE | lab.libvirt.VIR_DOMAIN_AFFECT_CONFIG
        self.vm.handle.attachDeviceFlags(ET.tostring(disk.disk.xml(), encoding="unicode"), both)
        self.disks[target] = disk
        self.note(f"  attach {target}: file {disk.serial}")

    def detach(self):
        """Hot where that needs no help of an operating system."""
        disk = self.some_disk(lambda disk: disk.disk.target not in ("vda", "vdc"))
        if disk is None:
            return
        target = disk.disk.target
        if target.startswith("s"):
            both = lab.libvirt.VIR_DOMAIN_AFFECT_LIVE | lab.libvirt.VIR_DOMAIN_AFFECT_CONFIG
            self.vm.handle.detachDeviceFlags(ET.tostring(disk.disk.xml(), encoding="unicode"), both)
            wait_until("the disk to be gone", lambda: f"dev='{target}'" not in self.vm.handle.XMLDesc())
            self.forget_disk(target)
        else:
            self.stop()
            self.forget_disk(target)
            self.start()
        self.note(f"  detach {target}")

    def forget_disk(self, target):
        self.detached[target] = self.disks.pop(target)
        self.wandered.add(self.detached[target].serial)

    def replace(self):
        """By another file of the same name."""
        disk = self.some_disk(lambda disk: disk.disk.target != "vda")
        target = disk.disk.target
        self.stop()
        os.unlink(disk.disk.path)
        self.disks[target] = self.make_disk(target, disk.disk.fmt, disk.cluster, disk.disk.path)
        for known in self.bitmaps.values():
            known.pop(target, None)
        self.start()
        self.note(f"  replace {target}: file {self.disks[target].serial}")

    EVENTS = [(resize, 6), (restart, 5), (kill_and_start, 4), (define_anew, 5), (attach, 6), (detach, 5), (replace, 4)]

    def change_vm(self):
        for _ in range(self.chance.randrange(1, 6)):
            self.write(only_writes=self.held)  # QEMU drops what is trimmed while a job runs
        if not self.held and self.chance.random() < 0.5:
            event = self.chance.choices([event for event, _ in self.EVENTS], [weight for _, weight in self.EVENTS])[0]
            event(self)
            for _ in range(self.chance.randrange(0, 3)):
                self.write()

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
        if self.points and self.has_merge() and self.chance.random() < 0.2:
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

    # ---- how it ends: the result, and whether a failure leaves no set for certain --------------------------------------------

    def go_well(self, chain):
        return self.run_command(*self.words(self.target, chain)), True

    def begin_held(self, chain, *more):
        """A run whose job has begun, and what lets it go on."""
        begun, go = self.dir / f"begun-{time.monotonic_ns()}", self.dir / f"go-{time.monotonic_ns()}"
        held = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done"
        run = self.begin(*self.words(self.target, chain, "--exec-in-job", held, *more))
        wait_until("the job to begin", lambda: begun.exists() or not run.running(), pause=0.01)
        self.assertTrue(begun.exists(), "the run ended before its job had begun" + ("" if run.running() else str(run.end())))
        return run, go.touch

    def write_meanwhile(self, chain):
        run, release = self.begin_held(chain)
        for _ in range(self.chance.randrange(1, 6)):
            self.write(only_writes=True)
        release()
        return self.ended(run), True

    def lack_room(self, chain):
        result = self.run_command(*self.words(self.target, chain, min_free="100000G"))
        self.assert_status(result, TARGET_FULL)
        return result, True

    def lack_scratch(self, chain):
        place = self.dir / f"scratch-{time.monotonic_ns()}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96M", "scratch", str(place)], check=True)
        try:
            run, release = self.begin_held(chain, "--scratch", place)
            room = os.statvfs(place)
            (place / "filler").write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - MIB)))
            for _ in range(6):
                self.write(only_writes=True)
            release()
            return self.ended(run), True
        finally:
            self.wait_for_processes()
            subprocess.run(["umount", "-l", str(place)], check=True)

    def lose_the_job(self, chain):
        run, release = self.begin_held(chain, "--rate", "1M")
        time.sleep(0.3)  # QEMU 7.2 hangs for ever in nbd-server-stop, guest and all, while a client shakes hands
        self.vm.handle.abortJob()
        release()
        return self.ended(run), True

    def lose_qemu(self, chain):
        self.flush()
        run, release = self.begin_held(chain)
        os.kill(self.vm.qemu_pid(), signal.SIGKILL)
        release()
        result = self.ended(run)
        self.qemu_was_killed()
        return result, True

    def get_a_signal(self, chain):
        run = self.begin(*self.words(self.target, chain))
        moment = self.chance.random() * 0.7
        time.sleep(moment)
        action = self.chance.choice([self.term, self.kill_supervisor, self.kill_group, self.kill_all])
        action(run)
        self.note(f"  {action.__name__} after {moment:.3f} s")
        return self.ended(run), False

    def break_at_a_step(self, chain):
        step = self.chance.choice(STEPS)
        actions = [self.term, self.kill_group, self.kill_group, self.kill_all, self.drop_job, None, None]
        return self.broken_at(step, actions, lambda place: self.words(place, chain)), False

    def broken_at(self, step, actions, words_on):
        """How the command ends that has words_on(PLACE), PLACE being the target but for the one step, which fails, or hangs until one of
        the actions is taken."""
        when = self.chance.choice(["before", "after"])
        action = self.chance.choice(actions)
        what = "hang" if action else self.chance.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT])
        nas = SteppingNas(self.target, self.dir / "stepping-nas", *step, when, what)
        try:
            run = self.begin(*words_on(nas.place))
            reached = nas.reached(run.running)
            REACHED[when, *step] += reached
            self.note(f"  {when} {' '.join(map(str, step))}: {action.__name__ if action else errno.errorcode[what]}"
                      f"{'' if reached else ': did not come to that'}")
            if action and reached:
                action(run)
                time.sleep(0.1)
                nas.end()
            return self.ended(run)
        finally:
            if nas.process.poll() is None:
                self.wait_for_processes()
                nas.end()

    def sometimes_broken_at(self, steps, words_on):
        """How a command ends that has no part in the VM's jobs, and whether it was to be broken off."""
        if self.chance.random() < 0.5:
            return self.run_command(*words_on(self.target)), False
        result = self.broken_at(self.chance.choice(steps), [self.term, self.kill_group, self.kill_group, None, None], words_on)
        self.wait_for_processes()
        return result, True

    def term(self, run):
        run.send(signal.SIGTERM)

    def kill_supervisor(self, run):
        run.send(signal.SIGKILL)

    def kill_group(self, run):
        run.send_group(signal.SIGKILL)

    def kill_all(self, run):
        """Also the guard: the job may stay until the next run."""
        for _ in range(3):
            for pid in lab.our_processes():
                os.kill(pid, signal.SIGKILL)
        self.held = True

    def drop_job(self, run):
        try:
            self.vm.handle.abortJob()
        except lab.libvirt.libvirtError:
            pass  # it has ended already

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

    def has_merge(self):
        if not hasattr(self, "merge_is_there"):
            self.merge_is_there = subprocess.run([lab.NASBACKUP, "merge", "--help"], capture_output=True).returncode == 0
        return self.merge_is_there

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

    # ---- judging -------------------------------------------------------------------------------------------------------------

    def settle(self):
        """Which checkpoints stay."""
        with_one = [point for point in self.in_order() if point.checkpoint in self.live]
        full = [point for point in with_one if not point.parent]
        needed = {points[-1].checkpoint for points in (with_one, full) if points}
        self.live &= needed
        self.bitmaps = {name: known for name, known in self.bitmaps.items() if name in self.live}

    def assert_agree(self, exactly):
        """Sets, ledger, libvirt's checkpoints and QEMU's bitmaps."""
        listed = self.run_command("list", self.target, "--json")
        self.assertEqual(sorted(Path(entry["path"]).name for entry in listed.json()["sets"]), sorted(self.points))
        ledger = self.ledger()
        self.assertLessEqual(self.live, ledger)
        if not self.on():
            return
        ours = {point.getName() for point in self.vm.handle.listAllCheckpoints()}
        if not self.forgotten:
            self.assertIn(FOREIGN, ours)
        ours.discard(FOREIGN)
        bitmaps = self.qemus_bitmaps()
        self.assertEqual(FOREIGN in bitmaps["vda"], self.foreign)
        if exactly:
            self.assertEqual(ledger, self.live)
            if not self.forgotten:
                self.assertEqual(ours, self.live)
        self.assertLessEqual(ours, ledger)
        for target, names in bitmaps.items():
            if self.disks[target].serial not in self.wandered:
                self.assertLessEqual({name for name in names if name.startswith("nasbackup-")}, ledger, target)
            for name, known in self.bitmaps.items():
                if known.get(target) == self.disks[target].serial:
                    self.assertTrue(names.get(name), f"the bitmap {name} of {target}")
        if not self.held:
            self.assertIsNone(self.vm.backup_job())
            self.assertEqual(self.vm.qmp("query-block-exports"), [])
        self.assertEqual(self.vm.state(), lab.libvirt.VIR_DOMAIN_RUNNING)
        self.assertEqual(self.vm.io_errors(), [])

    def ledger(self):
        return {path.read_text().strip() for path in (self.target / "machine").glob(".checkpoint-*")} - {""}

    def qemus_counts(self, parent):
        """By disk: the bytes that have changed since the parent, by its bitmap."""
        nodes = self.vm.qmp("query-named-block-nodes", flat=True) if parent and self.on() else []
        return {target: bitmap["count"] for target, disk in self.disks.items() for node in nodes
                if node["drv"] == "qcow2" and node["file"] == str(disk.disk.path)
                for bitmap in node.get("dirty-bitmaps", []) if bitmap.get("name") == parent.checkpoint}

    def qemus_bitmaps(self):
        """By disk: name, and whether it is consistent."""
        found = {target: {} for target in self.disks}
        paths = {str(disk.disk.path): target for target, disk in self.disks.items()}
        for node in self.vm.qmp("query-named-block-nodes", flat=True):  # while a job runs, the device has a filter in front
            if node["drv"] == "qcow2" and node["file"] in paths:
                found[paths[node["file"]]] = {bitmap["name"]: not bitmap.get("inconsistent")
                                              for bitmap in node.get("dirty-bitmaps", []) if "name" in bitmap}
        return found

    def settle_at_the_end(self):
        if not self.on():
            self.start()
        self.note("the last one")
        self.back_up("--incremental", None, self.go_well)

    def judge_points(self, points):
        for point in points:
            self.judge_restored(point)
            for target, shot in point.shots.items():
                self.judge_image(point, target, shot)
            point.checked += 1

    def judge_restored(self, point):
        out = self.dir / "out"
        out.mkdir(exist_ok=True)
        words = [word for target in point.shots for word in ("--disk", f"{target}={out / target}.raw")]
        opens = [f"-e={self.key}"] if point.encrypted else []
        self.assert_status(self.run_command("restore", point.path, *words, "-O", "raw", "--force", *opens), DONE)
        for target, shot in point.shots.items():
            self.assertIsNone(shot.content.difference(out / f"{target}.raw"), f"{point.name}")

    def judge_image(self, point, target, shot):
        image, expected = self.image(point.path, target), self.dir / "expected.raw"
        shot.content.save(expected)
        if not point.encrypted:
            judge.check(image)
            judge.same(image, expected)
            if point.name in self.points and not point.checked:
                self.judge_zeroes(point, target, image, shot)
            return
        raw = f"driver=raw,file.driver=file,file.filename={expected}"
        secret = ("--object", f"secret,id=sec0,file={self.key}", "--image-opts")
        opened = ",".join([judge.options_of(image), *self.opened_below(image)])
        qemu_img.run("qemu-img", "check", *secret, opened)
        qemu_img.run("qemu-img", "compare", "-U", *secret, opened, raw)

    def opened_below(self, image):
        """How QEMU opens what an encrypted image stands on."""
        prefix = "backing."
        for below in self.images_below(image):
            container = below.read_bytes()[:4] == b"LUKS"
            yield f"{prefix}file.driver=luks,{prefix}file.key-secret=sec0" if container else f"{prefix}encrypt.key-secret=sec0"
            prefix += "backing."

    def images_below(self, image):
        point = self.points[image.parent.name]
        target = next(disk["name"] for disk in point.manifest["disks"] if disk["file"] == image.name)
        while True:
            entry = next(disk for disk in point.manifest["disks"] if disk["name"] == target)
            if not entry.get("parent_file"):
                return
            point = self.points[point.parent]
            yield point.path / entry["parent_file"]

    def judge_zeroes(self, point, target, image, shot):
        """What was trimmed since the parent is zero clusters and not data."""
        entry = next(disk for disk in point.manifest["disks"] if disk["name"] == target)
        if not entry.get("parent_file"):
            return
        mapped = json.loads(judge.output_of("qemu-img", "map", "--output=json", "-U", str(image))[1])
        data = {piece for run in mapped if run["depth"] == 0 and run["data"]
                for piece in range(run["start"] // PIECE, -(-(run["start"] + run["length"]) // PIECE))}
        self.assertEqual(data & shot.unmapped, set(), f"{image}: pieces that were trimmed are data")
