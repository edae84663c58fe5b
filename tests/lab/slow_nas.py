# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""slow_nas.py BACKING PLACE BYTES_PER_SECOND: a file system that is slow, and not gone.

A FUSE server as hung_nas.py is. The kernel keeps what is written and writes it back later (FUSE_WRITEBACK_CACHE), as it does for NFS.
"""
import struct
import sys
import time
from pathlib import Path

import hung_nas

WRITEBACK_CACHE = 1 << 16


class Server(hung_nas.Server):
    def __init__(self, backing, device, speed):
        super().__init__(backing, device, hang_at="", count=0)
        self.speed = speed

    def init(self, node, body):
        answer = bytearray(super().init(node, body))
        flags = struct.unpack_from("<I", answer, 12)[0]
        struct.pack_into("<I", answer, 12, flags | WRITEBACK_CACHE)
        return bytes(answer)

    def write(self, node, body):
        answer = super().write(node, body)
        time.sleep(struct.unpack("<II", answer)[0] / self.speed)
        return answer

    HANDLERS = {**hung_nas.Server.HANDLERS, 16: write, 26: init}


class SlowNas(hung_nas.ServedNas):
    def __init__(self, backing, place, speed):
        super().__init__(__file__, backing, place, speed)


if __name__ == "__main__":
    fuse = hung_nas.mount(sys.argv[2])
    print("ready", flush=True)
    Server(Path(sys.argv[1]), fuse, int(sys.argv[3])).serve()
