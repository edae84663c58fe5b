# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""flipping_nas.py BACKING PLACE ENDING OFFSET: a file system like a NAS that keeps everything but one bit.

A FUSE server as hung_nas.py is, which never hangs: in files whose names end with ENDING the byte at OFFSET (from the end, when it
is negative) is read back with a bit flipped. What lies in BACKING is what was written.
"""
import os
import subprocess
import sys
from pathlib import Path

import hung_nas


class Server(hung_nas.Server):
    def __init__(self, backing, device, ending, offset):
        super().__init__(backing, device, hang_at="", count=0)
        self.ending, self.flip_at = ending, offset

    def read(self, node, body):
        _, offset, _ = hung_nas.struct.unpack_from("<QQI", body)
        data = bytearray(super().read(node, body))
        path = self.paths[node]
        at = self.flip_at if self.flip_at >= 0 else os.path.getsize(path) + self.flip_at
        if path.endswith(self.ending) and offset <= at < offset + len(data):
            data[at - offset] ^= 0x10
        return bytes(data)

    HANDLERS = {**hung_nas.Server.HANDLERS, 15: read}


class FlippingNas:
    """For a test: the server as a process."""

    def __init__(self, folder, ending, offset):
        self.backing, self.place = Path(folder) / "flipping-backing", Path(folder) / "flipping-nas"
        self.backing.mkdir()
        self.place.mkdir()
        self.process = subprocess.Popen(["/usr/bin/python3", __file__, str(self.backing), str(self.place), ending, str(offset)],
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("flipping_nas.py does not start")

    def end(self):
        subprocess.run(["umount", "-l", str(self.place)], stderr=subprocess.DEVNULL)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


if __name__ == "__main__":
    fuse = hung_nas.mount(sys.argv[2])
    print("ready", flush=True)
    Server(Path(sys.argv[1]), fuse, sys.argv[3], int(sys.argv[4])).serve()
