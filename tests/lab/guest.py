# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A small real guest: Debian's cloud kernel and an initramfs with busybox and qemu-ga.

It boots straight from kernel and initramfs (no root disk), mounts every virtio disk that holds ext4 at /mnt/<disk>
and answers the guest agent a few seconds after start, also without KVM. Built from Debian packages that are unpacked
and never installed, so that the host gets no boot loader and no agent of its own. Kept under .cache/lab of the
checkout; the name carries a digest of this file, so a change here builds anew.
"""
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "lab"
MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic"]

INIT = r"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /run /tmp /dev/virtio-ports
for module in $(cat /modules/order); do insmod /modules/$module; done
# A port has its name a moment after its module is there.
tries=0
while ! cat /sys/class/virtio-ports/*/name | grep -q guest_agent && [ $tries -lt 50 ]; do tries=$((tries+1)); sleep 0.1; done
for port in /sys/class/virtio-ports/*; do
  ln -s ../${port##*/} /dev/virtio-ports/$(cat $port/name)
done
for disk in /sys/block/vd*; do
  disk=${disk##*/}
  mkdir -p /mnt/$disk
  mount -t ext4 /dev/$disk /mnt/$disk || rmdir /mnt/$disk
done
echo "lab guest: up"
[ -e /dev/virtio-ports/org.qemu.guest_agent.0 ] && qemu-ga -m virtio-serial \
  -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run -f /run/qga.pid &
while true; do sleep 1000; done
"""


def run(*command, **options):
    """Runs a command quietly; a failure carries what it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def kernel_package():
    """The package of today's cloud kernel; linux-image-cloud-amd64 only points at it."""
    listing = run("apt-cache", "depends", "linux-image-cloud-amd64")
    found = re.search(r"Depends: (linux-image-\S+)", listing)
    if found is None:
        raise RuntimeError("no kernel: linux-image-cloud-amd64 is not in apt's lists")
    return found.group(1)


def unpack_packages(folder):
    """Fetches kernel and agent and unpacks them below `folder`; returns the tree."""
    debs = folder / "debs"
    debs.mkdir()
    try:
        run("apt-get", "download", kernel_package(), "qemu-guest-agent", cwd=debs)
    except RuntimeError:  # no lists, or they are older than the archive
        run("apt-get", "update", "-q")
        run("apt-get", "download", kernel_package(), "qemu-guest-agent", cwd=debs)
    for deb in debs.glob("*.deb"):
        run("dpkg", "-x", deb, folder / "tree")
    return folder / "tree"


def in_load_order(tree, names):
    """The files of the modules and of all that they need, needed ones first."""
    files = {path.stem.replace("-", "_"): path for path in tree.glob("lib/modules/*/kernel/**/*.ko")}
    order = []

    def add(name):
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:  # what has no file is built into the kernel
            return
        needed = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in (needed.group(1).decode().split(",") if needed and needed.group(1) else []):
            add(other)
        order.append(path)

    for name in names:
        add(name)
    return order


def libraries_of(program):
    """What the dynamic loader would load for `program`, the loader itself included."""
    listing = run("ldd", program)
    if "not found" in listing:
        raise RuntimeError(f"{program}: libraries are missing\n{listing}")
    return sorted(set(re.findall(r"(/\S+) \(0x", listing)))


def make_initramfs(tree, folder, target):
    """Packs init, busybox, qemu-ga and the modules into a gzipped cpio archive."""
    root = folder / "initramfs"
    for name in ("bin", "dev", "proc", "sys", "mnt", "modules", "root", "etc"):
        (root / name).mkdir(parents=True)
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    shutil.copy(tree / "usr/sbin/qemu-ga", root / "bin/qemu-ga")
    for library in libraries_of(tree / "usr/sbin/qemu-ga"):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    modules = in_load_order(tree, MODULES)
    for module in modules:
        shutil.copy(module, root / "modules")
    (root / "modules/order").write_text("\n".join(path.name for path in modules) + "\n")
    with open(target, "wb") as out:
        files = subprocess.run(["find", ".", "-print0"], cwd=root, stdout=subprocess.PIPE, check=True).stdout
        archive = subprocess.run(["cpio", "--null", "--create", "--quiet", "--format=newc"], cwd=root, input=files,
                                 stdout=subprocess.PIPE, check=True).stdout
        out.write(subprocess.run(["gzip", "-1"], input=archive, stdout=subprocess.PIPE, check=True).stdout)


def build(place):
    """Builds the guest aside and moves it to `place` when it is whole."""
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="building-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt's own user reads there
        tree = unpack_packages(folder)
        out = folder / "out"
        out.mkdir()
        shutil.copy(next(tree.glob("boot/vmlinuz-*")), out / "vmlinuz")
        make_initramfs(tree, folder, out / "initrd")
        os.rename(out, place)


def ensure():
    """The folder with `vmlinuz` and `initrd`; built when it is not there yet."""
    place = CACHE / ("guest-" + hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12])
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            build(place)
    return place


if __name__ == "__main__":
    print(ensure())
