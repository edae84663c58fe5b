// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The words of `-c`.
#include "formats/compression.h"

#include <gtest/gtest.h>

#include <string>

#include "formats/format_error.h"

namespace nasbackup {
namespace {

std::string complaint_about(std::string_view text) {
  try {
    parse_compression(text);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

TEST(Compression, IsReadFromItsWords) {
  EXPECT_EQ(parse_compression("zlib"), (Compression{Codec::zlib, Level::standard}));
  EXPECT_EQ(parse_compression("zlib:default"), (Compression{Codec::zlib, Level::standard}));
  EXPECT_EQ(parse_compression("zlib:fast"), (Compression{Codec::zlib, Level::fast}));
  EXPECT_EQ(parse_compression("zlib:best"), (Compression{Codec::zlib, Level::best}));
  EXPECT_EQ(parse_compression("zlib:9"), (Compression{Codec::zlib, Level::number, 9}));
  EXPECT_EQ(parse_compression("auto"), (Compression{Codec::zlib, Level::automatic}));
  EXPECT_EQ(parse_compression("zlib:auto"), (Compression{Codec::zlib, Level::automatic}));
}

TEST(Compression, ReadsLevelsOfZstdBelowZero) {
  if (!is_built_in(Codec::zstd)) GTEST_SKIP() << "zstd was not built in";
  EXPECT_EQ(parse_compression("zstd:-5"), (Compression{Codec::zstd, Level::number, -5}));
  EXPECT_EQ(parse_compression("zstd:22"), (Compression{Codec::zstd, Level::number, 22}));
  EXPECT_EQ(parse_compression("zstd:auto"), (Compression{Codec::zstd, Level::automatic}));
}

TEST(Compression, IsPrintedAsItIsReadBack) {
  for (const auto* text : {"zlib:fast", "zlib:default", "zlib:best", "zlib:auto", "zlib:1", "zlib:9", "zstd:fast", "zstd:-7"}) {
    if (std::string_view(text).starts_with("zstd") && !is_built_in(Codec::zstd)) continue;
    EXPECT_EQ(to_string(parse_compression(text)), text);
  }
  EXPECT_EQ(to_string({}), "zlib:default");
}

TEST(Compression, RefusesWhatItDoesNotKnow) {
  for (const auto* text : {"", ":", "lz4", "ZLIB", "zlib ", "zlib:", "zlib:0", "zlib:10", "zlib:-1", "zlib:3x", "zlib:x",
                           "zlib:+3", "zlib:99999999999999999999", "zlib:fast:1", "auto:fast", "auto:"})
    EXPECT_THROW(parse_compression(text), FormatError) << text;
  EXPECT_EQ(complaint_about("zlib:10"), "compress: zlib level must be fast, default, best, auto or 1 to 9: 10");
  EXPECT_EQ(complaint_about("lz4"), "compress: must be zlib, zstd or auto, with :LEVEL or without: lz4");
}

TEST(Compression, RefusesLevelsThatZstdDoesNotHave) {
  if (!is_built_in(Codec::zstd)) {
    EXPECT_EQ(complaint_about("zstd"), "compress: not built in: zstd");
    return;
  }
  for (const auto* text : {"zstd:0", "zstd:-8", "zstd:23", "zstd:"}) EXPECT_THROW(parse_compression(text), FormatError) << text;
  EXPECT_EQ(complaint_about("zstd:0"), "compress: zstd level must be fast, default, best, auto or -7 to 22 without 0: 0");
}

TEST(Compression, SaysHowFarBackItReaches) {
  for (const auto* text : {"zlib:fast", "zlib", "zlib:1", "zlib:2", "zlib:3"})
    EXPECT_EQ(history_of(parse_compression(text)), 4096u);
  for (const auto* text : {"zlib:best", "zlib:4", "zlib:9", "auto"}) EXPECT_EQ(history_of(parse_compression(text)), 32768u);
  EXPECT_EQ(history_of({Codec::zstd}), 0u);
}

TEST(Compression, HasALadderOfLevelsThatRises) {
  for (const Codec codec : {Codec::zlib, Codec::zstd}) {
    const auto ladder = ladder_of(codec);
    ASSERT_GE(ladder.size(), 4u);
    for (std::size_t i = 0; i < ladder.size(); ++i) {
      const auto& [compression, speed] = ladder[i];
      EXPECT_EQ(compression.codec, codec);
      EXPECT_EQ(compression.level, Level::number);
      if (i > 0) {
        EXPECT_GT(compression.number, ladder[i - 1].compression.number);
        EXPECT_LT(speed, ladder[i - 1].mib_per_second);
      }
    }
  }
}

}  // namespace
}  // namespace nasbackup
