# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Reading back: restore, verify, check, what --verify adds to a backup, and serve. All read sets or images of ours, made before."""
import glob
import os
import subprocess

import disks
from contender import Contender, NoOutput
from contests import Contest
from servers import Server

QEMU_RESTORE = "qemu-img convert -m 16 -W to raw + sync"
QEMU_COMPARE = "qemu-img compare with the raw disk"
QEMU_CHECK = "qemu-img check"
WITH, WITHOUT = "nasbackup backup -c --verify=data", "nasbackup backup -c"
QEMU_NBD = "nbdcopy from qemu-nbd"
OUR_SERVER = "nbdcopy from nasbackup serve"


class StoredContest(Contest):
    """One with a set of the realistic disk, compressed or encrypted; all passphrases are in one file."""

    def set_of(self, *options):
        """The set's directory, made with these options when it is first asked for."""
        folder = os.path.join(self.house.work, "sets" + "".join(option for option in options if option in ("-c", "-e")))
        if not os.path.exists(folder):
            os.makedirs(folder)
            subprocess.run([self.house.binary, "backup", "--disk", self.house.realistic(), "-f", "raw", "--name", "bench", "--to", folder,
                            "--progress=none", *options], check=True, stdout=subprocess.DEVNULL)
        return glob.glob(os.path.join(folder, "bench", "2*"))[0]


def image_of(path):
    return glob.glob(os.path.join(path, "root.*.qcow2"))[0]


class Restored(Contender):
    """A set to a raw file, digests compared on the way."""

    def __init__(self, path, binary, options, source):
        super().__init__("nasbackup restore to raw", lambda out: [[binary, "restore", path, *options, "--disk", "disk0=" + out, "-O", "raw",
                                                                   "--json", "--progress=none"]], source, "out.raw", "raw")


class Restore(StoredContest):
    row = "restore"
    title = "compressed set → raw file"

    def start(self):
        path, source = self.set_of("-c"), self.house.realistic()
        image = image_of(path)
        self.warm = [image]
        rival = Contender(QEMU_RESTORE, lambda out: [["qemu-img", "convert", "-m", "16", "-W", "-f", "qcow2", "-O", "raw", image, out],
                                                     ["sync", out]], source, "out.raw", "raw")
        self.contenders = [Restored(path, self.house.binary, [], source), rival]


class RestoreEncrypted(StoredContest):
    """Our image for both, so that the key slot costs both the same number of iterations."""

    row = "restore"
    title = "qcow2-LUKS set → raw file"

    def start(self):
        secret, source = self.house.passphrase(), self.house.realistic()
        path = self.set_of("-e", secret)
        image = image_of(path)
        self.warm = [image]
        opened = ["--object", f"secret,id=sec0,file={secret}", "--image-opts",
                  "driver=qcow2,encrypt.key-secret=sec0,file.driver=file,file.filename=" + image]
        rival = Contender(QEMU_RESTORE, lambda out: [["qemu-img", "convert", "-m", "16", "-W", "-O", "raw", *opened, out], ["sync", out]],
                          source, "out.raw", "raw")
        self.contenders = [Restored(path, self.house.binary, ["-e", secret], source), rival]


class FromDisk(NoOutput):
    """The image is let go from memory first: `nasbackup verify` does so itself, within its time."""

    def __init__(self, name, steps, image):
        super().__init__(name, steps, None)
        self.image = image

    def before(self, place):
        file = os.open(self.image, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
        return {}


class Verify(StoredContest):
    row = "verify"
    title = "compressed set, read back and compared"

    def start(self):
        path, source = self.set_of("-c"), self.house.realistic()
        image = image_of(path)
        self.warm = [source]
        binary = self.house.binary
        self.contenders = [FromDisk("nasbackup verify", lambda out: [[binary, "verify", path, "--json", "--progress=none"]], image),
                           FromDisk(QEMU_COMPARE, lambda out: [["qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, image]], image)]


class Check(Contest):
    """All tables are there; of the clusters nothing but their numbers."""

    row = "check"
    title = "check of an image with 4 million allocated clusters"
    SIZE = "256G"

    def start(self):
        image, binary = os.path.join(self.house.work, "check.qcow2"), self.house.binary
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", image, self.SIZE], check=True)
        disks.warm(image)
        self.image = image
        self.contenders = [NoOutput("nasbackup check", lambda out: [[binary, "check", image, "--json"]], None),
                           NoOutput(QEMU_CHECK, lambda out: [["qemu-img", "check", "-f", "qcow2", image]], None)]

    def stop(self):
        os.unlink(self.image)


class VerifiedBackup(Contest):
    row = "verified"
    title = "raw file → compressed set, without and with --verify=data"

    def start(self):
        source, binary = self.house.realistic(), self.house.binary
        self.warm = [source]
        command = lambda to, *options: [[binary, "backup", "--disk", source, "-f", "raw", "--name", "bench", "--to", os.path.dirname(to), "-c",
                                         "--json", "--progress=none", *options]]
        self.contenders = [Contender(WITHOUT, lambda to: command(to), source, "bench/*/root.*.qcow2"),
                           Contender(WITH, lambda to: command(to, "--verify=data"), source, "bench/*/root.*.qcow2")]
        for one in self.contenders:  # a folder is written to, and not the file that is found in it
            one.steps = lambda place, make=one._steps: make(os.path.join(place, "x"))


class Serve(StoredContest):
    """Both servers stand by; nbdcopy reads through one of them, with its usual four connections."""

    row = "serve"
    title = "compressed image served over NBD, read through by nbdcopy"

    def start(self):
        image = image_of(self.set_of("-c"))
        self.warm = [image]
        folder, self.servers = self.house.work, []
        for name, command in ((OUR_SERVER, lambda socket: [self.house.binary, "serve", image, "--socket", socket]),
                              (QEMU_NBD, lambda socket: ["qemu-nbd", "-t", "-r", "-e", "16", "-f", "qcow2", "-k", socket, image])):
            server = Server(os.path.join(folder, f"serve{len(self.servers)}.sock"), command)
            server.start()
            self.servers.append(server)
            self.contenders.append(NoOutput(name, lambda out, uri=server.uri: [["nbdcopy", uri, "null:"]], None))

    def stop(self):
        for server in getattr(self, "servers", []):
            server.stop()
