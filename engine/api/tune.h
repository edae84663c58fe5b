// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Which settings go fastest here.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// What is measured, and how long. Its threads, connections and item size are where the search begins; a passphrase says that it
/// is encrypted, and is not used: trials have one of their own.
struct TuneOptions : TransferOptions {
  std::string source;          ///< path, nbd:// or nbd+unix:// URI; it is only read
  std::string source_format;   ///< "raw", "qcow2", "luks", or empty to probe
  bool shared_source = false;  ///< -U: do not look at image locks
  std::string to;              ///< a directory in which the trials write a hidden file, gone afterwards; empty: nothing is kept
  std::chrono::seconds budget{10};  ///< about how long it all takes
};

/// One run over a sample of the source.
struct TuneTrial {
  unsigned connections = 0;  ///< 0: the source has none
  std::uint64_t item_size = 0;
  unsigned threads = 0;
  std::string compression;  ///< empty: none
  bool encrypted = false;
  std::uint64_t data_bytes = 0;  ///< read
  double seconds = 0;
  double bytes_per_second = 0;           ///< of what was read as data
  double ratio = 1;                      ///< bytes to store of bytes that are not zero
  std::map<std::string, double> stages;  ///< as in DiskReport
  std::map<std::string, double> cpu;
};

struct TuneReport {
  std::string source;
  std::string target;  ///< the directory, or "null:"
  std::uint64_t virtual_size = 0;
  std::uint64_t sample_bytes = 0;
  std::string page_cache;  ///< "warm": the sample was in this host's memory; "cold": it was let go before each trial; "unknown"
  TuneTrial best;          ///< a longer run with what is recommended
  std::vector<TuneTrial> trials;  ///< of the search, in order
  std::vector<TuneTrial> codecs;  ///< the recommended settings with each codec and level, and with encryption alone
  std::string limit;              ///< the busiest of best.stages
  std::string arguments;          ///< for the command line: "--connections 4 --item-size 512K -j 2 -c=zstd"
  double seconds = 0;
};

/// Finds by trial the settings that go fastest on this host, from this source to this target. Throws Error.
TuneReport tune(const TuneOptions& options, const JobControl& control);

}  // namespace nasbackup
