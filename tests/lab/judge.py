# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Independent judges: qemu-img and nbdcopy decide whether a backup is whole and says what the disk said."""
import json
import subprocess
from pathlib import Path


def output_of(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    return done.returncode, done.stdout


def check(image):
    """qemu-img check must find nothing at all, no leak either."""
    status, text = output_of("qemu-img", "check", "-f", "qcow2", str(image))
    if status != 0:
        raise AssertionError(f"qemu-img check {image}: exit {status}\n{text}")


def same(one, other, one_format="qcow2", other_format="raw"):
    """The contents of two images must be equal to the last byte, and so must their sizes."""
    status, text = output_of("qemu-img", "compare", "-f", one_format, "-F", other_format, "-U",
                             str(one), str(other))
    if status != 0 or "mismatch" in text:
        raise AssertionError(f"qemu-img compare {one} {other}: exit {status}\n{text}")


def options_of(image):
    """How qemu opens an encrypted image with the secret "sec0": by its layers, which its first bytes tell."""
    name = str(image).replace(",", ",,")
    with open(image, "rb") as file:
        container = file.read(4) == b"LUKS"
    if container:
        return "driver=qcow2,file.driver=luks,file.key-secret=sec0,file.file.driver=file,file.file.filename=" + name
    return "driver=qcow2,encrypt.key-secret=sec0,file.driver=file,file.filename=" + name


def same_encrypted(image, copy, passphrase):
    """An encrypted image is sound, and holds what the raw file holds; the passphrase is in a file."""
    secret = ("--object", f"secret,id=sec0,file={passphrase}", "--image-opts")
    raw = "driver=raw,file.driver=file,file.filename=" + str(copy).replace(",", ",,")
    for words in ("check", options_of(image)), ("compare", options_of(image), raw):
        status, text = output_of("qemu-img", words[0], *secret, *words[1:])
        if status != 0 or "mismatch" in text:
            raise AssertionError(f"qemu-img {words[0]} {image}: exit {status}\n{text}")


def info(image):
    """qemu-img info as a dictionary."""
    status, text = output_of("qemu-img", "info", "--output=json", "-U", str(image))
    if status != 0:
        raise AssertionError(f"qemu-img info {image}: exit {status}\n{text}")
    return json.loads(text)


def copy_exports_command(folder):
    """A shell command for --exec-in-job: nbdcopy reads every export of the job into FOLDER/<disk>.raw."""
    script = Path(__file__).resolve().parent / "copy-exports"
    return f"'{script}' '{folder}'"


def sets_under(target, vm):
    """The published sets of a VM, oldest first, judged by their place alone."""
    place = Path(target) / vm
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")) \
        if place.is_dir() else []


def partials_under(target):
    """Whatever hidden thing lies below a target, e.g. a set that was not finished. Not the directory of a run that was killed
    before it had written its lock's record: nobody can tell yet whose it is, so it is swept after ten minutes
    (docs/formats/set.md)."""
    return sorted(str(path) for path in Path(target).rglob(".*")
                  if not (path.name.startswith(".nasbackup.lock-") and path.is_dir()
                          and not any(record.stat().st_size for record in path.iterdir())))
