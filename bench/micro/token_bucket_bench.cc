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

/// One request: takes, and asks until when it waits. Time goes on by as much as the rate needs for it.
void take_and_ask(benchmark::State& state) {
  constexpr std::int64_t kStep = static_cast<std::int64_t>(kRead * 1'000'000'000 / kRate);
  std::int64_t now = 0;
  BucketState level;
  TokenBucket bucket(level);
  bucket.set(kRate, 0, now);
  for (auto _ : state) {
    now += kStep;
    Reservation taken = bucket.take(kRead, now);
    benchmark::DoNotOptimize(bucket.wait_ns(taken, now));
  }
}

void ask_again(benchmark::State& state) {
  BucketState level;
  TokenBucket bucket(level);
  bucket.set(kRate, 0, 0);
  Reservation taken = bucket.take(std::uint64_t{1} << 40, 0);
  std::int64_t now = 0;
  for (auto _ : state) benchmark::DoNotOptimize(bucket.wait_ns(taken, ++now));
}
}  // namespace

void add_token_bucket() {
  benchmark::RegisterBenchmark("token_bucket/take_and_ask", take_and_ask);
  benchmark::RegisterBenchmark("token_bucket/ask_again", ask_again);
}

}  // namespace nasbackup::bench
