// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_compressed_check.h.
#include "formats/qcow2_compressed_check.h"

#include <algorithm>
#include <string>

#include "formats/format_error.h"
#include "formats/qcow2_compressed_range.h"
#include "formats/qcow2_format.h"

namespace nasbackup::qcow2 {

namespace {

constexpr std::size_t kWindowBytes = 256u << 10;

}  // namespace

CompressedCheck::CompressedCheck(const ReadUpTo& read, std::uint64_t file_size, const CheckHeader& header)
    : read_(read),
      file_size_(file_size),
      header_(header),
      decompressor_(make_decompressor(header.compression_type == kZstd ? Codec::zstd : Codec::zlib)),
      cluster_(header.cluster_size),
      window_(2 * header.cluster_size + kWindowBytes) {}

void CompressedCheck::check(const CompressedPiece& piece, Findings& findings) {
  const std::uint64_t first_offset = piece.table_offset + piece.first_entry * header_.l2_entry_bytes();
  const std::uint64_t entries = std::min(CompressedPiece::kEntries, header_.l2_entries() - piece.first_entry);
  const std::size_t step = header_.extended_l2 ? 2 : 1;
  words_.assign(entries * step, 0);
  read_(first_offset, std::as_writable_bytes(std::span(words_)));
  for (std::uint64_t i = 0; i < entries; ++i)
    if ((words_[i * step] & kEntryCompressed) != 0)
      check_cluster({Table::l2_table, piece.first_entry + i, words_[i * step], first_offset + i * header_.l2_entry_bytes()},
                    findings);
}

void CompressedCheck::check_cluster(const TableEntry& entry, Findings& findings) {
  const CompressedRange range = CompressedRange::of(entry.value, header_.cluster_bits);
  if (range.offset >= file_size_) return;  // that was reported
  try {
    decompressor_->decompress(bytes_at(range.offset, range.bytes), cluster_);
  } catch (const FormatError& error) {
    findings.corrupt(entry, "the compressed cluster does not decode: " + std::string(error.what()));
  }
}

std::span<const std::byte> CompressedCheck::bytes_at(std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t wanted = std::min(bytes, file_size_ - offset);
  if (offset < window_offset_ || offset + wanted > window_offset_ + window_bytes_) {
    window_bytes_ = 0;  // while it is read it holds nothing
    window_bytes_ = read_(offset, window_);
    window_offset_ = offset;
  }
  const std::uint64_t skipped = offset - window_offset_;
  return std::span<const std::byte>(window_).subspan(skipped, std::min<std::uint64_t>(wanted, window_bytes_ - skipped));
}

}  // namespace nasbackup::qcow2
