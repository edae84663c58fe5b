// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Deflate by ISA-L's igzip, the fast one: raw streams (RFC 1951) whose matches keep to the history that was asked for.
// An encoder is used by one thread at a time.
#include <cassert>
#include <cstdint>
#include <vector>

#include <isa-l/igzip_lib.h>

#include "formats/encoders.h"
#include "formats/format_error.h"

namespace nasbackup {

namespace {
/// Room for the tokens of one deflate block: a block for each cluster of up to 64 KiB, several for a larger one.
std::size_t level_buffer_size(int level, std::size_t cluster_size) noexcept {
  constexpr std::size_t kSmall = 16 << 10, kMedium = 32 << 10;
  switch (level) {
    case 1:
      return cluster_size <= kSmall ? ISAL_DEF_LVL1_SMALL : cluster_size <= kMedium ? ISAL_DEF_LVL1_MEDIUM : ISAL_DEF_LVL1_LARGE;
    case 2:
      return cluster_size <= kSmall ? ISAL_DEF_LVL2_SMALL : cluster_size <= kMedium ? ISAL_DEF_LVL2_MEDIUM : ISAL_DEF_LVL2_LARGE;
    case 3:
      return cluster_size <= kSmall ? ISAL_DEF_LVL3_SMALL : cluster_size <= kMedium ? ISAL_DEF_LVL3_MEDIUM : ISAL_DEF_LVL3_LARGE;
    default:
      return 0;
  }
}

class IgzipEncoder final : public Compressor {
 public:
  IgzipEncoder(int level, int history_bits, std::size_t cluster_size)
      : level_(level),
        history_bits_(history_bits),
        buffer_(level_buffer_size(level, cluster_size)),
        stream_(std::make_unique<isal_zstream>()) {}

  std::size_t compress(std::span<const std::byte> cluster, std::span<std::byte> into) override {
    begin(cluster, into);
    const int outcome = isal_deflate_stateless(stream_.get());
    if (outcome == STATELESS_OVERFLOW) return 0;
    if (outcome != COMP_OK) throw FormatError("igzip: cannot compress: error " + std::to_string(outcome));
    assert(stream_->avail_in == 0);
    return into.size() - stream_->avail_out;
  }

 private:
  // The init zeroes every parameter and none of the large tables: those are reset by the call itself.
  void begin(std::span<const std::byte> cluster, std::span<std::byte> into) noexcept {
    isal_deflate_stateless_init(stream_.get());
    stream_->hist_bits = static_cast<std::uint16_t>(history_bits_);
    stream_->level = static_cast<std::uint32_t>(level_);
    stream_->level_buf = buffer_.data();
    stream_->level_buf_size = static_cast<std::uint32_t>(buffer_.size());
    stream_->end_of_stream = 1;
    stream_->flush = NO_FLUSH;
    stream_->next_in = const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(cluster.data()));
    stream_->avail_in = static_cast<std::uint32_t>(cluster.size());
    stream_->next_out = reinterpret_cast<std::uint8_t*>(into.data());
    stream_->avail_out = static_cast<std::uint32_t>(into.size());
  }

  const int level_;
  const int history_bits_;
  std::vector<std::uint8_t> buffer_;
  std::unique_ptr<isal_zstream> stream_;
};
}  // namespace

std::unique_ptr<Compressor> make_igzip_encoder(int level, int history_bits, std::size_t cluster_size) {
  return std::make_unique<IgzipEncoder>(level, history_bits, cluster_size);
}

}  // namespace nasbackup
