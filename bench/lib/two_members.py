#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Two runs of one rate group; after some time the first is killed, a little later the second is ended. two_members.py JSON FILE:
writes to FILE when the first one died."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def begin(spec, uri, group):
    command = [spec["binary"], "convert", "--progress=none", "-b", spec["rate"], "--rate-group", group, uri, "null:"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def kill_all(process):
    """The supervisor and what it has started, at once."""
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, started)):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def main():
    spec = json.loads(sys.argv[1])
    group = f"bench-{os.getpid()}"
    members = [begin(spec, uri, group) for uri in spec["uris"]]
    time.sleep(spec["kill_after"])
    kill_all(members[0])
    killed = time.time()
    time.sleep(spec["watch_after"])
    members[1].terminate()
    members[1].wait()
    Path(sys.argv[2]).write_text(json.dumps({"killed": killed}))


if __name__ == "__main__":
    main()
