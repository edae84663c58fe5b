// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The levels of deflate; see deflate_plan.h. Why these: docs/performance.md, "Codecs".
#include "formats/deflate_plan.h"

#include <array>
#include <cassert>

namespace nasbackup {

namespace {
constexpr int kShort = 12;  // 4 KiB: what qemu writes, and what a reader with so small a window could insist on
constexpr int kLong = 15;   // 32 KiB: what deflate allows

struct Row {
  int fast_library;  // level of igzip in the rows with the short history, of libdeflate in the others
  int reference;     // level of zlib where that library is not there
  int history_bits;
};
constexpr std::array<Row, kDeflateLevels> kRows{{{0, 1, kShort},
                                                 {2, 4, kShort},
                                                 {3, 6, kShort},
                                                 {1, 4, kLong},
                                                 {4, 6, kLong},
                                                 {5, 7, kLong},
                                                 {6, 8, kLong},
                                                 {7, 9, kLong},
                                                 {12, 9, kLong}}};

int number_of(const Compression& compression) noexcept {
  switch (compression.level) {
    case Level::fast:
      return 1;
    case Level::standard:
      return 2;
    case Level::best:
      return 5;
    case Level::number:
      return compression.number;
    case Level::automatic:
      return kDeflateLevels;
  }
  return 0;
}
}  // namespace

DeflatePlan plan_deflate(const Compression& compression) noexcept {
  const int number = number_of(compression);
  assert(number >= 1 && number <= kDeflateLevels);
  const Row& row = kRows[static_cast<std::size_t>(number - 1)];
#ifdef NASBACKUP_HAVE_ISAL
  if (row.history_bits == kShort) return {DeflateLibrary::igzip, row.fast_library, row.history_bits};
#endif
#ifdef NASBACKUP_HAVE_LIBDEFLATE
  if (row.history_bits == kLong) return {DeflateLibrary::libdeflate, row.fast_library, row.history_bits};
#endif
  return {DeflateLibrary::zlib, row.reference, row.history_bits};
}

std::string_view name_of(DeflateLibrary library) noexcept {
  switch (library) {
    case DeflateLibrary::igzip:
      return "igzip";
    case DeflateLibrary::libdeflate:
      return "libdeflate";
    case DeflateLibrary::zlib:
      return "zlib";
  }
  return "";
}

}  // namespace nasbackup
