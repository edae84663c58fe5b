# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The goals of the benchmark and what they came to. A goal is met, not met, or n/a when anyone it needs is n/a."""
import statistics_of as stats
from contests import OURS, SMALL_MEMORY
from goal import Goal, against, alone, mebibytes
import call_contest as call
import increment_contest as increments
import limit_contest
import merge_contest as merges
import transform_goals
import trust_goals

QEMU = "qemu-img convert + sync"
QEMU_RAW = "qemu-img convert -W -m 16 + sync"
EXPORT_QEMU = "qemu-img convert from the export + sync"
EXPORT_NBDCOPY = "nbdcopy --flush from the export to raw"


def memory_goals():
    for contest, tails, what in (("Memory", (" from NBD", " from the raw file"), "realistic disk"),
                                 ("MemoryEmpty", ("",), "empty 16 TiB"), ("VmMemory", ("",), "VM")):
        for tail in tails:
            yield alone("memory", contest, OURS + tail, 256, "MiB", f"peak memory, {what}{tail}", mebibytes)
            yield alone("memory", contest, SMALL_MEMORY + tail, 64, "MiB", f"peak with --memory 64M, {what}{tail}", mebibytes)


def cpu_goals():
    for contest, name in (("NbdkitMemory", "nbdkit memory"), ("NbdkitFile", "nbdkit file")):
        yield against("cpu", contest, QEMU, 1.0, f"CPU seconds against qemu-img, {name}", measure=stats.cpu_seconds, strictly=True)
    yield against("cpu", "RawFile", QEMU_RAW, 1.3, "CPU seconds against qemu-img, raw file", measure=stats.cpu_seconds)


def time_goals():
    yield against("libvirt", "Vm", "libvirt push backup, by its event, + fsync", 0.8, "VM: against a push backup")
    yield against("libvirt", "Vm", EXPORT_QEMU, 0.85, "VM: against qemu-img convert, job not counted for it")
    yield against("libvirt", "Vm", EXPORT_NBDCOPY, 0.9, "VM: against nbdcopy to raw, job not counted for it")
    yield against("libvirt", "Vm", "virtnbdbackup -l full + sync", 0.25, "VM: against virtnbdbackup")
    yield against("nbdkit", "NbdkitMemory", QEMU, 0.85, "nbdkit memory: against qemu-img convert")
    yield against("nbdkit", "NbdkitFile", QEMU, 0.85, "nbdkit file: against qemu-img convert")
    yield against("rbd", "RbdImage", QEMU, 0.6, "Ceph image: against qemu-img convert")
    yield against("raw", "RawFile", QEMU_RAW, 0.8, "raw file: against qemu-img convert")
    yield alone("empty", "EmptyFile", OURS, 2, "s", "empty disk, sparse file", stats.seconds)
    yield alone("empty", "EmptyNbd", OURS, 2, "s", "empty disk, nbdkit null", stats.seconds)
    yield alone("empty", "EmptyNbdMemory", OURS, 2, "s", "empty disk, nbdkit memory", stats.seconds)


def increment_goals():
    yield Goal("increment", "1 % changed: against our full backup, 1 s of fixed cost left out", "Increments", 0.12, ours=increments.SMALL,
               rival=increments.WHOLE, allowance=1)
    yield Goal("increment", "1 % changed: against our full backup, all of its time", "Increments", 1, ours=increments.SMALL, rival=increments.WHOLE)
    yield Goal("increment", "the same change on 8 TiB against 8 GiB", "Increments", 1.3, ours=increments.BIG, rival=increments.SMALL)
    yield Goal("increment", "1 % changed: against virtnbdbackup's increment", "Increments", 0.5, ours=increments.SMALL, rival=increments.RIVAL)
    yield Goal("merge", "a chain of four merged: against qemu-img convert", "Merge", 1, ours=merges.OURS, rival=merges.QEMU)
    yield Goal("merge", "a compressed chain of four merged: against qemu-img convert", "MergeCompressed", 0.2, ours=merges.OURS,
               rival=merges.QEMU_COMPRESSED)


def shape_goals():
    yield Goal("depth", "depth: faster than one request in flight", "Depth", 10, ours="nasbackup --connections 4",
               rival="one request in flight (nbdcopy to null:)", least=True)
    for contest, name in (("FragmentsFile", "raw file"), ("FragmentsNbd", "nbdkit file")):
        yield Goal("fragments", f"fragments against the full disk, {name}", contest, 2, ours="nasbackup, fragments",
                   rival="nasbackup, full")
    for tail in (" from NBD", " from the raw file"):
        yield alone("fragments", "FragmentsMemory", OURS + tail, 256, "MiB", f"peak memory, fragments{tail}", mebibytes)


def limit_goals():
    for contest, rate in (("Limit", limit_contest.USUAL), ("SlowLimit", limit_contest.SLOW)):
        ours = f"nasbackup --rate {rate}M"
        yield alone("limit", contest, ours, 1, "%", f"limit of {rate} MiB/s: mean over {limit_contest.SECONDS} s is off by", stats.figure("mean_off"))
        yield alone("limit", contest, ours, 1, "×", f"limit of {rate} MiB/s: busiest second, of 1.1 × limit + burst", stats.figure("busiest_second"))
    yield Goal("limit", "limit far above the speed: time against none", "FarLimit", 1.02, ours=limit_contest.FAR, rival=limit_contest.FREE)
    group = f"two members of a group, {limit_contest.USUAL} MiB/s"
    yield alone("limit", "GroupOfTwo", group, 3, "%", "two members of a group: their sum is off by", stats.figure("sum_off"))
    yield alone("limit", "GroupOfTwo", group, 3, "%", "one killed: a second later the other's rate is off by", stats.figure("takeover_off"))


def call_goals():
    for measure, limit, what in ((stats.seconds, 0.3, "its five-second poll included"), (call.without_poll, 0.9, "its poll taken off")):
        yield Goal("call", f"nasbackup.sh: against the script's way, {what}", "VmCall", limit, ours=call.OURS, rival=call.SCRIPT, measure=measure)
    yield Goal("call", "nasbackup.sh -c --verify: against the script's way", "VmCallCompress", 0.08, ours=call.OURS + " -c --verify",
               rival=call.SCRIPT + " -c --verify")


def all_goals():
    return [*time_goals(), *increment_goals(), *memory_goals(), *cpu_goals(), *shape_goals(), *limit_goals(), *call_goals(),
            *transform_goals.transform_goals(), *trust_goals.trust_goals()]


def numbers_of(goal, results):
    """(ours, rival's) samples in the goal's measure; None for one who is n/a or was not run."""
    found = []
    for name in filter(None, (goal.ours, goal.rival)):
        result = results.get(goal.contest, {}).get(name)
        usable = result is not None and result.reason is None and result.samples
        found.append(stats.values(result, goal.measure) if usable else None)
    return found


def judge(goal, results):
    """The goal with its value, per-round spread and verdict."""
    numbers = numbers_of(goal, results)
    verdict = {"row": goal.row, "goal": goal.text, "contest": goal.contest, "limit": goal.limit, "unit": goal.unit,
               "least": goal.least, "strictly": goal.strictly, "value": None, "spread": None, "verdict": "n/a"}
    if None in numbers:
        return verdict
    if goal.allowance:
        numbers[0] = [max(0, number - goal.allowance) for number in numbers[0]]
    if goal.rival:
        one, other = reversed(numbers) if goal.least else numbers
        value, rounds = stats.median(one) / stats.median(other), stats.ratios(one, other)
    else:
        # Memory is a bound for every run, not for the usual one.
        rounds = numbers[0]
        value = max(rounds) if goal.unit == "MiB" else stats.median(rounds)
    met = value >= goal.limit if goal.least else value < goal.limit if goal.strictly else value <= goal.limit
    return {**verdict, "value": value, "spread": stats.spread(rounds), "verdict": "met" if met else "not met"}
