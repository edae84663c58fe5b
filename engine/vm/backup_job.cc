// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The order of begin(): places, room, identity, scratch watch, freeze, job, thaw. What takes time comes before the freeze;
// the point in time of the backup is fixed inside virDomainBackupBegin, so the guest is thawed before anything is read.
#include "engine/vm/backup_job.h"

#include <cstring>

#include <fmt/format.h>
#include <libvirt/virterror.h>

#include "engine/io/fault.h"
#include "engine/vm/backup_xml.h"
#include "engine/vm/checkpoint.h"
#include "engine/vm/job_end.h"
#include "engine/vm/run_names.h"

namespace nasbackup::vm {
namespace {

constexpr std::chrono::seconds kThawPatience{60};     ///< the guest is frozen for certain
constexpr std::chrono::seconds kLateThawPatience{2};  ///< the agent did not even answer the freeze
constexpr std::chrono::seconds kLastThawPatience{10};
constexpr std::chrono::milliseconds kEndPatience{30'000};
constexpr std::chrono::milliseconds kEndPatienceWithoutLibvirt{5'000};  ///< after the ten seconds of check()
constexpr std::chrono::milliseconds kEndOfDomain{500};
constexpr std::chrono::milliseconds kWhileHandshake{5};
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kLibvirtMayBeAway = 10 * kSecond;  ///< a restart of libvirtd; QEMU and the export go on meanwhile
constexpr std::int64_t kThawAgainAfter = 5 * kSecond;

template <std::size_t N>
void put(std::array<char, N>& field, const std::string& text, const char* what) {
  if (text.size() >= N) throw Fault(FaultKind::usage, fmt::format("{}: too long: {}", what, text));
  field.fill('\0');
  std::memcpy(field.data(), text.data(), text.size());
}

std::string operation_name(int operation) {
  switch (operation) {
    case VIR_DOMAIN_JOB_OPERATION_BACKUP:
      return "backup";
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN:
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
      return "migration";
    case VIR_DOMAIN_JOB_OPERATION_SAVE:
      return "save";
    case VIR_DOMAIN_JOB_OPERATION_DUMP:
      return "dump";
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT:
      return "snapshot";
    default:
      return "other";
  }
}

}  // namespace

PullJob::PullJob(Domain domain, const PullJobOptions& options, LifelineState& state)
    : domain_(std::move(domain)), options_(options), state_(state), freeze_(domain_, state) {}

std::unique_ptr<PullJob> PullJob::begin(Domain domain, const std::vector<DomainDisk>& disks, const PullJobOptions& options,
                                        LifelineState& state) {
  std::unique_ptr<PullJob> job(new PullJob(std::move(domain), options, state));
  const DomainDescription description = job->domain_.describe();
  job->refuse_unfit_domain(description);
  job->prepare(description, disks);
  job->publish_identity();
  job->watch_ =
      std::make_unique<ScratchWatch>(job->domain_, job->places_.socket, job->places_.scratch_dir, job->worst_case_, state);
  if (options.quiesce && job->paused_)
    job->warnings_.push_back("guest agent: cannot answer while the VM is paused; not quiesced");
  if (options.quiesce && !job->paused_) job->freeze_.freeze(description.agent, options.quiesce_timeout);
  job->ask_libvirt(description, disks);
  job->thaw_or_fail();
  job->note_exports();
  return job;
}

PullJob::~PullJob() {
  end_quietly();
  delete_checkpoint_quietly();
}

/// What is left of it the guard deletes.
void PullJob::delete_checkpoint_quietly() noexcept {
  if (!has_checkpoint_) return;
  state_.checkpoint.store(true);
  try {
    if (!domain_.connected()) domain_.reconnect();
    if (delete_checkpoint(domain_, options_.checkpoint)) state_.checkpoint.store(false);
  } catch (const Fault& fault) {
    if (fault.kind() == FaultKind::not_found) state_.checkpoint.store(false);
  } catch (const std::exception&) {
    return;
  }
}

void PullJob::refuse_unfit_domain(const DomainDescription& description) {
  const DomainState now = domain_.state();
  const std::string where = "domain " + domain_.name();
  if (!now.active()) throw Fault(FaultKind::source, where + ": it does not run: " + now.reason);
  domain_id_ = description.id;
  paused_ = now.state == RunState::paused;
  refuse_known_checkpoint();
  // Beginning beside another job would block for half a minute and then fail with less to say.
  const std::optional<int> other = domain_.running_job();
  if (!other) return;
  const std::optional<std::string> backup = domain_.backup_job();
  const std::string socket = backup ? parse_backup(*backup).socket : std::string();
  throw Fault(FaultKind::source, fmt::format("{}: a job is already running and is left alone: {}{}", where,
                                             operation_name(*other), socket.empty() ? "" : " (socket " + socket + ")"));
}

void PullJob::prepare(const DomainDescription& description, const std::vector<DomainDisk>& disks) {
  for (const DomainDisk& disk : disks) {
    const std::uint64_t size = domain_.disk_size(disk.target);
    worst_case_ += worst_case_scratch(size);
    exports_.push_back({disk, size, {}, {}, {}});
  }
  begun_ = true;
  places_ = choose_job_places(description, options_.run_id, options_.scratch_dir);
  ScratchRoom room = scratch_room_of(places_.scratch_dir);
  room.worst_case_bytes = worst_case_;
  const std::string obstacle = scratch_obstacle(room, places_.scratch_dir);
  if (!obstacle.empty()) throw Fault(FaultKind::source, obstacle);
}

void PullJob::publish_identity() {
  put(state_.connect_uri, domain_.uri(), "libvirt URI");
  put(state_.domain_uuid, domain_.uuid(), "domain UUID");
  put(state_.job_socket, places_.socket, "backup socket");
  put(state_.checkpoint_name, options_.checkpoint, "checkpoint");
}

void PullJob::ask_libvirt(const DomainDescription& description, const std::vector<DomainDisk>& disks) {
  std::vector<BackupDisk> wanted;
  for (const DomainDisk& disk : disks) {
    const auto since = options_.since.find(disk.target);
    wanted.push_back({disk.target,
                      places_.scratch_dir + "/" + scratch_name(options_.run_id, disk.target),
                      {},
                      since == options_.since.end() ? "" : since->second,
                      {}});
  }
  const std::string xml = pull_job_xml(places_.socket, wanted);
  const std::string checkpoint =
      options_.checkpoint.empty() ? std::string() : checkpoint_xml(options_.checkpoint, disks, description.disks);
  state_.job_ends.store(false);
  state_.guest_job.store(true);
  has_checkpoint_ = !checkpoint.empty();
  state_.checkpoint.store(has_checkpoint_);
  if (virDomainBackupBegin(domain_.get(), xml.c_str(), checkpoint.empty() ? nullptr : checkpoint.c_str(), 0) < 0) {
    const std::string why = last_error().message;
    throw Fault(FaultKind::source, "Failed to start backup for VM " + domain_.name() + ": " + why);
  }
}

/// What is there already is not ours, and must not be deleted with the job.
void PullJob::refuse_known_checkpoint() {
  if (!options_.checkpoint.empty() && has_checkpoint(domain_, options_.checkpoint))
    throw Fault(FaultKind::source,
                "Failed to start backup for VM " + domain_.name() + ": checkpoint " + options_.checkpoint + ": exists already");
}

void PullJob::thaw_or_fail() {
  const bool thawed = freeze_.thaw(freeze_.was_frozen() ? kThawPatience : kLateThawPatience);
  if (!freeze_.warning().empty()) warnings_.push_back(freeze_.warning());
  if (thawed || !freeze_.was_frozen()) return;  // never confirmed frozen: check() goes on asking for the thaw
  throw Fault(FaultKind::source, "Failed to thaw the filesystem for vm " + domain_.name() + ": " + freeze_.thaw_answer());
}

void PullJob::note_exports() {
  const std::optional<std::string> xml = domain_.backup_job();
  if (!xml) throw Fault(FaultKind::source, "domain " + domain_.name() + ": the backup job ended as soon as it had begun");
  const BackupDescription job = parse_backup(*xml);
  for (JobExport& out : exports_) {
    out.socket = {places_.socket, out.disk.target};
    for (const BackupDisk& disk : job.disks) {
      if (disk.target != out.disk.target) continue;
      out.socket.export_name = disk.export_name;
      if (!disk.since.empty()) out.bitmap = "qemu:dirty-bitmap:" + disk.bitmap;
    }
    out.uri = nbd_uri(places_.socket, out.socket.export_name);
  }
}

JobCondition PullJob::check() {
  const ScratchVerdict verdict = watch_ != nullptr ? watch_->verdict() : ScratchVerdict::ample;
  const ScratchRoom room = watch_ != nullptr ? watch_->room() : ScratchRoom{};
  if (verdict == ScratchVerdict::give_up) {
    throw Fault(FaultKind::source, fmt::format("scratch directory {}: nearly full, so the job was given up before a write of "
                                               "the guest could fail: {} of {} free (--scratch names another directory)",
                                               places_.scratch_dir, in_mib(room.free_bytes), in_mib(room.total_bytes)));
  }
  try {
    if (lost_since_ns_ != 0) domain_.reconnect();
    check_domain();
    check_own_job();
    lost_since_ns_ = 0;
  } catch (const Fault&) {
    if (lost_since_ns_ == 0 && domain_.connected()) throw;
    tolerate_lost_libvirt();
    return {verdict == ScratchVerdict::low, room};
  }
  look_at_used_scratch();
  retry_owed_thaw();
  return {verdict == ScratchVerdict::low, room};
}

void PullJob::check_domain() {
  const DomainState now = domain_.state();
  const std::string where = "domain " + domain_.name();
  if (!now.active()) throw Fault(FaultKind::source, where + ": stopped during the backup: " + now.reason);
  const int id = domain_.current_id();
  if (id < 0) throw Fault(FaultKind::source, where + ": stopped during the backup: " + domain_.state().reason);
  if (id != domain_id_) throw Fault(FaultKind::source, where + ": was stopped and started again during the backup");
}

void PullJob::check_own_job() {
  const std::optional<std::string> xml = domain_.backup_job();
  if (xml && parse_backup(*xml).socket == places_.socket) return;
  std::this_thread::sleep_for(kEndOfDomain);
  check_domain();  // a domain that ends loses its job first
  throw Fault(FaultKind::source, "domain " + domain_.name() + ": the backup job was ended by somebody else or failed in QEMU");
}

void PullJob::tolerate_lost_libvirt() {
  const std::int64_t now = monotonic_ns();
  if (lost_since_ns_ == 0) lost_since_ns_ = now;
  if (now - lost_since_ns_ > kLibvirtMayBeAway) {
    throw Fault(FaultKind::source,
                "libvirt: the connection was lost during the backup and cannot be made again: " + domain_.uri());
  }
}

void PullJob::look_at_used_scratch() {
  const std::int64_t now = monotonic_ns();
  if (now < next_used_ns_ || watch_ == nullptr) return;
  next_used_ns_ = now + kSecond;
  if (const auto used = domain_.scratch_used()) watch_->note_used(*used);
}

void PullJob::retry_owed_thaw() {
  if (!freeze_.thaw_owed() || monotonic_ns() < next_thaw_ns_) return;
  freeze_.thaw(std::chrono::seconds(1));
  next_thaw_ns_ = monotonic_ns() + kThawAgainAfter;
}

void PullJob::end() {
  if (!begun_) return;
  watch_.reset();
  const auto deadline = std::chrono::steady_clock::now() + (lost_since_ns_ == 0 ? kEndPatience : kEndPatienceWithoutLibvirt);
  std::string reason = "libvirt does not forget it";
  while (!can_end_job(state_)) std::this_thread::sleep_for(kWhileHandshake);
  while (state_.guest_job.load() && std::chrono::steady_clock::now() < deadline) {
    try {
      if (!domain_.connected()) domain_.reconnect();
      if (abort_own_job(domain_, places_.socket, std::chrono::milliseconds(1000))) state_.guest_job.store(false);
    } catch (const Fault& fault) {
      if (fault.kind() == FaultKind::not_found) state_.guest_job.store(false);
      reason = fault.what();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
  const bool thawed = freeze_.thaw(kLastThawPatience);
  if (state_.guest_job.load()) {
    throw Fault(FaultKind::source, "domain " + domain_.name() + ": the backup job could not be ended: " + reason);
  }
  remove_job_places(places_, options_.run_id);
  begun_ = false;
  if (!thawed) warnings_.push_back("guest agent: does not say that the guest is thawed: " + freeze_.thaw_answer());
}

bool PullJob::end_quietly() noexcept {
  try {
    end();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace nasbackup::vm
