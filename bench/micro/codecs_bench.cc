// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Every level of every codec library over the corpus: the table from which the levels are chosen (docs/performance.md, "Codecs").
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/micro/benches.h"
#include "bench/micro/corpus.h"
#include "formats/compressor.h"
#include "formats/decoders.h"
#include "formats/decompressor.h"
#include "formats/encoders.h"

namespace nasbackup::bench {

namespace {
using MakeEncoder = std::function<std::unique_ptr<Compressor>()>;
using MakeDecoder = std::function<std::unique_ptr<Decompressor>()>;

void set_speed(benchmark::State& state, std::size_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  state.counters["MiB/s"] = benchmark::Counter(mib, benchmark::Counter::kIsIterationInvariantRate);
}

/// ratio: stored / original with what does not shrink stored plain; plain: the share of clusters that were.
void encode_all(benchmark::State& state, const MakeEncoder& make) {
  const auto encoder = make();
  std::vector<std::byte> into(most_worth_keeping(kClusterSize));
  std::size_t stored = 0, plain = 0;
  for (auto _ : state) {
    stored = plain = 0;
    for (std::size_t i = 0; i < corpus().clusters(); ++i) {
      const std::size_t size = encoder->compress(corpus().cluster(i), into);
      stored += size != 0 ? size : kClusterSize;
      plain += size == 0;
    }
  }
  set_speed(state, corpus().size());
  state.counters["ratio"] = static_cast<double>(stored) / static_cast<double>(corpus().size());
  state.counters["plain"] = static_cast<double>(plain) / static_cast<double>(corpus().clusters());
}

std::vector<std::vector<std::byte>> all_encoded(Compressor& encoder) {
  std::vector<std::vector<std::byte>> all;
  for (std::size_t i = 0; i < corpus().clusters(); ++i) {
    std::vector<std::byte> into(most_worth_keeping(kClusterSize));
    into.resize(encoder.compress(corpus().cluster(i), into));
    if (!into.empty()) all.push_back(std::move(into));
  }
  return all;
}

void decode_all(benchmark::State& state, const MakeDecoder& make, const MakeEncoder& make_encoder) {
  const auto all = all_encoded(*make_encoder());
  const auto decoder = make();
  std::vector<std::byte> cluster(kClusterSize);
  for (auto _ : state)
    for (const auto& stored : all) decoder->decompress(stored, cluster);
  set_speed(state, all.size() * kClusterSize);
}

void add_encoder(const std::string& name, MakeEncoder make) {
  benchmark::RegisterBenchmark(("encode/" + name).c_str(), encode_all, std::move(make))->Unit(benchmark::kMillisecond);
}

void add_decoder(const std::string& name, MakeDecoder make, MakeEncoder make_encoder) {
  benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode_all, std::move(make), std::move(make_encoder))
      ->Unit(benchmark::kMillisecond);
}

MakeEncoder encoder_of_level(const std::string& words) {
  return [words] { return make_compressor(parse_compression(words), kClusterSize); };
}

/// The levels as users name them.
void add_named_levels() {
  for (const Codec codec : {Codec::zlib, Codec::zstd}) {
    if (!is_built_in(codec)) continue;
    for (const Level level : {Level::fast, Level::standard, Level::best}) {
      const auto words = to_string({codec, level});
      add_encoder(words, encoder_of_level(words));
    }
  }
}

/// The libraries' own levels; "4K" and "32K" is the history.
void add_deflate_libraries() {
  for (const int level : {1, 4, 6, 9})
    for (const int bits : {12, 15})
      add_encoder("zlib-" + std::to_string(level) + (bits == 12 ? "/4K" : "/32K"),
                  [=] { return make_zlib_encoder(level, bits); });
#ifdef NASBACKUP_HAVE_ISAL
  for (int level = 0; level <= 3; ++level)
    for (const int bits : {12, 15})
      add_encoder("igzip-" + std::to_string(level) + (bits == 12 ? "/4K" : "/32K"),
                  [=] { return make_igzip_encoder(level, bits, kClusterSize); });
#endif
#ifdef NASBACKUP_HAVE_LIBDEFLATE
  for (int level = 1; level <= 12; ++level)
    add_encoder("libdeflate-" + std::to_string(level) + "/32K", [=] { return make_libdeflate_encoder(level); });
#endif
}

void add_zstd() {
  for (const int level : {-7, -5, -3, -1, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 19})
    add_encoder("zstd" + std::to_string(level), encoder_of_level("zstd:" + std::to_string(level)));
}

void add_decoders() {
  for (const auto* words : {"zlib:fast", "zlib:default", "zlib:best"}) {
    add_decoder(std::string("zlib/") + words, make_zlib_decoder, encoder_of_level(words));
    add_decoder(
        std::string("used/") + words, [] { return make_decompressor(Codec::zlib); }, encoder_of_level(words));
  }
  if (!is_built_in(Codec::zstd)) return;
  for (const auto* words : {"zstd:fast", "zstd:default", "zstd:best"})
    add_decoder(
        std::string("used/") + words, [] { return make_decompressor(Codec::zstd); }, encoder_of_level(words));
}
}  // namespace

void add_codecs() {
  add_named_levels();
  add_deflate_libraries();
  if (is_built_in(Codec::zstd)) add_zstd();
  add_decoders();
}

}  // namespace nasbackup::bench
