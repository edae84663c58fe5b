# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""libvirt backup jobs of a domain, awaited by their event and not by a poll. One thread uses an object.

The event loop runs in a thread of its own; JobEvents must exist before the connection that it listens on.
"""
import threading
import time

import libvirt

URI = "qemu:///system"
PULL = """<domainbackup mode='pull'><server transport='unix' socket='{socket}'/>
<disks><disk name='vda' backup='yes' type='file'><scratch file='{scratch}'/></disk></disks></domainbackup>"""
PUSH = """<domainbackup mode='push'><disks><disk name='vda' backup='yes' type='file'>
<driver type='qcow2'/><target file='{output}'/></disk></disks></domainbackup>"""


def run_event_loop():
    libvirt.virEventRegisterDefaultImpl()

    def forever():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=forever, daemon=True).start()


class BackupJob:
    """A backup job of one domain: begin, then end (pull) or wait (push)."""

    def __init__(self, name):
        self.connection = libvirt.open(URI)
        self.domain = self.connection.lookupByName(name)
        self.completed = threading.Event()
        self.success = False
        self.connection.domainEventRegisterAny(self.domain, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self._note, None)

    def _note(self, connection, domain, parameters, opaque):
        self.success = bool(parameters.get("success", 0))
        self.completed.set()

    def begin(self, xml):
        """Returns the seconds that it took."""
        self.completed.clear()
        started = time.monotonic()
        self.domain.backupBegin(xml, None, 0)
        return time.monotonic() - started

    def wait(self, seconds=600):
        if not self.completed.wait(seconds):
            raise TimeoutError("the backup job did not end")
        return self.success

    def abort(self):
        """Ends a pull job; returns the seconds until libvirt said so."""
        started = time.monotonic()
        self.domain.abortJob()
        self.wait(60)
        return time.monotonic() - started
