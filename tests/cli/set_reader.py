# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A reader of sets that was written from docs/formats alone: manifest, seal, digest files, sealed files, and the LUKS1 headers
whose volume keys open them. Shares nothing with the program; its ciphers are those of python3-cryptography and python3-xxhash."""
import hashlib
import hmac
import json
import struct
from pathlib import Path

import xxhash
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEAL = b'\n  "seal": '
ZERO, DATA = 0, 1


def hkdf(key, salt, info):
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


class Manifest:
    """manifest.json: its members, and the bytes that its seal covers."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.text = (self.folder / "manifest.json").read_bytes()
        self.members = json.loads(self.text)
        self.covered = self.text[: self.text.index(SEAL) + 1]
        self.seal = self.members["seal"]

    def __getitem__(self, key):
        return self.members[key]

    def sha256(self):
        return hashlib.sha256(self.covered).hexdigest()

    def hmac(self, set_key):
        return hmac.new(set_key, self.covered, hashlib.sha256).hexdigest()

    def set_keys(self, passphrase):
        """The set key as each image's volume key gives it."""
        keys = []
        for disk, wrapped in zip(self["disks"], map(bytes.fromhex, self.seal["keys"]), strict=True):
            outer = volume_key(self.folder / disk["file"], passphrase)
            salt, nonce, sealed = wrapped[:32], wrapped[32:44], wrapped[44:]
            keys.append(AESGCM(hkdf(outer, salt, b"nasbackup set key 1")).decrypt(nonce, sealed, None))
        return keys


class DigestFile:
    """NAME.digests: one entry for each piece, None for zeroes or the tag."""

    def __init__(self, path):
        data = Path(path).read_bytes()
        header = struct.unpack_from(">8sIIQQ32s16s", data)
        magic, version, self.kind, self.piece_size, self.virtual_size, self.salt, reserved = header
        assert (magic, version, reserved) == (b"nbdigest", 1, bytes(16))
        self.root = data[-32:]
        assert self.root == hashlib.sha256(data[:-32]).digest(), "root"
        index_offset, count = struct.unpack(">QQ", data[-48:-32])
        index = [struct.unpack_from(">QQ", data, index_offset + 16 * i) for i in range(count)]
        assert index_offset + 16 * count == len(data) - 48
        self.pieces, at = [], 80
        for first, offset in index:
            assert (first, offset) == (len(self.pieces), at), "index"
            at = self.read_segment(data, at)
        assert at == index_offset
        assert len(self.pieces) == -(-self.virtual_size // self.piece_size)

    def read_segment(self, data, at):
        runs, tags = struct.unpack_from(">II", data, at)
        words = struct.unpack_from(f">{runs}Q", data, at + 8)
        at += 8 + 8 * runs
        for word in words:
            kind, count = word >> 56, word & (1 << 56) - 1
            assert kind in (ZERO, DATA) and count > 0
            for _ in range(count):
                self.pieces.append(data[at:at + 16] if kind == DATA else None)
                at += 16 if kind == DATA else 0
                tags -= 1 if kind == DATA else 0
        assert tags == 0
        return at

    def of(self, disk, key=None):
        """What the pieces of these bytes are, by the kind of this file. `key`: the volume key."""
        gmac = AESGCM(hkdf(key, self.salt, b"nasbackup digest file 1")) if self.kind == 2 else None
        expected = []
        for number, start in enumerate(range(0, len(disk), self.piece_size)):
            piece = disk[start:start + self.piece_size].ljust(self.piece_size, b"\0")
            if not piece.strip(b"\0"):
                expected.append(None)
            elif gmac:
                expected.append(gmac.encrypt(bytes(4) + number.to_bytes(8, "big"), b"", piece))
            else:
                expected.append(xxhash.xxh3_128_digest(piece))
        return expected


def unseal(path, set_key):
    data = Path(path).read_bytes()
    assert data[:16] == b"nbsealed" + struct.pack(">II", 1, 0)
    key = hkdf(set_key, data[16:48], b"nasbackup sealed file 1")
    return AESGCM(key).decrypt(bytes(12), data[48:], data[:48] + Path(path).name.encode())


# ---- LUKS1 -----------------------------------------------------------------------------------------------------------------------

def luks_header(path):
    """The bytes of an image's LUKS header, and behind it."""
    data = Path(path).read_bytes()
    if data[:6] == b"LUKS\xba\xbe":
        return data
    assert data[:4] == b"QFI\xfb"
    at = struct.unpack_from(">I", data, 100)[0]
    while True:
        kind, length = struct.unpack_from(">II", data, at)
        assert kind != 0, "no encryption header extension"
        if kind == 0x0537BE77:
            return data[struct.unpack_from(">Q", data, at + 8)[0]:]
        at += 8 + (length + 7) // 8 * 8


def luks_uuid(path):
    return luks_header(path)[168:208].rstrip(b"\0").decode()


def volume_key(path, passphrase):
    """Of the first slot that the passphrase opens."""
    header = luks_header(path)
    size, digest, salt, iterations = struct.unpack_from(">I20s32sI", header, 108)
    for slot in range(8):
        active, count, slot_salt, sector, stripes = struct.unpack_from(">II32sII", header, 208 + 48 * slot)
        if active != 0x00AC71F3:
            continue
        key = hashlib.pbkdf2_hmac("sha256", passphrase, slot_salt, count, size)
        found = af_merge(decrypt(key, header[sector * 512: sector * 512 + size * stripes]), size)
        if hashlib.pbkdf2_hmac("sha256", found, salt, iterations, 20) == digest:
            return found
    raise ValueError("the passphrase opens no slot")


def decrypt(key, data):
    plain = b""
    for number in range(-(-len(data) // 512)):
        cipher = Cipher(algorithms.AES(key), modes.XTS(number.to_bytes(16, "little"))).decryptor()
        plain += cipher.update(data[512 * number: 512 * number + 512])
    return plain


def af_merge(material, size):
    folded = bytes(size)
    stripes = [material[at:at + size] for at in range(0, len(material), size)]
    for stripe in stripes[:-1]:
        folded = diffuse(xor(folded, stripe))
    return xor(folded, stripes[-1])


def diffuse(block):
    parts = [block[at:at + 32] for at in range(0, len(block), 32)]
    return b"".join(hashlib.sha256(struct.pack(">I", number) + part).digest()[:len(part)] for number, part in enumerate(parts))


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))
