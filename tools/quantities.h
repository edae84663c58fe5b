// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Sizes, rates, counts and times as people write them. Pure functions; all throw UsageError, which says what to write instead,
// for junk and for what does not fit.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace nasbackup::tools {

/// "65536", "64K", "64KiB", "1G"; bytes. `what` names the option in the error.
std::uint64_t parse_size(const std::string& what, const std::string& text);

/// "50" and "50M": MiB/s; "1G", "400Mbit" (decimal, as networks count); a trailing "/s" may be there. Bytes per second.
std::uint64_t parse_rate(const std::string& what, const std::string& text);

/// The text itself, once it is known to be a schedule: "08:00-18:00=50M,*=0".
std::string parse_rate_schedule(const std::string& what, const std::string& text);

/// A whole number from 1 to `most`.
unsigned parse_count(const std::string& what, const std::string& text, unsigned most);

/// "5%", "0.5%": more than nothing and at most all, as a part of one.
double parse_percent(const std::string& what, const std::string& text);

/// Whole seconds, at least one.
std::chrono::seconds parse_seconds(const std::string& what, const std::string& text);

}  // namespace nasbackup::tools
