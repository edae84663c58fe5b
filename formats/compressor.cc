// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Picks the encoder; see compressor.h.
#include "formats/compressor.h"

#include <cassert>

#include "formats/deflate_plan.h"
#include "formats/encoders.h"
#include "formats/format_error.h"

namespace nasbackup {

namespace {
std::unique_ptr<Compressor> make_deflate_encoder(const DeflatePlan& plan, [[maybe_unused]] std::size_t cluster_size) {
  switch (plan.library) {
#ifdef NASBACKUP_HAVE_ISAL
    case DeflateLibrary::igzip:
      return make_igzip_encoder(plan.level, plan.history_bits, cluster_size);
#endif
#ifdef NASBACKUP_HAVE_LIBDEFLATE
    case DeflateLibrary::libdeflate:
      return make_libdeflate_encoder(plan.level);
#endif
    default:
      return make_zlib_encoder(plan.level, plan.history_bits);
  }
}
}  // namespace

std::size_t compressor_bytes(const Compression& compression, std::size_t cluster_size) {
  constexpr std::size_t kUsual = 2u << 20, kOptimal = 10u << 20;  // libdeflate's levels from 8 on parse for the optimum
  if (compression.level == Level::automatic)
    return compressor_bytes(ladder_of(compression.codec).back().compression, cluster_size);
#ifdef NASBACKUP_HAVE_ZSTD
  if (compression.codec == Codec::zstd) return zstd_encoder_bytes(compression, cluster_size);
#endif
  return compression.level == Level::number && compression.number == kDeflateLevels ? kOptimal : kUsual;
}

std::unique_ptr<Compressor> make_compressor(const Compression& compression, std::size_t cluster_size) {
  assert(compression.level != Level::automatic);
  if (!is_built_in(compression.codec)) throw FormatError("compression: not built in: " + std::string(name_of(compression.codec)));
#ifdef NASBACKUP_HAVE_ZSTD
  if (compression.codec == Codec::zstd) return make_zstd_encoder(compression, cluster_size);
#endif
  return make_deflate_encoder(plan_deflate(compression), cluster_size);
}

}  // namespace nasbackup
