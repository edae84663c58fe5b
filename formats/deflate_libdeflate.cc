// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Deflate by libdeflate, the strong one: its history is always 32 KiB. An encoder is used by one thread at a time.
#include <new>

#include <libdeflate.h>

#include "formats/encoders.h"

namespace nasbackup {

namespace {
struct Free {
  void operator()(libdeflate_compressor* it) const noexcept { libdeflate_free_compressor(it); }
};

class LibdeflateEncoder final : public Compressor {
 public:
  explicit LibdeflateEncoder(int level) : encoder_(libdeflate_alloc_compressor(level)) {
    if (!encoder_) throw std::bad_alloc();
  }

  std::size_t compress(std::span<const std::byte> cluster, std::span<std::byte> into) override {
    return libdeflate_deflate_compress(encoder_.get(), cluster.data(), cluster.size(), into.data(), into.size());
  }

 private:
  std::unique_ptr<libdeflate_compressor, Free> encoder_;
};
}  // namespace

std::unique_ptr<Compressor> make_libdeflate_encoder(int level) { return std::make_unique<LibdeflateEncoder>(level); }

}  // namespace nasbackup
