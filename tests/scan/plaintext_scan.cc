// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// plaintext_scan MARK FILE…: looks for a mark in files as it is, in whatever can be read as raw deflate from any byte offset, and
// in whatever can be read as a zstd frame from any byte offset. It knows nothing of our formats, and uses zlib and libzstd alone.
// One line for each kind and file in which something was found: "FILE: KIND at OFFSET". Exit status 0: nothing found, 1: found,
// 2: could not look.
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kDecoded = 16384;  // a marked disk has its mark in each 4 KiB

/// Output is looked through piece by piece, because most of what can be read as deflate is nonsense and ends soon.
class DeflateReader {
 public:
  DeflateReader() {
    if (inflateInit2(&stream_, -MAX_WBITS) != Z_OK) std::abort();
  }
  ~DeflateReader() { inflateEnd(&stream_); }
  DeflateReader(const DeflateReader&) = delete;
  DeflateReader& operator=(const DeflateReader&) = delete;

  std::string_view decode(std::string_view stored) {
    inflateReset(&stream_);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(stored.data()));
    stream_.avail_in = static_cast<uInt>(std::min<std::size_t>(stored.size(), 1u << 20));
    stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
    stream_.avail_out = kDecoded;
    inflate(&stream_, Z_SYNC_FLUSH);
    return {out_.data(), kDecoded - stream_.avail_out};
  }

 private:
  z_stream stream_{};
  std::vector<char> out_ = std::vector<char>(kDecoded);
};

class ZstdReader {
 public:
  std::string_view decode(std::string_view stored) {
    ZSTD_DCtx_reset(context_.get(), ZSTD_reset_session_only);
    ZSTD_inBuffer in{stored.data(), std::min<std::size_t>(stored.size(), 4u << 20), 0};
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    while (out.pos < out.size && in.pos < in.size) {
      const std::size_t before = in.pos + out.pos;
      if (ZSTD_isError(ZSTD_decompressStream(context_.get(), &out, &in)) != 0 || in.pos + out.pos == before) break;
    }
    return {out_.data(), out.pos};
  }

 private:
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_{ZSTD_createDCtx(), &ZSTD_freeDCtx};
  std::vector<char> out_ = std::vector<char>(kDecoded);
};

class Scan {
 public:
  explicit Scan(std::string_view mark) : mark_(mark) {}

  bool look_into(const std::string& name, std::string_view bytes) {
    const std::size_t plain = bytes.find(mark_);
    const bool found_plain = plain != std::string_view::npos && tell(name, "plain", plain);
    const bool found_deflate = look_at_each(name, "deflate", bytes, [&](std::string_view rest) { return deflate_.decode(rest); });
    const bool found_zstd = look_at_each(name, "zstd", bytes, [&](std::string_view rest) {
      return rest.starts_with("\x28\xb5\x2f\xfd") ? zstd_.decode(rest) : std::string_view();
    });
    return found_plain || found_deflate || found_zstd;
  }

 private:
  template <class Decode>
  bool look_at_each(const std::string& name, const char* kind, std::string_view bytes, Decode decode) {
    for (std::size_t at = 0; at < bytes.size(); ++at)
      if (decode(bytes.substr(at)).find(mark_) != std::string_view::npos) return tell(name, kind, at);
    return false;
  }

  static bool tell(const std::string& name, const char* kind, std::size_t at) {
    std::printf("%s: %s at %zu\n", name.c_str(), kind, at);
    return true;
  }

  std::string_view mark_;
  DeflateReader deflate_;
  ZstdReader zstd_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || std::strlen(argv[1]) < 8) {
    std::fprintf(stderr, "plaintext_scan MARK FILE...: a mark of at least 8 bytes\n");
    return 2;
  }
  Scan scan(argv[1]);
  bool found = false;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "%s: cannot be read\n", argv[i]);
      return 2;
    }
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    found = scan.look_into(argv[i], bytes) || found;
  }
  return found ? 1 : 0;
}
