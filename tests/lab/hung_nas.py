# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""hung_nas.py BACKING PLACE OPERATION COUNT: a file system that hangs like a NAS that is gone.

A FUSE server without libfuse (the kernel's protocol, linux/fuse.h): serves the folder BACKING at PLACE, until the
OPERATION (a name of HANDLERS, e.g. write, fsync, mkdir, rename) comes for the COUNTth time, or SIGUSR1. That request and
everything after it is read and never answered: the callers sleep in the kernel, and no signal wakes them, SIGKILL
neither. They come back (ENOTCONN) when this process ends. Prints "ready" when mounted, and "hung OPERATION" then.
"""
import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

IN_HEADER = struct.Struct("<IIQQIIII")  # len, opcode, unique, nodeid, uid, gid, pid, padding
MAX_WRITE = 128 * 1024
NO_ANSWER = object()


class Server:
    """Serves one mount, one request at a time."""

    def __init__(self, backing, device, hang_at, count):
        self.device, self.hang_at, self.left, self.hung = device, hang_at, count, False
        self.paths = {1: str(backing)}  # node id -> path; ids are never used twice
        self.nodes = {str(backing): 1}
        self.next_node = 2
        self.answers = {}

    # ---- nodes and attributes ---------------------------------------------------------------------------------------

    def child(self, node, name):
        return os.path.join(self.paths[node], os.fsdecode(name))

    def node_of(self, path):
        if path not in self.nodes:
            self.nodes[path] = self.next_node
            self.paths[self.next_node] = path
            self.next_node += 1
        return self.nodes[path]

    def moved(self, old, new):
        """After a rename the nodes below `old` lie below `new`; None: they are gone."""
        for path in [p for p in self.nodes if p == old or p.startswith(old + "/")]:
            node = self.nodes.pop(path)
            if new is not None:
                self.paths[node] = new + path[len(old):]
                self.nodes[self.paths[node]] = node

    @staticmethod
    def attributes(about):
        return struct.pack("<QQQQQQIIIIIIIIII", about.st_ino, about.st_size, about.st_blocks, int(about.st_atime),
                           int(about.st_mtime), int(about.st_ctime), 0, 0, 0, about.st_mode, about.st_nlink,
                           about.st_uid, about.st_gid, 0, 4096, 0)

    def entry(self, path):
        about = os.lstat(path)
        return struct.pack("<QQQQII", self.node_of(path), 0, 0, 0, 0, 0) + self.attributes(about)

    # ---- operations: (node, body) -> bytes of the answer, or OSError ------------------------------------------------------

    def init(self, node, body):
        major, minor, readahead, flags = struct.unpack_from("<IIII", body)
        big_writes = 1 << 5
        return struct.pack("<IIIIHHIIHH28x", 7, min(minor, 31), readahead, flags & big_writes, 16, 12, MAX_WRITE, 1, 32, 0)

    def lookup(self, node, body):
        return self.entry(self.child(node, body.rstrip(b"\0")))

    def forget(self, node, body):
        return NO_ANSWER

    def getattr(self, node, body):
        return struct.pack("<QII", 0, 0, 0) + self.attributes(os.lstat(self.paths[node]))

    def setattr(self, node, body):
        valid, _, _, size = struct.unpack_from("<IIQQ", body)
        mode, _, uid, gid = struct.unpack_from("<IIII", body, 68)
        path = self.paths[node]
        if valid & 1:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & 6:
            os.chown(path, uid if valid & 2 else -1, gid if valid & 4 else -1)
        if valid & 8:
            os.truncate(path, size)
        return self.getattr(node, body)

    def mkdir(self, node, body):
        mode, _ = struct.unpack_from("<II", body)
        path = self.child(node, body[8:].rstrip(b"\0"))
        os.mkdir(path, mode)
        return self.entry(path)

    def unlink(self, node, body):
        path = self.child(node, body.rstrip(b"\0"))
        os.unlink(path)
        self.moved(path, None)
        return b""

    def rmdir(self, node, body):
        path = self.child(node, body.rstrip(b"\0"))
        os.rmdir(path)
        self.moved(path, None)
        return b""

    def rename_names(self, node, new_node, names):
        old, new = names.rstrip(b"\0").split(b"\0")
        old, new = self.child(node, old), self.child(new_node, new)
        os.rename(old, new)
        self.moved(new, None)
        self.moved(old, new)
        return b""

    def rename(self, node, body):
        return self.rename_names(node, struct.unpack_from("<Q", body)[0], body[8:])

    def rename2(self, node, body):
        new_node, flags, _ = struct.unpack_from("<QII", body)
        if flags:
            raise OSError(errno.EINVAL, "as NFS")
        return self.rename_names(node, new_node, body[16:])

    def open(self, node, body):
        flags = struct.unpack_from("<I", body)[0] & ~(os.O_CREAT | os.O_EXCL | os.O_NOCTTY)
        return struct.pack("<QII", os.open(self.paths[node], flags), 0, 0)

    def create(self, node, body):
        flags, mode, _, _ = struct.unpack_from("<IIII", body)
        path = self.child(node, body[16:].rstrip(b"\0"))
        handle = os.open(path, flags & ~os.O_NOFOLLOW, mode)
        return self.entry(path) + struct.pack("<QII", handle, 0, 0)

    def read(self, node, body):
        handle, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(handle, size, offset)

    def write(self, node, body):
        handle, offset, size = struct.unpack_from("<QQI", body)
        return struct.pack("<II", os.pwrite(handle, body[40:40 + size], offset), 0)

    def statfs(self, node, body):
        about = os.statvfs(self.paths[node])
        return struct.pack("<QQQQQIIII24x", about.f_blocks, about.f_bfree, about.f_bavail, about.f_files, about.f_ffree,
                           about.f_bsize, about.f_namemax, about.f_frsize, 0)

    def release(self, node, body):
        os.close(struct.unpack_from("<Q", body)[0])
        return b""

    def flush(self, node, body):
        return b""

    def fsync(self, node, body):
        os.fsync(struct.unpack_from("<Q", body)[0])
        return b""

    def opendir(self, node, body):
        return struct.pack("<QII", 0, 0, 0)

    def readdir(self, node, body):
        _, offset, size = struct.unpack_from("<QQI", body)
        out = b""
        for number, name in enumerate([".", "..", *sorted(os.listdir(self.paths[node]))], 1):
            if number <= offset:
                continue
            raw = os.fsencode(name)
            record = struct.pack("<QQII", number, number, len(raw), 0) + raw
            record += bytes(-len(record) % 8)
            if len(out) + len(record) > size:
                break
            out += record
        return out

    HANDLERS = {1: lookup, 2: forget, 3: getattr, 4: setattr, 9: mkdir, 10: unlink, 11: rmdir, 12: rename, 14: open,
                15: read, 16: write, 17: statfs, 18: release, 20: fsync, 25: flush, 26: init, 27: opendir, 28: readdir,
                29: flush, 30: flush, 35: create, 36: forget, 42: forget, 45: rename2}

    # ---- the loop -------------------------------------------------------------------------------------------------------

    def hangs(self, handler):
        """Whether this request is the one to hang at, or comes after it."""
        if not self.hung and handler is not None and handler.__name__ == self.hang_at:
            self.left -= 1
            if self.left <= 0:
                self.hang()
        return self.hung

    def hang(self, *_):
        self.hung = True
        self.announce()

    def announce(self):
        print(f"hung {self.hang_at}", flush=True)

    def serve(self):
        signal.signal(signal.SIGUSR1, self.hang)
        while True:
            try:
                request = os.read(self.device, MAX_WRITE + 8192)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue
                raise
            length, opcode, unique, node, _, _, _, _ = IN_HEADER.unpack_from(request)
            handler = self.HANDLERS.get(opcode)
            if not self.hangs(handler):
                self.answer(handler, unique, node, request[IN_HEADER.size:length])

    def answer(self, handler, unique, node, body):
        error, out = 0, b""
        try:
            out = handler(self, node, body) if handler else b""
            error = 0 if handler else errno.ENOSYS
        except OSError as failure:
            error = failure.errno
        if out is NO_ANSWER:
            return
        out = b"" if error else out
        os.write(self.device, struct.pack("<IiQ", 16 + len(out), -error, unique) + out)


def mount(place):
    """Mounts a FUSE file system and returns the descriptor on which its requests come."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hung-nas", os.fsencode(place), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {place}: {os.strerror(ctypes.get_errno())}")
    return device


class ServedNas:
    """For a test: such a server as a process. end() frees whoever hangs in it, and unmounts; it may be called again."""

    def __init__(self, program, backing, place, *words):
        self.backing, self.place = Path(backing), Path(place)
        self.place.mkdir(exist_ok=True)
        self.process = subprocess.Popen(["/usr/bin/python3", program, *map(str, (backing, place, *words))], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{program} does not start")

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        subprocess.run(["umount", "-l", str(self.place)], stderr=subprocess.DEVNULL)


class HungNas(ServedNas):
    def __init__(self, folder, operation, count=1):
        backing = Path(folder) / "hung-backing"
        backing.mkdir()
        super().__init__(__file__, backing, Path(folder) / "hung-nas", operation, count)

    def wait_until_hung(self):
        """Returns the time (monotonic) at which it has stopped answering; raises when that never comes."""
        line = self.process.stdout.readline()
        if not line.startswith("hung"):
            raise RuntimeError("hung_nas.py ended before it hung")
        return time.monotonic()

    def hang(self):
        self.process.send_signal(signal.SIGUSR1)
        return self.wait_until_hung()


if __name__ == "__main__":
    fuse = mount(sys.argv[2])
    print("ready", flush=True)
    Server(Path(sys.argv[1]), fuse, sys.argv[3], int(sys.argv[4])).serve()
