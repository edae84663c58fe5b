# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Under which conditions was measured: machine, kernel, file system, versions, load. Read-only."""
import os
import subprocess
import time

TOOLS = {
    "qemu-img": ["qemu-img", "--version"],
    "nbdcopy": ["nbdcopy", "--version"],
    "nbdkit": ["nbdkit", "--version"],
    "libvirtd": ["libvirtd", "--version"],
    "virtnbdbackup": ["virtnbdbackup", "-V"],
}


def first_line(argv):
    try:
        run = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "absent"
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[0] if run.returncode == 0 and lines else "absent"


def cpu_model():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return os.uname().machine


def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def file_system_of(path):
    """Type and mount options of the file system that holds `path`."""
    listing = first_line(["findmnt", "-n", "-o", "FSTYPE,OPTIONS,SOURCE", "-T", path])
    return " ".join(listing.split())


def commit_of(checkout):
    return first_line(["git", "-C", checkout, "describe", "--always", "--dirty"])


def gather(binary, checkout, folder):
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_bytes(),
        "kernel": os.uname().release,
        "target_file_system": file_system_of(folder),
        "load_before": os.getloadavg()[0],
        "cache": "source warm in the page cache; target a fresh file; dirty pages written back (sync) before each run",
        "versions": {"nasbackup": first_line([binary, "--version"]), "commit": commit_of(checkout),
                     **{name: first_line(argv) for name, argv in TOOLS.items()}},
    }


def describe(conditions):
    """The same as a few lines of Markdown."""
    versions = "; ".join(f"{name}: {text}" for name, text in conditions["versions"].items())
    return "\n".join([
        f"- {conditions['date']}, {conditions['cores']} cores of {conditions['cpu']}, "
        f"{conditions['memory_bytes'] / (1 << 30):.0f} GiB of memory, Linux {conditions['kernel']}",
        f"- target: {conditions['target_file_system']}",
        f"- disk: {conditions.get('disk', '')}",
        f"- cache: {conditions['cache']}",
        f"- runs: {conditions.get('runs', '?')} of each, alternately, after one that does not count; "
        f"load average {conditions['load_before']:.2f} before, {conditions.get('load_after', 0):.2f} after; "
        f"just before a run others used {(conditions.get('others') or 0) * 100:.0f} % of all cores (median)",
        f"- versions: {versions}",
    ])
