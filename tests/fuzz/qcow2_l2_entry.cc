// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: what L1 and L2 entries say. The input: a byte of flags (version 2, extended L2, encrypted), one of cluster bits,
// then the table's words. Promised: an offset is where a cluster or subcluster can be, and a stream is as long as the check says.
#include <cstring>

#include "formats/qcow2_compressed_range.h"
#include "formats/qcow2_mapping.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::qcow2 {
namespace {

using fuzz::accepted;
using fuzz::require;

struct Rules {
  HeaderFacts header;
  unsigned cluster_bits;
};

Rules rules_of(fuzz::Input& input) {
  const unsigned flags = input.byte();
  HeaderFacts header;
  header.version = (flags & 1) != 0 ? 2 : 3;
  header.extended_l2 = (flags & 2) != 0;
  header.crypt_method = (flags & 4) != 0 ? kCryptLuks : kCryptNone;
  const unsigned least = header.extended_l2 ? kMinClusterBitsExtendedL2 : kMinClusterBits;
  const unsigned bits = least + input.byte() % (kMaxClusterBits - least + 1);
  header.cluster_size = std::uint64_t{1} << bits;
  return {header, bits};
}

void require_place(const Mapping& found, std::uint64_t entry, const Rules& rules, const EntryRules& entries) {
  const std::uint64_t at = found.at.value;
  if (found.kind == Mapping::Kind::plain) {
    require(at != 0 && at % entries.subcluster_size() == 0 && at < std::uint64_t{1} << 56, "plain data is at a subcluster");
    require(at - at % entries.cluster_size() == (entry & kEntryOffsetMask), "plain data is in the cluster that the entry names");
  } else if (found.kind == Mapping::Kind::compressed) {
    const CompressedRange range = CompressedRange::of(entry, rules.cluster_bits);
    require(at == range.offset && found.stored == range.bytes, "reader and check find one stream");
    require(at != 0 && found.stored > 0 && found.stored <= 2 * entries.cluster_size(), "a stream is bounded");
    require(rules.header.crypt_method == kCryptNone, "a stream in an encrypted image is refused");
  } else {
    require(at == 0 && found.stored == 0, "what is not stored has no place");
  }
}

void run(fuzz::Input input) {
  const Rules rules = rules_of(input);
  const EntryRules entries(rules.header);
  std::vector<Be64> table(std::min<std::size_t>(input.rest().size() / sizeof(Be64), 6));
  if (!table.empty()) std::memcpy(static_cast<void*>(table.data()), input.rest().data(), table.size() * sizeof(Be64));
  const std::size_t step = rules.header.extended_l2 ? 2 : 1;
  for (std::size_t i = 0; i + step <= table.size(); i += step) {
    const std::uint64_t entry = table[i];
    if (const auto offset = accepted([&] { return entries.table_offset(i, entry); }))
      require(offset->value % entries.cluster_size() == 0, "an L2 table is at a cluster");
    for (unsigned sub = 0; sub * entries.subcluster_size() < entries.cluster_size(); ++sub) {
      const GuestOffset at(i / step * entries.cluster_size() + sub * entries.subcluster_size());
      if (const auto found = accepted([&] { return entries.mapping(table, at); })) require_place(*found, entry, rules, entries);
    }
  }
}

}  // namespace
}  // namespace nasbackup::qcow2

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::qcow2::run(nasbackup::fuzz::Input(nasbackup::fuzz::bytes_of(data, size)));
  return 0;
}
