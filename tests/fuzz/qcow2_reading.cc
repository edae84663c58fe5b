// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: the disk that an image shows (engine/io/qcow2_layer.h), with its backing file left out. The input is the image
// (memory_check.h, unpacked), which the layer gets as a file in memory; of a large disk its first and its last pieces are read.
// Promised: the same bytes in whatever pieces they are read, zeroes where an extent says zero; and of an image that the check
// calls sound no read fails.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "engine/io/fault.h"
#include "engine/io/image_bytes.h"
#include "engine/io/qcow2_layer.h"
#include "formats/is_zero.h"
#include "formats/qcow2_format.h"
#include "tests/fuzz/memory_check.h"

namespace nasbackup {
namespace {

using fuzz::accepted;
using fuzz::require;

constexpr std::uint64_t kWhole = 256u << 10, kStretch = 64u << 10;

/// A file with these bytes that has no name.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes) : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    const ssize_t written = ::write(file_.get(), bytes.data(), bytes.size());
    require(written >= 0 && static_cast<std::size_t>(written) == bytes.size(), "the machine has memory for a file");
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

 private:
  FileDescriptor file_;
};

std::unique_ptr<crypto::AesXts> cipher_of(const qcow2::HeaderFacts& header) {
  static const std::vector<std::byte> key = [] {
    std::vector<std::byte> bytes(64);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    return bytes;
  }();
  return header.crypt_method == qcow2::kCryptLuks ? std::make_unique<crypto::AesXts>(key) : nullptr;
}

class Reading {
 public:
  Reading(const ImageLayer& layer, GuestRange range) : layer_(layer), range_(range) {}

  /// Whether all of it could be read.
  bool run() {
    fuzz::GuardedRoom whole(range_.length);
    const bool good = read(range_, whole.bytes());
    require(in_pieces(whole.bytes(), good) == good, "what can be read can be read in pieces");
    if (good) require_extents(whole.bytes());
    return good;
  }

 private:
  bool read(GuestRange range, std::span<std::byte> into) {
    return accepted<Fault>([&] { return layer_.read(range.start, into), true; }).has_value();
  }

  bool in_pieces(std::span<const std::byte> whole, bool good) {
    constexpr std::uint64_t kPiece = 3 * 512 + 1;
    std::vector<std::byte> piece(kPiece);
    for (std::uint64_t done = 0; done < range_.length;) {
      const auto into = std::span(piece).first(std::min(kPiece, range_.length - done));
      if (!read({range_.start + done, into.size()}, into)) return false;
      if (good)
        require(std::equal(into.begin(), into.end(), whole.begin() + static_cast<std::ptrdiff_t>(done)), "pieces are the whole");
      done += into.size();
    }
    return true;
  }

  void require_extents(std::span<const std::byte> whole) {
    for (std::uint64_t done = 0; done < range_.length;) {
      const Extent extent = layer_.extent(range_.start + done, range_.length - done, 4096);
      require(
          extent.range.start == range_.start + done && extent.range.length != 0 && extent.range.length <= range_.length - done,
          "an extent lies in what was asked for");
      if (extent.kind == ExtentKind::zero)
        require(is_zero(whole.subspan(done, extent.range.length)), "an extent that is called zero is zero");
      done += extent.range.length;
    }
  }

  const ImageLayer& layer_;
  GuestRange range_;
};

bool read_disk(const ImageLayer& layer) {
  if (layer.size() <= kWhole) return Reading(layer, {GuestOffset(0), layer.size()}).run();
  return Reading(layer, {GuestOffset(0), kStretch}).run() &&
         Reading(layer, {GuestOffset(layer.size() - kStretch), kStretch}).run();
}

bool is_sound(std::span<const std::byte> image) {
  auto check = accepted([&] { return fuzz::check_tables(image); });
  return check && fuzz::check_streams(image, *check) && fuzz::is_clean(*check);
}

void run(std::span<const std::byte> image) {
  const auto header = accepted([&] { return qcow2::parse_header(image.first(std::min(image.size(), qcow2::kHeaderReadBytes))); });
  if (!header || !accepted([&] { return qcow2::require_readable(*header), true; })) return;
  if (header->compression_type == qcow2::kZstd && !is_built_in(Codec::zstd)) return;
  const MemoryFile file(image);
  const bool good =
      accepted<Fault>([&] {
        const Qcow2Layer layer(std::make_unique<ImageBytes>(file.path(), nullptr), *header, cipher_of(*header), nullptr);
        return read_disk(layer);
      }).value_or(false);
  if (!good) require(!is_sound(image), "what the check calls sound can be read");
}

}  // namespace
}  // namespace nasbackup

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::run(nasbackup::fuzz::unpacked(nasbackup::fuzz::bytes_of(data, size)));
  return 0;
}
