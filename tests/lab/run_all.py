# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Runs every test of the project and counts single cases: the second half of ./runtests, which builds.

Unit tests and tests/hostile run in the sanitizers' build; tests/house, tests/cli and tests/vm in the release. Each
test_*.py or test_*.sh is a program of its own: a file of Python tests counts by its cases, a shell script as one
(exit status 77: skipped). A program that ends otherwise than by its own report counts as a failure.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM_SECONDS = 900
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


class Tally:
    """Passed, failed, skipped; and the lines that the end of the run repeats."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures, self.skips = [], []

    def add(self, name, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        print(f"   {passed} passed, {failed} failed, {skipped} skipped", flush=True)
        if failed:
            self.failures.append(f"{name}: {failed} failed")

    def report(self):
        for line in self.skips:
            print(f"skipped: {line}")
        for line in self.failures:
            print(f"FAILED: {line}")
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed or not self.passed else 0


def say(text):
    print(f"\n== {text}", flush=True)


def run_meson(tally, build, extra):
    """The C++ tests of one build, from meson's JUnit report: it holds every gtest case."""
    say(f"unit tests in {build}")
    report = ROOT / build / "meson-logs" / "testlog.junit.xml"
    report.unlink(missing_ok=True)
    done = subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", "--timeout-multiplier", "5"], cwd=ROOT, env=dict(os.environ, **extra), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    tally.skips += [f"{case.get('classname')}.{case.get('name')}: {skip_reason(case)}" for case in skipped]
    failed = max(len(bad), 1 if done.returncode != 0 or not cases else 0)
    if failed:
        print(done.stdout)
    tally.add(f"unit tests in {build}", len(cases) - len(bad) - len(skipped), failed, len(skipped))


def skip_reason(case):
    element = case.find("skipped")
    return (element.get("message") or element.text or "no reason given").strip()


def count_unittest(status, text):
    """(passed, failed, skipped) as Python's unittest reports at its end; None when the report is not there."""
    ran = re.findall(r"^Ran (\d+) tests? in", text, re.M)
    ended = re.findall(r"^(OK|FAILED)(?: \((.*)\))?$", text, re.M)
    if not ran or not ended:
        return None
    numbers = dict(re.findall(r"([a-z ]+)=(\d+)", ended[-1][1] or ""))
    numbers = {key.strip(): int(value) for key, value in numbers.items()}
    failed = sum(numbers.get(key, 0) for key in ("failures", "errors", "unexpected successes"))
    skipped = numbers.get("skipped", 0)
    if status != 0 and failed == 0:
        return None
    # An error outside of a case (setUpClass) adds to the errors and not to the cases that ran.
    return max(int(ran[-1]) - failed - skipped, 0), failed, skipped


def count_script(status):
    return (1, 0, 0) if status == 0 else (0, 0, 1) if status == 77 else (0, 1, 0)


def run(command, env):
    """Runs a program; returns its status (None: it took too long) and its output."""
    program = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")
    lines = []

    reader = threading.Thread(target=lambda: lines.extend(program.stdout), daemon=True)
    reader.start()
    try:
        status = program.wait(PROGRAM_SECONDS)
    except subprocess.TimeoutExpired:
        program.terminate()  # tests/lab/enter takes everything it started with it
        program.wait()
        status = None
    reader.join(10)  # not for ever: something left behind may hold the pipe
    return status, "".join(lines)


def run_program(path, env):
    start = time.monotonic()
    status, text = run(["/usr/bin/python3", str(path), "-v"] if path.suffix == ".py" else ["bash", str(path)], env)
    return path, status, text, time.monotonic() - start


def run_programs(tally, paths, env, at_once):
    """Each is told of when it has ended."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run_program, path, env) for path in paths]):
            tell(tally, *done.result())


def tell(tally, path, status, text, seconds):
    name = str(path.relative_to(ROOT))
    is_python = path.suffix == ".py"
    say(name)
    print("".join("   " + line + "\n" for line in text.splitlines()), end="")
    counts = None if status is None else count_unittest(status, text) if is_python else count_script(status)
    if counts is None:
        print(f"   {name}: " + (f"not done after {PROGRAM_SECONDS} s" if status is None else f"ended with status {status}"
                               " and no report of its own"))
        counts = (0, 1, 0)
    skipped = re.findall(r"^ *(\S+).* \.\.\. skipped ['\"](.*)['\"]$", text, re.M)
    tally.skips += [f"{name}: {case}: {reason}" for case, reason in skipped]
    print(f"   {seconds:.0f} s", end=": ")
    tally.add(name, *counts)


def programs(folder):
    return sorted(path for path in (ROOT / "tests" / folder).glob("test_*") if path.suffix in (".py", ".sh"))


def main():
    quick = "--quick" in sys.argv
    tally = Tally()
    run_meson(tally, "build-asan", SANITIZERS)
    # Tests with a VM have a lab of their own each, and mostly wait.
    for folder, build, extra, at_once in (("house", "build", {}, 1), ("cli", "build", {}, 1), ("hostile", "build-asan", SANITIZERS, 1),
                                          ("vm", "build", {}, 2)):
        if folder == "vm" and quick:
            say("tests/vm: left out (--quick)")
            continue
        env = dict(os.environ, NASBACKUP=str(ROOT / build / "tools" / "nasbackup"), PYTHONUNBUFFERED="1", **extra)
        run_programs(tally, programs(folder), env, at_once)
    say("result")
    sys.exit(tally.report())


main()
