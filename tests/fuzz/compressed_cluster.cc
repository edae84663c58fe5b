// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: compressed clusters. The input: a byte that says codec and cluster size, then what a descriptor points at.
// Promised: nothing is written outside the cluster; what QEMU or the reference reads we read, to the same bytes (the fast decoder
// takes more: codes that deflate reserves); and what was read, compressed again, is read again.
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "formats/compressor.h"
#include "formats/decoders.h"
#include "formats/decompressor.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup {
namespace {

using fuzz::require;

bool decodes(Decompressor& decoder, std::span<const std::byte> stored, std::span<std::byte> cluster) {
  return fuzz::accepted([&] { return decoder.decompress(stored, cluster), true; }).has_value();
}

/// QEMU's rule (block/qcow2-threads.c, qcow2_zlib_decompress).
bool qemu_inflates(std::span<const std::byte> stored, std::span<std::byte> cluster) {
  z_stream stream{};
  require(inflateInit2(&stream, -12) == Z_OK, "the machine has memory for zlib");
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(stored.data()));
  stream.avail_in = static_cast<uInt>(stored.size());
  stream.next_out = reinterpret_cast<Bytef*>(cluster.data());
  stream.avail_out = static_cast<uInt>(cluster.size());
  const int outcome = inflate(&stream, Z_FINISH);
  const bool full = stream.avail_out == 0;
  inflateEnd(&stream);
  return (outcome == Z_STREAM_END || outcome == Z_BUF_ERROR) && full;
}

/// QEMU's rule (block/qcow2-threads.c, qcow2_zstd_decompress).
bool qemu_reads_zstd(std::span<const std::byte> stored, std::span<std::byte> cluster) {
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  ZSTD_inBuffer in{stored.data(), stored.size(), 0};
  ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
  std::size_t outcome = 0;
  while (out.pos < out.size) {
    const std::size_t in_before = in.pos, out_before = out.pos;
    outcome = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(outcome) || (in.pos <= in_before && out.pos <= out_before)) return false;
  }
  return outcome == 0;
}

void compress_again(Codec codec, std::span<const std::byte> cluster) {
  fuzz::GuardedRoom stored(most_worth_keeping(cluster.size()));
  const auto compressor = make_compressor({.codec = codec, .level = Level::fast}, cluster.size());
  const std::size_t bytes = compressor->compress(cluster, stored.bytes());
  if (bytes == 0) return;
  fuzz::GuardedRoom again(cluster.size());
  require(decodes(*make_decompressor(codec), stored.bytes().first(bytes), again.bytes()) &&
              std::ranges::equal(again.bytes(), cluster),
          "what we compress can be read");
}

void run(fuzz::Input input) {
  constexpr std::size_t kSizes[]{512, 4096, 16384, 65536};
  const unsigned kind = input.byte();
  const Codec codec = (kind & 1) != 0 ? Codec::zstd : Codec::zlib;
  const std::size_t size = kSizes[kind / 2 % 4];
  const auto stored = input.rest();
  if (!is_built_in(codec)) return;
  fuzz::GuardedRoom ours(size), theirs(size), reference(size);
  const bool read = decodes(*make_decompressor(codec), stored, ours.bytes());
  const bool qemu_reads = codec == Codec::zlib ? qemu_inflates(stored, theirs.bytes()) : qemu_reads_zstd(stored, theirs.bytes());
  require(!qemu_reads || read, "what QEMU reads we read");
  require(!qemu_reads || std::ranges::equal(ours.bytes(), theirs.bytes()), "to the same bytes");
  if (codec == Codec::zlib) {
    const bool by_reference = decodes(*make_zlib_decoder(), stored, reference.bytes());
    require(!by_reference || (read && std::ranges::equal(ours.bytes(), reference.bytes())), "what the reference reads we read");
  }
  if (read && size <= 4096) compress_again(codec, ours.bytes());
}

}  // namespace
}  // namespace nasbackup

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::run(nasbackup::fuzz::Input(nasbackup::fuzz::bytes_of(data, size)));
  return 0;
}
