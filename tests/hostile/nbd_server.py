# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""An NBD server that a test can make lie. Its own protocol code (doc/proto.md of the NBD project), standard library only, no code of
the product: fixed newstyle, structured replies, base:allocation.

By itself it is honest. A misbehaviour is a small subclass that overrides one hook. Everything that a client asks is recorded, so that
a test can compare what was asked with what was allowed.
"""

import os
import random
import select
import socket
import struct
import threading
from dataclasses import dataclass

# Options and their replies.
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED, OPT_LIST_META, OPT_SET_META = (
    1, 2, 3, 5, 6, 7, 8, 9, 10)
REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_UNKNOWN = 0x80000001, 0x80000002, 0x80000006
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3

# Transmission.
FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_FLUSH, FLAG_DF, FLAG_MULTI_CONN = 1, 2, 4, 128, 256
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS = range(8)
CMD_FLAG_DF, CMD_FLAG_REQ_ONE = 4, 8
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_ERROR = 0, 1, 2, 5, 0x8001
CHUNK_DONE = 1
STATE_HOLE, STATE_ZERO = 1, 2
EPERM, EIO, EINVAL = 1, 5, 22

IHAVEOPT = 0x49484156454F5054
BLOCK = 64 * 1024


@dataclass(frozen=True)
class Request:
    """One request of the transmission phase."""
    connection: int
    kind: int
    flags: int
    cookie: int
    offset: int
    length: int


class Gone(Exception):
    """The connection is over: the client left or the server wants it so."""


class Connection:
    """One client. Sending is whole or Gone."""

    def __init__(self, number, sock):
        self.number = number
        self.sock = sock
        self.structured = False
        self.contexts = {}

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone() from error

    def receive(self, length):
        data = bytearray()
        while len(data) < length:
            try:
                piece = self.sock.recv(length - len(data))
            except OSError as error:
                raise Gone() from error
            if not piece:
                raise Gone()
            data += piece
        return bytes(data)

    def option_reply(self, option, kind, data=b""):
        self.send(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)

    def simple_reply(self, cookie, error=0, data=b""):
        self.send(struct.pack(">IIQ", 0x67446698, error, cookie) + data)

    def chunk(self, cookie, kind, payload=b"", done=True, length=None):
        """A structured reply chunk; `length` lies about the payload's."""
        claimed = len(payload) if length is None else length
        self.send(struct.pack(">IHHQI", 0x668E33EF, CHUNK_DONE if done else 0, kind, cookie, claimed) + payload)

    def error(self, cookie, error, message=b""):
        if self.structured:
            self.chunk(cookie, CHUNK_ERROR, struct.pack(">IH", error, len(message)) + message)
        else:
            self.simple_reply(cookie, error)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class NbdServer:
    """Serves `disk` (bytes) on a UNIX socket while it is used as a context manager."""

    flags = FLAG_HAS_FLAGS | FLAG_READ_ONLY | FLAG_MULTI_CONN | FLAG_DF
    structured = True
    contexts = ("base:allocation",)
    block_sizes = (1, 4096, 32 << 20)  # minimum, preferred, maximum; None: the server does not say

    def __init__(self, disk, socket_path):
        self.disk = disk
        self.socket_path = str(socket_path)
        self.requests = []
        self.opened = 0           # connections that were accepted
        self.options = []         # (connection, option) as they came
        self._lock = threading.Lock()
        self._live = []
        self._threads = []

    # ---- hooks: what a misbehaviour overrides -------------------------------------------------------------------------------

    def size(self, connection):
        return len(self.disk)

    def flags_for(self, connection):
        return self.flags

    def greet(self, connection):
        connection.send(b"NBDMAGIC" + struct.pack(">QH", IHAVEOPT, 3))

    def on_option(self, connection, option, data):
        """True when the hook has dealt with it."""
        return False

    def extents(self, offset, length):
        """[(length, flags)] of base:allocation, as the reply will have them."""
        found = []
        end = min(offset + length, len(self.disk))
        while offset < end:
            stop = min(end, offset - offset % BLOCK + BLOCK)
            flags = STATE_HOLE | STATE_ZERO if not any(self.disk[offset:stop]) else 0
            if found and found[-1][1] == flags:
                found[-1] = (found[-1][0] + stop - offset, flags)
            else:
                found.append((stop - offset, flags))
            offset = stop
        return found

    def on_read(self, connection, request):
        data = self.disk[request.offset:request.offset + request.length]
        if len(data) < request.length:
            connection.error(request.cookie, EINVAL, b"read past the end")
        elif connection.structured:
            connection.chunk(request.cookie, CHUNK_DATA, struct.pack(">Q", request.offset) + data)
        else:
            connection.simple_reply(request.cookie, 0, data)

    def on_block_status(self, connection, request):
        context = connection.contexts["base:allocation"]
        entries = b"".join(struct.pack(">II", *entry) for entry in self.extents(request.offset, request.length))
        connection.chunk(request.cookie, CHUNK_STATUS, struct.pack(">I", context) + entries)

    def on_request(self, connection, request):
        if request.kind == CMD_READ:
            self.on_read(connection, request)
        elif request.kind == CMD_BLOCK_STATUS and connection.contexts:
            self.on_block_status(connection, request)
        elif request.kind == CMD_FLUSH:
            self.acknowledge(connection, request)
        else:
            connection.error(request.cookie, EINVAL, b"not offered")

    # ---- the protocol ------------------------------------------------------------------------------------------------------

    @property
    def uri(self):
        return "nbd+unix:///?socket=" + self.socket_path

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.socket_path)
        self._listener.listen(64)
        self._start(self._accept)
        return self

    def __exit__(self, *unused):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            live = list(self._live)
        for connection in live:
            connection.close()
        for thread in self._threads:
            thread.join(10)
        os.unlink(self.socket_path)

    def reads(self):
        return [request for request in self.requests if request.kind == CMD_READ]

    def acknowledge(self, connection, request):
        if connection.structured:
            connection.chunk(request.cookie, CHUNK_NONE)
        else:
            connection.simple_reply(request.cookie)

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                connection = Connection(self.opened, sock)
                self.opened += 1
                self._live.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection):
        try:
            self.greet(connection)
            connection.receive(4)
            self._haggle(connection)
            self.transmit(connection)
        except Gone:
            pass
        finally:
            connection.close()

    def _haggle(self, connection):
        while True:
            _, option, length = struct.unpack(">QII", connection.receive(16))
            data = connection.receive(length)
            with self._lock:
                self.options.append((connection.number, option))
            if self.on_option(connection, option, data):
                continue
            if option == OPT_ABORT:
                connection.option_reply(option, REP_ACK)
                raise Gone()
            if option in (OPT_INFO, OPT_GO):
                self.describe(connection, option)
                if option == OPT_GO:
                    return
            elif option == OPT_STRUCTURED and self.structured:
                connection.structured = True
                connection.option_reply(option, REP_ACK)
            elif option == OPT_SET_META and self.structured:
                self._set_contexts(connection, data)
            elif option == OPT_EXPORT_NAME:
                connection.send(struct.pack(">QH", self.size(connection), self.flags_for(connection)))
                return
            else:
                connection.option_reply(option, REP_ERR_UNSUP)

    def describe(self, connection, option):
        size = struct.pack(">HQH", INFO_EXPORT, self.size(connection), self.flags_for(connection))
        connection.option_reply(option, REP_INFO, size)
        if self.block_sizes is not None:
            connection.option_reply(option, REP_INFO, struct.pack(">HIII", INFO_BLOCK_SIZE, *self.block_sizes))
        connection.option_reply(option, REP_ACK)

    def _set_contexts(self, connection, data):
        name_length = struct.unpack(">I", data[:4])[0]
        at = 4 + name_length + 4
        while at < len(data):
            length = struct.unpack(">I", data[at:at + 4])[0]
            context = data[at + 4:at + 4 + length].decode()
            at += 4 + length
            if context in self.contexts:
                self.grant(connection, context)
        connection.option_reply(OPT_SET_META, REP_ACK)

    def grant(self, connection, context):
        number = 17 + len(connection.contexts)
        connection.contexts[context] = number
        connection.option_reply(OPT_SET_META, REP_META, struct.pack(">I", number) + context.encode())

    def receive_request(self, connection):
        magic, flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", connection.receive(28))
        assert magic == 0x25609513, hex(magic)
        request = Request(connection.number, kind, flags, cookie, offset, length)
        with self._lock:
            self.requests.append(request)
        if kind == CMD_DISC:
            raise Gone()
        if kind == CMD_WRITE:
            connection.receive(length)
        return request

    def transmit(self, connection):
        while True:
            self.on_request(connection, self.receive_request(connection))


class RandomOrder(NbdServer):
    """Honest, but answers whatever has come so far in random order. A seed gives the order, not the clock."""

    def __init__(self, disk, socket_path, seed=1):
        super().__init__(disk, socket_path)
        self._random = random.Random(seed)
        self.reordered = 0

    def transmit(self, connection):
        waiting = []
        while True:
            # Take in what the client sends until it pauses; then answer one of them, whichever.
            while not waiting or select.select([connection.sock], [], [], 0.002)[0]:
                waiting.append(self.receive_request(connection))
            chosen = self._random.randrange(len(waiting))
            self.reordered += chosen != 0
            self.on_request(connection, waiting.pop(chosen))
