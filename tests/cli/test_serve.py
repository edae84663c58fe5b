#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""serve, read by the clients that people have: qemu-img, qemu-io over an overlay, nbdcopy, nbdinfo, libnbd; and by hostile ones."""
import errno
import filecmp
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from cli import *

try:
    import nbd
except ImportError:
    nbd = None

SIZE = 48 * MIB + 512
SEEDS = Path("/work/shared/samples/nbd-seeds")
OPTION = 0x49484156454F5054
FIXED = struct.pack(">I", 3)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServeTest(CliTest):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory(prefix="serve-")
        cls.addClassCleanup(cls.shared.cleanup)
        cls.disk = Path(cls.shared.name) / "web1 disk.raw"
        source = random.Random(7)
        with open(cls.disk, "wb") as disk:
            for start, length in (0, 5 * MIB), (9 * MIB, 65536), (20 * MIB + 4096, 12288), (30 * MIB, 18 * MIB):
                disk.seek(start)
                disk.write(source.randbytes(length))
            disk.truncate(SIZE)

    def setUp(self):
        super().setUp()
        self.socket = self.out / "nbd.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"

    def serve(self, *options, source=None):
        where = () if any(str(option).startswith("--port") for option in options) else ("--socket", self.socket)
        process = self.begin("serve", *where, *options, source or self.disk)
        line = process.stderr.readline()
        if "serving" not in line:
            self.fail("it does not serve: " + line + process.stderr.read())
        self.told = line
        return process

    def stop(self, process, number=signal.SIGTERM):
        process.send_signal(number)
        result = self.finish(process, timeout=20)
        self.assert_status(result, DONE)
        self.assert_nothing_left()
        return result

    def tool(self, *words, **more):
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120, **more)
        self.assertEqual(done.returncode, 0, f"{words}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def assert_reads_well(self, uri=None):
        self.tool("qemu-img", "compare", "-f", "raw", "-F", "raw", self.disk, uri or self.uri)

    def handle(self, *options):
        client = nbd.NBD()
        client.set_strict_mode(0)
        for name, value in options:
            getattr(client, name)(value)
        return client


class WellBehavedClients(ServeTest):
    def test_qemu_img_compares_informs_and_maps(self):
        process = self.serve()
        self.assert_reads_well()
        self.assertEqual(json.loads(self.tool("qemu-img", "info", "--output=json", self.uri))["virtual-size"], SIZE)
        maps = [json.loads(self.tool("qemu-img", "map", "--output=json", "-f", "raw", what)) for what in (self.disk, self.uri)]
        ranges = [[(e["start"], e["length"], e["zero"], e["data"]) for e in found] for found in maps]
        self.assertEqual(*ranges)
        self.stop(process)

    def test_nbdcopy_with_four_connections(self):
        process = self.serve()
        copy = self.dir / "copy.raw"
        self.tool("nbdcopy", "--connections=4", "--requests=64", self.uri, copy)
        self.assertTrue(filecmp.cmp(self.disk, copy, shallow=False))
        result = self.stop(process)
        self.assertRegex(result.stdout, r"^served for .*: \d+ connections, .* read$")

    def test_nbdcopy_with_large_requests_and_little_memory(self):
        process = self.serve("--memory", "48M", "-j", "1")
        copy = self.dir / "copy.raw"
        self.tool("nbdcopy", "--connections=4", "--request-size=33554432", self.uri, copy)
        self.assertTrue(filecmp.cmp(self.disk, copy, shallow=False))
        self.stop(process)

    def test_nbdinfo_maps_what_nbdkit_maps(self):
        process = self.serve()
        ours = json.loads(self.tool("nbdinfo", "--map", "--json", self.uri))
        theirs = json.loads(self.tool("nbdkit", "-r", "file", self.disk, "--run", 'nbdinfo --map --json "$uri"'))
        joined = lambda found: [(e["offset"], e["length"], e["type"]) for e in found]
        self.assertEqual(joined(ours), joined(theirs))
        self.stop(process)

    def test_nbdinfo_lists_the_export_by_its_name(self):
        process = self.serve()
        exports = json.loads(self.tool("nbdinfo", "--list", "--json", self.uri))["exports"]
        self.assertEqual([(e["export-name"], e["export-size"]) for e in exports], [("web1 disk", SIZE)])
        facts = {key: exports[0][key] for key in ("is_read_only", "can_multi_conn", "can_df", "can_flush", "can_fua", "can_cache",
                                                  "can_trim", "can_zero", "block_size_maximum")}
        self.assertEqual(facts, {"is_read_only": True, "can_multi_conn": True, "can_df": True, "can_flush": True, "can_fua": True,
                                 "can_cache": True, "can_trim": False, "can_zero": False, "block_size_maximum": 32 * MIB})
        self.assertIn("base:allocation", exports[0]["contexts"])
        self.stop(process)

    def test_the_uri_that_is_told_opens_it(self):
        process = self.serve()
        uri = self.told.split(": ")[-1].strip()
        self.assertIn("/web1%20disk?", uri)
        self.assert_reads_well(uri)
        self.stop(process)

    def test_over_tcp_on_the_loopback_alone(self):
        port = free_port()
        process = self.serve("--port", port)
        self.assertIn(f"nbd://127.0.0.1:{port}/web1%20disk", self.told)
        self.assert_reads_well(f"nbd://127.0.0.1:{port}")
        copy = self.dir / "copy.raw"
        self.tool("nbdcopy", "--connections=4", f"nbd://127.0.0.1:{port}", copy)
        self.assertTrue(filecmp.cmp(self.disk, copy, shallow=False))
        for address in ("127.0.0.2", "::1"):
            with self.assertRaises(OSError):
                socket.create_connection((address, port), timeout=5).close()
        self.stop(process)

    def test_an_overlay_of_qemu_over_it(self):
        process = self.serve()
        overlay = self.dir / "overlay.qcow2"
        self.tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.uri, overlay)
        self.tool("qemu-io", "-f", "qcow2", "-c", "read 0 5M", "-c", "write -P 0x5a 1M 64k", "-c", "read -P 0x5a 1M 64k",
                  "-c", "read -P 0 10M 4M", overlay)
        expected = self.dir / "expected.raw"
        with open(self.disk, "rb") as disk:
            content = bytearray(disk.read())
        content[MIB:MIB + 65536] = b"\x5a" * 65536
        expected.write_bytes(content)
        self.tool("qemu-img", "compare", "-f", "raw", "-F", "qcow2", expected, overlay)
        self.assert_reads_well()
        self.stop(process)

    def test_an_nbd_export_served_again(self):
        first = self.serve()
        behind = self.out / "second.sock"
        second = self.begin("serve", "--socket", behind, f"nbd+unix:///web1%20disk?socket={self.socket}")
        self.assertIn("serving", second.stderr.readline())
        self.assert_reads_well(f"nbd+unix:///?socket={behind}")
        second.terminate()
        self.assert_status(self.finish(second), DONE)
        self.stop(first)

    def test_sixteen_connections_at_once(self):
        process = self.serve()
        copies = [subprocess.Popen(["nbdcopy", "--connections=4", self.uri, self.dir / f"copy{i}.raw"]) for i in range(4)]
        self.assertEqual([copy.wait(120) for copy in copies], [0] * 4)
        for i in range(4):
            self.assertTrue(filecmp.cmp(self.disk, self.dir / f"copy{i}.raw", shallow=False))
        self.stop(process)

    def test_keeps_to_a_rate(self):
        process = self.serve("--rate", "4M", source=self.make_disk(data=4 * MIB, size=4 * MIB))
        began = time.monotonic()
        self.tool("nbdcopy", self.uri, "null:")
        self.assertGreater(time.monotonic() - began, 0.7)  # 4 MiB at 4 MiB/s, less the burst
        self.stop(process)

    def test_an_empty_image(self):
        empty = self.dir / "empty"
        empty.touch()
        process = self.serve("-f", "raw", source=empty)
        self.assertEqual(self.tool("nbdinfo", "--size", self.uri).strip(), "0")
        self.stop(process)


@unittest.skipIf(nbd is None, "python3-libnbd is not installed")
class OddClients(ServeTest):
    def setUp(self):
        super().setUp()
        self.process = self.serve()
        with open(self.disk, "rb") as disk:
            self.content = disk.read()

    def tearDown(self):
        self.stop(self.process)

    def refused(self, number, call, *arguments, **more):
        with self.assertRaises(nbd.Error) as caught:
            call(*arguments, **more)
        self.assertEqual(caught.exception.errnum, number, str(caught.exception))

    def test_without_structured_replies(self):
        client = self.handle(("set_request_structured_replies", False))
        client.connect_uri(self.uri)
        self.assertFalse(client.get_structured_replies_negotiated())
        for offset, length in (0, 512), (9 * MIB - 100, 70000), (SIZE - 513, 513), (17 * MIB, 31 * MIB), (10 * MIB, 4096):
            self.assertEqual(client.pread(length, offset), self.content[offset:offset + length])
        self.refused(errno.EINVAL, client.pread, 512, SIZE)
        self.refused(errno.EPERM, client.pwrite, b"x" * 512, 0)
        client.flush()

    def test_of_an_old_client_that_sends_only_a_name(self):
        for name in b"", b"web1 disk":
            for zeroes in 0, 124:
                with self.raw() as client:
                    client.sendall(struct.pack(">I", 1 if zeroes else 3) + struct.pack(">QII", OPTION, 1, len(name)) + name)
                    size, flags = struct.unpack(">QH", self.receive(client, 10 + zeroes)[:10])
                    self.assertEqual((size, flags & 3), (SIZE, 3))
                    client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 42, 3, 1000))
                    self.assertEqual(self.receive(client, 16), struct.pack(">IIQ", 0x67446698, 0, 42))
                    self.assertEqual(self.receive(client, 1000), self.content[3:1003])

    def raw(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.socket))
        client.settimeout(20)
        self.assertEqual(self.receive(client, 18), b"NBDMAGICIHAVEOPT\0\3")
        return client

    def receive(self, client, length):
        received = b""
        while len(received) < length:
            more = client.recv(length - len(received))
            if not more:
                break
            received += more
        return received

    def test_that_ask_for_odd_things(self):
        client = self.handle()
        client.add_meta_context("base:allocation")
        client.connect_uri(self.uri)
        for offset, length in (1, 1), (4095, 3), (SIZE - 1, 1), (9 * MIB - 1, 65538), (29 * MIB + 77, 19 * MIB):
            self.assertEqual(client.pread(length, offset), self.content[offset:offset + length])
            self.assertEqual(client.pread(min(length, 65536), offset, flags=nbd.CMD_FLAG_DF), self.content[offset:offset + min(length, 65536)])
        self.refused(errno.EINVAL, client.pread, 2, SIZE - 1)
        self.refused(errno.EINVAL, client.pread, 0, 0)
        self.refused(errno.EOVERFLOW, client.pread, 32 * MIB + 1, 0)
        self.refused(errno.EINVAL, client.pread, 512, 0, flags=nbd.CMD_FLAG_REQ_ONE)
        self.refused(errno.EPERM, client.pwrite, b"x" * (2 * MIB), 0)
        self.refused(errno.EPERM, client.trim, 4096, 0)
        self.refused(errno.EPERM, client.zero, 4096, 0)
        self.refused(errno.EINVAL, client.block_status, 4096, SIZE, lambda *_: 0)
        client.cache(MIB, 0)
        client.flush()
        self.assertEqual(client.pread(512, 0), self.content[:512])

    def test_that_asks_for_one_extent_at_a_time(self):
        client = self.handle()
        client.add_meta_context("base:allocation")
        client.connect_uri(self.uri)
        told, at = [], 0
        def take(context, offset, entries, error):
            told.append(entries)
            return 0
        while at < SIZE:
            client.block_status(SIZE - at, at, take, nbd.CMD_FLAG_REQ_ONE)
            self.assertEqual(len(told[-1]), 2)
            length, status = told[-1]
            self.assertTrue(0 < length <= SIZE - at)
            if status == 3:
                self.assertEqual(self.content[at:at + length].count(0), length)
            at += length
        self.assertEqual([entries[1] for entries in told], [0, 3, 0, 3, 0, 3, 0, 3][:len(told)])
        self.assertGreaterEqual(len(told), 7)

    def test_without_a_context_get_no_block_status(self):
        client = self.handle()
        client.connect_uri(self.uri)
        self.refused(errno.EINVAL, client.block_status, 4096, 0, lambda *_: 0)

    def test_that_ask_for_an_export_that_is_not_there(self):
        client = self.handle()
        self.refused(errno.ENOENT, client.connect_uri, f"nbd+unix:///nobody?socket={self.socket}")

    def test_that_haggle_long(self):
        client = self.handle(("set_opt_mode", True))
        client.connect_unix(str(self.socket))
        names = []
        client.opt_list(lambda name, description: names.append(name) or 0)
        self.assertEqual(names, ["web1 disk"])
        client.set_export_name("nobody")
        self.refused(errno.ENOENT, client.opt_info)
        client.set_export_name("")
        client.opt_info()
        self.assertEqual(client.get_size(), SIZE)
        contexts = []
        client.add_meta_context("base:")
        client.opt_list_meta_context(lambda name: contexts.append(name) or 0)
        self.assertEqual(contexts, ["base:allocation"])
        client.opt_go()
        self.assertEqual(client.pread(100, 0), self.content[:100])
        client.shutdown()


class HostileClients(ServeTest):
    """Whatever one does, another reads correctly meanwhile, and the server ends well."""

    def setUp(self):
        super().setUp()
        self.process = self.serve()
        self.failed = []
        self.over = threading.Event()
        self.rounds = 0
        self.reader = threading.Thread(target=self.read_on)
        self.reader.start()
        self.addCleanup(self.end_reader)
        wait_until("the reader reads", lambda: self.rounds > 0 or self.failed)

    def end_reader(self):
        self.over.set()
        self.reader.join()

    def read_on(self):
        while not self.over.is_set():
            done = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", self.disk, self.uri], capture_output=True, text=True)
            if done.returncode != 0:
                self.failed.append(done.stdout + done.stderr)
                return
            self.rounds += 1

    def tearDown(self):
        before = self.rounds
        wait_until("the reader goes on", lambda: self.rounds > before or self.failed)
        self.end_reader()
        self.assertEqual(self.failed, [])
        self.stop(self.process)

    def attack(self, said, read=False):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))  # waits while many do
            client.settimeout(0.2)
            try:
                client.sendall(said)
                if read:
                    client.recv(1 << 16)
            except OSError:
                pass  # it hangs up on us, or waits for more

    def into_transmission(self):
        return FIXED + struct.pack(">QII", OPTION, 8, 0) + struct.pack(">QII", OPTION, 1, 0)

    def test_that_break_off_anywhere(self):
        words = self.into_transmission() + struct.pack(">IHHQQI", 0x25609513, 0, 0, 42, 0, MIB)
        for end in range(len(words) + 1):
            self.attack(words[:end])

    def test_that_say_anything(self):
        chance = random.Random(11)
        for i in range(300):
            garbage = chance.randbytes(chance.randrange(1, 3000))
            start = (b"", FIXED, self.into_transmission())[i % 3]
            self.attack(start + garbage, read=i % 10 == 0)

    def test_that_name_huge_lengths(self):
        for option in range(0, 14):
            for length in (0xFFFFFFFF, 0x7FFFFFFF, 1 << 20, (1 << 20) + 1, 65537):
                self.attack(FIXED + struct.pack(">QII", OPTION, option, length) + bytes(4096))
        for data in (struct.pack(">I", 0xFFFFFFFF), struct.pack(">IH", 0, 0xFFFF), struct.pack(">II", 0, 0xFFFFFFFF)):
            for option in 6, 7, 9, 10:
                self.attack(FIXED + struct.pack(">QII", OPTION, 8, 0) + struct.pack(">QII", OPTION, option, len(data)) + data, read=True)
        for kind in range(10):
            for offset, length in (0, 0xFFFFFFFF), ((1 << 64) - 1, 0xFFFFFFFF), ((1 << 64) - 4096, 4096), (SIZE, 1), (1 << 63, 1):
                self.attack(self.into_transmission() + struct.pack(">IHHQQI", 0x25609513, 0, kind, 1, offset, length) + bytes(100))

    def test_that_ask_for_much_and_fetch_nothing(self):
        before = self.resident()
        clients = []
        for _ in range(12):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.connect(str(self.socket))
            client.setblocking(False)
            ask = b"".join(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, 0, 32 * MIB) for i in range(500))
            try:
                client.send(self.into_transmission() + ask)
            except BlockingIOError:
                pass
            clients.append(client)
        start = self.rounds
        wait_until("the reader goes on", lambda: self.rounds > start + 1 or self.failed)
        self.assertLess(self.resident() - before, 160 * MIB)  # --memory is 256M, half of it for replies

    def resident(self):
        worker = children(self.process.pid)[-1]
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[1]) * 1024

    @unittest.skipUnless(SEEDS.is_dir(), "the seeds are not here")
    def test_that_say_what_other_servers_have_said(self):
        chance = random.Random(3)
        for seed in sorted(SEEDS.iterdir()):
            words = seed.read_bytes()
            for start in (b"", FIXED, self.into_transmission()):
                self.attack(start + words)
                for _ in range(40):
                    changed = bytearray(words)
                    for _ in range(chance.randrange(1, 8)):
                        changed[chance.randrange(min(len(changed), 300))] = chance.randrange(256)
                    self.attack(start + changed[:chance.randrange(len(changed))])


class Images(ServeTest):
    """What is served is the disk, whatever its image is made of."""

    def copy_of(self, image, *options):
        process = self.serve(*options, source=image)
        copy = self.dir / "copy.raw"
        self.tool("nbdcopy", "--connections=4", self.uri, copy)
        self.assert_reads_well()
        self.stop(process)
        return copy

    def test_compressed_by_us_and_by_qemu(self):
        for codec in "zlib", "zstd":
            ours, theirs = self.dir / f"ours-{codec}.qcow2", self.dir / f"theirs-{codec}.qcow2"
            self.assert_status(self.run_command("convert", "-f", "raw", f"-c={codec}", self.disk, ours), DONE)
            self.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", f"compression_type={codec}", self.disk, theirs)
            for image in ours, theirs:
                self.assertTrue(filecmp.cmp(self.disk, self.copy_of(image), shallow=False), image)

    def test_compressed_and_encrypted(self):
        passphrase = self.dir / "pass"
        passphrase.write_bytes(b"correct horse")
        weak = ("--insecure-pbkdf", "--pbkdf-iterations", "1000")
        for name, options in ("inside.qcow2", ()), ("container", ("-c",)), ("raw.luks", ("-O", "luks")):
            image = self.dir / name
            self.assert_status(self.run_command("convert", "-f", "raw", "-e", passphrase, *weak, *options, self.disk, image), DONE)
            reading = ("-f", "luks") if name == "raw.luks" else ()
            self.assertTrue(filecmp.cmp(self.disk, self.copy_of(image, "-e", passphrase, *reading), shallow=False), name)
        wrong = self.dir / "wrong"
        wrong.write_bytes(b"correct horsf")
        refused = self.run_command("serve", self.dir / "inside.qcow2", "-e", wrong, "--socket", self.socket)
        self.assert_status(refused, WRONG_KEY)
        self.assert_nothing_left()

    def test_on_a_chain(self):
        base, top = self.dir / "base.qcow2", self.dir / "top.qcow2"
        self.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.disk, base)
        self.tool("qemu-io", "-f", "qcow2", "-c", "write -P 0x77 6M 1M", base)
        self.tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
        self.tool("qemu-io", "-f", "qcow2", "-c", "write -z 6M 1M", top)
        self.assertTrue(filecmp.cmp(self.disk, self.copy_of(top, "-f", "qcow2"), shallow=False))

    def test_that_are_damaged_fail_where_they_are_and_go_on(self):
        image = self.dir / "damaged.qcow2"
        self.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.disk, image)
        os.truncate(image, image.stat().st_size - MIB)
        process = self.serve(source=image)
        self.tool("qemu-io", "-r", "-f", "raw", "-c", "read 0 5M", self.uri)
        failed = subprocess.run(["nbdcopy", self.uri, "null:"], capture_output=True, text=True)
        self.assertNotEqual(failed.returncode, 0)
        self.tool("qemu-io", "-r", "-f", "raw", "-c", "read 0 5M", self.uri)
        self.assertIn("warning: ", self.stop(process).stderr)


class Beginning(ServeTest):
    def test_is_refused_when_it_is_not_said_where(self):
        self.assert_one_line(self.run_command("serve", self.disk), USAGE, "write --socket PATH or --port N, one of them")
        self.assert_one_line(self.run_command("serve", self.disk, "--socket", "a", "--port", "1"), USAGE, "one of them")
        self.assert_one_line(self.run_command("serve", self.disk, "--port", "65536"), USAGE, "--port 65536")
        self.assert_one_line(self.run_command("serve", self.disk, "--memory", "1M", "--socket", self.socket), USAGE, "write at least 48M")

    def test_is_refused_without_an_image(self):
        self.assert_one_line(self.run_command("serve", self.dir / "none", "--socket", self.socket), NOT_FOUND, "no such file")
        self.assert_nothing_left()

    def test_is_refused_for_an_image_that_is_written(self):
        with subprocess.Popen(["qemu-io", "-f", "raw", self.disk], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            writer.stdin.write(b"info\n")
            writer.stdin.flush()
            writer.stdout.readline()
            self.assert_status(self.run_command("serve", self.disk, "--socket", self.socket), SOURCE, "in use")
            process = self.serve("-U")
            self.assertEqual(self.tool("nbdinfo", "--size", self.uri).strip(), str(SIZE))
            self.stop(process)
            writer.stdin.close()

    def test_replaces_the_socket_of_a_dead_server_and_not_of_a_live_one(self):
        process = self.serve()
        self.assert_one_line(self.run_command("serve", self.disk, "--socket", self.socket), LOCKED, "another server listens")
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
        self.finish(process)
        self.assertTrue(self.socket.exists())
        process = self.serve()
        self.assert_reads_well()
        self.stop(process)

    def test_is_refused_where_a_file_is(self):
        self.socket.write_text("precious")
        self.assert_one_line(self.run_command("serve", self.disk, "--socket", self.socket), FAILED, "exists and is no socket")
        self.assertEqual(self.socket.read_text(), "precious")


class TheEnd(ServeTest):
    def test_comes_at_each_signal(self):
        for number in signal.SIGTERM, signal.SIGINT:
            self.stop(self.serve(), number)

    def test_comes_while_clients_read(self):
        process = self.serve("--rate", "1M")
        copies = [subprocess.Popen(["nbdcopy", self.uri, "null:"], stderr=subprocess.DEVNULL) for _ in range(4)]
        for copy in copies:
            self.addCleanup(copy.wait)
        time.sleep(0.3)
        began = time.monotonic()
        self.stop(process)
        self.assertLess(time.monotonic() - began, 15)
        for copy in copies:
            self.assertNotEqual(copy.wait(20), 0)

    def test_is_told_in_json(self):
        process = self.serve("--json")
        self.assert_reads_well()
        report = self.json_of(self.stop(process))
        self.assertEqual([(e["name"], e["virtual_size"], e["source"]) for e in report["exports"]], [("web1 disk", SIZE, str(self.disk))])
        self.assertGreaterEqual(report["clients"], 1)
        self.assertGreater(report["data_bytes"], 20 * MIB)

    def test_leaves_the_image_unlocked_and_as_it_was(self):
        before = self.disk.stat()
        process = self.serve()
        self.assert_reads_well()
        self.stop(process)
        self.assertEqual((before.st_mtime_ns, before.st_size), (self.disk.stat().st_mtime_ns, self.disk.stat().st_size))
        self.tool("qemu-io", "-f", "raw", "-c", "write -q 0 0", self.disk)


if __name__ == "__main__":
    unittest.main()
