# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""An image of a Ceph cluster as the source: a cluster of one node of our own, on a file of the target's file system."""
import os
import sys

from contender import Ours, QemuImg
from contests import OURS, Contest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "lab"))


class RbdImage(Contest):
    row = "rbd"
    title = "Ceph image → qcow2"
    shows_stages = True
    cluster = None

    def start(self):
        import ceph  # which not everybody has
        source = self.house.realistic()
        folder = os.path.join(self.house.work, "ceph")
        os.makedirs(folder)
        self.cluster = ceph.Cluster(folder, "bluestore", 4 * os.path.getsize(source))
        self.cluster.rbd("import", "--no-progress", source, "rbd/realistic")
        image = self.cluster.as_qemu("realistic")
        self.contenders = [Ours(OURS, self.house.binary, [image], source), QemuImg(image, source)]

    def stop(self):
        if self.cluster:
            self.cluster.stop()
