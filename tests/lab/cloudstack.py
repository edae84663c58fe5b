# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Plays CloudStack: the argument vectors that each version of its Java sends to nasbackup.sh, what it reads of the answer, and how it
restores. Numbers in brackets are those of the contract (rules R and T, sections)."""
import os
import re
import subprocess

NUMBER = re.compile(r"[0-9]+")


class JavaError(AssertionError):
    """What Java would throw: the row of the backup stays for ever in the state BackingUp [R8]."""


def long(text):
    """Long.parseLong(text.trim())"""
    if not NUMBER.fullmatch(text.strip()):
        raise JavaError(f"NumberFormatException: {text!r}")
    return int(text)


# ---- argument vectors [2.5] ---------------------------------------------------------------------------------------------------

def take_4_20_0(vm, store, path, disks=(), **_):
    return ["-o", "backup", "-v", vm, *store, "-p", path, "-d", ",".join(disks)]


def take_4_20_1(vm, store, path, disks=(), quiesce=False, **_):
    return ["-o", "backup", "-v", vm, *store, "-p", path, "-q", "true" if quiesce else "false", "-d", ",".join(disks)]


def take_main(vm, store, path, disks=(), quiesce=False, mode=None, bitmap_new=None, bitmap_parent=None, parents=None, **_):
    words = take_4_20_1(vm, store, path, disks, quiesce)
    for flag, value in (("-M", mode), ("--bitmap-new", bitmap_new), ("--bitmap-parent", bitmap_parent), ("--parent-paths", parents)):
        words += [flag, value] if value else []
    return words


def take_12898_v1(vm, store, path, disks=(), quiesce=False, compress=False, passphrase=None, limit=None, verify=False, **_):
    words = take_4_20_1(vm, store, path, disks, quiesce)
    words += ["-c"] if compress else []
    words += ["-e", str(passphrase)] if passphrase else []
    words += ["-b", str(limit)] if limit else []
    return words + (["--verify"] if verify else [])


TAKES = {"4.20.0": take_4_20_0, "4.20.1, 4.21, 4.22": take_4_20_1, "main, 4.22 with #13877": take_main, "#12898, first head": take_12898_v1}


def store(kind, address, options=""):
    return ["-t", kind, "-s", str(address), "-m", options]


def delete(store_words, path):
    return ["-o", "delete", *store_words, "-p", path]


def stats(store_words):
    return ["-o", "stats", *store_words]


# ---- what Java reads [4] --------------------------------------------------------------------------------------------------------

FALLBACK = "INCREMENTAL_FALLBACK=true"


def without_marker(out):
    return "".join(line + "\n" for line in out.splitlines() if FALLBACK not in line)


def size_strict(out, disks):
    """[R6, R7]: the last line without disk paths, the sum of all lines' first words with them."""
    lines = out.strip().split("\n")
    return sum(long(line.split(" ")[0]) for line in lines) if disks else long(lines[-1])


def size_tolerant(out, disks):
    """The keys fork [R15]."""
    numbers = [int(found.group()) for line in out.splitlines() if (found := re.match(r"\s*([0-9]+)", line))]
    return sum(numbers) if disks else (numbers[-1] if numbers else 0)


def size_14203(out):
    """[R11]"""
    for line in out.splitlines():
        if line.startswith("BACKUP_SIZE_TOTAL="):
            return long(line.partition("=")[2])
    return 0


def storage_use(out):
    """(total, used) bytes [R20, R21]."""
    words = re.split(r"\s+", out)
    by_token = long(words[1]) * 1024, long(words[2]) * 1024
    hardened = re.findall(r"(?m)^[ \t]*([0-9]+)[ \t]+([0-9]+)[ \t]*\r?$", out)
    if len(hardened) != 1 or tuple(int(number) * 1024 for number in hardened[0]) != by_token:
        raise JavaError(f"stats: {out!r}")
    return by_token


# ---- how Java restores [6.2, 6.3] -----------------------------------------------------------------------------------------------

def run(*words):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{words}: exit {done.returncode}: {done.stdout}")
    return done.stdout


def restore(image, volume, passphrase=None):
    """The backup file onto a volume: `qemu-img check` must be content, then rsync (or convert, of what is encrypted or stands on another)."""
    info = run("qemu-img", "info", "--output=json", "-U", image)
    if '"encrypted": true' in info:
        secret = ["--object", f"secret,id=sec0,file={passphrase}"]
        place = ["--image-opts", f"driver=qcow2,encrypt.key-secret=sec0,file.driver=file,file.filename={image}"]
        run("qemu-img", "check", *secret, *place)
        run("qemu-img", "convert", "-O", "qcow2", *secret, *place, volume)
        return
    run("qemu-img", "check", image)
    if '"backing-filename"' in info:
        run("qemu-img", "convert", "-O", "qcow2", image, volume)
    else:
        run("rsync", "-az", image, volume)


def restore_to_rbd(image, location, passphrase=None, exists=False):
    """The same onto an RBD pool: from QCOW2 to a raw `rbd:` target, which is there when the VM is."""
    run("qemu-img", "check", *opened(image, passphrase))
    run("qemu-img", "convert", *(["-n"] if exists else []), *opened(image, passphrase), "-O", "raw", location)


def opened(image, passphrase):
    if passphrase is None:
        return ["-f", "qcow2", image]
    return ["--object", f"secret,id=sec0,file={passphrase}", "--image-opts",
            f"driver=qcow2,encrypt.key-secret=sec0,file.driver=file,file.filename={image}"]


def backup_file(place, number, volume):
    """The name under which Java looks for the backup of the volume with this path: root first, then datadisk [5]."""
    return os.path.join(place, f"{'datadisk' if number else 'root'}.{os.path.basename(volume)}.qcow2")
