// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_check.h.
#include "formats/qcow2_check.h"

#include <algorithm>
#include <span>
#include <string>

#include "formats/format_error.h"
#include "formats/luks_header_reader.h"
#include "formats/qcow2_check_bitmaps.h"
#include "formats/qcow2_check_snapshots.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_stored_refcounts.h"
#include "formats/units.h"

namespace nasbackup::qcow2 {

namespace {

void repair_header_bits(CheckedImage& image) {
  if (image.header.version == 2) return;
  const std::pair<std::uint64_t, Be64> right{offsetof(Header, incompatible_features),
                                             image.header.incompatible_features & ~(kIncompatDirty | kIncompatCorrupt)};
  image.replace_words(0, std::span(&right, 1));
}

void check_header_bits(CheckedImage& image) {
  const CheckHeader& header = image.header;
  const TableEntry incompatible{Table::header, 0, header.incompatible_features, offsetof(Header, incompatible_features)};
  if ((header.incompatible_features & kIncompatCorrupt) != 0)
    image.findings.corrupt(incompatible, "the image is marked as corrupt");
  if ((header.incompatible_features & kIncompatDirty) != 0)
    image.findings.add(FindingKind::note, incompatible, "the image is marked as dirty: it was not closed");
  if ((header.autoclear_features & ~kAutoclearKnown) != 0)
    image.findings.add(FindingKind::note, {Table::header, 0, header.autoclear_features, offsetof(Header, autoclear_features)},
                       "autoclear features that are not known");
  if (header.virtual_size % kSectorSize != 0)
    image.findings.add(FindingKind::note, {Table::header, 0, header.virtual_size, offsetof(Header, size)},
                       "the virtual size is no multiple of 512: QEMU does not show the rest");
}

/// Its content too: of an image whose LUKS header is broken no data can be read.
void check_luks_header(CheckedImage& image) {
  const CheckHeader& header = image.header;
  if (header.crypto_bytes == 0) return;
  const TableEntry pointer{Table::luks_header, 0, header.crypto_offset, header.crypto_offset};
  image.claim_metadata(pointer, header.crypto_offset, header.crypto_bytes);
  std::vector<std::byte> start(sizeof(luks::Phdr));
  image.read(header.crypto_offset, start);
  try {
    luks::parse_header(start, header.crypto_bytes, luks::Place::in_qcow2);
  } catch (const FormatError& error) {
    image.findings.corrupt(pointer, error.what());
  }
}

}  // namespace

MetadataCheck check_metadata(const ReadUpTo& read, std::uint64_t file_size, const CheckHeader& header,
                             const RepairRequest* repair, std::size_t most_bytes) {
  MetadataCheck result;
  ClusterMap map(div_round_up(file_size, header.cluster_size) + 1, most_bytes);  // a reference may reach a bit beyond the file
  CheckedImage image{read, file_size, header, result.findings, map, repair};
  check_header_bits(image);

  // All metadata first, so that guest data that lies on it is seen when it comes.
  image.claim_metadata({Table::header, 0, 0, 0}, 0, std::min(header.cluster_size, file_size));
  const std::vector<L1Table> l1_tables = find_l1_tables(image);
  StoredRefcounts stored(image);
  check_luks_header(image);
  check_bitmaps(image);
  TableWalk walk(image, stored);
  walk.take_l1_tables(l1_tables);

  stored.mark_ones();
  walk.walk_l2_tables();
  // From here on the references are complete.
  stored.compare();

  if (image.repairs(RepairRound::header_bits)) repair_header_bits(image);

  const std::uint64_t marked = (header.incompatible_features & kIncompatCorrupt) != 0;
  result.only_header_bits = result.findings.count(FindingKind::corruption) == marked &&
                            result.findings.count(FindingKind::leak) == 0 && result.findings.count(FindingKind::check_error) == 0;
  result.refcount_mismatches = stored.mismatches();
  result.image_end = stored.image_end();
  result.total_clusters = div_round_up(round_down(header.virtual_size, kSectorSize), header.cluster_size);
  result.clusters = walk.statistics();
  result.compressed_pieces = walk.compressed_pieces();
  return result;
}

}  // namespace nasbackup::qcow2
