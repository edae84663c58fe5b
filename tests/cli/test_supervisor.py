#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The process that the caller waits for: it ends in time with a clear line, whatever becomes of the one that does the work."""
import fcntl
import os
import time
import unittest

from cli import *
from hung_nas import HungNas


class SignalsTest(CliTest):
    def test_end_the_run_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number.name):
                process, worker = self.begin_slow()
                process.send_signal(number)
                self.assert_one_line(self.finish(process), 128 + number, rf"stopped by signal {int(number)} ")
                self.assert_nothing_left()
                self.assertFalse(alive(worker))

    def test_ends_it_also_while_a_long_run_of_zeroes_is_written(self):
        disk, passphrase = self.dir / "empty.raw", self.dir / "passphrase"
        disk.write_bytes(b"x")
        os.truncate(disk, 100 << 30)
        passphrase.write_text("correct horse")
        process = self.begin("convert", "-O", "luks", "-e", passphrase, disk, self.out / "disk.luks")
        self.wait_until_it_writes(process)
        process.terminate()
        self.assert_one_line(self.finish(process, timeout=25), 128 + signal.SIGTERM)  # past 30 s it would be killed
        self.assert_nothing_left()

    def test_are_told_in_json_too(self):
        process, _ = self.begin_slow("--json")
        process.terminate()
        result = self.finish(process)
        self.assertEqual(json.loads(result.stdout)["outcome"], "stopped")
        self.assertEqual(json.loads(result.stdout)["exit_status"], result.returncode)

    def test_to_the_whole_group_end_it_cleanly_as_ctrl_c_does(self):
        process, worker = self.begin_slow(start_new_session=True)
        os.killpg(process.pid, signal.SIGINT)
        self.assert_one_line(self.finish(process), 128 + signal.SIGINT)
        self.assert_nothing_left()
        self.assertFalse(alive(worker))

    def test_of_a_hangup_are_nothing_under_nohup(self):
        disk = self.make_disk()
        process = self.begin("convert", disk, self.image, "--rate", "4M", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.wait_until_it_writes(process)
        process.send_signal(signal.SIGHUP)
        self.assert_status(self.finish(process), DONE)
        self.assertTrue(self.image.exists())

    def test_to_the_worker_alone_stop_it_cleanly(self):
        process, worker = self.begin_slow()
        os.kill(worker, signal.SIGTERM)
        self.assert_one_line(self.finish(process), FAILED, "stopped")
        self.assert_nothing_left()

    def test_given_twice_end_a_worker_that_does_not_stop(self):
        process, worker = self.begin_slow()
        os.kill(worker, signal.SIGSTOP)
        process.terminate()
        process.terminate()
        time.sleep(1.5)
        self.assertIsNone(process.poll(), "the first, and what comes along with it, asks the worker, which does not answer")
        process.terminate()
        self.assert_one_line(self.finish(process), 128 + signal.SIGTERM, "before the clean end")
        self.assertFalse(alive(worker))
        self.assertFalse(self.image.exists())


class AWorkerThatDies(CliTest):
    def test_is_told_in_one_line(self):
        for number in (signal.SIGKILL, signal.SIGUSR2):
            with self.subTest(signal=number.name):
                process, worker = self.begin_slow()
                os.kill(worker, number)
                self.assert_one_line(self.finish(process), FAILED, rf"convert: the working process was ended by signal {int(number)} ")
                self.assertFalse(self.image.exists())
                for path in self.out.iterdir():
                    path.unlink()

    def test_does_not_hinder_the_next_run(self):
        process, worker = self.begin_slow()
        os.kill(worker, signal.SIGKILL)
        self.finish(process)
        self.assert_status(self.run_command("convert", self.make_disk(), self.image), DONE)
        self.assertEqual([path.name for path in self.out.iterdir()], [self.image.name])


class ASupervisorThatIsKilled(CliTest):
    def test_takes_its_worker_with_it(self):
        process, worker = self.begin_slow()
        process.kill()
        self.finish(process)
        wait_until("the worker stops", lambda: not alive(worker))
        self.assert_nothing_left()
        locks = [path for path in Path("/run/nasbackup").glob("run-*.lock") if path.read_text().strip() == str(process.pid)]
        self.assertEqual(locks, [], "the run's lock is gone too")


class AHungTarget(CliTest):
    TIMEOUT = 2

    def hang(self, operation, count, *words, timeout=TIMEOUT):
        """Runs the command until it is given up; `words` with PLACE for the target. Returns the result and the worker."""
        nas = HungNas(self.dir, operation, count)
        self.addCleanup(nas.end)
        (nas.backing / "there").touch()
        read_end, write_end = os.pipe()
        process = self.begin(*[str(word).replace("PLACE", str(nas.place)) for word in words], "--io-timeout", timeout, pass_fds=[write_end])
        os.close(write_end)
        hung_at = nas.wait_until_hung()
        worker = children(process.pid)[-1]
        result = self.finish(process)  # end of file on stdout and stderr, and the exit status
        self.assertLessEqual(time.monotonic() - hung_at, timeout + 2)
        self.assertTrue(alive(worker), "it sleeps in the kernel")
        self.assertEqual(os.read(read_end, 1), b"", "nothing of the caller's stays open")
        os.close(read_end)
        nas.end()
        wait_until("the worker is let go", lambda: not alive(worker))
        return result

    def test_ends_a_conversion_in_time(self):
        disk = self.make_disk()
        for operation, count in (("write", 3), ("fsync", 1), ("create", 1)):
            with self.subTest(operation=operation):
                self.dir = self.out / operation
                self.dir.mkdir()
                result = self.hang(operation, count, "convert", disk, "PLACE/disk.qcow2")
                self.assert_one_line(result, TIMED_OUT, r"hung-nas/disk\.qcow2: no answer for .*--io-timeout")

    def test_ends_info_and_list_in_time(self):
        for verb, operation, path in (("info", "lookup", "PLACE/there"), ("list", "getattr", "PLACE"), ("info", "open", "PLACE/there")):
            with self.subTest(verb=verb, operation=operation):
                self.dir = self.out / (verb + operation)
                self.dir.mkdir()
                self.assert_one_line(self.hang(operation, 1, verb, path), TIMED_OUT, "hung-nas.*no answer")

    def test_ends_a_backup_in_time(self):
        result = self.hang("mkdir", 1, "backup", "--disk", self.make_disk(), "--name", "n", "--to", "PLACE", "--min-free", "0", "--json")
        self.assert_status(result, TIMED_OUT)
        self.assertEqual(json.loads(result.stdout)["outcome"], "timed_out")

    def test_does_not_hold_up_the_deadline_for_long(self):
        nas = HungNas(self.dir, "write", 3)
        self.addCleanup(nas.end)
        result = self.run_command("convert", self.make_disk(), nas.place / "disk.qcow2", "--deadline", "1")
        self.assert_one_line(result, TIMED_OUT, "--deadline 1")


class TheCallersDescriptors(CliTest):
    def test_that_nobody_reads_do_not_hold_up_the_run(self):
        disk = self.make_disk()
        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        os.write(write_end, b"x" * 4096)
        process = self.begin("convert", disk, self.image, "--rate", "4M", "-v", stderr=write_end)
        os.close(write_end)
        self.wait_until_it_writes(process)
        process.send_signal(signal.SIGUSR1)
        wait_until("the image is there although nobody reads", self.image.exists)
        with os.fdopen(read_end) as messages:
            text = messages.read()[4096:]
        self.assertEqual(process.wait(60), DONE)
        self.assertRegex(text, r"(?s)nasbackup: copying: .* of 16\.0 MiB.*disk0: busy")

    def test_may_all_be_closed(self):
        disk = self.make_disk()

        def close_all():
            for fd in (0, 1, 2):
                os.close(fd)

        process = subprocess.Popen([NASBACKUP, "convert", str(disk), str(self.image)], preexec_fn=close_all)
        self.assertEqual(process.wait(60), DONE)
        compared = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, self.image], capture_output=True, text=True)
        self.assertEqual(compared.returncode, 0, compared.stdout + compared.stderr)

    def test_stdin_is_left_alone(self):
        read_end, write_end = os.pipe()
        os.write(write_end, b"for the next command")
        os.close(write_end)
        self.assert_status(self.run_command("convert", self.make_disk(), self.image, stdin=read_end), DONE)
        self.assertEqual(os.read(read_end, 100), b"for the next command")
        os.close(read_end)


if __name__ == "__main__":
    unittest.main()
