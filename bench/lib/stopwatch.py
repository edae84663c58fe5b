#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Runs commands one after the other and measures them together: wall time, CPU of everything they started, peak memory.

A process of its own for each measurement, so that RUSAGE_CHILDREN holds this measurement and nothing else; as a
subreaper it also inherits, and counts, what a command leaves behind. Specification on stdin and result on stdout, both
JSON. With "detail" memory is sampled densely as PSS too: that walks page tables and costs time, so timed runs go
without. The CPU time of servers, of libvirtd and of the kernel's writeback threads is nobody's child and not counted.
"""
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
PAGE = os.sysconf("SC_PAGE_SIZE")
TAIL = 2000


def parents():
    """Parent of each process that we can see."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                found[int(name)] = int(stat.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError):
            pass  # it ended while we looked
    return found


def descendants(ancestor):
    parent_of = parents()
    family = {ancestor}
    while True:
        more = {pid for pid, parent in parent_of.items() if parent in family} - family
        if not more:
            return family - {ancestor}
        family |= more


def resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def proportional(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class MemorySampler(threading.Thread):
    """Looks at the whole process tree again and again; `stop` ends it."""

    def __init__(self, detail):
        super().__init__(daemon=True)
        self.detail = detail
        self.period = 0.005 if detail else 0.1
        self.peak_rss = self.peak_pss = self.processes = 0
        self.done = threading.Event()

    def look(self):
        pids = descendants(os.getpid())
        self.processes = max(self.processes, len(pids))
        self.peak_rss = max(self.peak_rss, sum(resident(pid) for pid in pids))
        if self.detail:
            self.peak_pss = max(self.peak_pss, sum(proportional(pid) for pid in pids))

    def run(self):
        while not self.done.wait(self.period):
            self.look()

    def stop(self):
        self.done.set()
        self.join()


def end_leftovers(patience=5.0):
    """Reaps what the commands left behind, so that it is counted; what does not end is killed."""
    until = time.monotonic() + patience
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > until:
                for left in descendants(os.getpid()):
                    os.kill(left, signal.SIGKILL)
            time.sleep(0.01)


def run_step(argv, timeout, out, err):
    """The exit status. Waits without polling: Popen.wait(timeout=…) looks every 50 ms only, which would be in the figures."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    watchdog = threading.Timer(timeout, child.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        return child.wait()
    finally:
        watchdog.cancel()


def run_steps(steps, timeout, out, err):
    """The first exit status that is not 0, or 0."""
    until = time.monotonic() + timeout
    for argv in steps:
        status = run_step(argv, max(0.1, until - time.monotonic()), out, err)
        if time.monotonic() > until:
            return "timed out"
        if status != 0:
            return status
    return 0


def measure(spec):
    sampler = MemorySampler(spec.get("detail", False))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sampler.start()
        started = time.monotonic()
        status = run_steps(spec["steps"], spec.get("timeout", 900), out, err)
        seconds = time.monotonic() - started
        sampler.stop()
        end_leftovers()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return {"status": status, "seconds": seconds, "user": usage.ru_utime, "system": usage.ru_stime,
            "major_faults": usage.ru_majflt, "minor_faults": usage.ru_minflt,
            "peak_rss": sampler.peak_rss, "peak_pss": sampler.peak_pss, "processes": sampler.processes,
            "stdout": texts[0], "stderr": texts[1][-TAIL:]}


def main():
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    json.dump(measure(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
