# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A real Ceph cluster of one monitor and one OSD in a folder of its own, cephx on, everything on 127.0.0.1; nothing under /etc/ceph
or /var. Its daemons end with it, and with the process that started them, however that ends."""
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import uuid
from pathlib import Path

import rados
import rbd

PR_SET_PDEATHSIG = 1
MIB = 1 << 20
libc = ctypes.CDLL(None)

# The short waits of monitor and client: nobody else's changes come together with ours, and the first image is there six seconds earlier.
CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = [v1:127.0.0.1:{port}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr2 = false
auth_cluster_required = cephx
auth_service_required = {auth}
auth_client_required = {auth}
keyring = {folder}/$name.keyring
log_file = {folder}/$name.log
admin_socket = {folder}/$name.asok
run_dir = {folder}
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = {store}
osd_memory_target = 939524096
memstore_device_bytes = {size}
bluestore_block_size = {size}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
mon_data_avail_crit = 1
mon_data_avail_warn = 1
mon_osd_initial_require_min_compat_client = luminous
osd_heartbeat_grace = 120
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_tick_interval = 1
objecter_tick_interval = 0.2
osd_client_watch_timeout = 3
[client]
rbd_mtime_update_interval = 1
log_file =
admin_socket =
"""


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Cluster:
    """One pool, `rbd`, and two clients: `admin` may everything; `backup` has a key that looks as CloudStack's do. `auth`: how clients may
    show who they are; with "cephx, none" they need not."""

    def __init__(self, folder, store="memstore", size=4 << 30, auth="cephx"):
        self.folder = Path(folder)
        self.port = free_port()
        self.conf = self.folder / "ceph.conf"
        self.fsid = str(uuid.uuid4())
        self.conf.write_text(CONFIGURATION.format(fsid=self.fsid, port=self.port, folder=self.folder, store=store, size=size, auth=auth))
        self.daemons = []
        try:
            self.start_monitor()
            self.admin = rados.Rados(conffile=str(self.conf), name="client.admin", conf={"client_mount_timeout": "30"})
            self.admin.connect()
            self.start_osd()
            self.command("osd pool create", pool="rbd", pg_num=8)
            self.command("osd pool application enable", pool="rbd", app="rbd")
            self.key = self.client_key("client.backup", "profile rbd", "profile rbd")
            self.io = self.admin.open_ioctx("rbd")
        except Exception as error:
            self.stop()
            raise RuntimeError(f"the cluster does not start: {error!r}\n{self.log_tail()}") from error

    # ---- daemons -----------------------------------------------------------------------------------------------------------

    def tool(self, *words):
        done = subprocess.run([*map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def start_monitor(self):
        keys = self.folder / "mon.keyring"
        self.tool("ceph-authtool", "--create-keyring", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        admin = self.folder / "client.admin.keyring"
        self.tool("ceph-authtool", "--create-keyring", admin, "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd",
                  "allow *", "--cap", "mgr", "allow *")
        self.tool("ceph-authtool", keys, "--import-keyring", admin)
        monmap = self.folder / "monmap"
        self.tool("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{self.port}]", "--fsid", self.fsid, monmap)
        self.tool("ceph-mon", "--mkfs", "-i", "a", "-c", self.conf, "--monmap", monmap, "--keyring", keys)
        self.start("ceph-mon", "a")

    def start_osd(self):
        keys = self.folder / "osd.0.keyring"
        self.tool("ceph-authtool", "--create-keyring", keys, "--gen-key", "-n", "osd.0")
        key = self.tool("ceph-authtool", "-p", "-n", "osd.0", keys).strip()
        (self.folder / "osd").mkdir()
        osd = str(uuid.uuid4())
        self.command("osd new", json.dumps({"cephx_secret": key}).encode(), uuid=osd)
        self.tool("ceph-osd", "--mkfs", "-i", "0", "-c", self.conf, "--osd-uuid", osd)
        self.start("ceph-osd", "0")

    def start(self, program, name):
        with open(self.folder / f"{program}.out", "w") as log:
            daemon = subprocess.Popen([program, "-f", "-i", name, "-c", str(self.conf)], stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=log, preexec_fn=die_with_parent)
        self.daemons.append(daemon)
        return daemon

    def stop(self):
        with contextlib.suppress(AttributeError):
            self.io.close()
        with contextlib.suppress(AttributeError):
            self.admin.shutdown()
        for daemon in reversed(self.daemons):
            daemon.kill()
            daemon.wait()

    def pause(self):
        """Nobody answers any more."""
        for daemon in self.daemons:
            daemon.send_signal(signal.SIGSTOP)

    def go_on(self):
        for daemon in self.daemons:
            daemon.send_signal(signal.SIGCONT)

    def log_tail(self, lines=15):
        tails = []
        for log in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out")):
            tails += [f"{log.name}:", *log.read_text(errors="replace").splitlines()[-lines:]]
        return "\n".join(tails)

    # ---- what tests ask of it ----------------------------------------------------------------------------------------------

    def command(self, prefix, data=b"", **arguments):
        status, out, error = self.admin.mon_command(json.dumps({"prefix": prefix, "format": "json", **arguments}), data)
        if status != 0:
            raise RuntimeError(f"{prefix}: {status} {error}")
        return json.loads(out) if out else None

    def client_key(self, name, mon, osd):
        return self.command("auth get-or-create", entity=name, caps=["mon", mon, "osd", osd])[0]["key"]

    def location(self, image, *options, key=True):
        """As CloudStack writes it (KVMPhysicalDisk.RBDStringBuilder)."""
        words = [f"rbd:rbd/{image}", f"mon_host=127.0.0.1\\:{self.port}", "auth_supported=cephx", "id=backup"]
        words += [f"key={self.key if key is True else key}"] if key else []
        return ":".join([*words, "rbd_default_format=2", "client_mount_timeout=30", *options])

    def as_qemu(self, image):
        return f"rbd:rbd/{image}:conf={self.conf}:id=admin"

    def rbd(self, *words):
        return self.tool("rbd", "-c", self.conf, "--id", "admin", *words)

    def create(self, name, size, old_format_features=None, **more):
        rbd.RBD().create(self.io, name, size, old_format=False, features=old_format_features, **more)

    @contextlib.contextmanager
    def image(self, name, **more):
        """For writing unless said otherwise: whoever has it so is a watcher."""
        with rbd.Image(self.io, name, **more) as image:
            yield image

    def fill(self, name, pieces):
        """pieces: (offset, length of random bytes)."""
        with self.image(name) as image:
            for offset, length in pieces:
                image.write(os.urandom(length), offset)

    def content(self, name, snapshot=None):
        with rbd.Image(self.io, name, snapshot=snapshot, read_only=True) as image:
            size = image.size()
            return b"".join(image.read(at, min(4 * MIB, size - at)) for at in range(0, size, 4 * MIB))

    def users(self, name):
        """Watchers, lockers and snapshots of an image, as it is now."""
        with rbd.Image(self.io, name, read_only=True) as image:
            lockers = image.list_lockers()
            return ([watcher["id"] for watcher in image.watchers_list()], sorted(locker[:2] for locker in lockers["lockers"]) if lockers else [],
                    [snapshot["name"] for snapshot in image.list_snaps()])

    def images(self):
        return sorted(rbd.RBD().list(self.io))
