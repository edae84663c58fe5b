// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::check_image, and what verification needs of it (engine/image_check.h): opens an image under QEMU's image locks, a
// LUKS container with its key, checks the metadata of the qcow2 in it (formats/qcow2_check.h), then decodes its compressed
// clusters on all threads.
#include "engine/image_check.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include "engine/io/fault.h"
#include "engine/io/image_bytes.h"
#include "engine/io/image_layer.h"
#include "engine/io/image_lock.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/repair_journal.h"
#include "engine/job_state.h"
#include "engine/luks_image.h"
#include "engine/pipeline/build_pipeline.h"
#include "engine/translate_faults.h"
#include "formats/compression.h"
#include "formats/format_error.h"
#include "formats/qcow2_check.h"
#include "formats/qcow2_compressed_check.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_header_reader.h"
#include "formats/units.h"

namespace nasbackup {

namespace {

/// Several threads take pieces until there are none, or one of them fails.
class DecodeOnThreads {
 public:
  DecodeOnThreads(const qcow2::ReadUpTo& read, std::uint64_t file_size, const qcow2::CheckHeader& header,
                  const std::vector<qcow2::CompressedPiece>& pieces)
      : read_(read), file_size_(file_size), header_(header), pieces_(pieces) {}

  /// What is found goes behind `findings`, in the order of the file.
  void run(unsigned threads, qcow2::Findings& findings) {
    const std::size_t count = std::min<std::size_t>(threads, pieces_.size());
    std::vector<qcow2::Findings> found(count);
    {
      std::vector<std::jthread> all;
      for (qcow2::Findings& of_thread : found) all.emplace_back([&] { work(of_thread); });
    }
    if (failure_) std::rethrow_exception(failure_);
    for (qcow2::Findings& of_thread : found) findings.append(std::move(of_thread));
  }

 private:
  void work(qcow2::Findings& findings) noexcept {
    try {
      qcow2::CompressedCheck check(read_, file_size_, header_);
      for (std::size_t i = 0; (i = next_++) < pieces_.size();) check.check(pieces_[i], findings);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      next_ = pieces_.size();
    }
  }

  const qcow2::ReadUpTo& read_;
  std::uint64_t file_size_;
  const qcow2::CheckHeader& header_;
  const std::vector<qcow2::CompressedPiece>& pieces_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr failure_;
};

class Check {
 public:
  Check(const CheckOptions& options, luks::KeyRing& ring, const ImageCheckBounds& bounds, const JobControl& control)
      : options_(options), ring_(ring), bounds_(bounds), control_(control), bytes_(options.path, state_of(control)) {
    read_ = [this](std::uint64_t offset, std::span<std::byte> into) {
      if (control_.stop.stop_requested()) throw Fault(FaultKind::interrupted, options_.path + ": stopped");
      return bytes_.read_up_to(offset, into);
    };
  }

  ImageCheck run() {
    lock();
    if (journal_ && journal_->finish_interrupted() && control_.on_message)
      control_.on_message(options_.path + ": a repair that was interrupted has been finished");
    std::vector<std::byte> start = read_start();
    if (luks::has_magic(start)) {
      enter_container();
      start = read_start();
    }
    CheckReport report;
    report.path = options_.path;
    report.format = qcow2::has_magic(start) ? "qcow2" : "raw";
    if (report.format == "raw")
      report.verdict = CheckVerdict::no_check;
    else
      check_qcow2(start, report);
    if (lock_) lock_->confirm_undisturbed();
    return {std::move(report), bytes_.file_offset(0)};
  }

 private:
  void lock() {
    const TargetCall mark(state_of(control_));
    if (options_.repair != CheckRepair::nothing) return lock_to_repair();
    if (options_.shared) return;
    lock_.emplace(ImageLock::for_reading(bytes_.descriptor(), options_.path));
    if (!lock_->note().empty() && control_.on_message) control_.on_message(lock_->note());
  }

  void lock_to_repair() {
    writable_ = FileDescriptor(::open(options_.path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!writable_) throw_target_errno(errno, options_.path, "open for writing");
    lock_.emplace(ImageLock::for_writing(writable_.get(), options_.path));
    journal_.emplace(writable_.get(), options_.path, state_of(control_));
  }

  std::vector<std::byte> read_start() const {
    std::vector<std::byte> start(qcow2::kHeaderReadBytes);
    start.resize(read_(0, start));
    return start;
  }

  void enter_container() {
    if (ring_.size() == 0)
      throw Fault(FaultKind::wrong_key, options_.path + ": a LUKS container: what it holds needs the passphrase (-e FILE)");
    const LuksHeaderFile header(options_.path, ImageBytes::Access::read, state_of(control_));
    const luks::Unlocked unlocked = header.unlock(ring_);
    if (header.facts().payload_offset > bytes_.file_size())
      throw Fault(FaultKind::damaged, options_.path + ": LUKS header: payload offset: " +
                                          std::to_string(header.facts().payload_offset) + ", beyond the end of the file");
    bytes_.enter_container(header.facts().payload_offset, unlocked.volume_key.bytes());
    in_container_ = true;
  }

  void check_qcow2(std::span<const std::byte> start, CheckReport& report) try {
    // In a container nothing is smaller than a sector.
    const std::uint64_t size = in_container_ ? round_down(bytes_.size(), crypto::AesXts::kSectorBytes) : bytes_.size();
    if (journal_) repair(size, report);
    const qcow2::CheckHeader header = qcow2::parse_check_header(journal_ ? read_start() : start);
    if (bounds_.metadata_only && qcow2::ClusterMap::bytes_for(header.cluster_of(size)) > bounds_.memory)
      return give_up(header.cluster_of(size), report);
    tell_phase("checking the tables");
    qcow2::MetadataCheck check = qcow2::check_metadata(read_, size, header, nullptr, bounds_.memory);
    report.corruptions_fixed -= std::min(report.corruptions_fixed, check.findings.count(qcow2::FindingKind::corruption));
    report.leaks_fixed -= std::min(report.leaks_fixed, check.findings.count(qcow2::FindingKind::leak));
    if (bounds_.metadata_only) return tell(check, report);
    require_codec(header, check);
    tell_phase("decoding");
    const unsigned threads = options_.threads != 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
    DecodeOnThreads(read_, size, header, check.compressed_pieces).run(threads, check.findings);
    tell(check, report);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, options_.path + ": " + error.what());
  }

  void require_codec(const qcow2::CheckHeader& header, const qcow2::MetadataCheck& check) const {
    if (header.compression_type != qcow2::kZstd || check.compressed_pieces.empty() || is_built_in(Codec::zstd)) return;
    throw UnreadableImage(options_.path + ": its compressed clusters are zstd, which is not built in");
  }

  void give_up(std::uint64_t clusters, CheckReport& report) const {
    report.verdict = CheckVerdict::not_completed;
    report.findings.push_back({"check-error", "", 0, 0, 0,
                               "its tables were not checked: that takes " +
                                   std::to_string((qcow2::ClusterMap::bytes_for(clusters) >> 20) + 1) +
                                   " MiB beside the 40 of the program, more than --memory"});
  }

  /// What was wrong at first goes into the numbers of what was fixed, from which the last check takes what is left.
  void repair(std::uint64_t size, CheckReport& report) {
    using Round = qcow2::RepairRound;
    tell_phase("repairing");
    const bool all = options_.repair == CheckRepair::all;
    const qcow2::Findings first = repair_round(all ? Round::refcounts : Round::leaks, size).findings;
    report.corruptions_fixed = first.count(qcow2::FindingKind::corruption);
    report.leaks_fixed = first.count(qcow2::FindingKind::leak);
    if (!all) return;
    repair_round(Round::copied, size);
    repair_round(Round::header_bits, size);
  }

  qcow2::MetadataCheck repair_round(qcow2::RepairRound round, std::uint64_t size) {
    const qcow2::CheckHeader header = qcow2::parse_check_header(read_start());
    const qcow2::RepairRequest request{
        round, [this](std::uint64_t offset, std::span<const std::byte> old, std::span<const std::byte> now) {
          journal_->add(bytes_.file_offset(offset), bytes_.as_stored(offset, old), bytes_.as_stored(offset, now));
        }};
    qcow2::MetadataCheck check = qcow2::check_metadata(read_, size, header, &request);
    if (!journal_->empty() && is_sound(round, check))
      journal_->commit();
    else
      journal_->discard();
    return check;
  }

  static bool is_sound(qcow2::RepairRound round, const qcow2::MetadataCheck& check) noexcept {
    if (round == qcow2::RepairRound::copied) return check.refcount_mismatches == 0;
    return round != qcow2::RepairRound::header_bits || check.only_header_bits;
  }

  void tell_phase(const char* phase) const {
    if (control_.lifeline != nullptr && !bounds_.metadata_only) state_of(control_)->phase = phase;
  }

  static void tell(const qcow2::MetadataCheck& check, CheckReport& report) {
    report.check_errors = check.findings.count(qcow2::FindingKind::check_error);
    report.corruptions = check.findings.count(qcow2::FindingKind::corruption);
    report.leaks = check.findings.count(qcow2::FindingKind::leak);
    report.image_end_offset = check.image_end;
    report.total_clusters = check.total_clusters;
    report.allocated_clusters = check.clusters.allocated;
    report.fragmented_clusters = check.clusters.fragmented;
    report.compressed_clusters = check.clusters.compressed;
    for (const qcow2::Finding& finding : check.findings.kept()) report.findings.push_back(public_finding(finding));
    std::stable_sort(report.findings.begin(), report.findings.end(), [](const CheckFinding& a, const CheckFinding& b) {
      return std::tie(a.kind, a.file_offset) < std::tie(b.kind, b.file_offset);
    });
    report.verdict = report.check_errors != 0  ? CheckVerdict::not_completed
                     : report.corruptions != 0 ? CheckVerdict::corrupt
                     : report.leaks != 0       ? CheckVerdict::leaks
                                               : CheckVerdict::clean;
  }

  static CheckFinding public_finding(const qcow2::Finding& finding) {
    return {std::string(name_of(finding.kind)),
            std::string(name_of(finding.entry.table)),
            finding.entry.index,
            finding.entry.value,
            finding.entry.file_offset,
            finding.text};
  }

  const CheckOptions& options_;
  luks::KeyRing& ring_;
  const ImageCheckBounds bounds_;
  const JobControl& control_;
  ImageBytes bytes_;
  FileDescriptor writable_;  // of a repair
  std::optional<ImageLock> lock_;
  std::optional<RepairJournal> journal_;
  bool in_container_ = false;
  qcow2::ReadUpTo read_;
};

}  // namespace

ImageCheck check_tables(const std::string& path, luks::KeyRing& ring, std::uint64_t memory, const JobControl& control) {
  CheckOptions options;
  options.path = path;
  return Check(options, ring, {true, memory}, control).run();
}

CheckReport check_image(const CheckOptions& options, const JobControl& control) {
  return translate_faults([&] {
    if (is_remote(options.path))
      throw Fault(FaultKind::usage, location_for_people(options.path) + ": is no file; only files are checked");
    luks::KeyRing ring = ring_of(options.passphrases, control.stop);
    return Check(options, ring, {}, control).run().report;
  });
}

}  // namespace nasbackup
