# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The contest over increments: one hundredth of a disk changed in random pieces of 64 KiB, backed up against our own full backup, against
virtnbdbackup's increment, and the same change on a disk of 8 TiB.

Runs inside tests/lab/enter. Before each run, outside its time, the guest's device writes the changes; each chain grows by a set with each run.
"""
import json
import os
import random
import subprocess

import vm_contest
from contender import Contender
from contests import Contest

PIECE = 64 << 10
LARGE = 8 << 40
WHOLE, SMALL, BIG = "nasbackup, the disk as a whole", "nasbackup --incremental", "nasbackup --incremental, 8 TiB"
RIVAL = "virtnbdbackup -l inc + sync"


class Machine:
    """A VM whose disk can be changed, and its chain of sets."""

    def __init__(self, house, name, image):
        import domain
        self.house, self.name, self.image = house, name, image
        self.chain = os.path.join(house.work, "chain-" + name)
        os.makedirs(self.chain, exist_ok=True)
        self.random = random.Random(11)
        self.domain = domain.Domain(name, [domain.Disk("vda", image, "qcow2")]).start()
        self.pieces = 0

    def change(self):
        """As many pieces as a hundredth of 8 GiB has, all within the first 8 GiB of it, each with bytes of its own."""
        span = os.path.getsize(self.house.realistic())
        for offset in self.random.sample(range(0, span - PIECE, PIECE), max(1, span // 100 // PIECE)):
            self.pieces += 1
            self.domain.write("vda", offset, PIECE, self.pieces % 255 + 1)
        self.flush()

    def flush(self):
        line = 'qemu-io -d /machine/peripheral/ua-vda/virtio-backend "flush"'
        self.domain.qmp("human-monitor-command", **{"command-line": line})

    def back_up(self, *options, to=None):
        return [self.house.binary, "backup", self.name, "--to", to or self.chain, "--json", "--progress=none", *options]

    def holds(self, image):
        """None when the image shows what the disk shows."""
        run = subprocess.run(["qemu-img", "compare", "-U", "-f", "qcow2", "-F", "qcow2", self.image, image], capture_output=True, text=True)
        return None if run.returncode == 0 else (run.stdout + run.stderr).strip()[-300:]

    def newest(self):
        sets = sorted(path for path in os.listdir(os.path.join(self.chain, self.name)) if not path.startswith("."))
        return os.path.join(self.chain, self.name, sets[-1])

    def remove(self):
        self.domain.remove()


class Increment(Contender):
    def __init__(self, name, machine, judged=True):
        super().__init__(name, lambda out: [machine.back_up("--incremental")], None)
        self.machine, self.judged = machine, judged

    def before(self, place):
        self.machine.change()
        return {}

    def found(self, place):
        newest = self.machine.newest()
        return [os.path.join(newest, name) for name in os.listdir(newest) if name.endswith(".qcow2")]

    def check(self, place):
        manifest = json.load(open(os.path.join(self.machine.newest(), "manifest.json")))
        if manifest["kind"] != "increment":
            return "not an increment: " + manifest["disks"][0]["full_because"]
        return self.machine.holds(self.found(place)[0]) if self.judged else None


class Whole(Contender):
    def __init__(self, machine):
        super().__init__(WHOLE, lambda out: [machine.back_up(to=os.path.dirname(out))], None, output=f"{machine.name}/*/root.*.qcow2")
        self.machine = machine

    def steps(self, place):
        return [self.machine.back_up(to=place)]

    def compare(self, image):
        return self.machine.holds(image)


class Virtnbdbackup(Contender):
    def __init__(self, machine):
        self.folder = os.path.join(machine.house.work, "vnb-chain")
        super().__init__(RIVAL, lambda out: self.commands("inc"), None)
        self.machine = machine

    def commands(self, level):
        return [["virtnbdbackup", "-d", self.machine.name, "-l", level, "-n", "-S", self.machine.house.work, "-f", self.folder + ".sock", "-o", self.folder],
                ["sh", "-c", 'sync "$1"/*', "sync", self.folder]]

    def begin(self):
        for command in self.commands("full"):
            subprocess.run(command, check=True, capture_output=True)

    def before(self, place):
        self.machine.change()
        self.bytes = self.stored()
        return {}

    def stored(self):
        return sum(os.path.getsize(os.path.join(self.folder, name)) for name in os.listdir(self.folder) if name.endswith(".data"))

    def output_bytes(self, place):
        return self.stored() - self.bytes

    def check(self, place):
        """To restore its whole chain each time would take longer than all the rest: only that it has stored what changed."""
        return None if self.output_bytes(place) > 0 else "no increment was stored"


class Increments(Contest):
    row = "increment"
    title = "VM with 8 GiB, of which 1 % changed in pieces of 64 KiB"

    def start(self):
        source = self.house.realistic()
        vm_contest.load_lab()
        self.machines = []
        small, large, rivals = (self.machine(name, made) for name, made in (
            ("small", ["convert", "-f", "raw", "-O", "qcow2", source]), ("large", ["create", "-q", "-f", "qcow2"]),
            ("rivals", ["convert", "-f", "raw", "-O", "qcow2", source])))  # which refuses a VM with somebody else's checkpoints
        for machine in (small, large):
            subprocess.run(machine.back_up("--full"), check=True, capture_output=True)
        rival = Virtnbdbackup(rivals)
        if rival.missing() is None:
            rival.begin()
        self.contenders = [Whole(small), Increment(SMALL, small), Increment(BIG, large), rival]

    def machine(self, name, made):
        image = os.path.join(self.house.work, name + ".qcow2")
        subprocess.run(["qemu-img", *made, image, *([str(LARGE)] if made[0] == "create" else [])], check=True)
        self.machines.append(Machine(self.house, name, image))
        return self.machines[-1]

    def stop(self):
        for machine in getattr(self, "machines", []):
            machine.remove()
