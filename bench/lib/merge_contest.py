# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A full set and three increments, of 1 % of the disk each, into one: `nasbackup merge`, which also compares all it reads with its digests,
against qemu-img, which flattens the newest image.

Runs inside tests/lab/enter, which the chain is made in; the VM takes no part in the contest.
"""
import glob
import os
import shutil
import subprocess

import vm_contest
from contender import Contender
from contests import Contest
from increment_contest import Machine
from runner import last_json

OURS = "nasbackup merge"
QEMU, QEMU_COMPRESSED = "qemu-img convert of the newest + sync", "qemu-img convert -c -m 16 -W of the newest + sync"
INCREMENTS = 3


def image_of(path):
    return glob.glob(os.path.join(path, "root.*.qcow2"))[0]


class Merged(Contender):
    """Its set lies beside those that it was made of, and goes when it has been judged."""

    def __init__(self, binary, newest):
        super().__init__(OURS, lambda _: [[binary, "merge", newest, "--json", "--progress=none"]], image_of(newest), source_format="qcow2")
        self.others = set(os.listdir(os.path.dirname(newest)))
        self.folder = os.path.dirname(newest)

    def found(self, place):
        return [image_of(os.path.join(self.folder, name)) for name in set(os.listdir(self.folder)) - self.others if not name.startswith(".")]

    def before(self, place):
        for name in set(os.listdir(self.folder)) - self.others:
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
        return {}


class Merge(Contest):
    row = "merge"
    title = "a chain of four → one full set"
    options, words, rival = [], [], QEMU

    def start(self):
        vm_contest.load_lab()
        image = os.path.join(self.house.work, f"merged{len(self.options)}.qcow2")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.house.realistic(), image], check=True)
        machine = Machine(self.house, f"merged{len(self.options)}", image)
        try:
            newest = self.chain_of(machine)
        finally:
            machine.remove()
        steps = lambda out: [["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", *self.words, image_of(newest), out], ["sync", out]]
        self.warm = glob.glob(os.path.join(os.path.dirname(newest), "2*", "root.*.qcow2"))
        self.contenders = [Merged(self.house.binary, newest), Contender(self.rival, steps, image_of(newest), source_format="qcow2")]

    def chain_of(self, machine):
        """The newest set's folder."""
        made = machine.back_up("--full", *self.options)
        for _ in range(INCREMENTS):
            subprocess.run(made, check=True, capture_output=True)
            machine.change()
            made = machine.back_up("--incremental", *self.options)
        return last_json(subprocess.run(made, check=True, capture_output=True, text=True).stdout)["set"]


class MergeCompressed(Merge):
    title = "a compressed chain of four → one full set"
    options, words, rival = ["-c"], ["-c", "-m", "16", "-W"], QEMU_COMPRESSED
