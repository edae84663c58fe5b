#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""NBD servers that break off (exit 15), do not want us (15) or fall silent (16): one clear line, nothing left behind."""

import struct
import unittest

from hostile import SOURCE, TIMED_OUT
from lying import DISK, LyingServerTest
from nbd_server import CHUNK_DATA, OPT_GO, OPT_SET_META, OPT_STRUCTURED, REP_ERR_POLICY, REP_ERR_UNKNOWN, Gone, NbdServer


class Disconnects(LyingServerTest):
    """The server goes away, at each step of the way."""

    def test_when_we_connect(self):
        class Leaves(NbdServer):
            def greet(self, connection):
                raise Gone()
        self.refuse(Leaves, SOURCE, "connect")

    def test_inside_the_greeting(self):
        class Leaves(NbdServer):
            def greet(self, connection):
                connection.send(b"NBDM")
                raise Gone()
        self.refuse(Leaves, SOURCE, "connect")

    def test_at_each_option(self):
        for option in (OPT_STRUCTURED, OPT_SET_META, OPT_GO):
            class Leaves(NbdServer):
                at = option

                def on_option(self, connection, option, data):
                    if option == self.at:
                        raise Gone()
            with self.subTest(option=option):
                self.refuse(Leaves, SOURCE, "connect")

    def test_inside_an_option_reply(self):
        class Leaves(NbdServer):
            def on_option(self, connection, option, data):
                if option == OPT_GO:
                    connection.send(struct.pack(">QI", 0x3E889045565A9, option))
                    raise Gone()
        self.refuse(Leaves, SOURCE, "connect")

    def test_when_the_second_connection_comes(self):
        class Leaves(NbdServer):
            def greet(self, connection):
                if connection.number == 1:
                    raise Gone()
                super().greet(connection)
        self.refuse(Leaves, SOURCE, "connect", options=("--connections", "4"))

    def test_at_block_status(self):
        class Leaves(NbdServer):
            def on_block_status(self, connection, request):
                raise Gone()
        self.refuse(Leaves, SOURCE, "block status")

    def test_at_each_of_the_first_reads(self):
        for number in (1, 2, 5, 20):
            class Leaves(NbdServer):
                at = number

                def on_read(self, connection, request):
                    if len(self.reads()) >= self.at:
                        raise Gone()
                    super().on_read(connection, request)
            with self.subTest(number=number):
                self.refuse(Leaves, SOURCE, "read")

    def test_inside_the_data(self):
        class Leaves(NbdServer):
            def on_read(self, connection, request):
                if len(self.reads()) < 5:
                    return super().on_read(connection, request)
                connection.chunk(request.cookie, CHUNK_DATA, struct.pack(">Q", request.offset) + bytes(1000), length=8 + request.length)
                raise Gone()
        self.refuse(Leaves, SOURCE, "read")

    def test_on_one_of_several_connections(self):
        class Leaves(NbdServer):
            def on_read(self, connection, request):
                if connection.number == self.opened - 1:
                    raise Gone()
                super().on_read(connection, request)
        self.refuse(Leaves, SOURCE, "read", options=("--connections", "3"))

    def test_nobody_listens(self):
        self.assert_refused(self.convert("nbd+unix:///?socket=" + str(self.socket)), SOURCE, "connect")


class Refusals(LyingServerTest):
    """The server does not want us."""

    def test_an_unknown_export(self):
        class Refuses(NbdServer):
            def on_option(self, connection, option, data):
                if option == OPT_GO:
                    connection.option_reply(option, REP_ERR_UNKNOWN, b"no such export")
                    return True
        self.refuse(Refuses, SOURCE, "connect|handshake")

    def test_a_forbidden_export(self):
        class Refuses(NbdServer):
            def on_option(self, connection, option, data):
                if option == OPT_GO:
                    connection.option_reply(option, REP_ERR_POLICY, b"not for you")
                    return True
        self.refuse(Refuses, SOURCE, "connect|handshake")

    def test_an_export_without_flags(self):
        class Bare(NbdServer):
            flags = 0
        with Bare(DISK, self.socket) as server:
            result = self.convert(server.uri)
        self.assert_right_or_refused(result)

    def test_something_that_does_not_speak_nbd(self):
        class Http(NbdServer):
            def greet(self, connection):
                connection.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" * 20)
                raise Gone()
        self.refuse(Http, SOURCE, "connect|handshake")

    def test_a_name_of_an_export_and_a_message_with_line_breaks_stay_on_one_line(self):
        class Shouting(NbdServer):
            def on_option(self, connection, option, data):
                if option == OPT_GO:
                    connection.option_reply(option, REP_ERR_POLICY, b"no\nnasbackup: done\x1b[2J\n")
                    return True
        with Shouting(DISK, self.socket) as server:
            result = self.convert(server.uri)
        self.assert_refused(result, SOURCE)
        self.assertNotIn("\x1b", result.stderr)


class Stalls(LyingServerTest):
    """The server holds the line and says nothing more. `--io-timeout` ends the wait: exit 16."""

    OPTIONS = ("--io-timeout", "1")

    def check(self, server_class):
        self.refuse(server_class, TIMED_OUT, "no answer", options=self.OPTIONS)

    def test_instead_of_a_greeting(self):
        class Silent(NbdServer):
            def greet(self, connection):
                connection.receive(1 << 20)
        self.check(Silent)

    def test_at_an_option(self):
        class Silent(NbdServer):
            def on_option(self, connection, option, data):
                return option == OPT_GO
        self.check(Silent)

    def test_when_the_second_connection_comes(self):
        class Silent(NbdServer):
            def greet(self, connection):
                if connection.number == 1:
                    connection.receive(1 << 20)
                super().greet(connection)
        self.check(Silent)

    def test_at_block_status(self):
        class Silent(NbdServer):
            def on_block_status(self, connection, request):
                pass
        self.check(Silent)

    def test_at_a_read(self):
        class Silent(NbdServer):
            def on_read(self, connection, request):
                if len(self.reads()) < 7:
                    super().on_read(connection, request)
        self.check(Silent)

    def test_inside_the_data(self):
        class Silent(NbdServer):
            def on_read(self, connection, request):
                if len(self.reads()) < 7:
                    return super().on_read(connection, request)
                connection.chunk(request.cookie, CHUNK_DATA, struct.pack(">Q", request.offset) + bytes(1000), length=8 + request.length)
                connection.receive(1 << 30)
        self.check(Silent)


if __name__ == "__main__":
    unittest.main()
