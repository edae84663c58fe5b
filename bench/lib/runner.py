# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Runs the contenders of a contest alternately and gathers samples. The caches are in the same state for each."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import disks
import quiet

STOPWATCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stopwatch.py")
INSTALL = "tests/lab/install-packages build test bench"


def time_steps(steps, detail=False, timeout=900):
    spec = json.dumps({"steps": steps, "detail": detail, "timeout": timeout})
    run = subprocess.run(["/usr/bin/python3", STOPWATCH], input=spec, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def last_json(text):
    """The JSON object that a program ended its stdout with: the whole of it or its last line; or None."""
    for part in (text, text.strip().rpartition("\n")[2]):
        try:
            found = json.loads(part)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


# qemu-img measures its key stretching by the CPU clock, and now and then gives up because that has not moved: no fault of the
# contender, which runs again.
QEMU_WHIM = "Unable to get accurate CPU usage"
TRIES = 5


class Result:
    """What one contender came to. `reason` is set when it is n/a."""

    def __init__(self, name):
        self.name = name
        self.samples = []
        self.reason = None

    def as_dict(self):
        return {"name": self.name, "samples": self.samples, "reason": self.reason}


def settle(contest, patience):
    """The same state for everybody: nothing dirty, the source in the page cache, nobody else at work if that can be had."""
    os.sync()
    for path in contest.warm:
        disks.warm(path)
    return quiet.wait(patience)


def sample_of(contender, figures):
    report = last_json(figures.pop("stdout")) or {}
    if contender.self_timed and "seconds" in report:
        figures["process_seconds"], figures["seconds"] = figures["seconds"], report["seconds"]
    elif report:
        figures["report"] = report
    return figures


def run_once(contest, contender, folder, patience):
    """One measured run: (sample, None) or (None, reason)."""
    busy = settle(contest, patience)
    place = tempfile.mkdtemp(prefix="run.", dir=folder)
    try:
        extra = contender.before(place)
        try:
            figures = time_steps(contender.steps(place), contest.detail)
        finally:
            extra.update(contender.after(place))
        if figures["status"] != 0:
            return None, f"exit {figures['status']}: {figures['stderr'].strip()[-300:]}"
        wrong = contender.check(place)
        if wrong:
            return None, "content differs: " + wrong
        return {**sample_of(contender, figures), **extra, "output_bytes": contender.output_bytes(place), "others_before": busy}, None
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.sync()


def say(text):
    print(text, file=sys.stderr, flush=True)


def run_round(contest, results, number, folder, patience, counts, slow_runs):
    """Everybody once, the slow ones in the first rounds only; who begins changes from round to round."""
    names = list(results)
    for name in names[number % len(names):] + names[:number % len(names)]:
        result, contender = results[name]
        if result.reason or contender.slow and (not counts or number >= slow_runs):
            continue
        for _ in range(TRIES):
            sample, result.reason = run_once(contest, contender, folder, patience)
            if QEMU_WHIM not in (result.reason or ""):
                break
        if sample and counts:
            result.samples.append(sample)
            say(f"  {contest.name}: {name}: {sample['seconds']:.3f} s")
        if result.reason:
            say(f"  {contest.name}: {name}: n/a: {result.reason}")


def told_absent(program):
    """Why a contender does not run, or None. A path is of the build under test, which no package brings."""
    if program is None:
        return None
    return f"{program} is absent" + ("" if "/" in program else f": {INSTALL}")


def run_contest(contest, runs, folder, patience=0, slow_runs=2):
    """{contender's name: Result} of `runs` rounds, after one that does not count where caches matter."""
    say(f"{contest.name}: {contest.title}")
    results = {c.name: (Result(c.name), c) for c in contest.contenders}
    for result, contender in results.values():
        result.reason = told_absent(contender.missing())
    for _ in range(contest.warm_rounds):
        run_round(contest, results, 0, folder, 0, False, slow_runs)
    for number in range(contest.runs or runs):
        run_round(contest, results, number, folder, patience, True, slow_runs)
    return {name: result for name, (result, _) in results.items()}
