#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The limit on reading, as the server sees it: rate, schedule, group, SIGHUP, and the priority that goes with it. How exactly it is
kept is judged in bench/."""
import fcntl
import os
import pty
import subprocess
import sys
import termios
import time
import unittest

from cli import *

sys.path.insert(0, str(ROOT / "bench" / "lib"))
import reads  # noqa: E402

RUN_DIRECTORY = Path("/run/nasbackup")


class LimitTest(CliTest):
    def setUp(self):
        super().setUp()
        self.config = self.dir / "nasbackup.toml"
        self.group = f"test-{os.getpid()}-{id(self)}"

    def serve(self, name="server", size="1G"):
        """A server that writes down each read; returns its URI and its log."""
        socket, log = self.dir / f"{name}.sock", self.dir / f"{name}.log"
        server = subprocess.Popen(["nbdkit", "-f", "--exit-with-parent", "-U", socket, "--filter=log", "pattern", size, f"logfile={log}"])
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        wait_until("nbdkit listens", socket.exists)
        return f"nbd+unix:///?socket={socket}", log

    def begin_reading(self, *options, name="server", **more):
        """A run that reads without end; returns it and the log of its server once something was read."""
        uri, log = self.serve(name)
        process = self.begin("convert", uri, "null:", *options, **more)
        wait_until("it reads", lambda: process.poll() is not None or bool(reads.read_log(log)))
        self.assertIsNone(process.poll())
        return process, log

    def rate_of(self, *logs, seconds=1.5):
        """Bytes per second that are read now, together."""
        begin = time.time()
        time.sleep(seconds)
        return sum(reads.bytes_between(reads.read_log(log), begin, begin + seconds) for log in logs) / seconds

    def assert_rate(self, rate, *logs):
        measured = self.rate_of(*logs)
        self.assertGreater(measured, 0.6 * rate)
        self.assertLess(measured, 1.4 * rate)

    def configure(self, text):
        """Puts a whole new file in place of the old one."""
        new = self.dir / "new.toml"
        new.write_text(text)
        new.rename(self.config)

    def hang_up(self, process, says):
        """SIGHUP, and what is said about it."""
        process.send_signal(signal.SIGHUP)
        line = process.stderr.readline()
        self.assertRegex(line, says)
        return line

    def stop(self, process):
        process.terminate()
        return self.finish(process)


class TheRate(LimitTest):
    def test_is_what_the_server_sees(self):
        _, log = self.begin_reading("--rate", "8M")
        self.assert_rate(8 * MIB, log)

    def test_is_that_of_each_disk_where_that_is_asked_for(self):
        for options, rates in (((), (8 * MIB,)), (("--rate-per-disk",), (8 * MIB, 16 * MIB))):
            with self.subTest(options=options):
                (one, log), (two, other) = self.serve(f"a{len(options)}"), self.serve(f"b{len(options)}")
                process = self.begin("backup", "--disk", one, "--disk", two, "--name", "vm", "--to", "null:", "--rate", "8M", *options)
                wait_until("both are read", lambda: process.poll() is not None or (reads.read_log(log) and reads.read_log(other)))
                self.assert_rate(rates[-1], log, other)
                process.terminate()
                process.wait()
        self.assertEqual(self.run_command("convert", "x", "null:", "--rate-per-disk").returncode, USAGE)

    def test_that_is_slow_is_read_in_small_steps(self):
        _, log = self.begin_reading("--rate", "1M")
        self.assertLessEqual(max(length for _, length in reads.read_log(log)), 64 << 10)

    def test_is_that_of_the_hour(self):
        for schedule, rate in (("*=4M", 4 * MIB), ("00:00-12:00=400k,12:00-24:00=400k", 400 << 10)):
            with self.subTest(schedule=schedule):
                _, log = self.begin_reading("--rate-schedule", schedule, name=schedule[0] + "s")
                self.assert_rate(rate, log)

    def test_holds_for_local_files_too(self):
        disk = self.make_disk(data=6 * MIB, size=6 * MIB)
        began = time.monotonic()
        self.assert_status(self.run_command("convert", "-b", "4", disk, self.image), DONE)
        self.assertGreater(time.monotonic() - began, 1.2)

    def test_does_not_hold_up_a_stop(self):
        process, _ = self.begin_reading("--rate", "1k")
        began = time.monotonic()
        self.assert_status(self.stop(process), 128 + signal.SIGTERM)
        self.assertLess(time.monotonic() - began, 5)


class ThePriority(LimitTest):
    def of_threads(self, *options):
        """Nice value and I/O class of each thread of a worker."""
        process, _ = self.begin_reading(*options, name="p" + str(len(options)) + options[-1])
        found = set()
        for task in Path(f"/proc/{children(process.pid)[-1]}/task").iterdir():
            nice = int(task.joinpath("stat").read_text().rpartition(")")[2].split()[16])
            io = subprocess.run(["ionice", "-p", task.name], capture_output=True, text=True).stdout.strip()
            found.add((nice, io))
        self.stop(process)
        return found

    def test_is_low_with_a_limit_for_every_thread(self):
        self.assertEqual(self.of_threads("-b", "1"), {(max(10, os.nice(0)), "best-effort: prio 7")})

    def test_is_what_is_asked_for(self):
        usual = self.of_threads("-b", "1", "--priority", "normal")
        self.assertEqual({nice for nice, _ in usual}, {os.nice(0)})
        self.assertFalse(any("prio 7" in io for _, io in usual), usual)
        self.assertEqual(self.of_threads("-b", "1", "--priority", "idle"), {(19, "idle")})


class SigHup(LimitTest):
    def test_reads_the_configured_limit_again(self):
        self.configure("rate = '1M'\n")
        process, log = self.begin_reading("--config", self.config)
        self.configure("rate = '16M'\n")
        self.hang_up(process, "SIGHUP: the limit is now 16.0 MiB/s")
        self.assert_rate(16 * MIB, log)
        self.configure("[convert]\nrate-schedule = '*=2M'\n")
        self.hang_up(process, r"SIGHUP: the limit is now \*=2M")
        time.sleep(0.5)
        self.assert_rate(2 * MIB, log)

    def test_wakes_at_once_who_waits_for_hours(self):
        self.configure("rate = '1k'\n")
        process, log = self.begin_reading("--config", self.config)
        self.configure("")
        self.hang_up(process, "SIGHUP: there is no limit now")
        self.assertEqual(self.finish(process).returncode, DONE)

    def test_keeps_the_old_limit_when_the_file_is_wrong_and_warns_once(self):
        self.configure("rate = '4M'\n")
        process, log = self.begin_reading("--config", self.config)
        for text in ("rate = 'fast'\n", "rate = \n", "rte = 5\n", None):
            self.configure(text) if text else self.config.unlink()
            self.hang_up(process, "^nasbackup: warning: SIGHUP: .*nasbackup.toml.*; the limit stays what it was$")
        self.assert_rate(4 * MIB, log)
        result = self.stop(process)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)

    def test_keeps_the_burst_of_the_command_line(self):
        self.configure("rate = '1M'\n")
        process, log = self.begin_reading("--config", self.config, "--burst", "24M")
        self.configure("rate = '2M'\nburst = '1k'\n")
        self.hang_up(process, "SIGHUP: the limit is now 2.00 MiB/s")
        # The bucket begins empty and would be full after 12 s. A burst of 1 KiB would be full at once.
        os.kill(children(process.pid)[-1], signal.SIGSTOP)
        time.sleep(2)
        began = time.time()
        os.kill(children(process.pid)[-1], signal.SIGCONT)
        time.sleep(1)
        # What was saved up in the meantime (4 MiB), beside the 2 MiB of the second.
        self.assertGreater(reads.bytes_between(reads.read_log(log), began, began + 1), 3.5 * MIB)

    def test_changes_nothing_of_a_limit_of_the_command_line(self):
        self.configure("rate = '100M'\n")
        process, log = self.begin_reading("--config", self.config, "-b", "4")
        self.hang_up(process, "SIGHUP: the limit was given on the command line and stays")
        self.assert_rate(4 * MIB, log)

    def test_a_warning_of_it_does_not_change_the_exit_status(self):
        self.configure("rate = '4M'\n")
        process = self.begin("convert", self.make_disk(data=8 * MIB), self.image, "--config", self.config)
        self.wait_until_it_writes(process)
        self.config.unlink()
        self.hang_up(process, "warning: SIGHUP")
        self.assert_status(self.finish(process), DONE)

    def test_ends_a_run_whose_terminal_has_gone(self):
        uri, log = self.serve()
        said = self.dir / "log"
        master, slave = pty.openpty()
        command = f"{NASBACKUP} convert -b 1 '{uri}' null: --log-file {said}; true"
        shell = subprocess.Popen(["setsid", "--ctty", "bash", "-c", command], stdin=slave, stdout=slave, stderr=slave)
        self.addCleanup(self.end, shell)
        os.close(slave)
        wait_until("it reads", lambda: bool(reads.read_log(log)))
        os.close(master)  # the shell dies of it, and its job gets SIGHUP
        wait_until("it ends", lambda: "exit status" in said.read_text())
        self.assertIn("stopped by signal 1 ", said.read_text())
        self.assertIn(f"exit status {128 + signal.SIGHUP}", said.read_text())

    def test_leaves_a_run_alone_whose_terminal_is_there(self):
        self.configure("rate = '1M'\n")
        uri, log = self.serve()
        master, slave = pty.openpty()
        process = self.begin("convert", uri, "null:", "--config", self.config, "--progress=none", stdin=slave, start_new_session=True,
                             preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.addCleanup(os.close, master)
        os.close(slave)
        wait_until("it reads", lambda: bool(reads.read_log(log)))
        self.hang_up(process, "SIGHUP: the limit is now 1.00 MiB/s")
        self.assertIsNone(process.poll())


class AGroup(LimitTest):
    def begin_member(self, *options, name):
        return self.begin_reading("--rate-group", self.group, *options, name=name)

    def test_shares_one_limit(self):
        _, one = self.begin_member("-b", "8", name="one")
        _, other = self.begin_member("-b", "8", name="other")
        self.assert_rate(8 * MIB, one, other)
        self.assert_rate(4 * MIB, one)

    def test_has_the_rate_that_was_named_last(self):
        _, one = self.begin_member("-b", "1", name="one")
        _, silent = self.begin_member(name="silent")
        self.assert_rate(1 * MIB, one, silent)
        self.begin_member("-b", "16", name="last")
        self.assert_rate(16 * MIB, one, silent, self.dir / "last.log")

    def test_leaves_all_of_it_to_those_who_survive(self):
        killed, one = self.begin_member("-b", "8", name="one")
        _, other = self.begin_member("-b", "8", name="other")
        os.kill(children(killed.pid)[-1], signal.SIGKILL)
        time.sleep(1)
        self.assert_rate(8 * MIB, other)

    def test_begins_anew_when_all_are_dead(self):
        killed, _ = self.begin_member("-b", "1k", name="one")
        os.kill(children(killed.pid)[-1], signal.SIGKILL)
        self.finish(killed)
        disk = self.make_disk()
        self.assert_status(self.run_command("convert", "--rate-group", self.group, disk, self.image), DONE)
        self.assertFalse((RUN_DIRECTORY / f"rate-{self.group}").exists(), "the last one takes it away")

    def test_that_somebody_uses_and_that_is_broken_is_refused(self):
        self.begin_member("-b", "1", name="one")
        (RUN_DIRECTORY / f"rate-{self.group}").write_bytes(b"x" * 40)
        self.assert_one_line(self.run_command("convert", "--rate-group", self.group, self.make_disk(), self.image), FAILED,
                             "not a rate group of this version")

    def test_has_a_plain_name(self):
        for name in ("../x", "a/b", "", "x" * 65, ".x"):
            self.assert_one_line(self.run_command("convert", "--rate-group=" + name, self.make_disk(), self.image), USAGE, "--rate-group")
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
