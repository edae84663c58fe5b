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
#include <optional>

#include "engine/io/lifeline_state.h"
#include "engine/io/location.h"
#include "engine/io/new_file.h"
#include "engine/io/run_lock.h"
#include "engine/job_state.h"
#include "engine/set/free_space.h"
#include "engine/storage_keys.h"
#include "engine/stored_disks.h"
#include "engine/transfer.h"
#include "engine/translate_faults.h"
#include "engine/vm/definition.h"
#include "engine/vm/disks_in_use.h"
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
  std::string target;     ///< path, NBD URI or rbd: location
  std::string format;
  vm::RestoredPlace::Kind kind = vm::RestoredPlace::Kind::file;
};

/// The domain as it will be.
struct PlannedDomain {
  std::string name;
  std::string xml;    ///< path of its XML
  std::string nvram;  ///< path of its firmware variables; empty: it has none
  std::string text;   ///< the XML
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
    for (auto& [name, target] : options_.targets) target = without_key(std::move(target), options_.storage_keys);
  }

  RestoreReport run() {
    make_plans();
    report_.proved = stored_.set() != nullptr;
    if (!report_.proved) report_.warnings.push_back("content not proved: an image by itself has no digests");
    if (stored_.set() != nullptr && !options_.to.empty()) plan_domain();
    if (options_.define) refuse_defined();
    refuse_disks_of_domains();
    check_room();
    if (options_.dry_run) return describe();
    begin_targets();
    copy();
    if (domain_) add_small_files();
    lifeline_->state().phase = "publishing";
    for (const auto& image : rbd_images_) image->publish();
    for (const auto& file : files_) file->publish();
    if (options_.define) define();
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
      if (!named)
        plans_.push_back(plan_for(i, options_.to + "/" + stored_.disks()[i].name + "." + (format.empty() ? "qcow2" : format)));
    }
    for (const Plan& plan : plans_)
      if (std::count_if(plans_.begin(), plans_.end(),
                        [&](const Plan& other) { return other.target == plan.target || other.index == plan.index; }) > 1)
        throw Fault(FaultKind::usage,
                    "--disk: " + location_for_people(plan.target) + ": two disks would go there, or one to two places");
  }

  /// A device, an export or a Ceph image holds a raw disk; a file what was asked for.
  Plan plan_for(std::size_t index, const std::string& target) {
    Plan plan{index, target, options_.target_format.empty() ? "qcow2" : options_.target_format, vm::RestoredPlace::Kind::file};
    if (is_remote(target)) {
      plan.kind = is_nbd_uri(target) ? vm::RestoredPlace::Kind::nbd : vm::RestoredPlace::Kind::rbd;
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
    if (options_.target_format.empty() && plan.kind == vm::RestoredPlace::Kind::file &&
        (target.ends_with(".raw") || target.ends_with(".img")))
      plan.format = "raw";
    return plan;
  }

  /// Image locks do not show all of it: see disks_in_use.h. Where no libvirt is, none of its domains is either.
  void refuse_disks_of_domains() {
    std::vector<std::string> existing;
    for (const Plan& plan : plans_)
      if (plan.kind != vm::RestoredPlace::Kind::nbd && exists(plan.target)) existing.push_back(plan.target);
    if (domain_)
      for (const std::string& path : {domain_->nvram, domain_->xml})
        if (!path.empty() && exists(path)) existing.push_back(path);
    if (!existing.empty() && !options_.force)
      throw Fault(FaultKind::failed, existing.front() + ": exists; write --force to overwrite it");
    if (existing.empty()) return;
    const auto in_use = ask_what_is_in_use();
    for (const std::string& path : existing)
      if (const auto user = in_use ? in_use->user_of(path) : std::nullopt)
        throw Fault(FaultKind::locked, path + ": in use by domain " + user->domain +
                                           (user->saved ? ", whose memory is saved: virsh managedsave-remove forgets it" : ""));
  }

  bool exists(const std::string& path) {
    const TargetCall mark(&state());
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0;
  }

  std::optional<vm::DisksInUse> ask_what_is_in_use() {
    try {
      return vm::DisksInUse::ask(options_.connect, &state());
    } catch (const Fault& fault) {
      if (control_.on_detail)
        control_.on_detail(std::string(fault.what()) + ": whether a VM uses what is overwritten is seen by image locks alone");
      return std::nullopt;
    }
  }

  /// At most what was stored, and what thin tables need; of raw files and of what is compressed nobody knows before.
  void check_room() {
    std::map<std::string, std::uint64_t> needed;
    for (const Plan& plan : plans_)
      if (plan.kind == vm::RestoredPlace::Kind::file)
        needed[directory_of(plan.target)] += stored_.disks()[plan.index].stored_bytes;
    for (const auto& [path, bytes] : needed) set::check_free_space(set::Directory::open(path, &state()), bytes, "restore target");
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
      disk.image = location_for_people(plan.target);
      disk.virtual_size = stored_.disks()[plan.index].virtual_size.value_or(0);
      report_.disks.push_back(std::move(disk));
    }
    return std::move(report_);
  }

  // ---- copying ---------------------------------------------------------------------------------------------------------------

  /// Where each disk is written until all of them are whole.
  void begin_targets() {
    for (const Plan& plan : plans_) {
      TargetPlace place{plan.target, plan.format, std::nullopt, nullptr};
      if (plan.kind == vm::RestoredPlace::Kind::file) place.location = new_file(plan.target).hidden_path();
      if (plan.kind == vm::RestoredPlace::Kind::rbd) {
        const auto& image = rbd_images_.emplace_back(
            begin_rbd_target(plan.target, options_.force, {rbd_keys_of(options_.storage_keys), options_.io_timeout, &state()}));
        place.location = image->location();
        place.create = image->is_new();
      }
      places_.push_back(std::move(place));
    }
  }

  NewFile& new_file(const std::string& path) {
    const auto alive = [](const std::string& run_id) { return run_is_alive(run_id); };
    return *files_.emplace_back(std::make_unique<NewFile>(path, options_.force, state(), alive));
  }

  void copy() {
    std::vector<TransferDisk> disks;
    for (std::size_t i = 0; i < plans_.size(); ++i) {
      const StoredDisk& stored = stored_.disks()[plans_[i].index];
      disks.push_back({stored.name, stored.path, stored_.proven_source(plans_[i].index), places_[i]});
    }
    Transfer transfer(options_, state(), control_);
    try {
      report_.disks = transfer.run(disks);
    } catch (const UnreadableImage& image) {
      if (stored_.set() == nullptr) throw;
      throw Fault(FaultKind::damaged, image.what());
    }
    for (std::size_t i = 0; i < plans_.size(); ++i) report_.disks[i].image = location_for_people(plans_[i].target);
  }

  // ---- what belongs to the VM besides ----------------------------------------------------------------------------------------

  const set::ManifestFile* find_file(const std::string& name) const {
    for (const set::ManifestFile& file : stored_.set()->manifest().files)
      if (file.name == name || file.name == name + std::string(sealed::kSuffix)) return &file;
    return nullptr;
  }

  void plan_domain() {
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
      throw Fault(FaultKind::damaged,
                  stored_.set()->path() + "/" + xml_file->name + ": name: " + name + ", cannot be that of a file");
    for (const Plan& plan : plans_)
      changes.disks[stored_.disks()[plan.index].name] = {plan.kind, is_remote(plan.target) ? plan.target : absolute(plan.target),
                                                         plan.format};
    PlannedDomain domain{name, options_.to + "/" + name + ".xml", "", ""};
    if (find_file(kNvram) != nullptr) domain.nvram = options_.to + "/" + name + "_VARS.fd";
    if (!domain.nvram.empty()) changes.nvram = absolute(domain.nvram);
    domain.text = vm::rewrite_domain(xml, changes);
    report_.domain = name;
    domain_ = std::move(domain);
  }

  void add_small_files() {
    if (!domain_->nvram.empty()) write_file(domain_->nvram, stored_.set()->small_file(find_file(kNvram)->name));
    for (const set::ManifestFile& file : stored_.set()->manifest().files)
      if (file.name.starts_with(kTpm)) put_tpm_back(domain_->name, file.name);
    write_file(domain_->xml, std::as_bytes(std::span(domain_->text)));
    report_.domain_xml = domain_->xml;
  }

  void refuse_defined() {
    if (!domain_) throw Fault(FaultKind::usage, "--define: there is no domain XML in what is restored, or no --to DIR for it");
    vm::refuse_defined(vm::Connection(options_.connect), domain_->text, options_.force);
  }

  /// By now the disks are there, whatever libvirt says.
  void define() {
    try {
      vm::define_domain(vm::Connection(options_.connect), domain_->text, options_.force);
      report_.defined = true;
    } catch (const Fault& fault) {
      report_.warnings.push_back(std::string(fault.what()) + "; the disks are restored: virsh define " + absolute(domain_->xml));
      return;
    }
    if (!tpm_file_.empty())
      report_.warnings.push_back(tpm_file_ + ": the TPM's state; put it below /var/lib/libvirt/swtpm before the VM is started");
  }

  void put_tpm_back(const std::string& name, const std::string& file) {
    std::string plain = file.substr(kTpm.size());
    if (plain.ends_with(sealed::kSuffix)) plain.resize(plain.size() - sealed::kSuffix.size());
    tpm_file_ = options_.to + "/" + name + "_tpm." + plain;
    write_file(tpm_file_, stored_.set()->small_file(file));
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
  std::optional<PlannedDomain> domain_;
  std::string tpm_file_;                                     // the last of them; empty: there is none
  std::vector<TargetPlace> places_;                          // of plans_, in their order
  std::vector<std::unique_ptr<NewFile>> files_;              // those of plans_ that are files, and the small ones
  std::vector<std::unique_ptr<RbdTargetImage>> rbd_images_;  // those that are Ceph images
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
