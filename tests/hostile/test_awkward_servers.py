#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""NBD servers that are honest but particular, and nbdkit's faults: what they allow is respected (every request is recorded), and
what comes out is the same, byte for byte, however they answer."""

import subprocess
import unittest

from hostile import DONE, MIB, SOURCE, HostileTest, random_disk
from nbd_server import (BLOCK, CMD_BLOCK_STATUS, CMD_DISC, CMD_READ, FLAG_DF, FLAG_HAS_FLAGS, FLAG_READ_ONLY, NbdServer,
                        RandomOrder)

DISK = random_disk(9 * MIB + 4096)
ONE_CONNECTION = FLAG_HAS_FLAGS | FLAG_READ_ONLY | FLAG_DF


class AwkwardServerTest(HostileTest):
    def serve(self, server, *options, name="disk.qcow2"):
        with server:
            result = self.convert(server.uri, self.out / name, *options)
        self.assert_done(result, server.disk, self.out / name)
        self.assert_requests_allowed(server)
        return server

    def assert_requests_allowed(self, server):
        minimum, _, maximum = server.block_sizes or (1, 4096, 32 * MIB)
        for request in server.requests:
            self.assertIn(request.kind, (CMD_READ, CMD_BLOCK_STATUS, CMD_DISC), request)
            if request.kind == CMD_DISC:
                continue
            self.assertGreater(request.length, 0, request)
            self.assertEqual((request.offset % minimum, request.length % minimum), (0, 0), request)
            self.assertLessEqual(request.offset + request.length, len(server.disk), request)
            if request.kind == CMD_READ:
                self.assertLessEqual(request.length, maximum, request)

    def bytes_of(self, source, name, *options):
        result = self.convert(source, self.out / name, *options)
        self.assertEqual(result.returncode, DONE, result.stderr)
        return (self.out / name).read_bytes()


class BlockSizes(AwkwardServerTest):
    def check(self, sizes, disk=DISK):
        class Particular(NbdServer):
            block_sizes = sizes
        return self.serve(Particular(disk, self.socket))

    def test_a_minimum_of_4096_and_a_maximum_of_64_KiB(self):
        server = self.check((4096, 4096, 65536))
        self.assertGreater(len(server.reads()), 10)

    def test_a_minimum_of_64_KiB(self):
        self.check((65536, 65536, MIB), disk=random_disk(3 * MIB))

    def test_a_minimum_and_a_maximum_of_512(self):
        self.check((512, 512, 512), disk=random_disk(MIB))

    def test_a_large_preferred_size(self):
        self.check((4096, 16 * MIB, 32 * MIB))

    def test_no_word_of_block_sizes(self):
        self.check(None)

    def test_a_disk_that_ends_inside_a_minimum_block_of_our_clusters(self):
        self.check((4096, 4096, 65536), disk=random_disk(BLOCK + 4096))


class Features(AwkwardServerTest):
    def test_without_structured_replies_all_is_read(self):
        class Simple(NbdServer):
            structured = False
        server = self.serve(Simple(DISK, self.socket))
        self.assertEqual(sum(request.length for request in server.reads()), len(DISK))

    def test_without_base_allocation_all_is_read(self):
        class Plain(NbdServer):
            contexts = ()
        server = self.serve(Plain(DISK, self.socket))
        self.assertEqual(sum(request.length for request in server.reads()), len(DISK))

    def test_zero_extents_are_not_read_and_nothing_is_read_twice(self):
        server = self.serve(NbdServer(DISK, self.socket))
        blocks = [block for request in server.reads() for block in range(request.offset // BLOCK, -(-(request.offset + request.length) // BLOCK))]
        self.assertEqual(len(blocks), len(set(blocks)), "read twice")
        data = {at // BLOCK for at in range(0, len(DISK), BLOCK) if any(DISK[at:at + BLOCK])}
        self.assertEqual(set(blocks), data)

    def test_all_of_the_disk_is_asked_about(self):
        server = self.serve(NbdServer(DISK, self.socket))
        asked = [request for request in server.requests if request.kind == CMD_BLOCK_STATUS]
        reached = 0
        for request in sorted(asked, key=lambda request: request.offset):
            self.assertLessEqual(request.offset, reached)
            reached = max(reached, request.offset + request.length)
        self.assertEqual(reached, len(DISK))

    def test_without_multi_conn_only_one_connection_is_opened(self):
        class Lonely(NbdServer):
            flags = ONE_CONNECTION
        server = self.serve(Lonely(DISK, self.socket), "--connections", "4")
        self.assertEqual(server.opened, 1)

    def test_with_multi_conn_several_connections_are_opened_and_used(self):
        server = self.serve(NbdServer(random_disk(24 * MIB, data_every=1), self.socket), "--connections", "3")
        self.assertEqual(server.opened, 3)
        self.assertEqual({request.connection for request in server.reads()}, {0, 1, 2})

    def test_one_connection_is_opened_when_one_is_asked_for(self):
        server = self.serve(NbdServer(DISK, self.socket), "--connections", "1")
        self.assertEqual(server.opened, 1)

    def test_several_requests_are_in_flight_on_one_connection(self):
        class Patient(RandomOrder):
            flags = ONE_CONNECTION
        server = self.serve(Patient(random_disk(24 * MIB, data_every=1), self.socket))
        self.assertGreater(server.reordered, 0, "never more than one request at a time")

    def test_zeroes_that_are_sent_as_data_are_not_stored(self):
        class Blind(NbdServer):
            def extents(self, offset, length):
                return [(length, 0)]
        disk = bytes(16 * MIB)
        self.serve(Blind(disk, self.socket))
        self.assertLess((self.out / "disk.qcow2").stat().st_size, MIB)


class Sizes(AwkwardServerTest):
    def check_size(self, size):
        disk = random_disk(size, data_every=1)
        with NbdServer(disk, self.socket) as server:
            result = self.convert(server.uri)
        self.assert_done(result)
        self.assertEqual(self.image_info(self.out / "disk.qcow2")["virtual-size"], -(-size // 512) * 512)
        self.assert_same_content(self.out / "disk.qcow2", disk)
        self.assert_requests_allowed(server)

    def test_an_odd_size_is_rounded_up_to_a_sector_and_filled_with_zeroes(self):
        for size in (1, 511, 513, BLOCK - 1, BLOCK + 1, MIB + 777):
            with self.subTest(size=size):
                self.check_size(size)
                (self.out / "disk.qcow2").unlink()

    def test_a_size_that_is_not_a_multiple_of_a_cluster_is_kept(self):
        self.check_size(MIB + 512)

    def test_an_empty_disk_makes_an_empty_image(self):
        self.check_size(0)


class SameBytes(AwkwardServerTest):
    """One disk, however it comes: one image."""

    def setUp(self):
        super().setUp()
        self.file = self.write_file("disk.raw", DISK)
        self.expected = self.bytes_of(self.file, "expected.qcow2")

    def check(self, server, name, *options):
        with server:
            self.assertEqual(self.bytes_of(server.uri, name, *options), self.expected)

    def test_with_one_thread_two_or_sixteen(self):
        for threads in ("1", "2", "16"):
            with self.subTest(threads=threads):
                self.assertEqual(self.bytes_of(self.file, f"file{threads}.qcow2", "-j", threads), self.expected)
                self.check(NbdServer(DISK, self.socket), f"nbd{threads}.qcow2", "-j", threads)

    def test_from_a_server_that_answers_in_random_order(self):
        for seed in range(5):
            server = RandomOrder(DISK, self.socket, seed)
            self.check(server, f"random{seed}.qcow2", "-j", "16")
        self.assertGreater(server.reordered, 0)

    def test_from_a_server_that_knows_of_no_zeroes(self):
        class Blind(NbdServer):
            contexts = ()
        self.check(Blind(DISK, self.socket), "blind.qcow2")

    def test_from_a_server_whose_extents_are_fine_and_askew(self):
        class Askew(NbdServer):
            def extents(self, offset, length):
                found = []
                for size, flags in NbdServer.extents(self, offset, length):
                    found += [(1, flags)] * min(3, size) + ([(size - 3, flags)] if size > 3 else [])
                return found
        self.check(Askew(DISK, self.socket), "askew.qcow2")

    def test_from_a_server_with_small_blocks(self):
        class Small(NbdServer):
            block_sizes = (4096, 4096, 8192)
        self.check(Small(DISK, self.socket), "small.qcow2")

    def test_from_nbdkit(self):
        uri = self.start_nbdkit("file", self.file)
        self.assertEqual(self.bytes_of(uri, "nbdkit.qcow2"), self.expected)

    def test_the_image_is_the_disk(self):
        self.assert_sound(self.out / "expected.qcow2")
        self.assert_same_content(self.out / "expected.qcow2", self.file)


class Nbdkit(AwkwardServerTest):
    """Faults that somebody else's server makes."""

    def test_a_read_that_fails_is_refused(self):
        uri = self.start_nbdkit("--filter=error", "pattern", "16M", "error-pread=EIO", "error-pread-rate=1")
        self.assert_refused(self.convert(uri), SOURCE, "Input/output error")

    def test_reads_that_fail_now_and_then_are_refused(self):
        uri = self.start_nbdkit("--filter=error", "pattern", "256M", "error-pread=EIO", "error-pread-rate=10%")
        self.assert_refused(self.convert(uri), SOURCE, "Input/output error")

    def test_block_status_that_fails_is_refused(self):
        uri = self.start_nbdkit("--filter=error", "sparse-random", "16M", "error-extents=EIO", "error-extents-rate=1")
        self.assert_refused(self.convert(uri), SOURCE, "block status")

    def test_a_slow_server_is_waited_for(self):
        disk = self.write_file("disk.raw", DISK)
        uri = self.start_nbdkit("--filter=delay", "file", disk, "rdelay=30ms")
        self.assert_done(self.convert(uri), disk)

    def test_a_sparse_disk_comes_out_as_it_is_served(self):
        uri = self.start_nbdkit("sparse-random", "2G", "seed=42", "percent=1")
        self.assert_done(self.convert(uri))
        served = self.dir / "served.raw"
        subprocess.run(["nbdcopy", uri, served], check=True)
        self.assert_same_content(self.out / "disk.qcow2", served)

    def test_a_large_disk_with_little_on_it(self):
        uri = self.start_nbdkit("data", "size=64G", "data=@0xffffffe00 1 2 3 @512 4 5 6")
        self.assert_done(self.convert(uri))
        compare = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri, str(self.out / "disk.qcow2")],
                                 capture_output=True, text=True)
        self.assertEqual(compare.returncode, 0, compare.stdout + compare.stderr)

    def test_oldstyle_is_spoken_too(self):
        disk = self.write_file("disk.raw", DISK)
        uri = self.start_nbdkit("-o", "file", disk)
        self.assert_done(self.convert(uri), disk)

    def test_an_export_that_does_not_exist_is_refused(self):
        disk = self.write_file("disk.raw", DISK)
        self.start_nbdkit("--filter=exportname", "file", disk, "exportname-strict=true", "exportname=right")
        self.assert_refused(self.convert("nbd+unix:///wrong?socket=" + str(self.socket)), SOURCE)

    def test_a_server_that_is_killed_half_way_is_a_source_problem(self):
        self.start_nbdkit("pattern", "1G")
        process = self.start_convert("nbd+unix:///?socket=" + str(self.socket), "--rate", "16M")
        self.nbdkit.kill()
        self.assert_refused(self.finish(process), SOURCE)


class TheServerItself(AwkwardServerTest):
    """The kit is worth something only if others find its server honest."""

    def test_nbdcopy_reads_the_disk(self):
        for server in (NbdServer(DISK, self.socket), RandomOrder(DISK, self.socket)):
            with server:
                copy = self.dir / "copy"
                subprocess.run(["nbdcopy", server.uri, copy], check=True)
            self.assertEqual(copy.read_bytes(), DISK)

    def test_nbdinfo_sees_the_zeroes(self):
        with NbdServer(DISK, self.socket) as server:
            shown = subprocess.run(["nbdinfo", "--map", "--totals", server.uri], capture_output=True, text=True, check=True).stdout
        zeroes = sum(BLOCK for at in range(0, len(DISK), BLOCK) if not any(DISK[at:at + BLOCK]))
        self.assertIn(str(zeroes), shown)


if __name__ == "__main__":
    unittest.main()
