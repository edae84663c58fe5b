# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The last step of ./quickstart, inside a lab: boots the guest, backs it up live, asks the judges, prints a table."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import judge  # noqa: E402
from domain import MIB, Disk, Domain, make_image  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
NASBACKUP = ROOT / "build" / "tools" / "nasbackup"
SIZE = 2048 * MIB


def say(text):
    print(f"-- {text}", flush=True)


def boot(folder):
    """The guest with a raw and a qcow2 disk, real files on both."""
    say("booting a Debian kernel with two ext4 disks (no KVM: about five seconds)")
    began = time.monotonic()
    disks = [Disk("vda", make_image(folder / "vda.raw", SIZE, tree="/usr/bin")),
             Disk("vdb", make_image(folder / "vdb.qcow2", SIZE, "qcow2", tree="/usr/lib/python3"), "qcow2")]
    guest = Domain("quickstart", disks, os_inside=True).start()
    say(f"its agent answers after {time.monotonic() - began:.1f} s: {guest.shell('uname -sr').strip()}")
    return guest


def write_files(guest):
    """Some files that are there before the backup, and a writer that does not stop for it."""
    say("writing files inside the guest")
    guest.shell("for i in 1 2 3 4; do dd if=/dev/urandom of=/mnt/vda/file$i bs=1M count=8; done 2>&1; "
                "cp -r /mnt/vda/file1 /mnt/vdb/; sync", seconds=120)
    say("and letting it go on writing, also while it is backed up")
    guest.shell_start("i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); "
                      "dd if=/dev/urandom of=/mnt/vda/during$((i%8)) bs=256k count=4; "
                      "echo $i > /mnt/vdb/counter; sync; done 2>/dev/null")


def back_up(folder):
    """The backup; nbdcopy reads the same export while the job is open. Returns the command's report."""
    words = [str(NASBACKUP), "backup", "quickstart", "--to", str(folder / "nas"), "--quiesce", "--progress=tty", "--json",
             "--exec-in-job", judge.copy_exports_command(folder / "nbdcopy")]
    say("nasbackup " + " ".join(words[1:]))
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(done.stdout)
        sys.exit(f"nasbackup: exit status {done.returncode}")
    return json.loads(done.stdout)


def judged(report, folder):
    """One row for each disk; a judge that disagrees ends the program with what it said."""
    for disk in report["disks"]:
        image, copy = Path(disk["image"]), folder / "nbdcopy" / f"{disk['name']}.raw"
        say(f"qemu-img check {image.name}; qemu-img compare with what nbdcopy read")
        judge.check(image)
        judge.same(image, copy)
        seconds = disk["seconds"] or report["seconds"]
        yield (disk["name"], f"{disk['virtual_size'] // MIB}", f"{disk['data_bytes'] / MIB:.1f}",
               f"{disk['stored_bytes'] / MIB:.1f}", f"{seconds:.2f}", f"{disk['data_bytes'] / MIB / max(seconds, 0.001):.0f}",
               "no errors", "identical")


def print_table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  " + "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in
                               enumerate(zip(row, widths))))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def main():
    folder = Path(os.environ["TMPDIR"])
    for name in ("nas", "nbdcopy"):
        (folder / name).mkdir()
    guest = boot(folder)
    try:
        write_files(guest)
        report = back_up(folder)
        count = guest.shell("cat /mnt/vdb/counter").strip()
        guest.shell("touch /tmp/stop")
        rows = [("disk", "MiB", "data MiB", "stored MiB", "seconds", "MiB/s", "qemu-img check", "compare with nbdcopy"),
                *judged(report, folder)]
        left = guest.leftovers() + guest.io_errors()
    finally:
        guest.remove()
    if left:
        sys.exit(f"left over in the guest: {', '.join(left)}")
    print(f"\nBacked up live into {Path(report['set']).relative_to(folder)}:\n")
    print_table(rows)
    print("\n  (nbdcopy read the same disks at the same time, which takes its share of the speed.)")
    print(f"  The guest was frozen for {report.get('frozen_seconds', 0) * 1000:.0f} ms, wrote {count} rounds of files meanwhile,"
          f" and runs without an I/O error.")
    for warning in report.get("warnings", []):
        print(f"  warning: {warning}")
    print("  Everything that was started or made for this is gone again; build/tools/nasbackup is yours.")


try:
    main()
except (AssertionError, RuntimeError, TimeoutError, OSError, KeyError, subprocess.CalledProcessError) as error:
    sys.exit(f"quickstart: {error.__class__.__name__}: {error}")
