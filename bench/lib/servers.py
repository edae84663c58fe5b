# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Servers for the length of a contest. They end with us, whatever happens."""
import ctypes
import os
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Server:
    """A program that serves on a UNIX socket: `command` gives it, for the socket's path. One thread uses it."""

    def __init__(self, socket, command):
        self.socket = socket
        self.command = command
        self.process = None

    @property
    def uri(self):
        return "nbd+unix:///?socket=" + self.socket

    def start(self):
        command = self.command(self.socket)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=end_with_parent)
        until = time.monotonic() + 20
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start: " + " ".join(command))
            time.sleep(0.02)

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process = None
        if os.path.exists(self.socket):
            os.unlink(self.socket)


class Nbdkit(Server):
    """nbdkit with a socket in `folder`."""

    def __init__(self, folder, name, arguments):
        super().__init__(os.path.join(folder, name + ".sock"),
                         lambda socket: ["nbdkit", "-f", "--exit-with-parent", "-U", socket, *arguments])


def fill(server, path):
    """Copies a raw file into a server that keeps it in memory; nothing is stored where the file has holes."""
    subprocess.run(["nbdcopy", "--destination-is-zero", "--", path, server.uri], check=True)
