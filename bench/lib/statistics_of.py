# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and ratios of samples. Pure."""
import statistics


def values(result, measure):
    """What each run of a contender came to; None where it was not measured."""
    return [measure(sample) for sample in result.samples] if result is not None else []


def median(numbers):
    return statistics.median(numbers) if numbers else None


def spread(numbers):
    """(smallest, largest), or None."""
    return (min(numbers), max(numbers)) if numbers else None


def ratios(ours, theirs):
    """Round by round: the two ran next to each other under the same load."""
    return [a / b for a, b in zip(ours, theirs) if b]


def seconds(sample):
    return sample["seconds"]


def cpu_seconds(sample):
    return sample["user"] + sample["system"]


def figure(name):
    """The measure that takes this figure of a sample."""
    return lambda sample: sample[name]


def with_job(sample):
    """Wall time with the pull job's begin and end, which others leave to their caller."""
    return sample["seconds"] + sample.get("job_begin_seconds", 0) + sample.get("job_end_seconds", 0)


def peak_memory(sample):
    """PSS, which counts a page that two processes share once; RSS where that was not sampled."""
    return sample["peak_pss"] or sample["peak_rss"]
