// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Clusters of every kind for the tests of the codecs, the same each time.
#pragma once

#include <array>
#include <cstddef>
#include <random>
#include <string_view>
#include <vector>

#include "formats/compression.h"

namespace nasbackup {

using Bytes = std::vector<std::byte>;

constexpr std::array<std::size_t, 5> kClusterSizes{512, 4096, 32768, 65536, 2 << 20};

inline Bytes random_cluster(std::size_t size, std::uint32_t seed = 1) {
  Bytes cluster(size);
  std::mt19937 random(seed);
  for (auto& byte : cluster) byte = static_cast<std::byte>(random() >> 8);
  return cluster;
}

/// Words in a random order: what repeats is found again at all distances, near and far.
inline Bytes text_cluster(std::size_t size, std::uint32_t seed = 1) {
  constexpr std::array<std::string_view, 12> kWords{"cluster ", "refcount ", "the ",    "of ",    "header\n", "payload ",
                                                    "sector ",  "a ",        "volume ", "tweak ", "stripe\n", "key slot "};
  Bytes cluster;
  std::mt19937 random(seed);
  while (cluster.size() < size) {
    const auto word = kWords[random() % kWords.size()];
    for (const char letter : word) cluster.push_back(static_cast<std::byte>(letter));
    if (random() % 4 == 0) cluster.push_back(static_cast<std::byte>(random()));
  }
  cluster.resize(size);
  return cluster;
}

/// Matches at every distance up to 40 000: random bytes that come again.
inline Bytes distant_cluster(std::size_t size) {
  Bytes cluster = random_cluster(size, 7);
  std::mt19937 random(8);
  for (std::size_t at = 600; at + 64 < size; at += 40 + random() % 100) {
    const std::size_t distance = 1 + random() % std::min<std::size_t>(at, 40000);
    const std::size_t length = 3 + random() % 60;
    for (std::size_t i = 0; i < length; ++i) cluster[at + i] = cluster[at + i - distance];
  }
  return cluster;
}

struct Sample {
  const char* kind;
  Bytes bytes;
};

inline std::vector<Sample> samples_of(std::size_t size) {
  Bytes mixed = text_cluster(size);
  const Bytes noise = random_cluster(size / 2);
  std::copy(noise.begin(), noise.end(), mixed.begin() + static_cast<std::ptrdiff_t>(size / 4));
  Bytes sparse(size);
  for (std::size_t at = 0; at < size; at += 509) sparse[at] = static_cast<std::byte>(at);
  return {{"zero", Bytes(size)},
          {"one byte", Bytes(size, std::byte{0xa5})},
          {"text", text_cluster(size)},
          {"random", random_cluster(size)},
          {"mixed", std::move(mixed)},
          {"sparse", std::move(sparse)},
          {"distant", distant_cluster(size)}};
}

/// The named levels, the rungs of auto and the ends of each scale; of zlib all, because each is a library's level of its own.
inline std::vector<Compression> all_levels() {
  std::vector<Compression> all;
  const auto add = [&all](Codec codec, int number) { all.push_back({codec, Level::number, number}); };
  for (const Codec codec : {Codec::zlib, Codec::zstd}) {
    if (!is_built_in(codec)) continue;
    for (const Level level : {Level::fast, Level::standard, Level::best}) all.push_back({codec, level});
  }
  for (int number = 1; number <= 9; ++number) add(Codec::zlib, number);
  if (!is_built_in(Codec::zstd)) return all;
  for (const Rung& rung : ladder_of(Codec::zstd)) all.push_back(rung.compression);
  for (const int number : {-7, 19, 22}) add(Codec::zstd, number);
  return all;
}

}  // namespace nasbackup
