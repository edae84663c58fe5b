// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The words of `-c`; see compression.h.
#include "formats/compression.h"

#include <array>
#include <charconv>
#include <optional>

#include "formats/deflate_plan.h"
#include "formats/format_error.h"

namespace nasbackup {

namespace {
constexpr int kZstdWeakest = -7, kZstdStrongest = 22;

struct Word {
  std::string_view text;
  Level level;
};
constexpr std::array kWords{Word{"fast", Level::fast}, Word{"default", Level::standard}, Word{"best", Level::best},
                            Word{"auto", Level::automatic}};

bool in_bounds(Codec codec, int number) noexcept {
  if (codec == Codec::zlib) return number >= 1 && number <= kDeflateLevels;
  return number >= kZstdWeakest && number <= kZstdStrongest && number != 0;
}

std::string bounds_of(Codec codec) {
  if (codec == Codec::zlib) return "1 to " + std::to_string(kDeflateLevels);
  return std::to_string(kZstdWeakest) + " to " + std::to_string(kZstdStrongest) + " without 0";
}

std::optional<Codec> codec_named(std::string_view name) noexcept {
  if (name == "zlib") return Codec::zlib;
  if (name == "zstd") return Codec::zstd;
  return std::nullopt;
}

Compression with_level(Codec codec, std::string_view text) {
  for (const Word& word : kWords)
    if (text == word.text) return {codec, word.level};
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !in_bounds(codec, number))
    throw FormatError("compress: " + std::string(name_of(codec)) + " level must be fast, default, best, auto or " +
                      bounds_of(codec) + ": " + std::string(text));
  return {codec, Level::number, number};
}
}  // namespace

Compression parse_compression(std::string_view text) {
  if (text == "auto") return {Codec::zlib, Level::automatic};
  const auto colon = text.find(':');
  const auto codec = codec_named(text.substr(0, colon));
  if (!codec) throw FormatError("compress: must be zlib, zstd or auto, with :LEVEL or without: " + std::string(text));
  if (!is_built_in(*codec)) throw FormatError("compress: not built in: " + std::string(name_of(*codec)));
  return colon == text.npos ? Compression{*codec} : with_level(*codec, text.substr(colon + 1));
}

std::string to_string(const Compression& compression) {
  const auto codec = std::string(name_of(compression.codec)) + ":";
  for (const Word& word : kWords)
    if (word.level == compression.level) return codec + std::string(word.text);
  return codec + std::to_string(compression.number);
}

std::string_view name_of(Codec codec) noexcept { return codec == Codec::zlib ? "zlib" : "zstd"; }

bool is_built_in(Codec codec) noexcept {
#ifdef NASBACKUP_HAVE_ZSTD
  return codec == Codec::zlib || codec == Codec::zstd;
#else
  return codec == Codec::zlib;
#endif
}

std::string_view encoder_of(const Compression& compression) noexcept {
  return compression.codec == Codec::zstd ? "zstd" : name_of(plan_deflate(compression).library);
}

std::uint32_t history_of(const Compression& compression) noexcept {
  return compression.codec == Codec::zstd ? 0 : std::uint32_t{1} << plan_deflate(compression).history_bits;
}

std::vector<Rung> ladder_of(Codec codec) {
  const auto rung = [codec](int number, double mib_per_second) { return Rung{{codec, Level::number, number}, mib_per_second}; };
  if (codec == Codec::zstd)
    return {rung(-3, 432), rung(-1, 392), rung(2, 313), rung(4, 231), rung(5, 121), rung(6, 91), rung(9, 61)};
  return {rung(1, 492), rung(2, 399), rung(4, 188), rung(5, 109), rung(7, 75)};
}

}  // namespace nasbackup
