// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What all jobs have in common: what a caller gives them, the options of those that move data, and what they report.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "lifeline.h"
#include "outcome.h"
#include "passphrase.h"
#include "rate.h"

namespace nasbackup {

/// What a caller gives a job besides its options.
struct JobControl {
  std::stop_token stop;                                ///< a request ends the job cleanly with Outcome::failed
  std::shared_ptr<Lifeline> lifeline;                  ///< null: the job makes its own
  std::function<void(const std::string&)> on_message;  ///< notes for the user, one line each; may be empty
  std::shared_ptr<RateControl> rate_control;           ///< null: the limit stays what it is
  std::function<void(const std::string&)> on_detail;   ///< notes that only some want to see; may be empty
};

/// What is looked at of an image that was written, before it is published.
enum class VerifyLevel {
  none,
  metadata,  ///< its tables are checked, and that its passphrase opens it
  data,      ///< and all of it is read back, past this host's memory where the system lets it, and compared with what was read
};

/// Options shared by every verb that moves data.
struct TransferOptions {
  unsigned threads = 0;                       ///< CPU threads; 0: one for each CPU
  std::uint64_t memory = 256ull << 20;        ///< bound on what the whole run may use
  unsigned connections = 0;                   ///< NBD connections for each disk; 0: what is best for the server
  std::uint64_t item_size = 0;                ///< bytes of one read, 64 KiB … 8 MiB, a power of two; 0: 512 KiB
  std::uint64_t cluster_size = 64ull << 10;   ///< of a qcow2 that is written: 512 … 2 MiB, a power of two
  std::string compression;                    ///< "zlib", "zstd:best", "zlib:6", "auto" …; empty: none
  std::shared_ptr<const Passphrase> encrypt;  ///< what is written is encrypted with LUKS and opens with this; null: it is not
  std::vector<std::shared_ptr<const Passphrase>> source_keys;  ///< for an encrypted source: each is tried
  StorageKeys storage_keys;                                    ///< that rbd: locations name
  std::uint32_t pbkdf_iterations = kPbkdfIterations;           ///< of the key slot
  bool allow_weak_pbkdf = false;                               ///< for tests: fewer than a million of them
  RateLimit limit;                                             ///< on reading
  std::string rate_group;                  ///< shares one limit with all jobs of this host that name it; empty: none
  std::chrono::seconds io_timeout{60};     ///< an NBD server or a Ceph cluster that does not answer so long is given up
  VerifyLevel verify = VerifyLevel::none;  ///< of backup and convert
};

/// What happened to one disk.
struct DiskReport {
  std::string name;  ///< target (vda) or, without libvirt, disk0, disk1 …
  std::string source;
  std::string image;  ///< path of what was written
  std::uint64_t virtual_size = 0;
  std::uint64_t read_bytes = 0;    ///< from the source: data, and zeroes that were found in it
  std::uint64_t data_bytes = 0;    ///< stored; with the next two the whole disk
  std::uint64_t zero_bytes = 0;    ///< not stored, because zero
  std::uint64_t parent_bytes = 0;  ///< of an increment: not stored, because as in its parent
  std::uint64_t stored_bytes = 0;  ///< size of the image file
  std::string full_because;        ///< of a backup that was to be an increment: why this disk is in it as a whole; else empty
  double seconds = 0;
  std::map<std::string, double> stages;  ///< busy seconds of each stage ("throttle", "read", "encode", "place", "write" …)
  std::map<std::string, double> cpu;     ///< CPU seconds, all threads, of the stages that use several ("encode" …)
  std::string compression;               ///< "zlib:default" …; empty: none
  std::string encryption;                ///< "none", "luks" (inside qcow2), "luks container"
  std::string chosen;                    ///< what `auto` chose: "zlib:1 20 %, zlib:5 80 %"
  std::uint64_t compressed_clusters = 0;
  std::uint64_t compressed_bytes = 0;  ///< their streams
  std::uint64_t copied_clusters = 0;   ///< of a merge, of the compressed ones: whose stream was copied and not encoded again
  std::uint64_t plain_clusters = 0;    ///< stored as they were: they did not shrink, or nothing is compressed
  std::string read_back;               ///< how the image was read to verify it, as in FileRead; empty: it was not
};

struct JobReport {
  std::string set;              ///< path of the published set, or empty
  std::uint64_t set_bytes = 0;  ///< its files together; known without looking at the target again
  std::string kind;             ///< of a set: "full" or "increment"
  std::string image;            ///< path of the converted image, or empty
  std::vector<DiskReport> disks;
  std::vector<std::string> warnings;  ///< not empty: Outcome::done_with_warnings
  double seconds = 0;
  double frozen_seconds = 0;          ///< how long the guest's file systems were frozen
  double stretching_cpu_seconds = 0;  ///< CPU time of the key stretching, which ran beside the data
  VerifyLevel verified = VerifyLevel::none;
  double verify_seconds = 0;  ///< of `seconds`
};

}  // namespace nasbackup
