// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Deflate by zlib, the reference: where the faster libraries are not installed. An encoder is used by one thread at a time.
#include <new>

#include <zlib.h>

#include "formats/encoders.h"

namespace nasbackup {

namespace {
constexpr int kMemoryLevel = 9;  // as qemu

class ZlibEncoder final : public Compressor {
 public:
  ZlibEncoder(int level, int history_bits) {
    if (deflateInit2(&stream_, level, Z_DEFLATED, -history_bits, kMemoryLevel, Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::bad_alloc();
  }
  ~ZlibEncoder() override { deflateEnd(&stream_); }
  ZlibEncoder(const ZlibEncoder&) = delete;
  ZlibEncoder& operator=(const ZlibEncoder&) = delete;

  std::size_t compress(std::span<const std::byte> cluster, std::span<std::byte> into) override {
    deflateReset(&stream_);
    stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(cluster.data()));
    stream_.avail_in = static_cast<uInt>(cluster.size());
    stream_.next_out = reinterpret_cast<Bytef*>(into.data());
    stream_.avail_out = static_cast<uInt>(into.size());
    return deflate(&stream_, Z_FINISH) == Z_STREAM_END ? into.size() - stream_.avail_out : 0;
  }

 private:
  z_stream stream_{};
};
}  // namespace

std::unique_ptr<Compressor> make_zlib_encoder(int level, int history_bits) {
  return std::make_unique<ZlibEncoder>(level, history_bits);
}

}  // namespace nasbackup
