// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Moves the disks of one job side by side, as many at once as --memory has room for: builds a pipeline for each, runs them on one
// loop under one limiter, and reports.
// fail() and lift_limit() may be called from any thread, all else from one.
#pragma once

#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/image_key.h"
#include "engine/io/limiter.h"
#include "engine/nasbackup.h"
#include "engine/pipeline/build_pipeline.h"
#include "engine/pipeline/job_loop.h"
#include "engine/rate_control.h"

namespace nasbackup {

struct LifelineState;

/// The option's word as the codec and level that it names, nothing for an empty one. Throws Fault(usage).
std::optional<Compression> compression_of(const TransferOptions& options);

/// Throws Fault(usage) for options out of range and those that contradict each other; so does Transfer itself.
void check_transfer(const TransferOptions& options);

/// Bytes of --memory that are for buffers.
std::uint64_t buffers_of(const TransferOptions& options) noexcept;

/// Throws Fault(usage) for a word that names no format of a source.
void check_source_format(const std::string& format);

/// One disk of a job.
struct TransferDisk {
  std::string name;    ///< in the report
  std::string origin;  ///< the source as people know it
  SourcePlace source;
  TargetPlace target;
  bool announced = false;      ///< the lifeline's total counts it already
  std::string complaint = {};  ///< in front of what its copy fails with; empty: nothing
};

class Transfer {
 public:
  /// `lifeline` outlives the transfer. `phase`: a literal, what the copying is called. Throws Fault(usage) for options out of
  /// range.
  Transfer(const TransferOptions& options, LifelineState& lifeline, const JobControl& control, const char* phase = "copying");

  /// Ends the job with this failure, unless it has one already.
  void fail(std::exception_ptr failure) { job_.fail(failure); }
  /// The limit does harm: from now on reading is as fast as it can be.
  void lift_limit();
  /// Of the rbd: locations to come; more may be added until run().
  StorageKeys& storage_keys() noexcept { return options_.storage_keys; }
  /// What is encrypted gets this slot, which other images have too. Before run().
  void share_slot(luks::SharedSlot slot) { shared_slot_ = std::move(slot); }
  /// Copies all disks; on return every image is complete and on stable storage. Throws Fault. To be called once.
  std::vector<DiskReport> run(const std::vector<TransferDisk>& disks);
  /// Of each disk, once run() is over: what its digest file came to, and the key of its image; nothing, and null, where there is
  /// none.
  const std::vector<std::optional<DigestSummary>>& digests() const noexcept { return digests_; }
  const std::vector<std::shared_ptr<ImageKey>>& image_keys() const noexcept { return image_keys_; }
  /// Opens what was written, with --verify and encryption; else it is empty. Its slot key is derived from the passphrase once
  /// more, beside the data, so that it proves the header and costs no time; what is left of that is waited for. Once run() is
  /// over.
  std::shared_ptr<luks::KeyRing> ring_for_written();
  /// CPU seconds of the key stretching, once run() is over.
  double stretching_cpu_seconds() const noexcept { return keys_ ? keys_->cpu_seconds() : 0; }

 private:
  asio::awaitable<void> copy_all(const std::vector<TransferDisk>& disks, std::vector<DiskReport>& reports);
  asio::awaitable<std::deque<DiskCopy>> build_all(const std::vector<TransferDisk>& disks);
  std::size_t most_at_once(const std::deque<DiskCopy>& copies) const;
  void make_keys();
  void make_room_for_libraries(const std::vector<TransferDisk>& disks);
  std::uint64_t buffers() const noexcept { return buffers_of(options_) - libraries_; }
  void derive_again();
  PipelineBounds bounds_for(std::size_t disks) const;
  Limiter& next_limiter();
  void set_limit(const Limit& limit);

  TransferOptions options_;
  LifelineState& lifeline_;
  const char* phase_;
  std::function<void(const std::string&)> on_message_;
  std::uint64_t libraries_ = 0;  // bytes of --memory that are neither for buffers nor what every run needs
  JobLoop job_;
  std::mutex limiters_mutex_;
  std::deque<Limiter> limiters_;  // the first is everybody's, unless each disk has its own
  std::optional<Limit> limit_;    // the last one that was set
  bool lifted_ = false;
  std::optional<luks::SharedSlot> shared_slot_;
  std::optional<JobKeys> keys_;                 // when the images are encrypted
  std::shared_ptr<luks::KeyRing> source_keys_;  // when sources may be
  std::vector<std::shared_ptr<ImageKey>> image_keys_;
  std::vector<std::optional<DigestSummary>> digests_;
  RateListener on_limit_;
  std::shared_ptr<luks::KeyRing> written_keys_;  // used by derived_again_ until that is done
  std::future<void> derived_again_;              // last: it uses what is above, and is waited for
};

}  // namespace nasbackup
