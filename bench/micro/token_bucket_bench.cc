// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The token bucket: what a limit costs each read.
#include <benchmark/benchmark.h>

#include "bench/micro/benches.h"
#include "throttle/token_bucket.h"

namespace nasbackup::bench {

namespace {
constexpr std::uint64_t kRate = 100 << 20, kRead = 512 << 10;

/// One request: asks, and is billed when it may pass. Time goes on by as much as the rate needs for it.
void ask_and_take(benchmark::State& state) {
  constexpr std::int64_t kStep = static_cast<std::int64_t>(kRead * 1'000'000'000 / kRate);
  std::int64_t now = 0;
  TokenBucket bucket(kRate, 0, now);
  for (auto _ : state) {
    now += kStep;
    if (bucket.wait_ns(now) == 0) bucket.take(kRead, now);
  }
}

void ask_in_vain(benchmark::State& state) {
  TokenBucket bucket(kRate, 0, 0);
  bucket.take(std::uint64_t{1} << 40, 0);
  std::int64_t now = 0;
  for (auto _ : state) benchmark::DoNotOptimize(bucket.wait_ns(++now));
}
}  // namespace

void add_token_bucket() {
  benchmark::RegisterBenchmark("token_bucket/ask_and_take", ask_and_take);
  benchmark::RegisterBenchmark("token_bucket/ask_in_vain", ask_in_vain);
}

}  // namespace nasbackup::bench
