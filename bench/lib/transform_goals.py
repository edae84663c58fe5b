# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The goals of compression, encryption and both."""
from functools import partial

import statistics_of as stats
import tune_contest
from goal import Goal, alone, mebibytes
from transform_contests import (Auto, AutoRandom, MemoryTransforms, QEMU_LUKS, QEMU_ZLIB, QEMU_ZLIB_THREADS, QEMU_ZSTD_THREADS, Scaling,
                                ours)

size = stats.figure("output_bytes")


def stretching(sample):
    return sample["report"]["cpu"]["stretch"]


def share_of_placing(sample):
    """In per cent of the run: host offsets are given in guest order, one at a time."""
    return 100 * sample["report"]["stages"]["place"] / sample["seconds"]


def compress_goals():
    faster, smaller = partial(Goal, "compress", least=True), partial(Goal, "compress", measure=size)
    for option, rival, times in (("-c", QEMU_ZLIB, 20), ("-c", QEMU_ZLIB_THREADS, 10), ("-c=zlib:best", QEMU_ZLIB_THREADS, 3),
                                 ("-c=zstd", QEMU_ZSTD_THREADS, 2.2)):
        yield faster(f"{option}: faster than {rival.replace(' + sync', '')}", "Compress", times, ours=ours(option), rival=rival)
    for option, rival, times in (("-c", QEMU_ZLIB, 1.10), ("-c=zlib:best", QEMU_ZLIB, 0.99), ("-c=zstd", QEMU_ZSTD_THREADS, 1.02)):
        yield smaller(f"{option}: file against qemu-img's", "Compress", times, ours=ours(option), rival=rival)


def encrypt_goals():
    weak, usual = ours("-e") + ", key stretching off", ours("-e")
    yield Goal("encrypt", "-e: faster than qemu-img convert with LUKS", "Encrypt", 8, ours=usual, rival=QEMU_LUKS, least=True)
    yield Goal("encrypt", "-e, key stretching off: against our plain run", "Encrypt", 1.4, ours=weak, rival=ours())
    yield alone("encrypt", "Encrypt", usual, 1.2, "s", "-e: key stretching, CPU seconds", stretching)
    yield Goal("both", "-c -e, key stretching off: against our -c", "Both", 1.25, ours=ours("-c", "-e") + ", key stretching off",
               rival=ours("-c"))
    yield Goal("live-compress", "VM, -c --verify: faster than the script's way", "VmCompress", 12, ours=ours("-c", "--verify"),
               rival="push backup, qemu-img convert -c, sync, qemu-img check", least=True)


def scaling_goals():
    yield Goal("scaling", "-c: two cores faster than one", "Scaling", 1.7, ours=Scaling.TWO, rival=Scaling.ONE, least=True)
    yield alone("scaling", "Scaling", Scaling.TWO, 15, "%", "-c: share of the one stage that is not parallel (place)", share_of_placing)
    yield Goal("auto", "auto at a quarter of the speed: file against zlib:fast's", "Auto", 0.97, ours=Auto.AUTO, rival=Auto.FAST, measure=size)
    yield Goal("auto", "auto at a quarter of the speed: time against zlib:fast", "Auto", 1.03, ours=Auto.AUTO, rival=Auto.FAST)
    yield Goal("auto", "auto on random data: CPU against a plain run", "AutoRandom", 1.25, ours=AutoRandom.AUTO, rival=AutoRandom.PLAIN,
               measure=stats.cpu_seconds)


def memory_goals():
    for options in MemoryTransforms.WORK:
        for bound, limit in ([], 256), (["--memory", "64M"], 64):
            name = ours(*options, *bound, "-e")
            yield alone("memory", "MemoryTransforms", name + ", key stretching off", limit, "MiB", f"peak memory, {name[len('nasbackup '):]}",
                        mebibytes)


def tune_goals():
    for contest, what in (("TuneNbd", "nbdkit file, -c, to nothing"), ("TuneRaw", "raw file, -c, to disk")):
        yield alone("tune", contest, tune_contest.NAME, 1.1, "×", f"tune: its advice against the best of a sweep, {what}", stats.figure("of_best"))
        yield alone("tune", contest, tune_contest.NAME, 0.5, "", f"tune: runs whose busiest stage was another than it named, {what}",
                    stats.figure("limit_wrong"))


def transform_goals():
    return [*compress_goals(), *encrypt_goals(), *scaling_goals(), *memory_goals(), *tune_goals()]
