// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Sizes and rates as people write them. Sizes are powers of 1024 whether one writes K or KiB; KB is refused, because people mean
// both by it. Pure functions; they return nothing for junk and for what is above 2^63 - 1.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace nasbackup {

/// "65536", "64K", "64KiB", "1G": bytes.
std::optional<std::uint64_t> size_from_text(std::string_view text) noexcept;

/// "50" and "50M": MiB/s; "1G", "400Mbit" (decimal, as networks count); a trailing "/s" may be there. Bytes per second.
std::optional<std::uint64_t> rate_from_text(std::string_view text) noexcept;

}  // namespace nasbackup
