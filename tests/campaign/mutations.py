# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Where a qcow2 has which field, and changes of one of them. The places are found in the image as it is, by the specification; a mutation is
a function of the image's bytes and a random source alone."""

OFFSET = 0x00fffffffffffe00
HEADER_V2 = [("magic", 0, 4), ("version", 4, 4), ("backing_file_offset", 8, 8), ("backing_file_size", 16, 4), ("cluster_bits", 20, 4), ("size", 24, 8),
             ("crypt_method", 32, 4), ("l1_size", 36, 4), ("l1_table_offset", 40, 8), ("refcount_table_offset", 48, 8), ("refcount_table_clusters", 56, 4),
             ("nb_snapshots", 60, 4), ("snapshots_offset", 64, 8)]
HEADER_V3 = [("incompatible_features", 72, 8), ("compatible_features", 80, 8), ("autoclear_features", 88, 8), ("refcount_order", 96, 4),
             ("header_length", 100, 4), ("compression_type", 104, 1)]
EXTENSIONS = {0xe2792aca: "backing format", 0x6803f857: "feature names", 0x0537be77: "LUKS header pointer", 0x23852875: "bitmaps", 0x44415441: "data file"}


class Fields:
    """The places of an image: {class: [(offset, width)]}. A width is 1, 2, 4 or 8 bytes."""

    def __init__(self, image):
        self.image = image
        self.places = {}
        self.used = set()  # clusters that any table names
        self.bits = self.number(20, 4)
        self.cluster = 1 << self.bits
        self.version = self.number(4, 4)
        self.extended = self.version > 2 and self.number(72, 8) >> 4 & 1
        self.header()
        self.tables()
        self.snapshots()
        self.refcounts()
        self.free_space()

    def number(self, offset, width):
        return int.from_bytes(self.image[offset:offset + width], "big")

    def add(self, kind, offset, width=8):
        if offset + width <= len(self.image):
            self.places.setdefault(kind, []).append((offset, width))

    def use(self, offset, length):
        self.used.update(range(offset >> self.bits, (offset + max(length, 1) - 1 >> self.bits) + 1))

    def header(self):
        self.use(0, 1)
        for name, offset, width in HEADER_V2 + (HEADER_V3 if self.version > 2 else []):
            self.add(f"header: {name}", offset, width)
        at = self.number(100, 4) if self.version > 2 else 72
        while at + 8 <= self.cluster:
            kind, length = self.number(at, 4), self.number(at + 4, 4)
            name = EXTENSIONS.get(kind, "end" if kind == 0 else "other")
            self.add(f"extension: {name}: type", at, 4)
            self.add(f"extension: {name}: length", at + 4, 4)
            if kind == 0:
                break
            for offset in range(at + 8, at + 8 + length, 4):
                self.add(f"extension: {name}: data", offset, 4)
            if name == "LUKS header pointer":
                self.luks(self.number(at + 8, 8), self.number(at + 16, 8))
            if name == "bitmaps":
                self.bitmaps(self.number(at + 24, 8), self.number(at + 16, 8))
            at += 8 + (length + 7) // 8 * 8
        backing, length = self.number(8, 8), self.number(16, 4)
        for offset in range(backing, backing + length):
            self.add("backing file name", offset, 1)

    def luks(self, offset, length):
        self.use(offset, length)
        for at in range(offset, offset + 592, 4):
            self.add("LUKS header", at, 4)
        self.add("LUKS key material", offset + 4096)
        self.add("LUKS key material", offset + 200_000)

    def bitmaps(self, offset, length):
        self.use(offset, length)
        for at in range(offset, offset + length, 4):
            self.add("bitmap directory", at, 4)
        table, entries = self.number(offset, 8), self.number(offset + 8, 4)
        self.use(table, 8 * entries)
        for index in range(entries):
            self.add("bitmap table", table + 8 * index)
            self.use(self.number(table + 8 * index, 8) & OFFSET, 1)

    def tables(self, l1=None, entries=None, prefix=""):
        l1, entries = (self.number(40, 8), self.number(36, 4)) if l1 is None else (l1, entries)
        self.use(l1, 8 * entries)
        for index in range(entries):
            self.add(f"{prefix}L1 entry", l1 + 8 * index)
            l2 = self.number(l1 + 8 * index, 8) & OFFSET
            if l2:
                self.use(l2, self.cluster)
                self.l2(l2, prefix)

    def l2(self, l2, prefix):
        step = 16 if self.extended else 8
        unallocated = 0
        for at in range(l2, l2 + self.cluster, step):
            entry = self.number(at, 8)
            if entry == 0:
                unallocated += 1
                if unallocated < 4:
                    self.add(f"{prefix}L2 entry, unallocated", at)
                continue
            if entry >> 62 & 1:
                self.add(f"{prefix}L2 entry, compressed", at)
                self.compressed(entry)
            else:
                self.add(f"{prefix}L2 entry, {'zero' if entry & 1 else 'plain'}", at)
                self.plain(entry & OFFSET)
            if self.extended:
                self.add(f"{prefix}L2 bitmap", at + 8)

    def compressed(self, entry):
        shift = 62 - (self.bits - 8)
        offset = entry & (1 << shift) - 1
        length = ((entry & (1 << 62) - 1) >> shift) * 512 + 512 - offset % 512
        self.use(offset, length)
        for at in (offset, offset + 1, offset + 8, offset + 16, offset + length // 2):
            self.add("compressed data", at, 1)

    def plain(self, offset):
        if offset:
            self.use(offset, self.cluster)
            self.add("plain data", offset + self.cluster // 2)

    def snapshots(self):
        at = self.number(64, 8)
        for _ in range(self.number(60, 4)):
            l1, entries, id_bytes, name_bytes = self.number(at, 8), self.number(at + 8, 4), self.number(at + 12, 2), self.number(at + 14, 2)
            extra = self.number(at + 36, 4)
            for field, width in (0, 8), (8, 4), (12, 2), (14, 2), (32, 4), (36, 4), (40, 8), (48, 8):
                self.add("snapshot table", at + field, width)
            length = 40 + extra + id_bytes + name_bytes
            self.use(at, length)
            self.tables(l1, entries, "snapshot's ")
            at += (length + 7) // 8 * 8

    def refcounts(self):
        table, clusters = self.number(48, 8), self.number(56, 4)
        self.use(table, clusters << self.bits)
        order = self.number(96, 4) if self.version > 2 else 4
        self.add("refcount table entry, unused", table + (clusters << self.bits) - 8)
        for at in range(table, table + (clusters << self.bits), 8):
            block = self.number(at, 8)
            if not block:
                continue
            self.add("refcount table entry", at)
            self.use(block, self.cluster)
            used = min((len(self.image) >> self.bits) + 8, self.cluster * 8 >> order)
            width = max(1, (1 << order) // 8)
            for offset in range(block, block + max(1, (used << order) // 8), width):
                self.add("refcount block", offset, width)

    def free_space(self):
        for cluster in range(len(self.image) >> self.bits):
            if cluster not in self.used:
                self.add("free space", (cluster << self.bits) + 8)


def values(fields, chance, old, width, others):
    """Numbers that a field of so many bytes can be changed into."""
    most = (1 << 8 * width) - 1
    cluster = chance.randrange(len(fields.image) // fields.cluster + 3) << fields.bits
    end = len(fields.image)
    return [old ^ 1 << chance.randrange(8 * width), old ^ 1 << chance.randrange(8 * width), chance.getrandbits(8 * width), 0, most, old + 1, old - 1, old << 1, old >> 1,
            old ^ 1 << 8 * width - 1, cluster, cluster | 1 << 63, end, end - fields.cluster, old + fields.cluster, old ^ 1 << 62, cluster | 1 << 62,
            fields.number(chance.choice(others)[0], width)]


# Offsets of the whole file; everything else is a place.
CUT = "length of the file"
# What a check must not see, and what changes none of the structure.
OF_NO_CONSEQUENCE = ("free space", "plain data")


def group(kind):
    """Fields that are drawn together: the header has many, and most of what is changed there ends at the door."""
    return kind.split(":")[0]


def mutated(image, chance):
    """(bytes, [what was changed]): one to three changes, every group of fields as likely as any other."""
    fields = Fields(image)
    kinds = [*sorted(fields.places), CUT]
    result = bytearray(image)
    told = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        drawn = chance.choice(sorted({group(kind) for kind in kinds}))
        kind = chance.choice([kind for kind in kinds if group(kind) == drawn])
        if kind == CUT:
            length = max(0, len(result) - chance.choice((1, 511, 512, fields.cluster // 2, fields.cluster, 3 * fields.cluster, -1, -fields.cluster)))
            told.append((kind, 0, len(result), length))
            result = result[:length].ljust(length, b"\0")
            continue
        offset, width = chance.choice(fields.places[kind])
        old = fields.number(offset, width)
        new = chance.choice(values(fields, chance, old, width, fields.places[kind])) & (1 << 8 * width) - 1
        told.append((kind, offset, old, new))
        if offset + width <= len(result):
            result[offset:offset + width] = new.to_bytes(width, "big")
    return bytes(result), told
