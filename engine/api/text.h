// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Sizes, rates and locations as people write them and may see them.
#pragma once

#include <cstdint>
#include <string>

namespace nasbackup {

/// Sizes and rates as people write them: "64K", "64KiB", "1G"; "50" and "50M" (MiB/s), "400Mbit", "0". Both throw Error(usage),
/// which says what to write instead.
std::uint64_t parse_size(const std::string& text);
std::uint64_t parse_rate(const std::string& text);
/// Throws Error(usage) for a schedule that cannot be read.
void check_rate_schedule(const std::string& text);

/// A path or URI as it may be shown: without a user and a secret that stand in it.
std::string location_for_people(const std::string& location);

}  // namespace nasbackup
