// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// zstd (RFC 8878): one frame for each cluster, with its content checksum, which stock qemu verifies on every read.
// An encoder is used by one thread at a time.
#include <new>

#define ZSTD_STATIC_LINKING_ONLY  // ZSTD_estimateCCtxSize_usingCParams: "stable", and exported
#include <zstd.h>
#include <zstd_errors.h>

#include "formats/encoders.h"
#include "formats/format_error.h"

namespace nasbackup {

namespace {
struct Free {
  void operator()(ZSTD_CCtx* it) const noexcept { ZSTD_freeCCtx(it); }
};

// Why these: docs/performance.md, "Codecs".
int level_of(const Compression& compression) noexcept {
  switch (compression.level) {
    case Level::fast:
      return -1;
    case Level::standard:
      return 2;
    case Level::best:
      return 6;
    default:
      return compression.number;
  }
}

class ZstdEncoder final : public Compressor {
 public:
  explicit ZstdEncoder(const Compression& compression) : context_(ZSTD_createCCtx()) {
    if (!context_) throw std::bad_alloc();
    set(ZSTD_c_compressionLevel, level_of(compression));
    set(ZSTD_c_checksumFlag, 1);
  }

  std::size_t compress(std::span<const std::byte> cluster, std::span<std::byte> into) override {
    const std::size_t size = ZSTD_compress2(context_.get(), into.data(), into.size(), cluster.data(), cluster.size());
    if (ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall) return 0;
    return checked(size);
  }

  /// Reserves now what clusters of this size will need.
  void warm_up(std::size_t cluster_size) {
    const auto blank = std::make_unique<std::byte[]>(cluster_size);
    const auto into = std::make_unique<std::byte[]>(cluster_size);
    compress({blank.get(), cluster_size}, {into.get(), cluster_size});
  }

 private:
  void set(ZSTD_cParameter parameter, int value) { checked(ZSTD_CCtx_setParameter(context_.get(), parameter, value)); }

  static std::size_t checked(std::size_t outcome) {
    if (ZSTD_getErrorCode(outcome) == ZSTD_error_memory_allocation) throw std::bad_alloc();
    if (ZSTD_isError(outcome)) throw FormatError(std::string("zstd: cannot compress: ") + ZSTD_getErrorName(outcome));
    return outcome;
  }

  std::unique_ptr<ZSTD_CCtx, Free> context_;
};
}  // namespace

std::size_t zstd_encoder_bytes(const Compression& compression, std::size_t cluster_size) {
  return ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level_of(compression), cluster_size, 0));
}

std::unique_ptr<Compressor> make_zstd_encoder(const Compression& compression, std::size_t cluster_size) {
  auto encoder = std::make_unique<ZstdEncoder>(compression);
  encoder->warm_up(cluster_size);
  return encoder;
}

}  // namespace nasbackup
