// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The result as JSON; see result.h. The keys are fixed: people script against them.
#include "tools/result.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/cloudstack/details.h"

namespace nasbackup::tools {

namespace {

const char* name_of(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::done:
      return "done";
    case Outcome::failed:
      return "failed";
    case Outcome::done_with_warnings:
      return "done_with_warnings";
    case Outcome::not_found:
      return "not_found";
    case Outcome::locked:
      return "locked";
    case Outcome::wrong_key:
      return "wrong_key";
    case Outcome::damaged:
      return "damaged";
    case Outcome::target_full:
      return "target_full";
    case Outcome::source_problem:
      return "source_problem";
    case Outcome::timed_out:
      return "timed_out";
    case Outcome::usage:
      return "usage";
  }
  return "failed";
}

Json with_outcome(Outcome outcome) { return {{"outcome", name_of(outcome)}, {"exit_status", static_cast<int>(outcome)}}; }

/// Empty text as JSON's null: there is none.
Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json json_of(VerifyLevel level) {
  if (level == VerifyLevel::none) return nullptr;
  return level == VerifyLevel::data ? "data" : "metadata";
}

Json json_of(const DiskReport& disk) {
  return {{"name", disk.name},
          {"source", disk.source},
          {"image", text_or_null(disk.image)},
          {"virtual_size", disk.virtual_size},
          {"read_bytes", disk.read_bytes},
          {"data_bytes", disk.data_bytes},
          {"zero_bytes", disk.zero_bytes},
          {"parent_bytes", disk.parent_bytes},
          {"stored_bytes", disk.stored_bytes},
          {"full_because", text_or_null(disk.full_because)},
          {"seconds", disk.seconds},
          {"compression", text_or_null(disk.compression)},
          {"encryption", disk.encryption},
          {"chosen", text_or_null(disk.chosen)},
          {"compressed_clusters", disk.compressed_clusters},
          {"compressed_bytes", disk.compressed_bytes},
          {"copied_clusters", disk.copied_clusters},
          {"plain_clusters", disk.plain_clusters},
          {"read_back", text_or_null(disk.read_back)},
          {"stages", disk.stages},
          {"cpu", disk.cpu}};
}

/// What is stored of what is data.
Json ratio_of(const DiskReport& sum) {
  return sum.data_bytes == 0 ? Json(nullptr) : Json(static_cast<double>(sum.stored_bytes) / static_cast<double>(sum.data_bytes));
}

Json json_of(const JobReport& report, const std::string& place, const std::string& where) {
  Json result = with_outcome(report.warnings.empty() ? Outcome::done : Outcome::done_with_warnings);
  DiskReport sum;
  for (const DiskReport& disk : report.disks) {
    sum.virtual_size += disk.virtual_size;
    sum.read_bytes += disk.read_bytes;
    sum.data_bytes += disk.data_bytes;
    sum.zero_bytes += disk.zero_bytes;
    sum.parent_bytes += disk.parent_bytes;
    sum.stored_bytes += disk.stored_bytes;
    for (const auto& [stage, seconds] : disk.stages) sum.stages[stage] += seconds;
    for (const auto& [stage, seconds] : disk.cpu) sum.cpu[stage] += seconds;
  }
  result[place] = text_or_null(where);
  if (report.set_bytes != 0) result["set_bytes"] = report.set_bytes;
  if (!report.kind.empty()) result["kind"] = report.kind;
  result["virtual_size"] = sum.virtual_size;
  result["read_bytes"] = sum.read_bytes;
  result["data_bytes"] = sum.data_bytes;
  result["zero_bytes"] = sum.zero_bytes;
  result["parent_bytes"] = sum.parent_bytes;
  result["stored_bytes"] = sum.stored_bytes;
  result["ratio"] = ratio_of(sum);
  result["seconds"] = report.seconds;
  result["verified"] = json_of(report.verified);
  if (report.verified != VerifyLevel::none) result["verify_seconds"] = report.verify_seconds;
  result["warnings"] = report.warnings;
  result["stages"] = sum.stages;
  if (report.stretching_cpu_seconds > 0) sum.cpu["stretch"] = report.stretching_cpu_seconds;
  result["cpu"] = sum.cpu;
  result["disks"] = Json::array();
  for (const DiskReport& disk : report.disks) result["disks"].push_back(json_of(disk));
  return result;
}

Json json_of_keys(const KeysOfImage& keys) {
  Json result{{"cipher", keys.cipher}, {"hash", keys.hash}, {"uuid", keys.uuid}};
  result["slots"] = Json::array();
  for (const KeySlotInfo& slot : keys.slots) {
    result["slots"].push_back({{"slot", slot.slot}, {"in_use", slot.in_use}});
    if (slot.in_use) result["slots"].back()["iterations"] = slot.iterations;
  }
  return result;
}

Json json_of(const TuneTrial& trial) {
  return {{"connections", trial.connections},
          {"item_size", trial.item_size},
          {"threads", trial.threads},
          {"compression", text_or_null(trial.compression)},
          {"encrypted", trial.encrypted},
          {"data_bytes", trial.data_bytes},
          {"seconds", trial.seconds},
          {"bytes_per_second", trial.bytes_per_second},
          {"ratio", trial.ratio},
          {"stages", trial.stages},
          {"cpu", trial.cpu}};
}

Json json_of(const std::vector<TuneTrial>& trials) {
  Json result = Json::array();
  for (const TuneTrial& trial : trials) result.push_back(json_of(trial));
  return result;
}

Json json_of(const KeysOfImage& keys) {
  Json result{{"image", keys.image}, {"format", keys.format}};
  result.update(json_of_keys(keys));
  result["changed_slots"] = keys.changed;
  return result;
}

Json json_of(const ImageInfo& image) {
  Json result{{"path", image.path},
              {"format", text_or_null(image.format)},
              {"virtual_size", image.virtual_size ? Json(*image.virtual_size) : Json()},
              {"file_size", image.file_size},
              {"disk_size", image.disk_size},
              {"encryption", image.encryption},
              {"backing_file", text_or_null(image.backing_file)},
              {"backing_format", text_or_null(image.backing_format)}};
  if (image.format == "luks") result["content"] = text_or_null(image.content);
  if (image.keys) result["luks"] = json_of_keys(*image.keys);
  for (const QemuCommand& way : image.open_with)
    result["open_with"].push_back({{"content", way.content}, {"command", way.command}});
  for (const BackingFile& file : image.stands_on)
    result["stands_on"].push_back({{"path", file.path}, {"file_size", file.file_size}});
  if (image.version == 0) return result;
  result["version"] = image.version;
  result["cluster_size"] = image.cluster_size;
  result["compression"] = image.compression;
  result["deflate_history"] = image.deflate_history != 0 ? Json(image.deflate_history) : Json();
  result["snapshots"] = image.snapshots;
  return result;
}

Json json_of(const SetInfo& set) {
  Json result{{"path", set.path},
              {"vm", set.vm},
              {"time", text_or_null(set.time)},
              {"kind", set.kind},
              {"parent", text_or_null(set.parent)},
              {"virtual_size", set.virtual_size},
              {"stored_bytes", set.stored_bytes}};
  result["images"] = Json::array();
  for (const ImageInfo& image : set.images) result["images"].push_back(json_of(image));
  if (!set.note.empty()) result["note"] = set.note;
  return result;
}

template <class Options>
Options with_passphrases(Options options, const Request& request, const JobControl& control) {
  if (!request.passphrases.empty()) options.encrypt = read_passphrases(request.passphrases, control).front();
  for (auto& key : read_passphrases(request.source_keys, control)) options.source_keys.push_back(std::move(key));
  for (auto& [name, key] : storage_keys_of(request.storage_keys)) options.storage_keys.emplace(name, key);
  return options;
}

Json backup_result(const Request& request, const JobControl& control) {
  const JobReport report = backup(with_passphrases(request.backup, request, control), control);
  Json result = json_of(report, "set", report.set);
  result["frozen_seconds"] = report.frozen_seconds;
  return result;
}

Json convert_result(const Request& request, const JobControl& control) {
  const JobReport report = convert(with_passphrases(request.convert, request, control), control);
  return json_of(report, "image", report.image);
}

Json json_of(const Damage& damage) {
  const auto number = [](const std::optional<std::uint64_t>& value) { return value ? Json(*value) : Json(); };
  return {{"disk", text_or_null(damage.disk)},
          {"file", text_or_null(damage.file)},
          {"guest_offset", number(damage.guest_offset)},
          {"guest_length", number(damage.guest_length)},
          {"file_offset", number(damage.file_offset)},
          {"what", damage.what},
          {"line", line_of(damage)}};
}

template <class Options>
Options opened_by_passphrases(Options options, const Request& request, const JobControl& control) {
  options.source_keys = read_passphrases(request.passphrases, control);
  options.storage_keys = storage_keys_of(request.storage_keys);
  return options;
}

Json verify_result(const Request& request, const JobControl& control) {
  VerifyOptions options = opened_by_passphrases(request.verify, request, control);
  options.against_keys = read_passphrases(request.source_keys, control);
  const VerifyReport report = verify(options, control);
  Json result = with_outcome(!report.damage.empty()                       ? Outcome::damaged
                             : !report.proved || !report.warnings.empty() ? Outcome::done_with_warnings
                                                                          : Outcome::done);
  result.update({{"path", report.path},
                 {"proved", report.proved},
                 {"sample", report.sample},
                 {"virtual_size", report.virtual_size},
                 {"data_bytes", report.data_bytes},
                 {"seconds", report.seconds}});
  result["damage"] = Json::array();
  for (const Damage& damage : report.damage) result["damage"].push_back(json_of(damage));
  result["files"] = Json::array();
  for (const FileRead& file : report.files) result["files"].push_back({{"path", file.path}, {"read", file.how}});
  result["warnings"] = report.warnings;
  return result;
}

Json restore_result(const Request& request, const JobControl& control) {
  const RestoreReport report = restore(opened_by_passphrases(request.restore, request, control), control);
  Json result = json_of(report, "domain_xml", report.domain_xml);
  result["verified"] = report.proved && !request.restore.dry_run;
  result["dry_run"] = request.restore.dry_run;
  result["files"] = report.files;
  result["domain"] = text_or_null(report.domain);
  result["defined"] = report.defined;
  return result;
}

Json merge_result(const Request& request, const JobControl& control) {
  const MergeReport report = merge(with_passphrases(request.merge, request, control), control);
  Json result = json_of(report, "set", report.set);
  result["merged_from"] = report.merged_from;
  return result;
}

Json delete_result(const Request& request, const JobControl& control) {
  const DeleteReport report = delete_sets(request.deletion, control);
  Json result = with_outcome(report.warnings.empty() ? Outcome::done : Outcome::done_with_warnings);
  result["dry_run"] = request.deletion.dry_run;
  result["sets"] = Json::array();
  for (const DeletedSet& set : report.sets)
    result["sets"].push_back({{"path", set.path},
                              {"time", text_or_null(set.time)},
                              {"kind", text_or_null(set.kind)},
                              {"stored_bytes", set.stored_bytes}});
  result["warnings"] = report.warnings;
  return result;
}

Json tune_result(const Request& request, const JobControl& control) {
  const TuneReport report = tune(with_passphrases(request.tune, request, control), control);
  Json result = with_outcome(Outcome::done);
  result.update({{"source", report.source},
                 {"target", report.target},
                 {"virtual_size", report.virtual_size},
                 {"sample_bytes", report.sample_bytes},
                 {"page_cache", report.page_cache},
                 {"arguments", report.arguments},
                 {"limit", report.limit},
                 {"seconds", report.seconds},
                 {"best", json_of(report.best)},
                 {"trials", json_of(report.trials)},
                 {"codecs", json_of(report.codecs)}});
  return result;
}

Json serve_result(const Request& request, const JobControl& control) {
  ServeOptions options = request.serve;
  options.source_keys = read_passphrases(request.passphrases, control);
  const ServeReport report = serve(options, control);
  Json result = with_outcome(Outcome::done);
  result["exports"] = Json::array();
  for (const ServedExport& served : report.exports)
    result["exports"].push_back(
        {{"name", served.name}, {"uri", served.uri}, {"source", served.source}, {"virtual_size", served.virtual_size}});
  result.update({{"clients", report.clients}, {"data_bytes", report.data_bytes}, {"seconds", report.seconds}});
  return result;
}

std::vector<KeysOfImage> change_keys(const Request& request, const JobControl& control) {
  KeyOptions options = request.key;
  options.passphrases = read_passphrases(request.passphrases, control);
  if (request.key_action == KeyAction::remove) return key_remove(options, control);
  options.new_passphrase = read_passphrases(request.new_passphrase, control).front();
  return key_add(options, control);
}

Json key_result(const Request& request, const JobControl& control) {
  const bool list = request.key_action == KeyAction::list;
  Json result = with_outcome(Outcome::done);
  result["images"] = Json::array();
  for (const KeysOfImage& keys : list ? key_list(request.path, control) : change_keys(request, control))
    result["images"].push_back(json_of(keys));
  return result;
}

Json result_of(const SetInfo& set) {
  Json result = with_outcome(set.damaged ? Outcome::damaged : Outcome::done);
  result.update(json_of(set));
  result["chain"] = Json::array();
  for (const ChainLink& link : set.chain)
    result["chain"].push_back({{"set", link.set},
                               {"time", text_or_null(link.time)},
                               {"kind", text_or_null(link.kind)},
                               {"stored_bytes", link.stored_bytes},
                               {"missing", link.missing}});
  result["children"] = set.children;
  return result;
}

Json info_result(const Request& request, const JobControl& control) {
  InfoOptions options{request.path, read_passphrases(request.passphrases, control), file_of(request.passphrases)};
  if (is_set(options.path, control)) return result_of(set_info(options, control));
  Json result = with_outcome(Outcome::done);
  result.update(json_of(image_info(options, control)));
  return result;
}

const char* name_of(CheckVerdict verdict) noexcept {
  switch (verdict) {
    case CheckVerdict::clean:
      return "clean";
    case CheckVerdict::not_completed:
      return "not_completed";
    case CheckVerdict::corrupt:
      return "corrupt";
    case CheckVerdict::leaks:
      return "leaks";
    case CheckVerdict::no_check:
      return "no_check";
  }
  return "not_completed";
}

/// The keys are those of `qemu-img check --output=json`; the findings are ours.
Json json_of(const CheckReport& report) {
  Json result{{"outcome", name_of(report.verdict)},
              {"exit_status", static_cast<int>(report.verdict)},
              {"filename", report.path},
              {"format", report.format},
              {"check-errors", report.check_errors}};
  if (report.verdict == CheckVerdict::no_check) return result;
  result.update({{"image-end-offset", report.image_end_offset},
                 {"corruptions", report.corruptions},
                 {"leaks", report.leaks},
                 {"corruptions-fixed", report.corruptions_fixed},
                 {"leaks-fixed", report.leaks_fixed},
                 {"total-clusters", report.total_clusters},
                 {"allocated-clusters", report.allocated_clusters},
                 {"fragmented-clusters", report.fragmented_clusters},
                 {"compressed-clusters", report.compressed_clusters}});
  result["findings"] = Json::array();
  for (const CheckFinding& finding : report.findings)
    result["findings"].push_back({{"kind", finding.kind},
                                  {"table", finding.table},
                                  {"index", finding.index},
                                  {"value", finding.value},
                                  {"file-offset", finding.file_offset},
                                  {"text", finding.text}});
  return result;
}

Json check_result(const Request& request, const JobControl& control) {
  CheckOptions options = request.check;
  options.passphrases = read_passphrases(request.passphrases, control);
  return json_of(check_image(options, control));
}

/// As in qemu-img, an image that cannot be checked is 1 whatever the reason; but a passphrase that is missing or wrong, wrong
/// usage and a time-out stay what they are.
Json check_error_result(const Error& error) {
  Json result = error_result(error.outcome(), error.what());
  const Outcome outcome = error.outcome();
  const bool stays = outcome == Outcome::wrong_key || outcome == Outcome::usage || outcome == Outcome::timed_out;
  if (!stays) result["exit_status"] = static_cast<int>(CheckVerdict::not_completed);
  return result;
}

Json details_result(const Request& request) {
  Json result = with_outcome(Outcome::done);
  result["details"] = cloudstack::json_of(cloudstack::read_zone(request.config, true, request.zone), request.with_secrets);
  return result;
}

Json list_result(const std::string& path, const JobControl& control) {
  Json result = with_outcome(Outcome::done);
  result["sets"] = Json::array();
  for (const SetInfo& set : list_sets(path, control)) result["sets"].push_back(json_of(set));
  return result;
}

}  // namespace

void take_passphrases(Request& request, const JobControl& control) {
  request.backup = with_passphrases(request.backup, request, control);
  for (PassphrasePlaces* places : request.secrets()) places->clear();
}

Json perform(const Request& request, const JobControl& control) {
  try {
    if (request.verb == kBackup) return backup_result(request, control);
    if (request.verb == kConvert) return convert_result(request, control);
    if (request.verb == kInfo) return info_result(request, control);
    if (request.verb == kKey) return key_result(request, control);
    if (request.verb == kTune) return tune_result(request, control);
    if (request.verb == kVerify) return verify_result(request, control);
    if (request.verb == kRestore) return restore_result(request, control);
    if (request.verb == kMerge) return merge_result(request, control);
    if (request.verb == kCheck) return check_result(request, control);
    if (request.verb == kServe) return serve_result(request, control);
    if (request.verb == kDetails) return details_result(request);
    if (request.verb == kDelete) return delete_result(request, control);
    return list_result(request.path, control);
  } catch (const Error& error) {
    if (request.verb == kCheck) return check_error_result(error);
    return error_result(error.outcome(), error.what());
  } catch (const UsageError& error) {  // in a file that is read here
    return error_result(Outcome::usage, error.what());
  }
}

Json error_result(Outcome outcome, const std::string& message) {
  Json result = with_outcome(outcome);
  result["error"] = message;
  return result;
}

Json signal_result(int number, const std::string& message) {
  return {{"outcome", "stopped"}, {"exit_status", 128 + number}, {"error", message}};
}

int exit_status(const Json& result) { return result.at("exit_status").get<int>(); }

}  // namespace nasbackup::tools
