# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""One run of `convert` against a server class: refused or accepted."""

from hostile import DONE, MIB, SOURCE, HostileTest, random_disk

DISK = random_disk(6 * MIB)


class LyingServerTest(HostileTest):
    def refuse(self, server_class, code, *says, options=(), disk=DISK):
        with server_class(disk, self.socket) as server:
            result = self.convert(server.uri, None, *options)
        self.assert_refused(result, code, *says)
        return server

    def assert_right_or_refused(self, result, disk=DISK):
        if result.returncode == DONE:
            self.assert_done(result, disk)
        else:
            self.assert_refused(result, SOURCE)

    def accept(self, server_class, disk=DISK, content=None, options=()):
        with server_class(disk, self.socket) as server:
            result = self.convert(server.uri, None, *options)
        self.assert_done(result, disk if content is None else content)
        return server
