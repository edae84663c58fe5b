// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::restore: puts the disks of a set, or one image, where they shall be. What is written was compared with its digests
// before it was placed; a file gets its name only when all disks are whole.
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "engine/io/lifeline_state.h"
#include "engine/io/nbd_connection.h"
#include "engine/io/new_file.h"
#include "engine/job_state.h"
#include "engine/set/free_space.h"
#include "engine/set/run_lock.h"
#include "engine/stored_disks.h"
#include "engine/transfer.h"
#include "engine/translate_faults.h"
#include "engine/vm/restored_domain.h"
#include "formats/sealed_file.h"

namespace nasbackup {

namespace {

constexpr char kDomainXml[] = "domain-config.xml";
constexpr char kNvram[] = "nvram.fd";
constexpr std::string_view kTpm = "tpm.";

std::string absolute(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

/// A disk on its way.
struct Plan {
  std::size_t index = 0;  ///< of the stored disks
  std::string target;     ///< path or NBD URI
  std::string format;
  vm::RestoredPlace::Kind kind = vm::RestoredPlace::Kind::file;
};

class Restoration {
 public:
  Restoration(const RestoreOptions& options, const JobControl& control)
      : options_(options),
        control_(control),
        lifeline_(control.lifeline ? control.lifeline : std::make_shared<Lifeline>()),
        stored_(options.path, options.source_format, options, control) {
    control_.lifeline = lifeline_;
    options_.encrypt = nullptr;
  }

  RestoreReport run() {
    make_plans();
    report_.proved = stored_.set() != nullptr;
    if (!report_.proved) report_.warnings.push_back("content not proved: an image by itself has no digests");
    check_room();
    if (options_.dry_run) return describe();
    begin_files();
    copy();
    if (stored_.set() != nullptr && !options_.to.empty()) add_small_files();
    lifeline_->state().phase = "publishing";
    for (const auto& file : files_) file->publish();
    return std::move(report_);
  }

 private:
  LifelineState& state() noexcept { return lifeline_->state(); }

  // ---- what goes where -------------------------------------------------------------------------------------------------------

  void make_plans() {
    if (options_.to.empty() && options_.targets.empty())
      throw Fault(FaultKind::usage, "restore: where to? write --to DIR, or --disk NAME=TARGET");
    const std::string& format = options_.target_format;
    if (!format.empty() && format != "qcow2" && format != "raw")
      throw Fault(FaultKind::usage, "-O " + format + ": write -O qcow2 or -O raw");
    for (const auto& [name, target] : options_.targets) plans_.push_back(plan_for(stored_.find(name, "--disk"), target));
    for (std::size_t i = 0; i < stored_.disks().size() && !options_.to.empty(); ++i) {
      const bool named = std::any_of(plans_.begin(), plans_.end(), [&](const Plan& plan) { return plan.index == i; });
      if (!named) plans_.push_back(plan_for(i, options_.to + "/" + stored_.disks()[i].name + "." + (format.empty() ? "qcow2" : format)));
    }
    for (const Plan& plan : plans_)
      if (std::count_if(plans_.begin(), plans_.end(), [&](const Plan& other) { return other.target == plan.target || other.index == plan.index; }) > 1)
        throw Fault(FaultKind::usage, "--disk: " + nbd_uri_for_people(plan.target) + ": two disks would go there, or one to two places");
  }

  /// A device or an export holds a raw disk; a file what was asked for.
  Plan plan_for(std::size_t index, const std::string& target) {
    Plan plan{index, target, options_.target_format.empty() ? "qcow2" : options_.target_format, vm::RestoredPlace::Kind::file};
    if (is_nbd_uri(target)) {
      plan.kind = vm::RestoredPlace::Kind::nbd;
      plan.format = "raw";
      return plan;
    }
    const TargetCall mark(&state());
    struct stat info {};
    const bool exists = ::stat(target.c_str(), &info) == 0;
    if (exists && S_ISBLK(info.st_mode)) {
      plan.kind = vm::RestoredPlace::Kind::block;
      plan.format = "raw";
    }
    if (exists && !options_.force) throw Fault(FaultKind::failed, target + ": exists; write --force to overwrite it");
    if (options_.target_format.empty() && plan.kind == vm::RestoredPlace::Kind::file && (target.ends_with(".raw") || target.ends_with(".img")))
      plan.format = "raw";
    return plan;
  }

  /// At most what was stored, and what thin tables need; of raw files and of what is compressed nobody knows before.
  void check_room() {
    std::map<std::string, std::uint64_t> needed;
    for (const Plan& plan : plans_)
      if (plan.kind == vm::RestoredPlace::Kind::file) needed[directory_of(plan.target)] += stored_.disks()[plan.index].stored_bytes;
    for (const auto& [path, bytes] : needed) set::check_free_space(set::Directory::open(path, &state()), bytes);
  }

  static std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  }

  RestoreReport describe() {
    for (const Plan& plan : plans_) {
      DiskReport disk;
      disk.name = stored_.disks()[plan.index].name;
      disk.source = stored_.disks()[plan.index].path;
      disk.image = nbd_uri_for_people(plan.target);
      disk.virtual_size = stored_.disks()[plan.index].virtual_size.value_or(0);
      report_.disks.push_back(std::move(disk));
    }
    return std::move(report_);
  }

  // ---- copying ---------------------------------------------------------------------------------------------------------------

  void begin_files() {
    for (const Plan& plan : plans_)
      if (plan.kind == vm::RestoredPlace::Kind::file) new_file(plan.target);
  }

  NewFile& new_file(const std::string& path) {
    const auto alive = [](const std::string& run_id) { return set::run_is_alive(run_id); };
    return *files_.emplace_back(std::make_unique<NewFile>(path, options_.force, state(), alive));
  }

  void copy() {
    std::vector<TransferDisk> disks;
    std::size_t file = 0;
    for (const Plan& plan : plans_) {
      const StoredDisk& stored = stored_.disks()[plan.index];
      const std::string place = plan.kind == vm::RestoredPlace::Kind::file ? files_[file++]->hidden_path() : plan.target;
      disks.push_back({stored.name, stored.path, source_of(plan), {place, plan.format, std::nullopt, nullptr}});
    }
    Transfer transfer(options_, state(), control_);
    try {
      report_.disks = transfer.run(disks);
    } catch (const UnreadableImage& image) {
      if (stored_.set() == nullptr) throw;
      throw Fault(FaultKind::damaged, image.what());
    }
    for (std::size_t i = 0; i < plans_.size(); ++i) report_.disks[i].image = nbd_uri_for_people(plans_[i].target);
  }

  SourcePlace source_of(const Plan& plan) {
    SourcePlace source = stored_.source(plan.index);
    auto digests = stored_.digests(plan.index);
    if (!digests) return source;
    const std::string where = stored_.disks()[plan.index].path;
    source.proofs.push_back(std::make_shared<DiskProof>(std::move(digests), "what was backed up", [where](GuestRange range) {
      throw Fault(FaultKind::damaged, where + ": guest bytes " + std::to_string(range.start.value) + " to " +
                                          std::to_string(range.end().value) + ": differ from what was backed up");
    }));
    return source;
  }

  // ---- what belongs to the VM besides ------------------------------------------------------------------------------------------

  const set::ManifestFile* find_file(const std::string& name) const {
    for (const set::ManifestFile& file : stored_.set()->manifest().files)
      if (file.name == name || file.name == name + std::string(sealed::kSuffix)) return &file;
    return nullptr;
  }

  void add_small_files() {
    const set::ManifestFile* xml_file = find_file(kDomainXml);
    if (xml_file == nullptr) return;
    const std::vector<std::byte> bytes = stored_.set()->small_file(xml_file->name);
    const std::string xml(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    vm::RestoredDomain changes;
    changes.name = options_.new_name;
    changes.new_uuid = options_.new_uuid;
    changes.new_macs = options_.new_macs;
    const std::string name = options_.new_name.empty() ? vm::name_of_domain(xml) : options_.new_name;
    if (name.empty() || name.find('/') != std::string::npos || name.front() == '.')
      throw Fault(FaultKind::damaged, stored_.set()->path() + "/" + xml_file->name + ": name: " + name + ", cannot be that of a file");
    for (const Plan& plan : plans_)
      changes.disks[stored_.disks()[plan.index].name] = {
          plan.kind, plan.kind == vm::RestoredPlace::Kind::nbd ? plan.target : absolute(plan.target), plan.format};
    if (const set::ManifestFile* nvram = find_file(kNvram)) {
      const std::string target = options_.to + "/" + name + "_VARS.fd";
      write_file(target, stored_.set()->small_file(nvram->name));
      changes.nvram = absolute(target);
    }
    for (const set::ManifestFile& file : stored_.set()->manifest().files)
      if (file.name.starts_with(kTpm)) put_tpm_back(name, file.name);
    const std::string text = vm::rewrite_domain(xml, changes);
    write_file(options_.to + "/" + name + ".xml", std::as_bytes(std::span(text)));
    report_.domain_xml = options_.to + "/" + name + ".xml";
  }

  void put_tpm_back(const std::string& name, const std::string& file) {
    std::string plain = file.substr(kTpm.size());
    if (plain.ends_with(sealed::kSuffix)) plain.resize(plain.size() - sealed::kSuffix.size());
    write_file(options_.to + "/" + name + "_tpm." + plain, stored_.set()->small_file(file));
  }

  void write_file(const std::string& path, std::span<const std::byte> content) {
    NewFile& file = new_file(path);
    write_new_file(file.hidden_path(), content, state());
    report_.files.push_back(path);
  }

  RestoreOptions options_;
  JobControl control_;
  std::shared_ptr<Lifeline> lifeline_;
  StoredDisks stored_;
  std::vector<Plan> plans_;
  std::vector<std::unique_ptr<NewFile>> files_;  // those of plans_ that are files, in their order; then the small ones
  RestoreReport report_;
};

RestoreReport restore_now(const RestoreOptions& options, const JobControl& control) {
  const auto began = std::chrono::steady_clock::now();
  RestoreReport report = Restoration(options, control).run();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return report;
}

}  // namespace

RestoreReport restore(const RestoreOptions& options, const JobControl& control) {
  return translate_faults([&] { return restore_now(options, control); });
}

}  // namespace nasbackup
