#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""push_backup.py DOMAIN OUTPUT: a libvirt push backup, awaited by its event, the output flushed.

Prints {"seconds": …}: from before the connection to the end of fsync, without the start of the interpreter (a rival in
another language would not have it).
"""
import json
import os
import sys
import time

import job


def flush(path):
    for name in (path, os.path.dirname(path)):
        descriptor = os.open(name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def main():
    name, output = sys.argv[1:]
    started = time.monotonic()
    job.run_event_loop()
    push = job.BackupJob(name)
    push.begin(job.PUSH.format(output=output))
    if not push.wait():
        sys.exit("the push backup failed")
    flush(output)
    print(json.dumps({"seconds": time.monotonic() - started}))
    sys.stdout.flush()
    os._exit(0)  # the event loop's thread never ends


if __name__ == "__main__":
    main()
