#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""called_nas.py FOLDER PLACE [-o OPTIONS]: the file system of hung_nas.py for a call that mounts its storage itself.

A helper of mount(8), through mount.fuse: `mount -t fuse 'called_nas.py#FOLDER' PLACE`. Serves FOLDER/backing from a process of its own, as
the helpers of real FUSE file systems do. FOLDER/hold makes the helper wait before it mounts; FOLDER/plan says where it hangs; FOLDER/warning
is what it says on both its outputs.
"""
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import hung_nas

PROGRAM = Path(__file__).resolve()


class Server(hung_nas.Server):
    def __init__(self, folder, device):
        operation, count = (folder / "plan").read_text().split(" ")
        super().__init__(folder / "backing", device, operation, int(count))
        self.folder = folder

    def announce(self):
        (self.folder / "hung").touch()


class CalledNas:
    """For a test: a NAS of which nothing runs before a call mounts it."""

    def __init__(self, folder, operation="-", count=1):
        self.folder = Path(folder)
        self.backing = self.folder / "backing"
        self.backing.mkdir(parents=True)
        self.plan(operation, count)

    def plan(self, operation, count=1):
        (self.folder / "plan").write_text(f"{operation} {count}")

    def store(self):
        return ["-t", "fuse", "-s", f"{PROGRAM}#{self.folder}", "-m", ""]

    def hold(self):
        (self.folder / "hold").touch()

    def let_go(self):
        (self.folder / "hold").unlink()

    def warn(self, text):
        (self.folder / "warning").write_text(text)

    def is_asked(self):
        return (self.folder / "asked").exists()

    def is_hung(self):
        return (self.folder / "hung").exists()

    def servers(self):
        """Those that still live."""
        return [pid for pid in map(int, (path.name for path in self.folder.glob("[0-9]*"))) if Path(f"/proc/{pid}/stat").exists()
                and ") Z " not in Path(f"/proc/{pid}/stat").read_text()]

    def end(self):
        """Frees whoever hangs in it."""
        for pid in self.servers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main():
    folder, place = Path(sys.argv[1]), sys.argv[2]
    (folder / str(os.getpid())).touch()
    (folder / "asked").touch()
    while (folder / "hold").exists():
        time.sleep(0.02)
    if (folder / "warning").exists():
        for out in (sys.stdout, sys.stderr):
            print((folder / "warning").read_text(), file=out, flush=True)
    device = hung_nas.mount(place)
    child = os.fork()
    if child:
        (folder / str(child)).touch()
        os._exit(0)
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    Server(folder, device).serve()


if __name__ == "__main__":
    main()
