# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The goals of reading back."""
from goal import Goal
from trust_contests import OUR_SERVER, QEMU_CHECK, QEMU_COMPARE, QEMU_NBD, QEMU_RESTORE, WITH, WITHOUT


def trust_goals():
    restored = "nasbackup restore to raw"
    yield Goal("restore", "restore of a compressed set to raw: faster than qemu-img", "Restore", 2.5, ours=restored, rival=QEMU_RESTORE, least=True)
    yield Goal("restore", "restore of a qcow2-LUKS set to raw: faster than qemu-img", "RestoreEncrypted", 4, ours=restored, rival=QEMU_RESTORE,
               least=True)
    yield Goal("verify", "verify of a compressed set: faster than qemu-img compare", "Verify", 4, ours="nasbackup verify", rival=QEMU_COMPARE, least=True)
    yield Goal("check", "check of 4 million clusters: against qemu-img check", "Check", 1, ours="nasbackup check", rival=QEMU_CHECK)
    yield Goal("verified", "-c --verify=data: against -c (0.7 of its time on top)", "VerifiedBackup", 1.7, ours=WITH, rival=WITHOUT)
    yield Goal("serve", "serve of a compressed image: faster than qemu-nbd", "Serve", 2, ours=OUR_SERVER, rival=QEMU_NBD, least=True)
