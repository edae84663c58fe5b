# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Domains of the lab: with the real guest, or without any operating system (QEMU runs, disks are there; fast).

Guest writes to a domain without an operating system are made by QEMU itself on the disk's device (`qemu-io` in the
monitor): they take the same way as a guest's, through a backup job's copy-before-write.
"""
import base64
import json
import os
import subprocess
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import libvirt
import libvirt_qemu

import daemon
from daemon import wait_until

MIB = 1 << 20
URI = "qemu:///system"


def make_image(path, size, fmt="raw", tree=None, owner=None):
    """A disk image of `size` bytes; with `tree` an ext4 of that folder's files is on it."""
    path = Path(path)
    if tree is not None:
        raw = path if fmt == "raw" else path.with_name(path.name + ".raw")
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(raw), f"{size // 1024}k"], check=True,
                       stdout=subprocess.DEVNULL)
        if fmt != "raw":
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", fmt, str(raw), str(path)], check=True)
            raw.unlink()
    else:
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, str(path), str(size)], check=True)
    return path


@dataclass
class Disk:
    """One disk of a domain. `extra` is XML put into <disk> as it is."""
    target: str
    path: str
    fmt: str = "raw"
    device: str = "disk"
    extra: str = ""
    readonly: bool = False
    bus: str = ""  # else by the first letter of the target

    def xml(self):
        disk = ET.Element("disk", type="block" if str(self.path).startswith("/dev/") else "file", device=self.device)
        ET.SubElement(disk, "driver", name="qemu", type=self.fmt, discard="unmap")
        if self.path:
            kind = "dev" if disk.get("type") == "block" else "file"
            ET.SubElement(disk, "source", {kind: str(self.path)})
        bus = self.bus or {"v": "virtio", "s": "sata", "h": "ide", "f": "fdc"}[self.target[0]]
        ET.SubElement(disk, "target", dev=self.target, bus=bus)
        ET.SubElement(disk, "alias", name="ua-" + self.target)
        if self.readonly or self.device == "cdrom":
            ET.SubElement(disk, "readonly")
        if self.extra:
            disk.append(ET.fromstring(self.extra))
        return disk


class Domain:
    """A libvirt domain. Not thread-safe; a background writer has a connection of its own."""

    def __init__(self, name, disks, os_inside=False, memory_mib=None, nvram=None, tpm=False, agent_channel=None):
        self.name = name
        self.uuid = str(uuid.uuid4())  # so that define() may be called again
        self.disks = disks
        self.os_inside = os_inside
        self.memory_mib = memory_mib or (192 if os_inside else 32)
        self.nvram = nvram
        self.tpm = tpm
        self.agent_channel = os_inside if agent_channel is None else agent_channel
        self.console = Path(os.environ["TMPDIR"]) / f"console-{abs(hash(name))}.log"
        daemon.quiet_errors()
        self.uri = URI
        self._connection = None

    # -- connection ------------------------------------------------------------------------------------------------
    @property
    def connection(self):
        """Our connection, made anew after libvirtd was restarted."""
        try:
            if self._connection is not None:
                self._connection.getLibVersion()  # isAlive() learns of a dead daemon only by the next call
        except libvirt.libvirtError:
            self._connection = None
        if self._connection is None:
            self._connection = libvirt.open(self.uri)
        return self._connection

    @property
    def handle(self):
        return self.connection.lookupByName(self.name)

    # -- XML -------------------------------------------------------------------------------------------------------
    def xml(self):
        root = ET.Element("domain", type="qemu")
        ET.SubElement(root, "name").text = self.name
        ET.SubElement(root, "uuid").text = self.uuid
        ET.SubElement(root, "memory", unit="MiB").text = str(self.memory_mib)
        ET.SubElement(root, "vcpu").text = "1"
        self._add_os(root)
        features = ET.SubElement(root, "features")
        ET.SubElement(features, "acpi")
        for event in ("on_reboot", "on_crash"):  # a guest that panics reboots: the test should see it end
            ET.SubElement(root, event).text = "destroy"
        devices = ET.SubElement(root, "devices")
        for disk in self.disks:
            devices.append(disk.xml())
        ET.SubElement(devices, "controller", type="usb", model="none")
        ET.SubElement(devices, "memballoon", model="none")
        serial = ET.SubElement(devices, "serial", type="file")
        ET.SubElement(serial, "source", path=str(self.console))
        if self.agent_channel:
            channel = ET.SubElement(devices, "channel", type="unix")
            ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
        if self.tpm:
            tpm = ET.SubElement(devices, "tpm", model="tpm-crb")
            ET.SubElement(tpm, "backend", type="emulator", version="2.0")
        return ET.tostring(root, encoding="unicode")

    def _add_os(self, root):
        place = ET.SubElement(root, "os")
        ET.SubElement(place, "type", arch="x86_64", machine="q35" if self.nvram else "pc").text = "hvm"
        if self.nvram:
            ET.SubElement(place, "loader", readonly="yes", type="pflash").text = "/usr/share/OVMF/OVMF_CODE_4M.fd"
            ET.SubElement(place, "nvram", template="/usr/share/OVMF/OVMF_VARS_4M.fd").text = str(self.nvram)
        if self.os_inside:
            folder = Path(os.environ["NASBACKUP_GUEST"])
            ET.SubElement(place, "kernel").text = str(folder / "vmlinuz")
            ET.SubElement(place, "initrd").text = str(folder / "initrd")
            ET.SubElement(place, "cmdline").text = "console=ttyS0 quiet panic=1 mitigations=off nokaslr"

    # -- life ------------------------------------------------------------------------------------------------------
    def define(self):
        for attempt in range(5):
            try:
                self.connection.defineXML(self.xml())
                return self
            except libvirt.libvirtError as error:
                # A daemon that has just been started under load has been seen to fail once without any reason.
                if error.get_error_code() or attempt == 4:
                    raise
                time.sleep(0.5)

    def start(self, paused=False):
        """Defines and starts the domain; a real guest is waited for until its agent answers."""
        self.define()
        self.handle.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
        if self.os_inside and not paused:
            self.wait_for_agent()
        return self

    def pause(self):
        self.handle.suspend()

    def resume(self):
        self.handle.resume()

    def destroy(self):
        """Pulls the plug; a domain that is off already is left alone."""
        try:
            self.handle.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
                raise

    def remove(self):
        """Destroys and undefines it, whatever it is doing."""
        self.destroy()
        try:
            self.handle.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_TPM
                                      | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise

    def move_to(self, host, folder, with_disks=False):
        """Migrates it live to another host, where it is asked after and removed from then on. With its disks: they are copied
        to new files in FOLDER; else both hosts share them."""
        there, xml = libvirt.open(host.uri), self.handle.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
        sockets = {libvirt.VIR_MIGRATE_PARAM_URI: f"unix://{folder}/memory.sock", libvirt.VIR_MIGRATE_PARAM_DISKS_URI: f"unix://{folder}/disks.sock"}
        how = libvirt.VIR_MIGRATE_UNSAFE  # a cache on the host is the same one here
        for disk in self.disks if with_disks else []:
            size = self.handle.blockInfo(disk.target)[0]
            moved = make_image(Path(folder) / f"moved-{Path(disk.path).name}", size, disk.fmt)
            xml, disk.path = xml.replace(f"'{disk.path}'", f"'{moved}'"), moved
            how = libvirt.VIR_MIGRATE_NON_SHARED_DISK
        self.handle.migrate3(there, {**sockets, libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml, libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: xml}, how
                             | libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
        self.uri, self._connection = host.uri, there

    def state(self):
        """One of libvirt.VIR_DOMAIN_*, e.g. RUNNING or PAUSED."""
        return self.handle.state()[0]

    def qemu_pid(self):
        """The QEMU process, as this namespace numbers it."""
        return int((Path("/run/libvirt/qemu") / f"{self.name}.pid").read_text())

    # -- QEMU ------------------------------------------------------------------------------------------------------
    def qmp(self, command, **arguments):
        """A QMP command; returns what QEMU returned."""
        text = json.dumps({"execute": command, "arguments": arguments})
        answer = json.loads(libvirt_qemu.qemuMonitorCommand(self.handle, text, 0))
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer["return"]

    def write(self, target, offset, length, pattern=0xAB, seconds=30):
        """Writes to a disk as the guest would, and waits until it is done; raises IOError when the write failed.

        For a domain without an operating system: the device's own counters tell how the write ended (what qemu-io
        prints goes to a buffer inside QEMU), so nobody else may write to the disk meanwhile.
        """
        before = self._writes(target)
        self.qemu_io(target, f"aio_write -P {pattern} {offset} {length}")
        done, failed = wait_until("a guest's write", lambda: (lambda now: now if now != before else None)(
            self._writes(target)), seconds, pause=0.001)
        if failed != before[1]:
            raise IOError(f"{self.name} {target}: a write of {length} bytes at {offset} failed")

    def qemu_io(self, target, command):
        """A command of qemu-io on the disk's device. What fails while it is carried out is told to nobody."""
        line = f'qemu-io -d {self.device(target)} "{command}"'
        said = libvirt_qemu.qemuMonitorCommand(self.handle, line, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
        if said.strip():
            raise IOError(f"{self.name} {target}: {line}: {said.strip()}")

    @staticmethod
    def device(target):
        """The disk's device, as QEMU names it."""
        return f"/machine/peripheral/ua-{target}/virtio-backend" if target.startswith("v") else f"ua-{target}"

    def _writes(self, target):
        """How many writes of the device were done, and how many failed."""
        for entry in self.qmp("query-blockstats"):
            if entry.get("qdev") == self.device(target):
                return entry["stats"]["wr_operations"], entry["stats"]["failed_wr_operations"]
        raise RuntimeError(f"{self.name} has no disk {target}")

    def io_errors(self):
        """What libvirt or QEMU know of I/O errors on the domain's disks: empty when all is well."""
        found = [f"{disk}: {reason}" for disk, reason in (self.handle.diskErrors() or {}).items()]
        found += [f"{block['qdev']}: {block['io-status']}" for block in self.qmp("query-block")
                  if block.get("io-status", "ok") != "ok"]
        return found

    # -- the real guest --------------------------------------------------------------------------------------------
    def agent(self, command, seconds=10, **arguments):
        """A guest agent command; returns what it returned."""
        text = json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})
        return json.loads(libvirt_qemu.qemuAgentCommand(self.handle, text, seconds, 0))["return"]

    def wait_for_agent(self, seconds=120):
        def pinged():
            try:
                self.agent("guest-ping", seconds=2)
                return True
            except libvirt.libvirtError:
                if not self.handle.isActive():
                    raise TimeoutError(f"{self.name} ended before its agent answered") from None
                return False
        try:
            wait_until(f"the guest agent of {self.name}", pinged, seconds)
        except TimeoutError as error:
            log = self.console.read_text(errors="replace")[-2000:] if self.console.exists() else "(no console)"
            raise TimeoutError(f"{error}; its console says:\n{log}") from None

    def shell_start(self, script):
        """Starts a shell script in the guest and returns its process there."""
        return self.agent("guest-exec", **{"path": "/bin/sh", "arg": ["-c", script], "capture-output": True})["pid"]

    def shell_end(self, pid, seconds=60):
        """Waits for a script of shell_start; returns its output, raises when it failed."""
        done = wait_until("a command in the guest",
                          lambda: (lambda s: s if s["exited"] else None)(self.agent("guest-exec-status", pid=pid)), seconds)
        output = base64.b64decode(done.get("out-data", "")).decode(errors="replace")
        errors = base64.b64decode(done.get("err-data", "")).decode(errors="replace")
        if done.get("exitcode") != 0:
            raise RuntimeError(f"in the guest: exit {done.get('exitcode')}: {errors or output}")
        return output

    def shell(self, script, seconds=60):
        """Runs a shell script in the guest to its end."""
        return self.shell_end(self.shell_start(script), seconds)

    def frozen(self):
        """Whether the guest's file systems are frozen, as the agent says."""
        return self.agent("guest-fsfreeze-status") == "frozen"

    # -- backup jobs -----------------------------------------------------------------------------------------------
    def backup_job(self):
        """The XML of the backup job under way, or None."""
        try:
            return self.handle.backupGetXMLDesc()
        except libvirt.libvirtError:
            return None

    def begin_foreign_job(self, folder):
        """Starts a pull job that is not ours, as another program would; ends with handle.abortJob()."""
        root = ET.Element("domainbackup", mode="pull")
        ET.SubElement(root, "server", transport="unix", socket=f"{folder}/foreign.sock")
        disks = ET.SubElement(root, "disks")
        disk = ET.SubElement(disks, "disk", name=self.disks[0].target, backup="yes", type="file")
        ET.SubElement(disk, "scratch", file=f"{folder}/foreign.scratch")
        self.handle.backupBegin(ET.tostring(root, encoding="unicode"), None, 0)

    def folder(self):
        """QEMU's own folder of the running domain."""
        found = sorted(Path("/var/lib/libvirt/qemu").glob(f"domain-{self.handle.ID()}-*"))
        return found[0] if found else None

    def leftovers(self):
        """What a backup may have left of this domain: lines for people, empty when there is nothing."""
        found = ["a backup job"] if self.backup_job() else []
        if not self.handle.isActive():
            return found
        found += [f"a block job {job['device']}" for job in self.qmp("query-block-jobs")]
        found += [f"an export {export['id']}" for export in self.qmp("query-block-exports")]
        known = {"master-key.aes", "monitor.sock"}
        found += [f"a file {path}" for path in (self.folder().iterdir() if self.folder() else [])
                  if path.name not in known and not path.name.startswith("org.qemu")]
        found += [f"a checkpoint {point.getName()}" for point in self.handle.listAllCheckpoints()]
        return found


class GuestWriter(threading.Thread):
    """Writes to a disk of a domain without an operating system until it is told to stop; remembers what failed.

    Each write is `step` bytes of a pattern that changes; offsets run through [start, end) again and again.
    """

    def __init__(self, domain, target, start=0, end=64 * MIB, step=64 * 1024, pause=0.01, rounds=None):
        super().__init__(daemon=True)
        self._domain = Domain(domain.name, domain.disks)
        self._target, self._range, self._pause, self._rounds = target, range(start, end, step), pause, rounds
        self._step = step
        self._stop_asked = threading.Event()
        self.writes = 0
        self.failures = []

    def run(self):
        pattern = 0
        while self._rounds is None or pattern < self._rounds:
            pattern += 1
            for offset in self._range:
                if self._stop_asked.is_set():
                    return
                try:
                    self._domain.write(self._target, offset, self._step, pattern % 255 + 1)
                    self.writes += 1
                except (IOError, TimeoutError, libvirt.libvirtError) as error:
                    self.failures.append(str(error))
                    return
                time.sleep(self._pause)

    def stop(self):
        """Ends the writer and returns what failed."""
        self._stop_asked.set()
        self.join(60)
        return self.failures
