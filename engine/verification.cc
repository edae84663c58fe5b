// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See verification.h.
#include "engine/verification.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "crypto/random_source.h"
#include "engine/image_check.h"
#include "engine/io/hidden_file.h"
#include "engine/io/image_chain.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/page_cache.h"
#include "engine/io/run_lock.h"
#include "engine/set/directory.h"

namespace nasbackup {

namespace {

/// What is told of a disk at most: a thousand places are as good as a million.
constexpr std::size_t kMostDamages = 1000;
/// The same of lines for people, before a run that fails.
constexpr std::size_t kMostLines = 20;
}  // namespace

// Not in /tmp: the digests of a large disk would fill a file system in memory.
std::string temporary_file() {
  const char* named = std::getenv("TMPDIR");
  return std::string(named != nullptr && *named != '\0' ? named : "/var/tmp") + "/nasbackup-digests";
}

std::string line_of(const Damage& damage) {
  std::string line = damage.disk.empty() ? "" : damage.disk + ": ";
  if (damage.guest_offset)
    line += "guest bytes " + std::to_string(*damage.guest_offset) + " to " +
            std::to_string(*damage.guest_offset + *damage.guest_length) + " (" + damage.file +
            (damage.file_offset ? ", at byte " + std::to_string(*damage.file_offset) : "") + "): ";
  return line + damage.what;
}

std::vector<FileRead> let_set_go(const std::string& path, LifelineState* lifeline) {
  const auto directory = set::Directory::open(path, lifeline);
  std::vector<std::string> names = directory.names();
  std::sort(names.begin(), names.end());
  std::vector<FileRead> files;
  for (const std::string& name : names) {
    const auto status = directory.stat(name);
    if (!status || !S_ISREG(status->st_mode)) continue;
    files.push_back({directory.path_of(name), let_file_go(directory.path_of(name), lifeline) ? "dropped" : "cached"});
  }
  return files;
}

std::string how_read(const VerifyReport& report, const std::string& path) {
  for (const FileRead& file : report.files)
    if (file.path == path) return file.how;
  return "";
}

std::string cached_line(const VerifyReport& report) {
  std::size_t cached = 0;
  std::string first;
  for (const FileRead& file : report.files)
    if (file.how == "cached" && cached++ == 0) first = file.path;
  if (cached == 0) return "";
  return first + (cached == 1 ? "" : " and " + std::to_string(cached - 1) + " more") +
         ": read from memory, as far as it was there, and not from the storage";
}

void throw_damage(const VerifyReport& report, const JobControl& control) {
  const std::vector<Damage>& damage = report.damage;
  if (damage.empty()) return;
  for (std::size_t i = 1; i < std::min(damage.size(), kMostLines) && control.on_message; ++i)
    control.on_message(line_of(damage[i]));
  const std::string others = damage.size() == 1 ? "" : " (and " + std::to_string(damage.size() - 1) + " more)";
  throw Fault(FaultKind::damaged, line_of(damage.front()) + others);
}

/// Collects what is wrong with the content of one disk; ranges that touch and are wrong in the same way are one. From any thread.
class Verification::Findings {
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
      if (!damages.empty() && damages.back().what == found.what &&
          *damages.back().guest_offset + *damages.back().guest_length == start) {
        *damages.back().guest_length += found.length;
        continue;
      }
      damages.push_back({disk.name, disk.path, start, found.length, std::nullopt, found.what});
    }
    if (damages.size() > kMostDamages) damages.resize(kMostDamages);
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

/// What a disk is compared with.
struct Verification::Digests {
  std::unique_ptr<DigestChain> chain;
  std::string origin;
};

Verification::Verification(const TransferOptions& options, const JobControl& control, const StoredDisks& stored,
                           VerificationScope scope, std::vector<FileRead> files)
    : options_(options), control_(control), stored_(stored), scope_(std::move(scope)) {
  options_.encrypt = nullptr;
  options_.verify = VerifyLevel::none;
  report_.files = std::move(files);
  report_.sample = scope_.sample;
}

VerifyReport Verification::run() {
  state().phase = "verifying";
  report_.path = stored_.set() != nullptr ? stored_.set()->path() : location_for_people(stored_.disks().front().path);
  const bool compared = stored_.has_digests() || scope_.against.size() == stored_.disks().size();
  report_.proved = compared && scope_.sample >= 1 && scope_.level == VerifyLevel::data;
  if (stored_.set() != nullptr && !scope_.just_written) let_parents_go();
  for (const ProvenSet* set = stored_.set(); set != nullptr; set = scope_.just_written ? nullptr : set->parent())
    for (const std::string& line : set->damage()) add_damage({"", "", {}, {}, {}, line});
  announce();
  for (std::size_t i = 0; i < stored_.disks().size(); ++i) verify_disk(i);
  return std::move(report_);
}

/// Of what the set stands on only manifests and headers have been read, to prove them.
void Verification::let_parents_go() {
  for (const ProvenSet* set = stored_.set()->parent(); set != nullptr; set = set->parent())
    for (const FileRead& file : let_set_go(set->path(), &state())) record(file.path, file.how == "dropped");
}

/// All disks of a set at once, so that progress goes forward only.
void Verification::announce() {
  if (scope_.just_written || stored_.set() == nullptr) return;
  for (const StoredDisk& disk : stored_.disks()) state().total_bytes += disk.virtual_size.value_or(0);
  announced_ = true;
}

void Verification::verify_disk(std::size_t index) {
  const StoredDisk& disk = stored_.disks()[index];
  try {
    let_go(index);
    if (scope_.level == VerifyLevel::data) read_back(index);
    check_tables(index);
  } catch (const Fault& fault) {
    const bool ours = stored_.set() != nullptr || scope_.just_written;
    const bool is_other = fault.kind() == FaultKind::not_found || dynamic_cast<const UnreadableImage*>(&fault) != nullptr;
    if (fault.kind() != FaultKind::damaged && !(ours && is_other)) throw;
    add_damage({disk.name, disk.path, {}, {}, {}, fault.what()});
  }
}

void Verification::add_damage(Damage damage) {
  const auto is_known = [&](const Damage& known) { return !damage.guest_offset && known.what == damage.what; };
  if (std::none_of(report_.damage.begin(), report_.damage.end(), is_known)) report_.damage.push_back(std::move(damage));
}

void Verification::read_back(std::size_t index) {
  const StoredDisk& disk = stored_.disks()[index];
  Findings findings;
  SourcePlace source = stored_.source(index);
  source.on_damage = [&](GuestRange range, const std::string& why) { findings.add(range, why); };
  compare_with(index, source, findings);
  Transfer transfer(options_, state(), control_, "verifying");
  const TransferDisk whole{
      disk.name, disk.path, source, {"null:", "none", std::nullopt, nullptr}, scope_.just_written || announced_};
  const DiskReport done = transfer.run({whole}).front();
  report_.virtual_size += done.virtual_size;
  report_.data_bytes += done.data_bytes;
  std::vector<Damage> damages = findings.take(disk);
  locate(index, damages);
  report_.damage.insert(report_.damage.end(), damages.begin(), damages.end());
}

/// What is read is compared with all that is known of it: its digests, and another source.
void Verification::compare_with(std::size_t index, SourcePlace& source, Findings& findings) {
  std::vector<Digests> all;
  if (auto own = digests_of(index))
    all.push_back({std::move(own), stored_.set() != nullptr ? "what was backed up" : "what was read"});
  if (const auto other = scope_.against.find(index); other != scope_.against.end())
    all.push_back({digests_of(other->second), other->second.name});
  std::uint64_t grid = std::max<std::uint64_t>(digests::kLeastPiece, options_.cluster_size);
  for (const Digests& digests : all) grid = std::max(grid, digests.chain->piece_size());
  std::vector<GuestRange> unread;
  if (scope_.sample < 1) unread = take_sample(source, grid);
  for (Digests& digests : all) {
    const auto differs = [&findings, what = "differs from " + digests.origin](GuestRange range) { findings.add(range, what); };
    source.proofs.push_back(std::make_shared<DiskProof>(std::move(digests.chain), digests.origin, differs, unread));
  }
}

/// A digest file that is damaged has been told of; the image is read all the same.
std::unique_ptr<DigestChain> Verification::digests_of(std::size_t index) try {
  return stored_.digests(index);
} catch (const Fault& fault) {
  if (fault.kind() != FaultKind::damaged) throw;
  add_damage({"", "", {}, {}, {}, fault.what()});
  report_.proved = false;
  return nullptr;
}

/// Of what the other source holds now. The file goes at once; its reader keeps it.
std::unique_ptr<DigestChain> Verification::digests_of(const Against& against) {
  const HiddenFile file(temporary_file(), state(), [](const std::string& run) { return run_is_alive(run); });
  Transfer transfer(options_, state(), control_, "reading the other source");
  transfer.run({{"", against.name, against.source, {"null:", "none", std::nullopt, nullptr, file.path()}}});
  auto digests = std::make_unique<DigestFile>(file.path(), nullptr, &state());
  digests->check(transfer.digests().front()->root, [this] {
    if (control_.stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
  });
  return std::make_unique<DigestChain>(std::move(digests));
}

/// Chooses what is read; returns the data that is not.
std::vector<GuestRange> Verification::take_sample(SourcePlace& source, std::uint64_t grid) {
  JobLoop job(options_.threads, control_.stop);
  PipelineBounds bounds;
  bounds.connections = options_.connections;
  bounds.io_timeout = options_.io_timeout;
  std::vector<GuestRange> data;
  job.run([&]() -> asio::awaitable<void> {
    const OpenedSource opened = co_await open_source(job, source, bounds, &state());
    BlockSource& disk = *opened.source;
    grid = std::max(grid, disk.traits().alignment);
    data = co_await ranges_but_for(disk, ExtentKind::zero, grid);
  });
  const auto sample = std::make_shared<Sample>();
  sample->ranges = choose_at_random(data, scope_.sample, grid, crypto::system_random());
  sample->time = std::chrono::nanoseconds::max();
  std::vector<GuestRange> unread = without(data, sample->ranges);
  source.sample = sample;
  return unread;
}

/// So that the disk is asked and not this host's memory. What an image stands on is known only once it is opened; nothing is read
/// of its data for that.
void Verification::let_go(std::size_t index) {
  const StoredDisk& disk = stored_.disks()[index];
  if (is_remote(disk.path)) return record(disk.path, false);
  const SourcePlace source = stored_.source(index);
  const std::vector<std::string> files =
      open_image({source.location, source.format, false, source.keys.get(), source.backing}, &state()).files;
  for (const std::string& file : files) record(file, let_file_go(file, &state()));
}

void Verification::record(const std::string& path, bool dropped) {
  const std::string shown = location_for_people(path);
  for (FileRead& file : report_.files) {
    if (file.path != shown) continue;
    if (!dropped) file.how = "cached";
    return;
  }
  report_.files.push_back({shown, dropped ? "dropped" : "cached"});
}

/// An image whose refcounts are wrong reads well, and yet is not what was written: whoever writes into it loses data.
void Verification::check_tables(std::size_t index) {
  const StoredDisk& disk = stored_.disks()[index];
  if (is_remote(disk.path) || (!disk.format.empty() && disk.format != "qcow2")) return;
  check_tables(disk, disk.path);
  for (const BackingPlace& file : stored_.source(index).backing.files)
    if (!file.unread) check_tables(disk, file.path);
}

void Verification::check_tables(const StoredDisk& disk, const std::string& path) {
  const ImageCheck check = nasbackup::check_tables(path, stored_.ring(), buffers_of(options_), control_);
  if (check.report.verdict == CheckVerdict::not_completed && check.report.check_errors == 0)
    report_.warnings.push_back(path + ": " + check.report.findings.front().text);
  if (check.report.leaks != 0 && !scope_.just_written)
    report_.warnings.push_back(path + ": leaked clusters: " + std::to_string(check.report.leaks) +
                               " (no damage; nasbackup check --repair=leaks frees them)");
  std::size_t told = 0;
  for (const CheckFinding& finding : check.report.findings) {
    const bool counts =
        finding.kind == "corruption" || finding.kind == "check-error" || (finding.kind == "leak" && scope_.just_written);
    if (!counts || finding.table.empty() || told++ == kMostDamages) continue;
    add_damage({disk.name, path, {}, {}, check.start + finding.file_offset, path + ": " + finding.text});
  }
}

void Verification::locate(std::size_t index, std::vector<Damage>& damages) const {
  if (damages.empty() || is_remote(stored_.disks()[index].path)) return;
  const SourcePlace source = stored_.source(index);
  try {
    const OpenedImage image = open_image({source.location, source.format, true, source.keys.get(), source.backing}, &state());
    for (Damage& damage : damages) {
      try {
        const auto place = image.layer->locate(GuestOffset(*damage.guest_offset));
        if (place) damage.file = place->path, damage.file_offset = place->offset;
      } catch (const Fault&) {  // its table is broken: the finding names it
      }
    }
  } catch (const Fault&) {  // what keeps it from being opened has been told of
  }
}

}  // namespace nasbackup
