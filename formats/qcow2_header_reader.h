// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the header of a qcow2 says, read from bytes that somebody else may have made: every field is bounded before it is used.
// Pure; safe everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace nasbackup::qcow2 {

struct HeaderFacts {
  unsigned version = 0;
  std::uint64_t virtual_size = 0;
  std::uint64_t cluster_size = 0;
  std::uint32_t crypt_method = 0;     ///< 0 none, 1 AES (legacy), 2 LUKS
  std::uint8_t compression_type = 0;  ///< 0 zlib, 1 zstd; as the header says, also without the bit for it
  bool compression_bit = false;       ///< the incompatible feature "compression type"
  std::uint64_t incompatible_features = 0;
  std::uint32_t snapshots = 0;
  bool has_data_file = false;
  bool extended_l2 = false;
  std::uint64_t l1_offset = 0;
  std::uint32_t l1_entries = 0;  ///< the table is at most kMaxL1Bytes long
  std::string backing_file;      ///< empty: none
  std::string backing_format;    ///< empty: not said

  // Of the LUKS header, when crypt_method is 2.
  std::uint64_t crypto_header_offset = 0;
  std::uint64_t crypto_header_length = 0;
};

/// How many bytes of a file's beginning parse_header wants at most: a header never leaves its cluster.
inline constexpr std::size_t kHeaderReadBytes = 2u << 20;

bool has_magic(std::span<const std::byte> file_start) noexcept;
/// `file_start`: the file's first kHeaderReadBytes, fewer when it is shorter. Throws FormatError.
HeaderFacts parse_header(std::span<const std::byte> file_start);

}  // namespace nasbackup::qcow2
