#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""NBD servers that lie about sizes, block sizes, extents and data: one clear line, exit 15, nothing left behind."""

import struct
import unittest

import nbd_server
from hostile import DONE, MIB, SOURCE, random_disk
from lying import DISK, LyingServerTest
from nbd_server import CHUNK_DATA, CHUNK_HOLE, CHUNK_NONE, CHUNK_STATUS, EIO, STATE_HOLE, STATE_ZERO, NbdServer

ZERO = STATE_HOLE | STATE_ZERO


class Sizes(LyingServerTest):
    def test_a_size_that_has_no_sign_bit_to_spare_is_refused(self):
        class Huge(NbdServer):
            def size(self, connection):
                return 1 << 63
        self.refuse(Huge, SOURCE, "size")

    def test_a_size_of_all_ones_is_refused(self):
        class Huge(NbdServer):
            def size(self, connection):
                return (1 << 64) - 1
        self.refuse(Huge, SOURCE, "size")

    def test_a_size_that_no_qcow2_can_hold_is_refused(self):
        class Huge(NbdServer):
            def size(self, connection):
                return 1 << 62

            def extents(self, offset, length):
                return [(length, ZERO)]
        self.refuse(Huge, SOURCE, str(1 << 62))

    def test_a_size_beyond_the_data_ends_in_the_servers_own_error(self):
        class Larger(NbdServer):
            def size(self, connection):
                return len(self.disk) + 64 * MIB

            def extents(self, offset, length):
                return [(length, 0)]
        self.refuse(Larger, SOURCE, "read of")

    def test_a_size_that_changes_between_connections_is_refused(self):
        class Changing(NbdServer):
            def size(self, connection):
                return len(self.disk) - connection.number * 65536
        server = self.refuse(Changing, SOURCE, "size", options=("--connections", "4"))
        self.assertGreater(server.opened, 1)

    def test_a_size_that_its_own_block_size_does_not_divide_is_refused(self):
        class Uneven(NbdServer):
            block_sizes = (4096, 4096, MIB)
        self.refuse(Uneven, SOURCE, "block size", disk=DISK[:MIB + 512])


class BlockSizes(LyingServerTest):
    """Block sizes that make no sense are refused, or taken as not said (libnbd does so); then the content must be right."""

    def check(self, sizes, disk=DISK):
        class Odd(NbdServer):
            block_sizes = sizes
        with Odd(disk, self.socket) as server:
            result = self.convert(server.uri)
        self.assert_right_or_refused(result, disk)

    def test_a_minimum_that_is_no_power_of_two(self):
        self.check((3000, 3000, MIB))

    def test_a_minimum_of_nothing(self):
        self.check((0, 4096, MIB))

    def test_a_minimum_above_the_maximum(self):
        self.check((65536, 65536, 4096))

    def test_a_maximum_that_the_minimum_does_not_divide(self):
        self.check((4096, 4096, 10000))

    def test_a_maximum_of_one_byte(self):
        self.check((1, 1, 1), disk=DISK[:513])

    def test_a_minimum_of_two_gigabytes(self):
        self.check((1 << 31, 1 << 31, 1 << 31))


class Extents(LyingServerTest):
    def with_extents(self, answer):
        class Lying(NbdServer):
            def extents(self, offset, length):
                return answer(self, offset, length)
        return Lying

    def test_an_extent_of_no_length_is_refused(self):
        self.refuse(self.with_extents(lambda server, offset, length: [(0, 0)]), SOURCE, "extent")

    def test_an_extent_of_no_length_after_a_good_one_is_refused(self):
        self.refuse(self.with_extents(lambda server, offset, length: [(65536, 0), (0, 0), (length - 65536, 0)]), SOURCE, "extent")

    def test_an_answer_without_extents_is_refused(self):
        self.refuse(self.with_extents(lambda server, offset, length: []), SOURCE)

    def test_extents_past_the_end_of_the_disk_are_refused(self):
        self.refuse(self.with_extents(lambda server, offset, length: [(len(server.disk) - offset + 65536, 0)]), SOURCE, "past the end")

    def test_one_extent_of_four_gigabytes_is_refused_where_the_disk_is_smaller(self):
        self.refuse(self.with_extents(lambda server, offset, length: [(0xFFFFFE00, ZERO)]), SOURCE, "past the end")

    def test_extents_that_wrap_around_are_refused(self):
        self.refuse(self.with_extents(lambda server, offset, length: [(0xFFFFFFFF, 0), (0xFFFFFFFF, 0), (0xFFFFFFFF, 0)]), SOURCE,
                    "past the end")

    def test_two_answers_about_one_stretch_are_refused(self):
        class Overlapping(NbdServer):
            def on_block_status(self, connection, request):
                context = struct.pack(">I", connection.contexts["base:allocation"])
                payload = context + struct.pack(">II", request.length, ZERO)
                connection.chunk(request.cookie, CHUNK_STATUS, payload, done=False)
                connection.chunk(request.cookie, CHUNK_STATUS, context + struct.pack(">II", request.length, 0))
        self.refuse(Overlapping, SOURCE)

    def test_an_answer_about_a_context_that_nobody_asked_for_is_refused(self):
        class Foreign(NbdServer):
            def on_block_status(self, connection, request):
                connection.chunk(request.cookie, CHUNK_STATUS, struct.pack(">III", 4711, request.length, ZERO))
        self.refuse(Foreign, SOURCE)

    def test_an_answer_that_breaks_off_inside_an_extent_is_refused(self):
        class Torn(NbdServer):
            def on_block_status(self, connection, request):
                context = connection.contexts["base:allocation"]
                connection.chunk(request.cookie, CHUNK_STATUS, struct.pack(">III", context, request.length, ZERO) + b"\0\0\0")
        self.refuse(Torn, SOURCE)

    def test_a_data_chunk_as_answer_to_block_status_is_refused(self):
        class Mixed(NbdServer):
            def on_block_status(self, connection, request):
                connection.chunk(request.cookie, CHUNK_DATA, struct.pack(">Q", request.offset) + bytes(512))
        self.refuse(Mixed, SOURCE)

    def test_block_status_that_ends_without_an_answer_is_refused(self):
        class Silent(NbdServer):
            def on_block_status(self, connection, request):
                connection.chunk(request.cookie, CHUNK_NONE)
        self.refuse(Silent, SOURCE)

    def test_block_status_that_fails_is_refused(self):
        class Failing(NbdServer):
            def on_block_status(self, connection, request):
                connection.error(request.cookie, EIO, b"the map is lost")
        self.refuse(Failing, SOURCE, "block status")

    def test_more_extents_than_asked_for_are_cut_off(self):
        def to_the_end(server, offset, length):
            return NbdServer.extents(server, offset, len(server.disk) - offset)
        self.accept(self.with_extents(to_the_end))

    def test_fewer_extents_than_asked_for_are_a_beginning(self):
        self.accept(self.with_extents(lambda server, offset, length: NbdServer.extents(server, offset, length)[:1]))

    def test_a_hole_that_does_not_promise_zeroes_is_read(self):
        self.accept(self.with_extents(lambda server, offset, length: [(length, STATE_HOLE)]))

    def test_unknown_flags_of_an_extent_do_not_matter(self):
        def flagged(server, offset, length):
            return [(size, flags | 0x80000000) for size, flags in NbdServer.extents(server, offset, length)]
        self.accept(self.with_extents(flagged))

    def test_extents_of_a_single_byte_each_are_followed(self):
        disk = random_disk(20000, data_every=1)
        class Crumbs(NbdServer):
            def extents(self, offset, length):
                return [(1, 0)] * min(length, 700)
        self.accept(Crumbs, disk=disk)

    def test_extents_finer_than_the_minimum_block_are_read_in_whole_blocks_or_refused(self):
        class Fine(NbdServer):
            block_sizes = (4096, 4096, MIB)

            def extents(self, offset, length):
                return [(512, 0)] * min(64, length // 512)
        with Fine(DISK, self.socket) as server:
            result = self.convert(server.uri)
        for request in server.requests:
            if request.kind in (nbd_server.CMD_READ, nbd_server.CMD_BLOCK_STATUS):
                self.assertEqual((request.offset % 4096, request.length % 4096), (0, 0), request)
        if result.returncode == DONE:
            self.assert_done(result, DISK)
        else:
            self.assert_refused(result, SOURCE)

    def test_another_context_than_the_one_asked_for_is_not_used(self):
        class Other(NbdServer):
            contexts = ("base:allocation",)

            def grant(self, connection, context):
                super().grant(connection, "qemu:dirty-bitmap:other")
        server = self.accept(Other)
        self.assertEqual([r for r in server.requests if r.kind == nbd_server.CMD_BLOCK_STATUS], [])


class Reads(LyingServerTest):
    def failing_read(self, number, answer):
        """The server whose `number`-th read is answered by `answer`."""
        class Failing(NbdServer):
            def on_read(self, connection, request):
                if len(self.reads()) >= number:
                    answer(self, connection, request)
                else:
                    super().on_read(connection, request)
        return Failing

    @staticmethod
    def eio(server, connection, request):
        connection.error(request.cookie, EIO, b"bad sector")

    @staticmethod
    def data(server, request):
        return server.disk[request.offset:request.offset + request.length]

    @staticmethod
    def chunk_of(offset, data):
        return struct.pack(">Q", offset) + data

    def test_an_error_on_the_first_read_is_refused(self):
        self.refuse(self.failing_read(1, self.eio), SOURCE, "read of .* at .*Input/output error")

    def test_an_error_half_way_is_refused(self):
        self.refuse(self.failing_read(10, self.eio), SOURCE, "Input/output error")

    def test_an_error_half_way_without_structured_replies_is_refused(self):
        class Simple(self.failing_read(10, self.eio)):
            structured = False
        self.refuse(Simple, SOURCE, "Input/output error")

    def test_an_error_on_the_last_read_is_refused(self):
        class Last(NbdServer):
            def on_read(self, connection, request):
                if request.offset + request.length > 5 * MIB + 900 * 1024:
                    connection.error(request.cookie, EIO)
                else:
                    super().on_read(connection, request)
        self.refuse(Last, SOURCE, "Input/output error", disk=random_disk(6 * MIB, data_every=1))

    def test_an_error_after_half_of_the_data_is_refused(self):
        def half(server, connection, request):
            data = self.data(server, request)
            connection.chunk(request.cookie, CHUNK_DATA, self.chunk_of(request.offset, data[:512]), done=False)
            connection.error(request.cookie, EIO, b"the rest is gone")
        self.refuse(self.failing_read(3, half), SOURCE, "Input/output error")

    def test_an_error_number_that_does_not_exist_is_refused(self):
        def strange(server, connection, request):
            connection.error(request.cookie, 0x7FFFFFFF)
        self.refuse(self.failing_read(2, strange), SOURCE)

    def test_an_error_chunk_without_an_error_is_refused(self):
        def none(server, connection, request):
            connection.error(request.cookie, 0)
        self.refuse(self.failing_read(2, none), SOURCE)

    def test_an_answer_to_a_question_never_asked_is_refused(self):
        def wrong_cookie(server, connection, request):
            connection.chunk(request.cookie + 1000, CHUNK_DATA, self.chunk_of(request.offset, self.data(server, request)))
        self.refuse(self.failing_read(3, wrong_cookie), SOURCE)

    def test_an_answer_that_says_done_before_all_data_came_is_refused(self):
        def short(server, connection, request):
            connection.chunk(request.cookie, CHUNK_DATA, self.chunk_of(request.offset, self.data(server, request)[:-512]))
        self.refuse(self.failing_read(2, short), SOURCE)

    def test_an_answer_of_no_data_is_refused(self):
        def nothing(server, connection, request):
            connection.chunk(request.cookie, CHUNK_NONE)
        self.refuse(self.failing_read(2, nothing), SOURCE)

    def test_a_data_chunk_without_data_is_refused(self):
        def nothing(server, connection, request):
            connection.chunk(request.cookie, CHUNK_DATA, self.chunk_of(request.offset, b""))
        self.refuse(self.failing_read(2, nothing), SOURCE)

    def test_data_before_the_place_asked_for_is_refused(self):
        def before(server, connection, request):
            connection.chunk(request.cookie, CHUNK_DATA, self.chunk_of((request.offset - 512) % 2**64, self.data(server, request)))
        self.refuse(self.failing_read(3, before), SOURCE)

    def test_data_behind_the_place_asked_for_is_refused(self):
        def behind(server, connection, request):
            connection.chunk(request.cookie, CHUNK_DATA, self.chunk_of(request.offset + 512, self.data(server, request)))
        self.refuse(self.failing_read(3, behind), SOURCE)

    def test_more_data_than_asked_for_is_refused(self):
        def more(server, connection, request):
            connection.chunk(request.cookie, CHUNK_DATA, self.chunk_of(request.offset, self.data(server, request) + bytes(4096)))
        self.refuse(self.failing_read(3, more), SOURCE)

    def test_the_same_data_twice_in_place_of_the_rest_is_refused(self):
        def twice(server, connection, request):
            half = self.chunk_of(request.offset, self.data(server, request)[:request.length // 2])
            connection.chunk(request.cookie, CHUNK_DATA, half, done=False)
            connection.chunk(request.cookie, CHUNK_DATA, half)
        self.refuse(self.failing_read(3, twice), SOURCE)

    def test_a_hole_past_the_place_asked_for_is_refused(self):
        def hole(server, connection, request):
            connection.chunk(request.cookie, CHUNK_HOLE, struct.pack(">QI", request.offset, 0xFFFFFFFF))
        self.refuse(self.failing_read(3, hole), SOURCE)

    def test_a_chunk_of_unknown_type_is_refused(self):
        def unknown(server, connection, request):
            connection.chunk(request.cookie, 0x1234, bytes(16))
        self.refuse(self.failing_read(3, unknown), SOURCE)

    def test_a_chunk_that_claims_two_gigabytes_is_refused(self):
        def vast(server, connection, request):
            connection.chunk(request.cookie, CHUNK_DATA, self.chunk_of(request.offset, b"x"), length=1 << 31)
        self.refuse(self.failing_read(3, vast), SOURCE)

    def test_garbage_in_place_of_a_reply_is_refused(self):
        def garbage(server, connection, request):
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.refuse(self.failing_read(3, garbage), SOURCE)

    def test_holes_and_data_in_pieces_and_backwards_are_understood(self):
        class Pieces(NbdServer):
            def on_read(self, connection, request):
                data = self.disk[request.offset:request.offset + request.length]
                for at in reversed(range(0, len(data), 65536)):
                    piece = data[at:at + 65536]
                    if any(piece):
                        connection.chunk(request.cookie, CHUNK_DATA, Reads.chunk_of(request.offset + at, piece), done=False)
                    else:
                        connection.chunk(request.cookie, CHUNK_HOLE, struct.pack(">QI", request.offset + at, len(piece)), done=False)
                connection.chunk(request.cookie, CHUNK_NONE)

            def extents(self, offset, length):
                return [(length, 0)]
        self.accept(Pieces)


if __name__ == "__main__":
    unittest.main()
