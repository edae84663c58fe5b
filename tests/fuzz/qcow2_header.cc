// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: header and header extensions of a qcow2, for the reader and for the check. The input is the file's beginning.
// Promised: what comes out is bounded; what the check takes the reader takes too, unless it is of a kind that is not read; and
// a header that we write of the same facts says the same.
#include <bit>

#include "formats/qcow2_check_header.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_geometry.h"
#include "formats/qcow2_header.h"
#include "formats/qcow2_header_reader.h"
#include "formats/qcow2_mapping.h"
#include "formats/units.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::qcow2 {
namespace {

using fuzz::accepted;
using fuzz::require;

bool is_readable(const HeaderFacts& facts) {
  return accepted([&] { return require_readable(facts), true; }).has_value();
}

void require_bounds(const HeaderFacts& facts) {
  require(facts.version == 2 || facts.version == 3, "the version is one of two");
  require(std::has_single_bit(facts.cluster_size) && facts.cluster_size >= 512 && facts.cluster_size <= 2u << 20,
          "the cluster size is a cluster size");
  require(std::uint64_t{facts.l1_entries} * sizeof(Be64) <= kMaxL1Bytes, "L1 is bounded");
  require(facts.backing_file.size() <= kMaxBackingName && facts.backing_format.size() < facts.cluster_size, "names are bounded");
  require((facts.crypt_method == kCryptLuks) == (facts.crypto_header_length != 0), "a LUKS header is there when it is needed");
  require(facts.crypto_header_offset % facts.cluster_size == 0 && facts.crypto_header_length <= kMaxCryptoHeaderBytes,
          "the LUKS header's place is bounded");
}

void require_agreement(const CheckHeader& check, const HeaderFacts& facts) {
  require(check.virtual_size == facts.virtual_size && check.cluster_size == facts.cluster_size &&
              check.l1_offset == facts.l1_offset && check.l1_entries == facts.l1_entries,
          "check and reader read the same");
  require(check.cluster_size == std::uint64_t{1} << check.cluster_bits, "cluster bits and size agree");
  require(check.refcount_table_clusters * check.cluster_size <= kMaxRefcountTableBytes, "the refcount table is bounded");
  require(check.bitmap_directory_bytes <= kMaxBitmapDirectoryBytes, "the bitmap directory is bounded");
  if (!check.has_data_file && check.crypt_method != kCryptAes) require(is_readable(facts), "what can be checked can be read");
}

void write_again(const HeaderFacts& facts) {
  const auto geometry =
      accepted([&] { return Geometry::of(facts.virtual_size, facts.cluster_size, facts.crypto_header_length); });
  if (!geometry) return;  // too large for a writer
  const bool zstd = facts.compression_type == kZstd && facts.crypt_method == kCryptNone;
  const std::vector<std::byte> cluster = header_cluster(*geometry, zstd ? kZstd : kZlib);
  const HeaderFacts again = parse_header(cluster);
  require(again.virtual_size == round_up(facts.virtual_size, kSectorSize) && again.cluster_size == facts.cluster_size,
          "the sizes are written as they were read");
  require(again.crypto_header_length == facts.crypto_header_length && (again.compression_type == kZstd) == zstd,
          "the kind is written as it was read");
  require(is_readable(again), "what we write can be read");
  require_agreement(parse_check_header(cluster), again);
}

void run(std::span<const std::byte> start) {
  const auto facts = accepted([&] { return parse_header(start); });
  const auto check = accepted([&] { return parse_check_header(start); });
  require(!check || facts, "what the check takes the reader takes");
  if (!facts) return;
  require_bounds(*facts);
  if (check) require_agreement(*check, *facts);
  if (is_readable(*facts) && facts->cluster_size <= 64u << 10) write_again(*facts);
}

}  // namespace
}  // namespace nasbackup::qcow2

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::qcow2::run(nasbackup::fuzz::bytes_of(data, size));
  return 0;
}
