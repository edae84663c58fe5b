#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Tuning: that it measures what a run would do, says it so that it can be copied, and leaves nothing behind. How good its advice is
depends on the machine and is no test's business."""
import base64
import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import unittest

from cli import *

QUICK = ("--budget", "2")
STAGES = {"throttle", "read", "encode", "place", "encrypt", "write", "flush"}


class TuneTest(CliTest):
    def setUp(self):
        super().setUp()
        self.disk = self.make_disk(data=24 * MIB, size=64 * MIB)

    def tune(self, *words, budget=2, status=DONE):
        result = self.run_command("tune", *words, "--budget", budget, "--json")
        self.assert_status(result, status)
        return json.loads(result.stdout)

    def serve(self, *plugin):
        socket = self.dir / "socket"
        server = subprocess.Popen(["nbdkit", "-f", "--exit-with-parent", "-U", socket, *map(str, plugin)])
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        wait_until("nbdkit listens", socket.exists)
        return f"nbd+unix:///?socket={socket}"


class AFileTest(TuneTest):
    def test_is_told_what_goes_fastest_and_what_the_limit_is(self):
        result = self.run_command("tune", self.disk, "-c", *QUICK)
        self.assert_status(result, DONE)
        self.assertEqual(result.stderr, "")
        self.assertRegex(result.stdout, rf"^{self.disk}: \S+ MiB of it read, nothing kept, measured for \S+ s\n")
        self.assertRegex(result.stdout, r"\nfastest: --item-size \d+[KM] -j \d+ -c=zlib \(\S+ \wiB/s\)\n")
        self.assertRegex(result.stdout, r"\nlimit: .* \(\w+\), busy \d+ % of the time")
        self.assertRegex(result.stdout, r"\nwith these and +speed +stored\nnothing else ")

    def test_is_not_changed(self):
        digest = lambda: hashlib.sha256(self.disk.read_bytes()).hexdigest()
        before, changed = digest(), self.disk.stat().st_mtime_ns
        self.tune(self.disk, "--to", self.out, "-c")
        self.assertEqual((digest(), self.disk.stat().st_mtime_ns), (before, changed))

    def test_leaves_nothing_where_the_trials_wrote(self):
        told = self.tune(self.disk, "--to", self.out)
        self.assertEqual(told["target"], str(self.out))
        self.assertGreater(told["best"]["stages"]["write"], 0)
        self.assert_nothing_left()

    def test_gives_json_with_the_keys_that_people_script_against(self):
        told = self.tune(self.disk, "-c=zlib:fast")
        self.assertLessEqual({"source", "target", "virtual_size", "sample_bytes", "page_cache", "arguments", "limit", "seconds", "best",
                              "trials", "codecs"}, set(told))
        self.assertEqual((told["outcome"], told["target"], told["virtual_size"]), ("done", "null:", 64 * MIB))
        self.assertIn(told["page_cache"], ("warm", "cold", "unknown"))
        self.assertTrue(0 < told["sample_bytes"] <= 24 * MIB, told["sample_bytes"])
        for trial in [told["best"], *told["trials"], *told["codecs"]]:
            self.assertLessEqual({"connections", "item_size", "threads", "compression", "encrypted", "data_bytes", "seconds",
                                  "bytes_per_second", "ratio", "stages", "cpu"}, set(trial))
            self.assertEqual(set(trial["stages"]), STAGES)
        self.assertEqual({trial["compression"] for trial in told["trials"]}, {"zlib:fast"})
        self.assertGreater(len({(trial["item_size"], trial["threads"]) for trial in told["trials"]}), 3)

    def test_names_as_the_limit_the_busiest_stage_of_the_best_run(self):
        letters = self.dir / "letters.raw"
        letters.write_bytes(base64.b64encode(os.urandom(24 * MIB)))
        for words, limit in ((), "read"), (("-c=zlib:9",), "encode"), (("-b", "20"), "throttle"):
            told = self.tune(letters, *words)
            stages = told["best"]["stages"]
            self.assertEqual(told["limit"], max(stages, key=stages.get))
            self.assertEqual(told["limit"], limit, stages)

    def test_gets_arguments_that_convert_and_backup_take(self):
        words = shlex.split(self.tune(self.disk, "-c")["arguments"])
        self.assert_status(self.run_command("convert", self.disk, self.image, *words), DONE)
        self.assert_status(self.run_command("backup", "--disk", self.disk, "--name", "x", "--to", "null:", *words), DONE)

    def test_is_measured_with_every_codec_and_with_encryption(self):
        trials = self.tune(self.disk, budget=20)["codecs"]
        self.assertEqual({trial["data_bytes"] for trial in trials}, {24 * MIB}, "not all with the same data")
        codecs = {(trial["compression"], trial["encrypted"]) for trial in trials}
        self.assertLessEqual({(None, False), (None, True), ("zlib:fast", False), ("zlib:default", False), ("zlib:best", False)}, codecs)

    def test_says_that_encryption_was_measured(self):
        passphrase = self.dir / "pass"
        passphrase.write_bytes(b"correct horse")
        told = self.tune(self.disk, "-c", "-e", passphrase, "--to", self.out)
        self.assertTrue(told["arguments"].endswith("-c=zlib -e FILE"))
        self.assertGreater(told["best"]["cpu"]["encrypt"], 0)
        self.assert_nothing_left()

    def test_holds_compressible_data_with_its_ratio(self):
        text = self.dir / "text.raw"
        text.write_bytes(b"the same line again and again\n" * (8 * MIB // 30))
        self.assertLess(self.tune(text, "-c")["best"]["ratio"], 0.1)


class AnNbdExportTest(TuneTest):
    def test_is_told_how_many_connections(self):
        told = self.tune(self.serve("file", self.disk))
        self.assertRegex(told["arguments"], r"^--connections [1248] --item-size")
        self.assertEqual({trial["connections"] for trial in told["trials"]}, {1, 2, 4, 8})
        self.assertEqual(told["page_cache"], "unknown")

    def test_without_multi_conn_is_told_one(self):
        told = self.tune(self.serve("--filter=multi-conn", "file", self.disk, "multi-conn-mode=disable"))
        self.assertEqual({trial["connections"] for trial in told["trials"]}, {1})

    def test_may_be_memory_and_slow(self):
        told = self.tune(self.serve("--filter=delay", "pattern", "64M", "rdelay=5ms"))
        self.assertEqual(told["limit"], "read")


class WhatCannotBeMeasuredTest(TuneTest):
    def test_is_refused(self):
        self.assert_one_line(self.run_command("tune", self.dir / "none"), NOT_FOUND, "none")
        self.assert_one_line(self.run_command("tune", self.disk, "--to", self.dir / "none"), NOT_FOUND, "none: no such directory")
        self.assert_one_line(self.run_command("tune", self.disk, "--to", self.disk), USAGE, "is no directory")
        self.assert_one_line(self.run_command("tune", self.disk, "-f", "vmdk"), USAGE, "--source-format vmdk: write raw, qcow2 or luks")
        self.assert_one_line(self.run_command("tune", self.disk, "-c=best"), USAGE, "compress")
        self.assert_one_line(self.run_command("tune", self.disk, "--item-size", "100K"), USAGE, "--item-size: 102400: write a power of two")
        self.assert_one_line(self.run_command("tune"), USAGE, "tune SRC")

    def test_is_a_disk_without_data(self):
        self.assert_one_line(self.run_command("tune", self.make_disk(data=0)), SOURCE, "holds no data to measure with")

    def test_is_an_error_as_json(self):
        self.assertEqual(self.tune(self.dir / "none", status=NOT_FOUND)["outcome"], "not_found")


class ATuningThatIsEndedTest(TuneTest):
    def begin_long(self):
        """It writes into self.out, for longer than the test lasts."""
        process = self.begin("tune", self.disk, "--to", self.out, "--budget", "600", "-b", "4", "--json")
        wait_until("a trial writes", lambda: process.poll() is not None or any(self.out.iterdir()))
        self.assertIsNone(process.poll())
        return process

    def test_by_a_signal_leaves_nothing(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.begin_long()
            process.send_signal(number)
            ended = self.finish(process, timeout=10)
            self.assertEqual(json.loads(ended.stdout)["exit_status"], 128 + number)
            self.assert_nothing_left()

    def test_by_a_kill_leaves_what_the_next_one_sweeps(self):
        process = self.begin_long()
        workers = children(process.pid)
        for pid in (process.pid, *workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.finish(process)
        wait_until("its processes are gone", lambda: not any(alive(pid) for pid in workers))
        left = [path.name for path in self.out.iterdir()]
        self.assertTrue(all(name.startswith(".") for name in left), left)
        self.tune(self.disk, "--to", self.out)
        self.assert_nothing_left()


class TheSizeOfItemsTest(TuneTest):
    def test_changes_the_reads_and_not_the_image(self):
        log = self.dir / "log"
        uri = self.serve("--filter=log", "file", self.disk, f"logfile={log}")
        images = []
        for size in ("64K", "512K", "8M"):
            log.write_text("")
            image = self.out / f"{size}.qcow2"
            self.assert_status(self.run_command("convert", uri, image, "--item-size", size), DONE)
            images.append(image.read_bytes())
            longest = max(int(count, 16) for count in re.findall(r" Read id=\d+ offset=\S+ count=(\S+)", log.read_text()))
            self.assertEqual(longest, {"64K": 64 << 10, "512K": 512 << 10, "8M": 8 << 20}[size])
        self.assertEqual(len(set(images)), 1)

    def test_is_bounded(self):
        for size in ("32K", "16M", "96K", "0"):
            self.assert_status(self.run_command("convert", self.disk, "null:", "--item-size", size), DONE if size == "0" else USAGE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
