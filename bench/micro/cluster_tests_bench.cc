// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What is asked of every cluster before it is encoded: is it zero, may it shrink. "hot" clusters lie in the processor's cache,
// as they do just after they were read.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "bench/micro/benches.h"
#include "bench/micro/corpus.h"
#include "formats/is_zero.h"
#include "formats/may_shrink.h"

namespace nasbackup::bench {

namespace {
using Test = bool (*)(std::span<const std::byte>) noexcept;

void set_speed(benchmark::State& state, std::size_t bytes) {
  const double gb = static_cast<double>(bytes) / 1e9;
  state.counters["GB/s"] = benchmark::Counter(gb, benchmark::Counter::kIsIterationInvariantRate);
}

void test_one(benchmark::State& state, Test test, const std::vector<std::byte>& cluster) {
  for (auto _ : state) benchmark::DoNotOptimize(test(cluster));
  set_speed(state, cluster.size());
}

void test_corpus(benchmark::State& state, Test test) {
  std::size_t yes = 0;
  for (auto _ : state) {
    yes = 0;
    for (std::size_t i = 0; i < corpus().clusters(); ++i) yes += test(corpus().cluster(i));
  }
  set_speed(state, corpus().size());
  state.counters["yes"] = static_cast<double>(yes) / static_cast<double>(corpus().clusters());
}

std::vector<std::byte> random_cluster(std::size_t size) {
  std::vector<std::byte> cluster(size);
  std::mt19937 random(1);
  for (auto& byte : cluster) byte = static_cast<std::byte>(random());
  return cluster;
}

void add_test(const std::string& name, Test test) {
  for (const std::size_t size : {std::size_t{4096}, kClusterSize, std::size_t{2} << 20}) {
    const auto kib = std::to_string(size / 1024) + "K";
    benchmark::RegisterBenchmark((name + "/hot_random/" + kib).c_str(), test_one, test, random_cluster(size));
    benchmark::RegisterBenchmark((name + "/hot_zero/" + kib).c_str(), test_one, test, std::vector<std::byte>(size));
  }
  benchmark::RegisterBenchmark((name + "/corpus").c_str(), test_corpus, test)->Unit(benchmark::kMicrosecond);
}
}  // namespace

void add_cluster_tests() {
  add_test("is_zero", is_zero);
  add_test("may_shrink", may_shrink);
}

}  // namespace nasbackup::bench
