// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How far the deflate streams of an image look back. QEMU writes streams that look back 4 KiB at most and asks inflate for a
// window of that size; zlib, and with it every reader that was found, then takes longer ones too, because the cluster itself is
// the window. Whether an image has such streams is told from a sample of them. Pure; safe everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "formats/qcow2_header_reader.h"

namespace nasbackup::qcow2 {

inline constexpr std::uint32_t kShortHistory = 4u << 10;  ///< QEMU's own convention: windowBits -12 in block/qcow2-threads.c
inline constexpr std::uint32_t kLongHistory = 32u << 10;  ///< RFC 1951: the most there is

/// Whether inflating the stream needs more than kShortHistory. False for what is no stream.
bool looks_back_further(std::span<const std::byte> stream, std::size_t cluster_size);

/// Reads up to `into.size()` bytes at an offset of the image; how many there were.
using ReadImage = std::function<std::size_t(std::uint64_t offset, std::span<std::byte> into)>;

/// kShortHistory or kLongHistory from some compressed clusters of the image; nothing when there are none where it looked, or
/// they are not deflate's. Reads and holds the L1 table (kMaxL1Bytes at most) and some MiB more, whatever the tables say.
std::optional<std::uint32_t> deflate_history(const HeaderFacts& header, const ReadImage& read);

}  // namespace nasbackup::qcow2
