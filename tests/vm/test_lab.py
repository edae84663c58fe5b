# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The lab itself: it leaves the machine's libvirt alone, cleans up however it ends, and its guest is a real one.

The libvirtd of the lab that this test runs in plays the machine's, with a domain running; labs are entered from there."""
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import lab  # noqa: E402
from lab import MIB, wait_until  # noqa: E402

ENTER = str(lab.HERE / "enter")
WATCHED = ["/etc/libvirt", "/run", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/var/lib/swtpm-localca"]

INNER = """
import os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from lab import *
folder = Path(os.environ["TMPDIR"])
domain = Domain("inner", [Disk("vda", make_image(folder / "disk.raw", 8 * MIB))]).start()
print(",".join(d.name() for d in domain.connection.listAllDomains()), flush=True)
{then}
"""


def files():
    """Every file below the watched folders, with what would change if somebody touched it."""
    found = {}
    for top in WATCHED:
        for path in [Path(top), *Path(top).rglob("*")]:
            about = path.lstat()
            found[str(path)] = (about.st_ino, about.st_mode, about.st_uid, about.st_size, about.st_mtime_ns)
    return found


def processes():
    return {path.name: (path / "comm").read_text().strip() for path in Path("/proc").glob("[0-9]*")
            if (path / "comm").exists()}


def inner(then="domain.remove()"):
    return [ENTER, "/usr/bin/python3", "-c", INNER.format(here=str(lab.HERE), then=then)]


class TheMachinesLibvirt(lab.LabTest):
    def setUp(self):
        super().setUp()
        self.outer = self.domain("outer", [self.disk("vda", 8 * MIB)])
        self.before = files()
        self.processes = processes()

    def assert_untouched(self):
        self.assertEqual(files(), self.before)
        self.assertEqual(processes(), self.processes)
        self.assertEqual(self.outer.state(), lab.libvirt.VIR_DOMAIN_RUNNING)

    def folders(self):
        return sorted(Path(tempfile.gettempdir()).glob("nasbackup-lab.*"))

    def test_is_untouched_by_a_lab_with_a_domain(self):
        seen = subprocess.run(inner(), stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        self.assertEqual(seen, "inner")
        self.assert_untouched()
        self.assertEqual(self.folders(), [])

    def test_is_untouched_while_the_lab_runs(self):
        with subprocess.Popen(inner("sys.stdin.read()"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
            self.assertEqual(running.stdout.readline().strip(), "inner")
            self.assertEqual(files(), self.before)
            names = [d.name() for d in self.outer.connection.listAllDomains()]
            self.assertEqual(names, ["outer"])
            running.stdin.close()
            self.assertEqual(running.wait(60), 0)
        self.assert_untouched()

    def end_with(self, number):
        running = subprocess.Popen(inner("sys.stdin.read()"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(running.stdout.readline().strip(), "inner")
            running.send_signal(number)
            running.wait(30)
            wait_until("the lab's processes to end", lambda: processes() == self.processes)
        finally:
            running.stdin.close()
            running.stdout.close()
        self.assert_untouched()

    def test_is_untouched_when_the_lab_is_terminated(self):
        self.end_with(signal.SIGTERM)
        self.assertEqual(self.folders(), [])

    def test_is_untouched_when_the_lab_is_killed_and_the_next_lab_sweeps(self):
        self.end_with(signal.SIGKILL)
        self.assertEqual(len(self.folders()), 1)
        subprocess.run([ENTER, "true"], check=True)
        self.assertEqual(self.folders(), [])

    def test_is_untouched_when_the_test_in_the_lab_fails(self):
        self.assertEqual(subprocess.run(inner("sys.exit(7)"), stdout=subprocess.DEVNULL).returncode, 7)
        self.assert_untouched()
        self.assertEqual(self.folders(), [])


class TheGuest(lab.LabTest):
    def test_writes_files_that_are_on_its_disks(self):
        guest = self.guest()
        guest.shell("echo hello > /mnt/vda/greeting; sync")
        self.assertIn("greeting", guest.shell("ls /mnt/vda"))
        guest.destroy()
        shown = subprocess.run(["debugfs", "-R", "cat greeting", str(guest.disks[0].path)], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, check=True).stdout
        self.assertEqual(shown, "hello\n")

    def test_freezes_really(self):
        guest = self.guest(disks=("vda",))
        self.assertFalse(guest.frozen())
        guest.shell_start("while true; do date >> /mnt/vda/dates; sync; done")
        self.assertEqual(guest.agent("guest-fsfreeze-freeze"), 1)
        self.assertTrue(guest.frozen())
        written = guest.qmp("query-blockstats")[0]["stats"]["wr_operations"]
        time.sleep(0.5)
        self.assertEqual(guest.qmp("query-blockstats")[0]["stats"]["wr_operations"], written)
        self.assertEqual(guest.agent("guest-fsfreeze-thaw"), 1)
        wait_until("the guest to write again",
                   lambda: guest.qmp("query-blockstats")[0]["stats"]["wr_operations"] > written)


class DomainsWithoutAnOperatingSystem(lab.LabTest):
    def test_write_as_a_guest_does(self):
        domain = self.domain(disks=[self.disk("vda", 8 * MIB)])
        domain.write("vda", MIB, 4096, 0x41)
        domain.destroy()
        with open(domain.disks[0].path, "rb") as image:
            image.seek(MIB)
            self.assertEqual(image.read(4096), b"A" * 4096)

    def test_report_a_write_that_fails(self):
        domain = self.domain(disks=[self.disk("vda", 8 * MIB)])
        with self.assertRaises(IOError):
            domain.write("vda", 8 * MIB, 4096)

    def test_have_names_disks_and_firmware_of_every_kind(self):
        name = """a "b", c's"""
        domain = self.domain(name, [self.disk("vda", 8 * MIB, name="with, comma.raw"), self.disk("vdb", 8 * MIB, "qcow2"),
                                    self.disk("sdc", MIB, name="cd rom.iso", device="cdrom")],
                             nvram=self.dir / "vars.fd", memory_mib=64)
        self.assertEqual(domain.leftovers(), [])
        domain.write("vdb", MIB, 4096)

    def test_have_an_emulated_tpm(self):
        domain = self.domain(disks=[self.disk("vda", 8 * MIB)], tpm=True)
        self.assertTrue(list(Path("/var/lib/libvirt/swtpm").glob(domain.handle.UUIDString() + "/tpm2/*")))

    def test_show_what_a_backup_job_leaves(self):
        domain = self.domain(disks=[self.disk("vda", 8 * MIB)])
        domain.begin_foreign_job(self.dir)
        self.assertIn("a backup job", domain.leftovers())
        domain.handle.abortJob()
        wait_until("the job to end", lambda: domain.leftovers() == [])


class WithAnotherUser(lab.LabTest):
    qemu_user = "libvirt-qemu"

    def test_qemu_runs_as_that_user(self):
        domain = self.domain(disks=[self.disk("vda", 8 * MIB)])
        owner = os.stat(f"/proc/{domain.qemu_pid()}").st_uid
        self.assertEqual(owner, 64055)
        domain.write("vda", MIB, 4096, 0x41)


if __name__ == "__main__":
    lab.main()
