#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Sets go, whole, and only those that nobody needs; and what list and info tell of chains."""
import hashlib
import json
import os
import random
import subprocess
import time
import unittest

import set_reader
from cli import *

WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")


class DeleteTest(CliTest):
    def setUp(self):
        super().setUp()
        self.disk = self.make_disk(data=MIB, size=4 * MIB)
        self.vm = self.out / "doomed"

    def backup(self, *options):
        result = self.run_command("backup", "--disk", self.disk, "--name", "doomed", "--to", self.out, "--min-free", "0", "--json", *options)
        self.assert_status(result, DONE)
        return Path(json.loads(result.stdout)["set"])

    def reseal(self, backup_set, **changes):
        """The manifest with other members, as its writer would have sealed it."""
        manifest = set_reader.Manifest(backup_set)
        members = {key: value for key, value in manifest.members.items() if key != "seal"} | changes
        covered = (json.dumps(members, indent=2)[:-2] + ",\n").encode()
        seal = f'  "seal": {{"sha256": "{hashlib.sha256(covered).hexdigest()}", "hmac_sha256": "", "keys": []}}\n}}\n'
        (backup_set / "manifest.json").write_bytes(covered + seal.encode())

    def stand_on(self, child, parent):
        seal = set_reader.Manifest(parent).seal
        self.reseal(child, kind="increment",
                    parent={"set": parent.name, "sha256": seal["sha256"], "hmac_sha256": seal["hmac_sha256"]})

    def sets(self, count, chain=()):
        """So many sets, oldest first; `chain`: for each the index of its parent, or None."""
        made = [self.backup()]
        for number in range(1, count):  # made by hand, so that nobody has to wait for their seconds
            name = f"20{30 + number}.01.02.03.04.05"
            made.append(Path(shutil.copytree(made[0], self.vm / name)))
            self.reseal(made[-1], set=name, time=f"20{30 + number}-01-02T03:04:05Z")
        for child, parent in zip(made, chain):
            if parent is not None:
                self.stand_on(child, made[parent])
        return made

    def listed(self):
        return self.json_of(self.run_command("list", self.out, "--json"))["sets"]

    def assert_left(self, *sets):
        self.assertEqual(sorted(path.name for path in self.vm.iterdir()), sorted(path.name for path in sets))
        self.assertEqual([entry["path"] for entry in self.listed()], [str(path) for path in sets])

    def age(self, path):
        """Of a run killed before its record was written nobody can tell the host: what it left goes when it is ten minutes
        old (docs/formats/set.md, "What dead runs leave"). This makes it so old."""
        then = time.time() - 11 * 60
        os.utime(path, (then, then))

    def delete(self, what, *options):
        return self.run_command("delete", what, *options)


class ASet(DeleteTest):
    def test_goes_and_nothing_else_does(self):
        made = self.sets(3)
        before = self.listed()
        report = self.json_of(self.delete(made[1], "--json"))
        self.assertEqual([(entry["path"], entry["kind"]) for entry in report["sets"]], [(str(made[1]), "full")])
        self.assertEqual(report["sets"][0]["stored_bytes"], before[1]["stored_bytes"])
        self.assert_left(made[0], made[2])
        self.assert_status(self.run_command("verify", made[0]), DONE)

    def test_may_be_named_in_every_way_that_names_one_set(self):
        made = self.sets(3)
        self.assert_status(self.run_command("delete", made[0].name, cwd=self.vm), DONE)
        self.assert_status(self.run_command("delete", f"doomed/{made[1].name}//", cwd=self.out), DONE)
        os.symlink(self.out, self.dir / "link")  # the target itself may be reached by a link
        self.assert_status(self.delete(self.dir / "link" / "doomed" / made[2].name), DONE)
        self.assert_left()

    def test_needs_no_passphrase(self):
        (self.dir / "key").write_bytes(b"correct horse")
        made = self.backup("-c", "-e", self.dir / "key", *WEAK)
        result = self.delete(made)
        self.assert_status(result, DONE)
        self.assertRegex(result.stdout, rf"^{made}: deleted, [\d.]+ .*B\n$")
        self.assert_left()

    def test_is_only_told_of_by_a_dry_run(self):
        made = self.sets(2, (None, 0))
        self.assert_one_line(self.delete(made[0], "--dry-run"), FAILED, "--with-children")
        result = self.delete(made[0], "--dry-run", "--with-children")
        self.assert_status(result, DONE)
        self.assertEqual([line.split(",")[0] for line in result.stdout.splitlines()],
                         [f"{made[1]}: would be deleted", f"{made[0]}: would be deleted"])
        self.assert_left(*made)

    def test_is_not_guessed_from_the_directory_of_a_vm(self):
        made = self.sets(1)
        self.assert_one_line(self.delete(self.vm), USAGE, "is a VM's directory; write that of one set: DIR/VM/NAME")
        self.assert_one_line(self.delete(self.out), NOT_FOUND, "is no set")
        self.assert_one_line(self.delete(f"{made[0]}/."), USAGE, "write the directory of one set")
        self.assert_one_line(self.delete(made[0] / "manifest.json"), NOT_FOUND, "is no set")
        self.assert_one_line(self.delete(self.vm / "2020.01.01.00.00.00"), NOT_FOUND, "not found")
        self.assert_left(*made)

    def test_behind_a_link_stays(self):
        made = self.sets(1)
        elsewhere = self.dir / "elsewhere"
        elsewhere.mkdir()
        link = elsewhere / made[0].name
        os.symlink(made[0], link)
        self.assert_one_line(self.delete(link), NOT_FOUND, "is a symbolic link, which is not followed")
        self.assert_left(*made)

    def test_whose_files_are_links_loses_the_links_alone(self):
        made = self.sets(1)
        precious = self.dir / "precious"
        precious.write_text("stays")
        os.symlink(precious, made[0] / "link")
        self.assert_status(self.delete(made[0]), DONE)
        self.assertEqual(precious.read_text(), "stays")
        self.assert_left()

    def test_that_is_none_of_ours_stays(self):
        foreign = self.vm / "2026.01.02.03.04.05"
        foreign.mkdir(parents=True)
        (foreign / "root.1.qcow2").write_bytes(b"CloudStack's")
        project = self.vm / "project"
        project.mkdir()
        (project / "manifest.json").write_text('{"name": "a web page"}')
        for force in (), ("--force",):
            self.assert_one_line(self.delete(foreign, *force), FAILED, "has no manifest.json: nasbackup did not write it")
            self.assert_one_line(self.delete(project, *force), FAILED, "is no set of nasbackup's")
        self.assertEqual(sorted(path.name for path in self.vm.iterdir()), [foreign.name, "project"])

    def test_with_a_directory_in_it_stays(self):
        made = self.sets(1)
        (made[0] / "photos").mkdir()
        self.assert_one_line(self.delete(made[0], "--force"), FAILED, "photos: a directory within a set is none of ours")
        self.assert_left(*made)

    def test_is_not_touched_while_a_run_for_its_vm_goes_on(self):
        made = self.sets(1)
        run = self.begin("backup", "--disk", self.disk, "--name", "doomed", "--to", self.out, "--min-free", "0", "--rate", "64K")
        wait_until("it holds the lock", lambda: (self.vm / ".nasbackup.lock").exists() or run.poll() is not None)
        self.assert_one_line(self.delete(made[0]), LOCKED, "locked by run")
        run.terminate()
        self.finish(run)
        self.assert_left(*made)

    def test_killed_at_any_moment_is_whole_or_not_there(self):
        chance = random.Random(7)
        gone = 0
        for _ in range(20):
            made = self.backup()
            files = {path.name: path.stat().st_size for path in made.iterdir()}
            run = self.begin("delete", made, start_new_session=True)
            time.sleep(chance.uniform(0.002, 0.03))
            os.killpg(run.pid, signal.SIGKILL)
            self.finish(run)
            entries = self.listed()
            if entries:
                self.assertEqual({path.name: path.stat().st_size for path in made.iterdir()}, files)
                self.assertNotIn("note", entries[0])
                self.assert_status(self.delete(made), DONE)  # which also sweeps
            gone += not entries
            for path in self.vm.iterdir():
                self.assertTrue(path.name.startswith("."), path)
                if path.is_dir() and not any(record.stat().st_size for record in path.iterdir()):
                    self.age(path)
        made = self.backup()  # the next run sweeps what is left
        self.assert_left(made)


class AChain(DeleteTest):
    def test_is_told_of_by_list_and_info(self):
        full, first, second, other = self.sets(4, (None, 0, 1, None))
        entries = self.listed()
        self.assertEqual([entry["kind"] for entry in entries], ["full", "increment", "increment", "full"])
        self.assertEqual([entry["parent"] for entry in entries], [None, full.name, first.name, None])
        self.assertFalse([entry for entry in entries if "note" in entry])
        self.assertIn(f"  increment of {first.name}  ", self.run_command("list", self.out).stdout)
        told = self.json_of(self.run_command("info", first, "--json"))
        self.assertEqual([(link["set"], link["kind"], link["missing"]) for link in told["chain"]],
                         [(full.name, "full", False), (first.name, "increment", False)])
        self.assertEqual(told["children"], [second.name])
        text = self.run_command("info", second).stdout
        self.assertRegex(text, rf"(?m)^stands on: +{first.name} \(increment, .* MiB\), on {full.name} \(full, .* MiB\)$")
        self.assertRegex(self.run_command("info", full).stdout, rf"(?m)^needed by: +{first.name}\nneeded by: +{second.name}$")
        self.assertNotIn("stands on", self.run_command("info", other).stdout)

    def test_whose_beginning_is_missing_is_marked(self):
        full, first, second = self.sets(3, (None, 0, 1))
        subprocess.run(["rm", "-r", full], check=True)
        notes = [entry["note"] for entry in self.listed()]
        self.assertEqual(notes, [f"its parent {full.name} is missing", f"{first.name}, on which it stands, has a parent that is missing"])
        told = self.json_of(self.run_command("info", second, "--json"))
        self.assertEqual([(link["set"], link["missing"]) for link in told["chain"]],
                         [(full.name, True), (first.name, False), (second.name, False)])
        self.assertIn(f"{full.name} (missing)", self.run_command("info", second).stdout)

    def test_is_not_orphaned(self):
        made = self.sets(3, (None, 0, 1))
        for force in (), ("--force",):
            self.assert_one_line(self.delete(made[0], *force), FAILED, f"{made[2].name}, {made[1].name} stand on it; write --with-children")
            self.assert_one_line(self.delete(made[1], *force), FAILED, f"{made[2].name} stands on it")
        self.assert_left(*made)

    def test_goes_from_the_leaf(self):
        made = self.sets(4, (None, 0, 1, None))
        self.assert_status(self.delete(made[2]), DONE)
        self.assert_left(made[0], made[1], made[3])
        report = self.json_of(self.delete(made[0], "--with-children", "--json"))
        self.assertEqual([entry["path"] for entry in report["sets"]], [str(made[1]), str(made[0])])
        self.assert_left(made[3])

    def test_that_cannot_be_read_may_need_every_set(self):
        made = self.sets(2)
        with open(made[1] / "manifest.json", "r+b") as manifest:
            manifest.seek(40)
            manifest.write(b"#")
        self.assert_one_line(self.delete(made[0]), FAILED, f"{made[1].name} may stand on it; write --force")
        self.assert_one_line(self.delete(made[1]), FAILED, "write --force to delete it all the same")
        self.assert_status(self.delete(made[0], "--force"), DONE)
        self.assert_left(made[1])
        self.assert_status(self.delete(made[1], "--force"), DONE)
        self.assert_left()

    def test_whose_beginning_is_missing_is_not_read_as_if_it_were_whole(self):
        made = self.sets(2, (None, 0))
        subprocess.run(["rm", "-r", made[0]], check=True)
        back = self.dir / "back"
        back.mkdir()
        for words in ("verify", made[1]), ("restore", made[1], "--to", back), ("merge", made[1]):
            self.assert_one_line(self.run_command(*words), DAMAGED, f"its parent {made[0].name} is missing")
        self.assertEqual(list(back.iterdir()), [])
        self.assert_left(made[1])

    def test_that_bites_its_tail_is_damaged_and_can_go(self):
        """Nobody's backups are so: a manifest that names its child's seal cannot be named by it. But a forger may write it."""
        back = self.dir / "back"
        back.mkdir()
        for chain, told, force in ((None, 2, 1), DONE, "--with-children"), ((None, 1), DAMAGED, "--force"):
            with self.subTest(chain=chain):
                made = self.sets(len(chain), chain)
                self.assertEqual(len(self.listed()), len(made))
                self.assert_status(self.run_command("info", made[1]), told)
                for words in ("verify", made[1]), ("restore", made[1], "--to", back), ("merge", made[1]):
                    self.assert_one_line(self.run_command(*words), DAMAGED, "|".join(path.name for path in made[1:]))
                self.assertEqual(list(back.iterdir()), [])
                self.assert_one_line(self.delete(made[1]), FAILED, f"write {force}")
                self.assert_status(self.delete(made[1], force), DONE)
                self.assert_left(made[0])
                shutil.rmtree(self.vm)


class TheInfoOfADamagedSet(DeleteTest):
    def told(self, backup_set):
        result = self.run_command("info", backup_set, "--json")
        report = self.json_of(result)
        self.assertEqual((result.returncode, report["outcome"]), (DAMAGED, "damaged"))
        self.assertIn("VM:", self.run_command("info", backup_set).stdout)
        return report

    def test_is_13_when_an_image_is_missing(self):
        made = self.backup()
        image = next(made.glob("*.qcow2"))
        image.unlink()
        self.assertEqual(self.told(made)["note"], f"{image.name} is missing")

    def test_is_13_when_an_image_is_short_or_none(self):
        made = self.backup()
        image = next(made.glob("*.qcow2"))
        os.truncate(image, image.stat().st_size - 1)
        self.assertIn("the manifest says", self.told(made)["note"])
        image.write_bytes(b"QFI\xfb\0\0\0\1" + image.read_bytes()[8:])
        self.told(made)

    def test_is_0_when_it_was_only_renamed(self):
        made = self.backup()
        moved = made.rename(self.vm / "before the update")
        result = self.run_command("info", moved, "--json")
        self.assertEqual(result.returncode, DONE)
        self.assertIn("the manifest is that of set", self.json_of(result)["note"])


if __name__ == "__main__":
    unittest.main()
