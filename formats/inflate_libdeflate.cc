// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Inflate by libdeflate, the fast one. A decoder is used by one thread at a time.
#include <new>

#include <libdeflate.h>

#include "formats/decoders.h"

namespace nasbackup {

namespace {
struct Free {
  void operator()(libdeflate_decompressor* it) const noexcept { libdeflate_free_decompressor(it); }
};

class LibdeflateDecoder final : public Decompressor {
 public:
  LibdeflateDecoder() : decoder_(libdeflate_alloc_decompressor()), reference_(make_zlib_decoder()) {
    if (!decoder_) throw std::bad_alloc();
  }

  // Without a place for the output's size the call succeeds only when the cluster is filled exactly. Whatever else it says,
  // the stream may be one that does not end, and zlib has the better words when it is broken.
  std::size_t decompress(std::span<const std::byte> stored, std::span<std::byte> cluster) override {
    std::size_t used = 0;
    const auto outcome = libdeflate_deflate_decompress_ex(decoder_.get(), stored.data(), stored.size(), cluster.data(),
                                                          cluster.size(), &used, nullptr);
    return outcome == LIBDEFLATE_SUCCESS ? used : reference_->decompress(stored, cluster);
  }

 private:
  std::unique_ptr<libdeflate_decompressor, Free> decoder_;
  std::unique_ptr<Decompressor> reference_;
};
}  // namespace

std::unique_ptr<Decompressor> make_libdeflate_decoder() { return std::make_unique<LibdeflateDecoder>(); }

}  // namespace nasbackup
