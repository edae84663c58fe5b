// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Frames of zstd (RFC 8878) until the cluster is full, as qemu does it. A decoder is used by one thread at a time.
#include <new>

#include <zstd.h>

#include "formats/decoders.h"
#include "formats/format_error.h"

namespace nasbackup {

namespace {
struct Free {
  void operator()(ZSTD_DCtx* it) const noexcept { ZSTD_freeDCtx(it); }
};

std::size_t checked(std::size_t outcome) {
  if (ZSTD_isError(outcome)) throw FormatError(std::string("compressed cluster: no zstd frame: ") + ZSTD_getErrorName(outcome));
  return outcome;
}

class ZstdDecoder final : public Decompressor {
 public:
  ZstdDecoder() : context_(ZSTD_createDCtx()) {
    if (!context_) throw std::bad_alloc();
  }

  // Whole frames at a time: unlike the streaming call this one needs no window of its own, however large a frame says that
  // its window is. A frame that is cut off or overfills the cluster is an error in both ways.
  std::size_t decompress(std::span<const std::byte> stored, std::span<std::byte> cluster) override {
    const std::size_t given = stored.size();
    for (std::size_t done = 0; done < cluster.size();) {
      if (stored.empty())
        throw FormatError("compressed cluster: zstd frames too short: " + std::to_string(done) + " bytes of " +
                          std::to_string(cluster.size()));
      const std::size_t frame = checked(ZSTD_findFrameCompressedSize(stored.data(), stored.size()));
      const auto rest = cluster.subspan(done);
      done += checked(ZSTD_decompressDCtx(context_.get(), rest.data(), rest.size(), stored.data(), frame));
      stored = stored.subspan(frame);
    }
    return given - stored.size();
  }

 private:
  std::unique_ptr<ZSTD_DCtx, Free> context_;
};
}  // namespace

std::unique_ptr<Decompressor> make_zstd_decoder() { return std::make_unique<ZstdDecoder>(); }

}  // namespace nasbackup
