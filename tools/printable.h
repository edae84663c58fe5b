// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Text from outside (names of files, of machines, messages that quote them) made safe to print on a terminal and in a line. Pure
// functions.
#pragma once

#include <string>
#include <string_view>

namespace nasbackup::tools {

/// Control characters, DEL, C1 controls and what is no UTF-8 become \xHH; everything else stays, so that names remain readable,
/// and so do the characters in `allowed`.
std::string printable(std::string_view text, std::string_view allowed = {});

/// How many columns a printable text takes, counting each character once.
std::size_t columns(std::string_view text) noexcept;

/// "1.5 GiB"; three digits at most, because a person reads it.
std::string human_size(double bytes);

/// "0.12 s", "41 s", "3:05", "2:03:05".
std::string human_time(double seconds);

}  // namespace nasbackup::tools
