// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How clusters are compressed: `-c=CODEC[:LEVEL]`, its words and bounds. Compression type 0 is deflate, 1 is zstd
// (specification, "compression_type"). Plain values, safe everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nasbackup {

enum class Codec { zlib, zstd };

/// The named levels, a number on the codec's own scale, or as strong as the other stages leave time for.
enum class Level { fast, standard, best, number, automatic };

struct Compression {
  Codec codec = Codec::zlib;
  Level level = Level::standard;
  int number = 0;  // with Level::number alone; zlib 1 to 9, zstd -7 to 22 without 0

  friend constexpr bool operator==(const Compression&, const Compression&) noexcept = default;
};

/// "zlib", "zstd:best", "zlib:7", "zstd:auto"; "auto" is zlib:auto. Throws FormatError, also for a codec that was not built in.
Compression parse_compression(std::string_view text);
/// What parse_compression reads back as the same: "zlib:default", "zstd:3".
std::string to_string(const Compression& compression);
std::string_view name_of(Codec codec) noexcept;

bool is_built_in(Codec codec) noexcept;
/// The library that encodes, for messages and tables: "igzip", "libdeflate", "zlib" or "zstd". Of auto: that of its strongest
/// rung.
std::string_view encoder_of(const Compression& compression) noexcept;
/// How far back a match may reach, bytes: 4096 is qemu's convention for deflate, 32768 what the format allows and every known
/// reader takes. Of auto: the most that it may use. zstd reaches back over the whole cluster, which is 0 here.
std::uint32_t history_of(const Compression& compression) noexcept;

/// One step of auto's ladder, with what it does on one thread here or there: a first guess, only the ratios must be near.
struct Rung {
  Compression compression;
  double mib_per_second;
};
/// The rungs of auto, from fast to strong, each cheaper than the next.
std::vector<Rung> ladder_of(Codec codec);

}  // namespace nasbackup
