#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The backup of a VM that is shut off. qemu-img says what its disks hold; what is started meanwhile is really started."""
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import judge  # noqa: E402
import lab  # noqa: E402
import libvirt  # noqa: E402
import qemu_img  # noqa: E402
from daemon import wait_until  # noqa: E402
from lab import DONE, LOCKED, MIB, SOURCE, USAGE, WARNINGS, Disk  # noqa: E402

WRONG_KEY = 12
WEAK = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")


class StoppedTest(lab.LabTest):
    def overlay(self, name, backing, backing_format, offset=MIB, pattern=0x5A):
        """A qcow2 on another file, with a MiB of its own."""
        path = self.dir / name
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(path)], check=True)
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {offset} {MIB}", str(path)], check=True, stdout=subprocess.DEVNULL)
        return path

    def chain(self):
        """A disk of three layers, as linked clones have."""
        self.disk("vda", 32 * MIB, fill=2 * MIB, name="base.raw")
        middle = self.overlay("middle.qcow2", "base.raw", "raw", pattern=0x11)
        return Disk("vda", self.overlay("top.qcow2", middle, "qcow2", offset=5 * MIB), "qcow2")

    def assert_same_as(self, domain, *disks):
        """The set holds these disks and no other."""
        backup_set = self.one_set(domain)
        self.assertEqual(len(list(backup_set.glob("*.qcow2"))), len(disks))
        for disk in disks:
            judge.check(self.image(backup_set, disk.target))
            judge.same(self.image(backup_set, disk.target), disk.path, other_format=disk.fmt)

    def loop_device(self, size=64 * MIB):
        image = self.disk("vda", size, fill=4 * MIB, name=f"loop-{size}.img").path
        device = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", device])
        return device

    def begin_slowly(self, domain, rate="2M"):
        run = self.begin(*self.backup_words(domain, "--rate", rate))
        wait_until("the copy to begin", lambda: list(self.target.glob("*/.partial-*/*.qcow2")) or not run.running())
        self.assertTrue(run.running(), "ended too early")
        return run

    def refused(self, domain, status, *says, options=()):
        result = self.run_command("backup", domain.name, "--to", self.target, *options)
        self.assert_status(result, status, *says)
        self.assertEqual(self.sets(domain), [])
        self.assertEqual(judge.partials_under(self.target), [])
        return result


class AVmThatIsShutOff(StoppedTest):
    def test_is_backed_up_with_its_chains_and_its_raw_disks(self):
        disks = [self.chain(), self.disk("vdb", fill=3 * MIB), self.disk("vdc", fill=MIB), self.disk("sdd", MIB, name="cd.iso", device="cdrom")]
        domain = self.domain(disks=disks, start=False)
        result = self.backup(domain, "--exclude", "vdc")
        self.assert_status(result, DONE, "is shut off")
        self.assertEqual([disk["name"] for disk in result.json()["disks"]], ["vda", "vdb"])
        self.assert_same_as(domain, *disks[:2])
        manifest = json.loads((self.one_set(domain) / "manifest.json").read_text())
        self.assertEqual((manifest["vm"]["name"], manifest["vm"]["uuid"]), (domain.name, domain.uuid))
        self.assertEqual([(disk["id"], disk["source_type"], disk["bus"], disk["order"]) for disk in manifest["disks"]],
                         [("top.qcow2", "file", "virtio", 0), ("vdb.raw", "file", "virtio", 1)])
        self.assert_nothing_left(domain, published=1)
        self.assert_status(self.run_command("verify", self.one_set(domain)), DONE)

    def test_is_backed_up_compressed_and_encrypted(self):
        disk = self.chain()
        domain = self.domain(disks=[disk], start=False)
        key, flat = self.dir / "key", self.dir / "flat.raw"
        key.write_bytes(b"correct horse")
        self.assert_status(self.backup(domain, "-c", "-e", key, *WEAK), DONE)
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk.path), str(flat)], check=True)
        judge.same_encrypted(self.image(self.one_set(domain), "vda"), flat, key)

    def test_has_the_texts_that_virsh_prints(self):
        domain = self.domain(start=False)
        self.assert_status(self.backup(domain), DONE)
        for name, command in {"dominfo.xml": "dominfo", "domiflist.xml": "domiflist", "domblklist.xml": "domblklist"}.items():
            printed = subprocess.run(["virsh", command, domain.name], stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertEqual((self.one_set(domain) / name).read_text(), printed, name)
        self.assertEqual((self.one_set(domain) / "domain-config.xml").read_text(), domain.handle.XMLDesc())

    def test_keeps_its_firmware_variables_and_its_tpm(self):
        domain = self.domain(disks=[self.disk("vda", fill=MIB)], nvram=self.dir / "vars.fd", tpm=True, memory_mib=64)
        domain.destroy()
        self.assert_status(self.backup(domain), DONE)
        kept = {path.name: path.stat().st_size for path in self.one_set(domain).iterdir()}
        self.assertEqual((self.one_set(domain) / "nvram.fd").read_bytes(), (self.dir / "vars.fd").read_bytes())
        self.assertTrue(any(name.startswith("tpm.") and size > 0 for name, size in kept.items()), kept)

    def test_has_formats_from_its_xml_and_never_probed(self):
        """A guest has written a qcow2 header onto its raw disks, which names a file of the host."""
        secret = self.disk("vdz", MIB, fill=MIB, name="secret.raw").path
        posing = self.overlay("posing.raw", secret, "raw", offset=0)
        over = self.dir / "over.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(posing), "-F", "raw", str(over), "8M"], check=True)
        disks = [Disk("vda", posing, "raw"), Disk("vdb", over, "qcow2")]
        domain = self.domain(disks=disks, start=False)
        self.assert_status(self.backup(domain), DONE)
        self.assert_same_as(domain, *disks)

    def test_stands_on_what_its_xml_says(self):
        """The XML names the files under the image, and where they end, and so overrules the headers."""
        base, other = (self.disk("vda", 16 * MIB, fill=MIB, name=name).path for name in ("base.raw", "other.raw"))
        top = self.overlay("top.qcow2", base, "raw", offset=8 * MIB)
        for under in (f"<backingStore type='file'><format type='raw'/><source file='{other}'/><backingStore/></backingStore>", "<backingStore/>"):
            domain = self.domain(disks=[Disk("vda", top, "qcow2", extra=under)], start=False)
            result = self.backup(domain)
            self.assert_status(result, DONE)
            expected = self.dir / "expected.qcow2"
            expected.write_bytes(top.read_bytes())
            subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", *(["-b", str(other), "-F", "raw"] if "raw" in under else ["-b", ""]),
                            str(expected)], check=True)
            judge.same(self.image(Path(result.json()["set"]), "vda"), expected, other_format="qcow2")
            domain.remove()

    def test_needs_no_freezing_and_has_no_export(self):
        domain = self.domain(start=False)
        self.assert_status(self.backup(domain, "--quiesce"), DONE, "nothing to freeze")
        self.assert_status(self.backup(domain, "--exec-in-job", "true"), USAGE, "--exec-in-job.*shut off")
        self.assert_nothing_left(domain, published=1)

    def test_with_saved_memory_is_backed_up_with_a_warning(self):
        domain = self.domain()
        domain.handle.managedSave(0)
        self.addCleanup(domain.handle.managedSaveRemove, 0)
        self.assert_status(self.backup(domain), WARNINGS, "saved memory")
        self.assert_same_as(domain, domain.disks[0])

    def test_behind_a_protocol_that_only_qemu_speaks_is_refused_by_name(self):
        domain = self.domain(start=False)
        xml = domain.xml().replace("</devices>", "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
                                   "<source protocol='gluster' name='volume/image'><host name='192.0.2.1'/></source>"
                                   "<target dev='vdr' bus='virtio'/></disk></devices>")
        domain.connection.defineXML(xml)
        self.refused(domain, SOURCE, "vdr cannot be backed up: gluster.*--exclude vdr")
        self.assert_status(self.backup(domain, "--exclude", "vdr"), DONE)

    def test_on_an_nbd_server_is_read_from_there(self):
        disk = self.disk("vdn", 16 * MIB, fill=2 * MIB)
        socket = self.dir / "nbd sock"
        server = subprocess.Popen(["nbdkit", "-f", "-U", str(socket), "file", str(disk.path)])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        wait_until("nbdkit", socket.exists)
        domain = self.domain(start=False)
        domain.connection.defineXML(domain.xml().replace("</devices>", (
            "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='a b'>"
            f"<host transport='unix' socket='{socket}'/></source><target dev='vdn' bus='virtio'/></disk></devices>")))
        self.assert_status(self.backup(domain, "--disk", "vdn"), DONE)
        self.assert_same_as(domain, disk)


class ADiskOfAStoragePool(StoppedTest):
    """<disk type='volume'>: only libvirt knows where it is."""

    def pool(self, connection):
        place = self.dir / "pool"
        place.mkdir()
        pool = connection.storagePoolDefineXML(f"<pool type='dir'><name>images</name><target><path>{place}</path></target></pool>")
        self.addCleanup(pool.undefine)
        pool.create()
        self.addCleanup(pool.destroy)
        return pool, place

    def test_is_read_where_it_is_and_seen_to_be_in_use(self):
        domain = self.domain(disks=[], start=False)
        pool, place = self.pool(domain.connection)
        disk = self.disk("vda", 16 * MIB, "qcow2", fill=2 * MIB, name="pool/disk.qcow2")
        pool.refresh()
        domain.disks = [disk]
        named = domain.xml().replace(f'<source file="{disk.path}" />', '<source pool="images" volume="disk.qcow2" />')
        domain.connection.defineXML(named.replace('<disk type="file"', '<disk type="volume"'))
        self.assertIn("<disk type='volume'", domain.handle.XMLDesc())
        self.assert_status(self.backup(domain), DONE)
        self.assert_same_as(domain, disk)
        domain.handle.create()
        self.assert_status(self.backup(domain), DONE)
        self.addCleanup(domain.handle.managedSaveRemove, 0)
        domain.handle.managedSave(0)  # without QEMU no lock is there: only libvirt knows
        result = self.run_command("restore", self.sets(domain)[-1], "--disk", f"vda={disk.path}", "--force")
        self.assert_status(result, LOCKED, f"in use by domain {domain.name}, whose memory is saved")


class AStartHalfWay(StoppedTest):
    def test_is_refused_by_the_image_locks_and_the_backup_goes_on(self):
        domain = self.domain(disks=[self.disk("vda", fill=4 * MIB)], start=False)
        run = self.begin_slowly(domain)
        with self.assertRaises(libvirt.libvirtError) as refused:
            domain.handle.create()
        self.assertIn("lock", str(refused.exception))
        self.assertTrue(run.running())
        self.assert_status(run.end(), DONE)
        self.assert_same_as(domain, domain.disks[0])
        domain.start()

    def test_that_no_lock_prevents_fails_the_backup(self):
        """QEMU gets device nodes of its own from libvirt, so that it does not see our locks on a block device."""
        domain = self.domain(disks=[Disk("vda", self.loop_device())], start=False)
        run = self.begin_slowly(domain)
        domain.handle.create()
        self.assertTrue(run.running(), "it was to be started half-way")
        result = run.end()
        self.assert_status(result, SOURCE, "was started while its disks were read")
        self.assert_nothing_left(domain)


class ADiskInUse(StoppedTest):
    def test_by_another_domain_is_not_read(self):
        device = self.loop_device()
        self.domain("other", [self.disk("vda", fill=MIB), Disk("vdb", device)])
        for disk, says in ((Disk("vda", self.dir / "vda.raw"), "in use"), (Disk("vda", device), "vda: .*in use by domain other")):
            domain = self.domain("mine", [disk], start=False)
            self.refused(domain, SOURCE, says)
            domain.remove()


class AnEncryptedDisk(StoppedTest):
    SECRET = "2a0e8d4c-71a6-4b7b-9f0a-7f9a40b7f2c1"

    def encrypted_domain(self, layout):
        path, self.key = self.dir / f"secret.{layout}", self.dir / "key"
        self.key.write_text("swordfish")
        words, options = ("luks", "key-secret=s") if layout == "luks" else ("qcow2", "encrypt.format=luks,encrypt.key-secret=s")
        prefix = "" if layout == "luks" else "encrypt."
        qemu_img.run("qemu-img", "create", "-q", "--object", f"secret,id=s,file={self.key}", "-f", words, "-o",
                     f"{options},{prefix}iter-time=10", path, "16M")
        inside = f"driver={words},{prefix}key-secret=s,file.driver=file,file.filename={path}"
        subprocess.run(["qemu-io", "--object", f"secret,id=s,file={self.key}", "--image-opts", "-c", f"write -P 90 {MIB} {MIB}", inside],
                       check=True, stdout=subprocess.DEVNULL)
        self.flat = self.dir / "flat.raw"
        subprocess.run(["qemu-img", "convert", "--object", f"secret,id=s,file={self.key}", "--image-opts", "-O", "raw", inside, str(self.flat)], check=True)
        domain = self.domain(start=False, disks=[Disk("vda", path, "raw" if layout == "luks" else "qcow2", extra=(
            f'<encryption format="luks"><secret type="passphrase" uuid="{self.SECRET}"/></encryption>'))])
        return domain

    def test_is_refused_without_a_key_and_without_encryption(self):
        domain = self.encrypted_domain("qcow2")
        self.refused(domain, SOURCE, "--allow-plaintext")
        self.refused(domain, SOURCE, "--allow-plaintext", options=("--source-key", self.key))
        self.refused(domain, WRONG_KEY, "write --source-key FILE", options=("-e", self.key, *WEAK))

    def test_is_opened_by_its_key_alone(self):
        for layout in ("qcow2", "luks"):
            with self.subTest(layout=layout):
                domain = self.encrypted_domain(layout)
                passphrase, wrong = self.dir / "passphrase", self.dir / "wrong"
                passphrase.write_bytes(b"correct horse")
                wrong.write_bytes(b"battery")
                encrypt = ("-e", passphrase, *WEAK)
                self.refused(domain, WRONG_KEY, options=("--source-key", wrong, *encrypt))
                self.assert_status(self.backup(domain, "--source-key", self.key, *encrypt), DONE)
                backup_set = self.one_set(domain)
                judge.same_encrypted(self.image(backup_set, "vda"), self.flat, passphrase)
                plain = self.backup(domain, "--source-key", self.key, "--allow-plaintext")
                self.assert_status(plain, DONE)
                judge.same(self.image(Path(plain.json()["set"]), "vda"), self.flat)
                domain.remove()
                for made in self.sets(domain):
                    self.assert_status(self.run_command("delete", made), DONE)


if __name__ == "__main__":
    lab.main()
