// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Inflate by zlib: the reference, which decides what is read. A decoder is used by one thread at a time.
#include <new>

#include <zlib.h>

#include "formats/decoders.h"
#include "formats/format_error.h"

namespace nasbackup {

namespace {
class ZlibDecoder final : public Decompressor {
 public:
  ZlibDecoder() {
    if (inflateInit2(&stream_, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  ~ZlibDecoder() override { inflateEnd(&stream_); }
  ZlibDecoder(const ZlibDecoder&) = delete;
  ZlibDecoder& operator=(const ZlibDecoder&) = delete;

  // Z_BUF_ERROR is a stream that would go on, which qemu takes as well once the cluster is full.
  std::size_t decompress(std::span<const std::byte> stored, std::span<std::byte> cluster) override {
    inflateReset(&stream_);
    stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(stored.data()));
    stream_.avail_in = static_cast<uInt>(stored.size());
    stream_.next_out = reinterpret_cast<Bytef*>(cluster.data());
    stream_.avail_out = static_cast<uInt>(cluster.size());
    const int outcome = inflate(&stream_, Z_FINISH);
    if (outcome == Z_MEM_ERROR) throw std::bad_alloc();
    if (outcome != Z_STREAM_END && outcome != Z_BUF_ERROR)
      throw FormatError(std::string("compressed cluster: no deflate stream: ") + (stream_.msg ? stream_.msg : zError(outcome)));
    if (stream_.avail_out != 0)
      throw FormatError("compressed cluster: deflate stream too short: " + std::to_string(cluster.size() - stream_.avail_out) +
                        " bytes of " + std::to_string(cluster.size()));
    return outcome == Z_STREAM_END ? stored.size() - stream_.avail_in : 0;
  }

 private:
  z_stream stream_{};
};
}  // namespace

std::unique_ptr<Decompressor> make_zlib_decoder() { return std::make_unique<ZlibDecoder>(); }

}  // namespace nasbackup
