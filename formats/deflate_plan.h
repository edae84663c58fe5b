// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which deflate library serves which level, and with how much history. Plain values, safe everywhere.
#pragma once

#include <string_view>

#include "formats/compression.h"

namespace nasbackup {

enum class DeflateLibrary { igzip, libdeflate, zlib };

struct DeflatePlan {
  DeflateLibrary library;
  int level;         // on that library's scale
  int history_bits;  // 12 or 15
};

constexpr int kDeflateLevels = 9;  // numbers are 1 to 9, as everybody knows them from gzip

/// The history depends on the level alone, the library on what was built in. `compression` is of the codec zlib.
DeflatePlan plan_deflate(const Compression& compression) noexcept;
std::string_view name_of(DeflateLibrary library) noexcept;

}  // namespace nasbackup
