// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The micro benchmarks: what each part costs by itself, so that the choice of a library is a table in docs/performance.md.
// Speeds count the processor time of one thread. See docs/performance.md, "Codecs", for how to run them.
#include <benchmark/benchmark.h>

#include <exception>
#include <iostream>
#include <string>

#include "bench/micro/benches.h"
#include "bench/micro/corpus.h"

int main(int argc, char** argv) try {
  using namespace nasbackup::bench;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  benchmark::AddCustomContext("corpus", corpus_place() + ", " + std::to_string(corpus().clusters()) + " clusters of 64 KiB");
  add_codecs();
  add_cluster_tests();
  add_cipher();
  add_token_bucket();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
} catch (const std::exception& error) {
  std::cerr << "micro: " << error.what() << '\n';
  return 1;
}
