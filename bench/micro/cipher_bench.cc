// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What encryption costs: AES-XTS by the length of one call, key stretching, digests, and the splitter of key slots.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bench/micro/benches.h"
#include "crypto/aes_xts.h"
#include "crypto/af_split.h"
#include "crypto/digest.h"
#include "crypto/pbkdf2.h"
#include "crypto/random_source.h"
#include "formats/piece_digest.h"

namespace nasbackup::bench {

namespace {
using crypto::Hash;

constexpr std::size_t kKeyBytes = 64;   // AES-256-XTS
constexpr std::size_t kStripes = 4000;  // of a key slot of LUKS1
constexpr std::uint32_t kIterations = 100'000;

std::vector<std::byte> random_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  crypto::system_random().fill(bytes);
  return bytes;
}

void set_speed(benchmark::State& state, std::size_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  state.counters["MiB/s"] = benchmark::Counter(mib, benchmark::Counter::kIsIterationInvariantRate);
}

void run_xts(benchmark::State& state, bool encrypting, std::size_t size) {
  const crypto::AesXts cipher(random_bytes(kKeyBytes));
  std::vector<std::byte> data = random_bytes(size);
  std::uint64_t sector = 0;
  for (auto _ : state) {
    encrypting ? cipher.encrypt(sector, data) : cipher.decrypt(sector, data);
    sector += size / crypto::AesXts::kSectorBytes;
  }
  set_speed(state, size);
}

void digest(benchmark::State& state, Hash hash, std::size_t size) {
  crypto::Digest digest(hash);
  const std::vector<std::byte> data = random_bytes(size);
  std::vector<std::byte> out(crypto::digest_bytes(hash));
  for (auto _ : state) {
    digest.update(data);
    digest.finish(out);
  }
  set_speed(state, size);
}

/// Digests of the pieces of one work item. `keyed`: GMAC, else XXH3.
void take_digests(benchmark::State& state, bool keyed, std::size_t piece) {
  const crypto::Secret key = crypto::Secret::copy_of(random_bytes(crypto::Gmac::kKeyBytes));
  const digests::PieceDigester digester = keyed ? digests::PieceDigester(piece, key) : digests::PieceDigester(piece);
  const std::vector<std::byte> item = random_bytes(std::max(piece, std::size_t{512} << 10));
  for (auto _ : state) benchmark::DoNotOptimize(digester.take(0, item));
  set_speed(state, item.size());
}

/// One output block, which is what one thread derives. "s/million": of iterations.
void stretch(benchmark::State& state, Hash hash) {
  const std::vector<std::byte> passphrase = random_bytes(16), salt = random_bytes(32);
  std::vector<std::byte> key(crypto::digest_bytes(hash));
  for (auto _ : state) crypto::pbkdf2_block(hash, passphrase, salt, kIterations, 0, key);
  using benchmark::Counter;
  const auto flags = static_cast<Counter::Flags>(Counter::kIsIterationInvariantRate | Counter::kInvert);
  state.counters["s/million"] = Counter(kIterations / 1e6, flags);
}

void split(benchmark::State& state) {
  const std::vector<std::byte> key = random_bytes(kKeyBytes);
  std::vector<std::byte> material = random_bytes(kKeyBytes * kStripes);
  for (auto _ : state) crypto::af_complete(Hash::sha256, key, material);
}

void merge(benchmark::State& state) {
  std::vector<std::byte> key(kKeyBytes);
  const std::vector<std::byte> material = random_bytes(kKeyBytes * kStripes);
  for (auto _ : state) crypto::af_merge(Hash::sha256, material, key);
}

std::string size_text(std::size_t bytes) {
  return bytes < 1024       ? std::to_string(bytes)
         : bytes < 1u << 20 ? std::to_string(bytes >> 10) + "K"
                            : std::to_string(bytes >> 20) + "M";
}

void add_xts() {
  for (const std::size_t size : {std::size_t{512}, std::size_t{4} << 10, std::size_t{64} << 10, std::size_t{1} << 20})
    for (const bool encrypting : {true, false}) {
      const std::string name = std::string("aes_xts/") + (encrypting ? "encrypt/" : "decrypt/") + size_text(size);
      benchmark::RegisterBenchmark(name.c_str(), run_xts, encrypting, size);
    }
}
}  // namespace

void add_cipher() {
  add_xts();
  for (const auto& [name, hash] : {std::pair{"sha1", Hash::sha1}, {"sha256", Hash::sha256}, {"sha512", Hash::sha512}}) {
    for (const std::size_t size : {std::size_t{4} << 10, std::size_t{64} << 10})
      benchmark::RegisterBenchmark(("digest/" + std::string(name) + "/" + size_text(size)).c_str(), digest, hash, size);
    benchmark::RegisterBenchmark(("pbkdf2/" + std::string(name)).c_str(), stretch, hash)->Unit(benchmark::kMillisecond);
  }
  for (const std::size_t piece : {std::size_t{64} << 10, std::size_t{2} << 20})
    for (const bool keyed : {false, true})
      benchmark::RegisterBenchmark(((keyed ? "pieces/gmac/" : "pieces/xxh3/") + size_text(piece)).c_str(), take_digests, keyed,
                                   piece);
  benchmark::RegisterBenchmark("af_split/complete", split)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("af_split/merge", merge)->Unit(benchmark::kMicrosecond);
}

}  // namespace nasbackup::bench
