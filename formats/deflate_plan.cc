// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The levels of deflate; see deflate_plan.h. Why these: docs/performance.md, "Codecs".
#include "formats/deflate_plan.h"

#include <algorithm>

namespace nasbackup {

namespace {
constexpr int kShort = 12;  // 4 KiB: what qemu writes, and what a reader with so small a window could insist on
constexpr int kLong = 15;   // 32 KiB: what deflate allows

constexpr int kLastShort = 2;  // numbers up to this one are igzip's, with the short history

int number_of(const Compression& compression) noexcept {
  switch (compression.level) {
    case Level::fast:
      return 1;
    case Level::standard:
      return 2;
    case Level::best:
      return 3;
    case Level::number:
      return compression.number;
    case Level::automatic:
      return 9;
  }
  return 1;
}
}  // namespace

DeflatePlan plan_deflate(const Compression& compression) noexcept {
  const int number = number_of(compression);
  if (number <= kLastShort) {
#ifdef NASBACKUP_HAVE_ISAL
    return {DeflateLibrary::igzip, number, kShort};
#else
    return {DeflateLibrary::zlib, number == 1 ? 1 : 6, kShort};
#endif
  }
#ifdef NASBACKUP_HAVE_LIBDEFLATE
  return {DeflateLibrary::libdeflate, number, kLong};
#else
  return {DeflateLibrary::zlib, std::min(number, 9), kLong};
#endif
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
