# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Puts small files into a set that was made without libvirt, as a backup of a VM would have: XML, and firmware variables, sealed
when the set is encrypted. Written from docs/formats alone, as set_reader.py is."""
import hashlib
import json
import os
import struct

import set_reader
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def seal(name, content, set_key):
    """A sealed file."""
    head = b"nbsealed" + struct.pack(">II", 1, 0) + os.urandom(32)
    key = set_reader.hkdf(set_key, head[16:48], b"nasbackup sealed file 1")
    return head + AESGCM(key).encrypt(bytes(12), content, head + name.encode())


def add_files(folder, files, secrets, passphrase=None):
    """Adds `files` as they are and `secrets` sealed when there is a passphrase; both by name."""
    manifest = set_reader.Manifest(folder)
    set_key = manifest.set_keys(passphrase)[0] if passphrase else None
    files = dict(files)
    for name, content in secrets.items():
        files[name + ".sealed" if set_key else name] = seal(name + ".sealed", content, set_key) if set_key else content
    members = {key: value for key, value in manifest.members.items() if key != "seal"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        members["files"].append({"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    members["files"].sort(key=lambda entry: entry["name"])
    covered = json.dumps(members, indent=2, ensure_ascii=False).encode().removesuffix(b"\n}") + b",\n"
    manifest.covered = covered
    sha256, hmac = manifest.sha256(), manifest.hmac(set_key) if set_key else ""
    keys = ", ".join(f'"{key}"' for key in manifest.seal["keys"])
    line = f'  "seal": {{"sha256": "{sha256}", "hmac_sha256": "{hmac}", "keys": [{keys}]}}\n}}\n'
    (folder / "manifest.json").write_bytes(covered + line.encode())
