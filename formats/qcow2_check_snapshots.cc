// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_check_snapshots.h. The limits are those of qcow2_do_read_snapshots (QEMU block/qcow2-snapshot.c).
#include "formats/qcow2_check_snapshots.h"

#include <optional>
#include <span>
#include <string>

#include "formats/qcow2_format.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

TableEntry pointer_at(const CheckedImage& image, std::uint64_t index, const SnapshotHead& head, std::uint64_t at) {
  return {Table::snapshot_table, index, head.l1_table_offset, image.header.snapshots_offset + at};
}

/// Bytes that the entry takes; nothing when the table cannot go on behind it.
std::optional<std::uint64_t> length_of(CheckedImage& image, const TableEntry& pointer, const SnapshotHead& head) {
  if (head.extra_data_size > kMaxSnapshotExtra) {
    image.findings.add(FindingKind::check_error, pointer, "extra data of " + std::to_string(head.extra_data_size) + " bytes");
    return std::nullopt;
  }
  if (image.header.version >= 3 && head.extra_data_size < kSnapshotExtraV3)
    image.findings.corrupt(pointer, "extra data of " + std::to_string(head.extra_data_size) + " bytes, version 3 has 16 or more");
  return sizeof head + head.extra_data_size + head.id_size + head.name_size;
}

void take_l1(CheckedImage& image, const TableEntry& pointer, const SnapshotHead& head, std::vector<L1Table>& tables) {
  if (!image.header.is_aligned(head.l1_table_offset))
    image.findings.corrupt(pointer, "the snapshot's L1 table is not aligned to a cluster");
  else if (head.l1_size > kMaxL1Bytes / sizeof(Be64))
    image.findings.corrupt(pointer, "the snapshot's L1 table has " + std::to_string(head.l1_size) + " entries: too many");
  else
    return tables.push_back({pointer, head.l1_table_offset, head.l1_size, false});
  image.references_unknown = true;
}

struct Walked {
  std::uint64_t bytes = 0;  // of the table, from its beginning, as far as it was read
  bool complete = false;
};

Walked walk(CheckedImage& image, std::vector<L1Table>& tables) {
  std::uint64_t at = 0;
  for (std::uint32_t i = 0; i < image.header.snapshots; ++i) {
    at = round_up(at, 8);
    if (image.header.snapshots_offset + at >= image.file_size) {  // else it would be as many empty entries as it is said to have
      image.findings.corrupt({Table::snapshot_table, i, 0, image.header.snapshots_offset + at},
                             "lies beyond the end of the file");
      return {at, false};
    }
    SnapshotHead head;
    image.read(image.header.snapshots_offset + at, std::as_writable_bytes(std::span(&head, 1)));
    const TableEntry pointer = pointer_at(image, i, head, at);
    const auto length = length_of(image, pointer, head);
    if (!length) return {at + sizeof head, false};
    at += *length;
    if (at > kMaxSnapshotsBytes) {
      image.findings.add(FindingKind::check_error, pointer, "the snapshot table is larger than 64 MiB");
      return {at, false};
    }
    take_l1(image, pointer, head, tables);
  }
  return {at, true};
}

}  // namespace

std::vector<L1Table> find_l1_tables(CheckedImage& image) {
  const CheckHeader& header = image.header;
  const TableEntry active{Table::header, 0, header.l1_offset, offsetof(Header, l1_table_offset)};
  std::vector<L1Table> tables{{active, header.l1_offset, header.l1_entries, true}};
  if (header.snapshots == 0) return tables;
  const TableEntry pointer{Table::header, 0, header.snapshots_offset, offsetof(Header, snapshots_offset)};
  const Walked walked = walk(image, tables);
  image.claim_metadata(pointer, header.snapshots_offset, walked.bytes);
  if (!walked.complete) image.references_unknown = true;
  if (!header.has_data_file) return tables;
  image.findings.corrupt(pointer, "there are snapshots in an image with an external data file");
  tables.resize(1);
  return tables;
}

}  // namespace nasbackup::qcow2
