# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Runs qemu-img and qemu-io. They measure their key stretching by the processor's clock, and on a busy machine now and then give up
because that has not moved: no fault of anybody's, so they run again."""
import subprocess
import time

WHIM = "Unable to get accurate CPU usage"
TRIES = 100


def run(*words, cwd=None):
    """What it wrote to stdout; raises when it failed."""
    for _ in range(TRIES):
        done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
        if WHIM not in done.stderr:
            break
        time.sleep(0.02)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stderr}")
    return done.stdout
