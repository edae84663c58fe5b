# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""nbdkit as a server for the length of a contest. It ends with us, whatever happens (--exit-with-parent)."""
import os
import subprocess
import time


class Nbdkit:
    """A server on a UNIX socket in `folder`. One thread uses it."""

    def __init__(self, folder, name, arguments):
        self.socket = os.path.join(folder, name + ".sock")
        self.arguments = arguments
        self.process = None

    @property
    def uri(self):
        return "nbd+unix:///?socket=" + self.socket

    def start(self):
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("nbdkit did not start: " + " ".join(self.command()))
            time.sleep(0.02)

    def command(self):
        return ["nbdkit", "-f", "--exit-with-parent", "-U", self.socket, *self.arguments]

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process = None
        if os.path.exists(self.socket):
            os.unlink(self.socket)


def fill(server, path):
    """Copies a raw file into a server that keeps it in memory; nothing is stored where the file has holes."""
    subprocess.run(["nbdcopy", "--destination-is-zero", "--", path, server.uri], check=True)
