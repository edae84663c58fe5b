# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""What the model of chains is compared with: sets byte for byte, images by qemu-img, checkpoints and bitmaps of QEMU with sets and
ledger."""
import json
from pathlib import Path

import judge
import lab
import qemu_img
from lab import DONE

from chain_content import FOREIGN, PIECE


class ChainJudges:
    """Of a ChainModelTest."""

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
