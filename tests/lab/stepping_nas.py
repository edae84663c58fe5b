# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""stepping_nas.py BACKING PLACE OPERATION PATTERN COUNT WHEN WHAT: a file system that stops at one step of a run.

A FUSE server as hung_nas.py is. At the COUNTth OPERATION on a path below BACKING that the regular expression PATTERN finds (of a
rename: the new path) it prints "reached", and WHAT is done: `hang` (nothing is answered any more until this process ends) or the
number of an error, which is answered once. WHEN: `before`, nothing was carried out; `after`, it was, and only the answer is lost.
"""
import os
import re
import select
import struct
import sys
from pathlib import Path

import hung_nas


class Server(hung_nas.Server):
    def __init__(self, backing, device, operation, pattern, count, when, what):
        super().__init__(backing, device, hang_at="", count=0)
        self.operation, self.pattern, self.count, self.when, self.what = operation, re.compile(pattern), count, when, what

    def fsyncdir(self, node, body):
        return b""

    HANDLERS = {**hung_nas.Server.HANDLERS, 30: fsyncdir}

    def path_of(self, operation, node, body):
        """What an operation is about."""
        if operation == "rename":
            return self.child(struct.unpack_from("<Q", body)[0], body[8:].rstrip(b"\0").split(b"\0")[1])
        if operation == "rename2":
            return self.child(struct.unpack_from("<Q", body)[0], body[16:].rstrip(b"\0").split(b"\0")[1])
        skipped = {"mkdir": 8, "unlink": 0, "rmdir": 0, "create": 16}.get(operation)
        return self.paths[node] if skipped is None else self.child(node, body[skipped:].rstrip(b"\0"))

    def is_the_step(self, handler, node, body):
        name = handler.__name__ if handler else ""
        if self.count <= 0 or name.replace("rename2", "rename") != self.operation or node not in self.paths:
            return False
        if self.pattern.search(self.path_of(name, node, body)):
            self.count -= 1
            return self.count == 0
        return False

    def answer(self, handler, unique, node, body):
        if self.hung or not self.is_the_step(handler, node, body):
            if not self.hung:
                super().answer(handler, unique, node, body)
            return
        if self.when == "after":
            handler(self, node, body)
        print("reached", flush=True)
        if self.what == "hang":
            self.hung = True
        else:
            os.write(self.device, struct.pack("<IiQ", 16, -int(self.what), unique))


class SteppingNas(hung_nas.ServedNas):
    """The server of an existing folder."""

    def __init__(self, backing, place, operation, pattern, count, when, what):
        super().__init__(__file__, backing, place, operation, pattern, count, when, what)

    def reached(self, running, seconds=60):
        """Waits for the step; false when running() says no first."""
        for _ in range(seconds * 20):
            if select.select([self.process.stdout], [], [], 0.05)[0]:
                return self.process.stdout.readline() == "reached\n"
            if not running():
                return bool(select.select([self.process.stdout], [], [], 0)[0])
        raise TimeoutError("a run neither reached its step nor ended")


if __name__ == "__main__":
    fuse = hung_nas.mount(sys.argv[2])
    print("ready", flush=True)
    Server(Path(sys.argv[1]), fuse, sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6], sys.argv[7]).serve()
