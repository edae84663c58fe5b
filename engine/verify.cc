// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::verify: reads a set or an image back from where it lies, past the page cache, decodes it and compares it with what
// was read when the backup was made.
#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>

#include "engine/io/image_chain.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/page_cache.h"
#include "engine/job_state.h"
#include "engine/stored_disks.h"
#include "engine/transfer.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

/// What is told of a disk at most: a thousand places are as good as a million.
constexpr std::size_t kMostDamages = 1000;

/// Collects what is wrong with one disk; ranges that touch and are wrong in the same way are one. From any thread.
class Findings {
 public:
  void add(GuestRange range, const std::string& what) {
    const std::lock_guard lock(mutex_);
    auto [place, is_new] = by_start_.try_emplace(range.start.value, Found{range.length, what});
    if (!is_new) return;  // it could not be read, and so differs, too
    if (by_start_.size() > kMostRanges) by_start_.erase(std::prev(by_start_.end()));
  }

  std::vector<Damage> take(const StoredDisk& disk) {
    std::vector<Damage> damages;
    for (const auto& [start, found] : by_start_) {
      if (!damages.empty() && damages.back().what == found.what && *damages.back().guest_offset + *damages.back().guest_length == start) {
        *damages.back().guest_length += found.length;
        continue;
      }
      damages.push_back({disk.name, disk.path, start, found.length, std::nullopt, found.what});
    }
    return damages;
  }

 private:
  static constexpr std::size_t kMostRanges = 100'000;
  struct Found {
    std::uint64_t length;
    std::string what;
  };
  std::mutex mutex_;
  std::map<std::uint64_t, Found> by_start_;
};

class Verification {
 public:
  Verification(const VerifyOptions& options, const JobControl& control)
      : options_(options),
        control_(control),
        lifeline_(control.lifeline ? control.lifeline : std::make_shared<Lifeline>()),
        stored_(options.path, options.source_format, options, control) {
    control_.lifeline = lifeline_;
  }

  VerifyReport run() {
    report_.path = stored_.set() != nullptr ? stored_.set()->path() : location_for_people(options_.path);
    report_.proved = stored_.set() != nullptr;
    if (stored_.set() != nullptr)
      for (const std::string& line : stored_.set()->damage()) report_.damage.push_back({"", "", {}, {}, {}, line});
    for (std::size_t i = 0; i < stored_.disks().size(); ++i) verify_disk(i);
    return std::move(report_);
  }

 private:
  void verify_disk(std::size_t index) {
    const StoredDisk& disk = stored_.disks()[index];
    try {
      read_back(index);
    } catch (const Fault& fault) {
      const bool in_set = stored_.set() != nullptr;
      if (fault.kind() != FaultKind::damaged && !(in_set && fault.kind() == FaultKind::not_found)) throw;
      report_.damage.push_back({disk.name, disk.path, {}, {}, {}, fault.what()});
    }
  }

  void read_back(std::size_t index) {
    const StoredDisk& disk = stored_.disks()[index];
    Findings findings;
    SourcePlace source = stored_.source(index);
    source.on_damage = [&](GuestRange range, const std::string& why) { findings.add(range, why); };
    if (auto digests = proof_of(index))
      source.proof = std::make_shared<DiskProof>(std::move(digests), [&](GuestRange range) { findings.add(range, "differs from what was backed up"); });
    report_.files.push_back({disk.path, let_cache_go(disk)});
    lifeline_->state().phase = "reading back";
    Transfer transfer(options_, lifeline_->state(), control_);
    const DiskReport done = transfer.run({{disk.name, disk.path, source, {"null:", "raw", std::nullopt, nullptr}}}).front();
    report_.virtual_size += done.virtual_size;
    report_.data_bytes += done.data_bytes;
    std::vector<Damage> damages = findings.take(disk);
    if (damages.size() > kMostDamages) damages.resize(kMostDamages);
    locate(index, damages);
    report_.damage.insert(report_.damage.end(), damages.begin(), damages.end());
  }

  /// A digest file that is damaged has been told of; the image is read all the same.
  std::unique_ptr<DigestFile> proof_of(std::size_t index) {
    try {
      return stored_.digests(index);
    } catch (const Fault& fault) {
      if (fault.kind() != FaultKind::damaged) throw;
      report_.proved = false;
      return nullptr;
    }
  }

  /// So that the disk is asked and not this host's memory. How it will be read.
  std::string let_cache_go(const StoredDisk& disk) {
    if (is_nbd_uri(disk.path)) return "cached";
    const std::vector<GuestRange> whole{{GuestOffset(0), disk.stored_bytes}};
    drop_cached(disk.path, whole, &lifeline_->state());
    return cached_share(disk.path, whole, &lifeline_->state()) == 0 ? "dropped" : "cached";
  }

  void locate(std::size_t index, std::vector<Damage>& damages) {
    if (damages.empty() || is_nbd_uri(stored_.disks()[index].path)) return;
    const SourcePlace source = stored_.source(index);
    try {
      const OpenedImage image = open_image({source.location, source.format, true, source.keys.get()}, &lifeline_->state());
      for (Damage& damage : damages) locate(*image.layer, damage);
    } catch (const Fault&) {  // what keeps it from being opened has been told of
    }
  }

  static void locate(const ImageLayer& image, Damage& damage) {
    try {
      const auto place = image.locate(GuestOffset(*damage.guest_offset));
      if (place) damage.file = place->path, damage.file_offset = place->offset;
    } catch (const Fault&) {  // its table is broken: the finding names it
    }
  }

  const VerifyOptions& options_;
  JobControl control_;
  std::shared_ptr<Lifeline> lifeline_;
  StoredDisks stored_;
  VerifyReport report_;
};

VerifyReport verify_now(const VerifyOptions& options, const JobControl& control) {
  const auto began = std::chrono::steady_clock::now();
  VerifyReport report = Verification(options, control).run();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return report;
}

}  // namespace

VerifyReport verify(const VerifyOptions& options, const JobControl& control) {
  return translate_faults([&] { return verify_now(options, control); });
}

}  // namespace nasbackup
