# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The backup of a running VM. qemu-img check judges every image, and qemu-img compare with what nbdcopy read from the same
export while the job was open; the guest writes meanwhile."""
import json
import stat
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))
import judge  # noqa: E402
import lab  # noqa: E402
import qemu_img  # noqa: E402
import set_reader  # noqa: E402
from lab import DONE, MIB, SOURCE, USAGE, WARNINGS, Disk, GuestWriter  # noqa: E402


class ARunningVm(lab.LabTest):
    def test_is_backed_up_with_all_its_disks_while_it_writes(self):
        domain = self.domain(disks=[self.disk("vda", 256 * MIB, fill=16 * MIB),
                                    self.disk("vdb", 128 * MIB, "qcow2", fill=8 * MIB)])
        writers = [GuestWriter(domain, "vda", end=16 * MIB), GuestWriter(domain, "vdb", start=64 * MIB, end=72 * MIB)]
        copies, exec_in_job = self.copies()
        for writer in writers:
            writer.start()
        result = self.backup(domain, *exec_in_job, "--rate", "64M")
        failures = [failure for writer in writers for failure in writer.stop()]
        self.assert_status(result, DONE)
        self.assertEqual(failures, [])
        self.assertGreater(min(writer.writes for writer in writers), 0)
        self.assert_backed_up(domain, {disk: copies / f"{disk}.raw" for disk in ("vda", "vdb")})
        self.assert_nothing_left(domain, published=1)

    def test_is_named_in_the_set_as_documented(self):
        domain = self.domain(disks=[self.disk("vda", fill=MIB, name="e0a1.raw"), self.disk("vdb", fill=MIB, name="77bc"),
                                    self.disk("vdc", fmt="qcow2", fill=MIB, name="last.qcow2")])
        self.assert_status(self.backup(domain), DONE)
        place = self.one_set(domain)
        self.assertRegex(place.name, r"^\d{4}\.\d\d\.\d\d\.\d\d\.\d\d\.\d\d$")
        names = {path.name for path in place.iterdir()}
        images = [name for name in names if name.endswith(".qcow2")]
        self.assertEqual(len([name for name in images if name.startswith("root.e0a1")]), 1, names)
        self.assertEqual(len([name for name in images if name.startswith("datadisk.")]), 2, names)
        self.assertLessEqual({f"{name}.digests" for name in images}, names)
        self.assertLessEqual({"domain-config.xml", "dominfo.xml", "domiflist.xml", "domblklist.xml", "manifest.json"}, names)
        for path in place.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_has_the_texts_that_virsh_prints(self):
        domain = self.domain()
        virsh = {"dominfo.xml": "dominfo", "domiflist.xml": "domiflist", "domblklist.xml": "domblklist"}
        self.assert_status(self.backup(domain), DONE)
        for name, command in virsh.items():
            printed = subprocess.run(["virsh", command, domain.name], stdout=subprocess.PIPE, text=True, check=True).stdout
            kept = (self.one_set(domain) / name).read_text()
            without_time = [[line for line in text.splitlines() if not line.startswith("CPU time")] for text in (kept, printed)]
            self.assertEqual(without_time[0], without_time[1], name)
        self.assertIn("<name>machine</name>", (self.one_set(domain) / "domain-config.xml").read_text())

    def test_reports_what_it_did_in_json(self):
        domain = self.domain(disks=[self.disk("vda", 64 * MIB, fill=4 * MIB)])
        report = self.backup(domain).json()
        self.assertEqual(report["set"], str(self.one_set(domain)))
        self.assertEqual(report["virtual_size"], 64 * MIB)
        self.assertEqual(report["data_bytes"] + report["zero_bytes"], 64 * MIB)
        self.assertGreaterEqual(report["data_bytes"], 8 * MIB)
        image = self.image(self.one_set(domain), "vda")
        self.assertEqual(report["disks"][0]["stored_bytes"], image.stat().st_size)
        self.assertEqual(report["warnings"], [])

    def test_gives_only_the_disks_that_were_chosen(self):
        domain = self.domain(disks=[self.disk(name, fill=MIB) for name in ("vda", "vdb", "vdc")])
        for options, expected in ((["--disk", "vdb"], ["vdb"]), (["--exclude", "vdb"], ["vda", "vdc"]),
                                  (["--disk", "vdc", "--disk", "vda"], ["vda", "vdc"])):
            with self.subTest(options=options):
                copies, exec_in_job = self.copies()
                result = self.backup(domain, *options, *exec_in_job)
                self.assert_status(result, DONE)
                self.assertEqual([disk["name"] for disk in result.json()["disks"]], expected)
                self.assertEqual(sorted(path.stem for path in copies.iterdir()), expected)
                self.assert_backed_up(domain, {disk: copies / f"{disk}.raw" for disk in expected},
                                      Path(result.json()["set"]))

    def test_is_refused_with_disks_that_make_no_sense(self):
        domain = self.domain()
        self.assert_status(self.backup(domain, "--disk", "vdz"), USAGE, "vdz")
        self.assert_status(self.backup(domain, "--disk", "vda", "--exclude", "vda"), USAGE, "contradict")
        self.assert_nothing_left(domain)

    def test_never_gives_its_cd_rom_nor_its_floppy(self):
        domain = self.domain(disks=[self.disk("vda", fill=MIB), self.disk("sdc", MIB, name="cd.iso", device="cdrom"),
                                    self.disk("fda", 1440 * 1024, name="floppy.img", device="floppy")])
        result = self.backup(domain)
        self.assert_status(result, DONE)
        self.assertEqual([disk["name"] for disk in result.json()["disks"]], ["vda"])

    def test_that_is_paused_is_backed_up_and_stays_paused(self):
        domain = self.domain()
        domain.pause()
        copies, exec_in_job = self.copies()
        self.assert_status(self.backup(domain, *exec_in_job), DONE)
        self.assert_backed_up(domain, {"vda": copies / "vda.raw"})
        self.assertEqual(domain.state(), lab.libvirt.VIR_DOMAIN_PAUSED)
        self.assert_nothing_left(domain, published=1)

    def test_may_have_odd_names_everywhere(self):
        for number, name in enumerate(["with space", 'quote"d', "it's", "com,ma", "a=b:c", "100%"]):
            with self.subTest(name=name):
                domain = self.domain(name, [self.disk("vda", fill=MIB, name=f"{name} {number}.raw")])
                copies, exec_in_job = self.copies()
                result = self.backup(domain, *exec_in_job)
                self.assert_status(result, DONE)
                self.assert_backed_up(domain, {"vda": copies / "vda.raw"}, Path(result.json()["set"]))
                self.assertEqual(domain.leftovers(), [])

    def test_may_have_disks_whose_files_have_the_same_name(self):
        for folder in ("one", "two", "three"):
            (self.dir / folder).mkdir()
        domain = self.domain(disks=[self.disk(disk, fill=MIB, name=f"{folder}/same.img")
                                    for disk, folder in (("vda", "one"), ("vdb", "two"), ("vdc", "three"))])
        copies, exec_in_job = self.copies()
        self.assert_status(self.backup(domain, *exec_in_job), DONE)
        self.assert_backed_up(domain, {disk: copies / f"{disk}.raw" for disk in ("vda", "vdb", "vdc")})
        names = sorted(path.name for path in self.one_set(domain).glob("datadisk.*.qcow2"))
        self.assertEqual(len(names), 2)
        self.assertRegex(names[0], r"-\d\.qcow2$")

    def test_keeps_its_firmware_variables_and_its_tpm(self):
        domain = self.domain(disks=[self.disk("vda", fill=MIB)], nvram=self.dir / "vars.fd", tpm=True, memory_mib=64)
        result = self.backup(domain)
        self.assert_status(result, DONE)
        kept = {path.name: path.stat().st_size for path in self.one_set(domain).iterdir()}
        self.assertEqual(kept["nvram.fd"], (self.dir / "vars.fd").stat().st_size)
        self.assertTrue(any(name.startswith("tpm.") and size > 0 for name, size in kept.items()), kept)

    def test_seals_its_firmware_variables_and_its_tpm_when_it_is_encrypted(self):
        domain = self.domain(disks=[self.disk("vda", fill=MIB)], nvram=self.dir / "vars.fd", tpm=True, memory_mib=64)
        key = self.dir / "key"
        key.write_bytes(b"correct horse")
        self.assert_status(self.backup(domain, "-e", key, "--insecure-pbkdf", "--pbkdf-iterations", "1000"), DONE)
        kept = {path.name: path.read_bytes() for path in self.one_set(domain).iterdir()}
        self.assertNotIn("nvram.fd", kept)
        self.assertEqual(len(kept["nvram.fd.sealed"]), (self.dir / "vars.fd").stat().st_size + 64)
        self.assertNotIn(b"_FVH", kept["nvram.fd.sealed"])
        set_key = set_reader.Manifest(self.one_set(domain)).set_keys(b"correct horse")[0]
        self.assertEqual(set_reader.unseal(self.one_set(domain) / "nvram.fd.sealed", set_key), (self.dir / "vars.fd").read_bytes())
        self.assertIn(b"_FVH", (self.dir / "vars.fd").read_bytes())
        self.assertTrue(any(name.startswith("tpm.") and name.endswith(".sealed") for name in kept), kept.keys())
        self.assertEqual([name for name in kept if name.startswith("tpm.") and not name.endswith(".sealed")], [])

    def test_that_cannot_show_its_firmware_variables_is_backed_up_with_a_warning(self):
        domain = self.domain(disks=[self.disk("vda", fill=MIB)], nvram=self.dir / "vars.fd", memory_mib=64)
        (self.dir / "vars.fd").unlink()
        result = self.backup(domain)
        self.assert_status(result, WARNINGS, "vars.fd")
        self.assertTrue(result.json()["warnings"])
        self.assert_nothing_left(domain, published=1)

    def test_takes_its_scratch_files_where_it_is_told(self):
        domain = self.domain()
        scratch = self.dir / "scratch"
        scratch.mkdir(mode=0o777)
        run, release = self.begin_in_job(domain, "--scratch", scratch)
        self.assertEqual(len(list(scratch.iterdir())), 1)
        release()
        self.assert_status(run.end(), DONE)
        self.assertEqual(list(scratch.iterdir()), [])

    def test_hides_its_socket_from_others(self):
        domain = self.domain()
        run, release = self.begin_in_job(domain)
        sockets = [path for path in domain.folder().iterdir() if path.name.startswith("nasbackup-") and path.is_socket()]
        self.assertEqual(len(sockets), 1)
        folder = sockets[0].parent.stat()
        self.assertEqual(stat.S_IMODE(folder.st_mode) & 0o007, 0)
        release()
        self.assert_status(run.end(), DONE)

    def test_draws_a_bar_when_asked_for(self):
        domain = self.domain(disks=[self.disk("vda", 256 * MIB, fill=16 * MIB)])
        result = self.backup(domain, "--progress=tty", "--rate", "32M")
        self.assert_status(result, DONE)
        self.assertIn("%", result.err)
        json.loads(result.out)

    def test_goes_to_null_when_only_the_reading_matters(self):
        domain = self.domain()
        result = self.run_command("backup", domain.name, "--to", "null:", "--json")
        self.assert_status(result, DONE)
        self.assertEqual(domain.leftovers(), [])


class AnEncryptedDisk(lab.LabTest):
    SECRET = "2a0e8d4c-71a6-4b7b-9f0a-7f9a40b7f2c1"

    def encrypted_domain(self):
        path, key = self.dir / "secret.qcow2", self.dir / "key"
        key.write_text("swordfish")
        qemu_img.run("qemu-img", "create", "-q", "--object", f"secret,id=s,file={key}", "-f", "qcow2", "-o",
                     "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path, "16M")
        domain = self.domain(start=False, disks=[Disk("vda", path, "qcow2", extra=(
            f'<encryption format="luks"><secret type="passphrase" uuid="{self.SECRET}"/></encryption>'))])
        secret = domain.connection.secretDefineXML(f"<secret ephemeral='no' private='no'><uuid>{self.SECRET}</uuid></secret>")
        self.addCleanup(lambda: domain.connection.secretLookupByUUIDString(self.SECRET).undefine())
        secret.setValue(b"swordfish", 0)
        domain.start()
        domain.write("vda", MIB, MIB, 0x5A)
        return domain

    def test_is_refused_in_one_line(self):
        domain = self.encrypted_domain()
        result = self.run_command("backup", domain.name, "--to", self.target)
        self.assert_status(result, SOURCE, "--allow-plaintext")
        self.assertEqual(len(result.err.strip().splitlines()), 1, result.err)
        self.assert_nothing_left(domain)

    def test_is_backed_up_as_plaintext_only_when_allowed(self):
        domain = self.encrypted_domain()
        copies, exec_in_job = self.copies()
        self.assert_status(self.backup(domain, "--allow-plaintext", *exec_in_job), DONE)
        self.assert_backed_up(domain, {"vda": copies / "vda.raw"})
        with open(copies / "vda.raw", "rb") as copy:
            copy.seek(MIB)
            self.assertEqual(copy.read(MIB), b"\x5a" * MIB)


    def test_needs_no_permission_when_the_backup_is_encrypted(self):
        domain = self.encrypted_domain()
        passphrase = self.dir / "passphrase"
        passphrase.write_bytes(b"correct horse")
        copies, exec_in_job = self.copies()
        self.assert_status(self.backup(domain, "-e", passphrase, *exec_in_job), DONE)
        judge.same_encrypted(self.image(self.one_set(domain), "vda"), copies / "vda.raw", passphrase)


class AsAnotherUser(lab.LabTest):
    """QEMU as libvirt-qemu, as Debian and CloudStack hosts have it."""
    qemu_user = "libvirt-qemu"

    def test_a_vm_is_backed_up(self):
        domain = self.domain(disks=[self.disk("vda", fill=4 * MIB), self.disk("vdb", fmt="qcow2", fill=4 * MIB)])
        copies, exec_in_job = self.copies()
        self.assert_status(self.backup(domain, *exec_in_job), DONE)
        self.assert_backed_up(domain, {disk: copies / f"{disk}.raw" for disk in ("vda", "vdb")})
        self.assert_nothing_left(domain, published=1)

    def test_a_vm_with_a_long_name_is_backed_up(self):
        domain = self.domain("long-" + "x" * 120)
        self.assert_status(self.backup(domain), DONE)
        self.assert_nothing_left(domain, published=1)


if __name__ == "__main__":
    lab.main()
