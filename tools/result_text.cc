// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The result as people read it: three lines and a small table; see result.h.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/printable.h"
#include "tools/result.h"

namespace nasbackup::tools {

namespace {

using Row = std::vector<std::string>;

/// Columns as wide as their widest cell.
std::string table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += row[i] + std::string(widths[i] - columns(row[i]) + 2, ' ');
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string word(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || !found->is_string() ? "" : printable(found->get<std::string>());
}

std::string size(const Json& object, const char* key) { return human_size(object.at(key).get<double>()); }

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// One line when something was compressed or encrypted: with what, and what it came to.
std::string transforms_text(const Json& result) {
  const Json& disks = result.at("disks");
  if (disks.empty()) return {};
  std::string text;
  if (const std::string compression = word(disks.front(), "compression"); !compression.empty()) {
    text = "compressed with " + compression;
    if (result.at("ratio").is_number()) text += fmt::format(" to {:.1f} %", 100 * result.at("ratio").get<double>());
  }
  if (const std::string encryption = word(disks.front(), "encryption"); encryption != "none")
    text += (text.empty() ? "encrypted: " : "; encrypted: ") + encryption;
  for (const Json& disk : disks)
    if (const std::string chosen = word(disk, "chosen"); !chosen.empty())
      text += fmt::format("; {} got {}", word(disk, "name"), chosen);
  return text.empty() ? "" : text + "\n";
}

std::string job_text(const Json& result, const std::string& headline) {
  const double seconds = result.at("seconds").get<double>();
  std::string text = headline + "\n";
  text += fmt::format("{} of data in {}, {} stored, {} are zero\n", size(result, "data_bytes"), size(result, "virtual_size"),
                      size(result, "stored_bytes"), size(result, "zero_bytes"));
  text += transforms_text(result);
  if (result.contains("verify_seconds"))
    text += fmt::format("{} in {}\n",
                        word(result, "verified") == "data" ? "read back and compared: no errors were found,"
                                                           : "tables checked: no errors were found,",
                        human_time(result.at("verify_seconds").get<double>()));
  text +=
      fmt::format("{}, {}/s", human_time(seconds), human_size(result.at("read_bytes").get<double>() / std::max(seconds, 1e-3)));
  const double frozen = result.value("frozen_seconds", 0.0);
  if (frozen > 0) text += fmt::format("; the guest was frozen for {}", human_time(frozen));
  std::vector<Row> rows{{"disk", "size", "data", "zero", "stored", "time", "image"}};
  for (const Json& disk : result.at("disks"))
    rows.push_back({word(disk, "name"), size(disk, "virtual_size"), size(disk, "data_bytes"), size(disk, "zero_bytes"),
                    size(disk, "stored_bytes"), human_time(disk.at("seconds").get<double>()), base_name(word(disk, "image"))});
  return text + "\n\n" + table(rows);
}

std::string backup_text(const Request& request, const Json& result) {
  const std::string vm = printable(request.backup.vm);
  const std::string set = word(result, "set");
  return job_text(result, set.empty() ? vm + ": read, nothing kept" : vm + ": backed up to " + set);
}

std::string convert_text(const Request& request, const Json& result) {
  const std::string source = word(result.at("disks").at(0), "source");
  const bool kept = request.convert.target != "null:";
  return job_text(result, kept
                              ? fmt::format("{}: written from {}", printable(location_for_people(request.convert.target)), source)
                              : source + ": read, nothing kept");
}

std::string merge_text(const Json& result) {
  std::string names;
  for (const Json& set : result.at("merged_from")) names += (names.empty() ? "" : ", ") + printable(set.get<std::string>());
  return job_text(result, word(result, "set") + ": merged from " + names);
}

std::string virtual_size_text(const Json& image) {
  if (image.at("virtual_size").is_null()) return "not known without the passphrase";
  return fmt::format("{} ({} bytes)", size(image, "virtual_size"), image.at("virtual_size").get<std::uint64_t>());
}

/// Of zlib it is told how far the streams look back: beyond 4 KiB QEMU itself never does.
std::string codec_text(const Json& image) {
  const Json& history = image.at("deflate_history");
  return word(image, "compression") +
         (history.is_null() ? "" : fmt::format(", history of {} KiB", history.get<unsigned>() / 1024));
}

std::vector<Row> qcow2_rows(const Json& image) {
  std::vector<Row> rows{{"cluster size:", size(image, "cluster_size")},
                        {"compression:", codec_text(image)},
                        {"snapshots:", std::to_string(image.at("snapshots").get<unsigned>())}};
  if (!word(image, "backing_file").empty())
    rows.push_back({"backing file:", fmt::format("{} ({})", word(image, "backing_file"), word(image, "backing_format"))});
  return rows;
}

std::vector<Row> luks_rows(const Json& luks) {
  std::string slots;
  for (const Json& slot : luks.at("slots"))
    if (slot.at("in_use").get<bool>())
      slots += fmt::format("{}{} ({} iterations)", slots.empty() ? "" : ", ", slot.at("slot").get<unsigned>(),
                           slot.at("iterations").get<std::uint32_t>());
  return {{"cipher:", word(luks, "cipher") + ", " + word(luks, "hash")}, {"uuid:", word(luks, "uuid")}, {"key slots:", slots}};
}

/// One line for each, unbroken, to be copied.
std::string commands_text(const Json& image) {
  if (!image.contains("open_with")) return {};
  const Json& ways = image.at("open_with");
  std::string text;
  for (const Json& way : ways)
    text += fmt::format(
        "{}\n  {}\n", ways.size() == 1 ? "QEMU opens it with:" : "QEMU opens it, if it holds " + word(way, "content") + ", with:",
        word(way, "command"));
  return text;
}

std::string image_text(const Json& image) {
  if (image.at("format").is_null())
    return table({{"image:", word(image, "path")}, {"file size:", size(image, "file_size")}, {"format:", "cannot be read"}});
  std::vector<Row> rows{{"image:", word(image, "path")}, {"format:", word(image, "format")}};
  if (image.contains("content"))
    rows.push_back({"holds:", image.at("content").is_null() ? "not known without the passphrase" : word(image, "content")});
  rows.push_back({"virtual size:", virtual_size_text(image)});
  rows.push_back({"file size:", size(image, "file_size")});
  rows.push_back({"on disk:", size(image, "disk_size")});
  const auto append = [&](const std::vector<Row>& more) { rows.insert(rows.end(), more.begin(), more.end()); };
  if (image.contains("cluster_size")) append(qcow2_rows(image));
  rows.push_back({"encryption:", word(image, "encryption")});
  if (image.contains("luks")) append(luks_rows(image.at("luks")));
  if (image.contains("stands_on"))
    for (const Json& file : image.at("stands_on"))
      rows.push_back({&file == &image.at("stands_on").front() ? "stands on:" : "",
                      fmt::format("{} ({})", word(file, "path"), size(file, "file_size"))});
  return table(rows) + commands_text(image);
}

/// What a set stands on, the nearest first.
std::string chain_text(const Json& chain) {
  std::string text;
  for (std::size_t i = chain.size() - 1; i-- > 0;) {
    text += (text.empty() ? "" : ", on ") + word(chain[i], "set");
    text += chain[i].at("missing").get<bool>() ? " (missing)"
                                               : fmt::format(" ({}, {})", word(chain[i], "kind"), size(chain[i], "stored_bytes"));
  }
  return text;
}

std::string set_text(const Json& set) {
  std::vector<Row> rows{{"set:", word(set, "path")},
                        {"VM:", word(set, "vm")},
                        {"time:", word(set, "time")},
                        {"kind:", word(set, "kind")},
                        {"virtual size:", size(set, "virtual_size")},
                        {"stored:", size(set, "stored_bytes")}};
  if (set.at("chain").size() > 1) rows.push_back({"stands on:", chain_text(set.at("chain"))});
  for (const Json& child : set.at("children")) rows.push_back({"needed by:", printable(child.get<std::string>())});
  if (!word(set, "note").empty()) rows.push_back({"note:", word(set, "note")});
  std::string text = table(rows);
  for (const Json& image : set.at("images")) text += "\n" + image_text(image);
  return text;
}

std::string slots_text(const Json& image) {
  std::vector<Row> rows{{"slot", "state", "iterations"}};
  for (const Json& slot : image.at("slots")) {
    const bool in_use = slot.at("in_use").get<bool>();
    rows.push_back({std::to_string(slot.at("slot").get<unsigned>()), in_use ? "in use" : "free",
                    in_use ? std::to_string(slot.at("iterations").get<std::uint32_t>()) : ""});
  }
  return fmt::format("{}: {}, {}, {}\n", word(image, "image"), word(image, "format"), word(image, "cipher"),
                     word(image, "hash")) +
         table(rows);
}

std::string changed_text(const Json& image, bool added) {
  std::string slots;
  for (const Json& slot : image.at("changed_slots"))
    slots += fmt::format("{}{}", slots.empty() ? "" : ", ", slot.get<unsigned>());
  return fmt::format("{}: key slot {} {}\n", word(image, "image"), slots, added ? "holds the new key" : "holds no key any more");
}

std::string key_text(const Request& request, const Json& result) {
  std::string text;
  for (const Json& image : result.at("images"))
    text += request.key_action != KeyAction::list ? changed_text(image, request.key_action == KeyAction::add)
                                                  : (text.empty() ? "" : "\n") + slots_text(image);
  return text;
}

/// A stage of DiskReport as people call it.
std::string stage_text(const std::string& stage) {
  if (stage == "read") return "reading the source";
  if (stage == "encode") return "compressing and looking for zeroes";
  if (stage == "encrypt") return "encrypting";
  if (stage == "write") return "writing to the target";
  if (stage == "flush") return "the target's stable storage";
  return stage == "throttle" ? "the rate limit" : stage;
}

std::string limit_text(const Json& result) {
  const Json& best = result.at("best");
  const std::string stage = word(result, "limit");
  const double seconds = std::max(best.at("seconds").get<double>(), 1e-6);
  std::string text = fmt::format("limit: {} ({}), busy {:.0f} % of the time", stage_text(stage), stage,
                                 100 * best.at("stages").value(stage, 0.0) / seconds);
  const double cpu = best.at("cpu").value(stage, 0.0);
  return cpu == 0 ? text + "\n" : text + fmt::format(", on {:.1f} CPUs\n", cpu / seconds);
}

std::string tune_text(const Json& result) {
  const std::string target = word(result, "target");
  std::string text =
      fmt::format("{}: {} of it {}, measured for {}\n", word(result, "source"), size(result, "sample_bytes"),
                  target == "null:" ? "read, nothing kept" : "into " + target, human_time(result.at("seconds").get<double>()));
  if (word(result, "page_cache") == "warm")
    text += "the sample is in this host's memory: reading it from its disks may be slower\n";
  text += fmt::format("fastest: {} ({}/s)\n", word(result, "arguments"), size(result.at("best"), "bytes_per_second"));
  text += limit_text(result);
  std::vector<Row> rows{{"with these and", "speed", "stored"}};
  for (const Json& trial : result.at("codecs")) {
    const std::string compression = word(trial, "compression");
    rows.push_back({trial.at("encrypted").get<bool>() ? "-e FILE"
                    : compression.empty()             ? "nothing else"
                                                      : "-c=" + compression,
                    size(trial, "bytes_per_second") + "/s", fmt::format("{:.1f} %", 100 * trial.at("ratio").get<double>())});
  }
  return text + "\n" + table(rows);
}

std::string verify_text(const Json& result) {
  std::string text;
  for (const Json& damage : result.at("damage")) text += word(damage, "line") + "\n";
  const double seconds = result.at("seconds").get<double>();
  text += fmt::format("{}: {} of data in {} read back, {}, {}/s\n", word(result, "path"), size(result, "data_bytes"),
                      size(result, "virtual_size"), human_time(seconds),
                      human_size(result.at("data_bytes").get<double>() / std::max(seconds, 1e-3)));
  if (!result.at("damage").empty()) return text + fmt::format("damage was found: {}\n", result.at("damage").size());
  if (result.at("proved").get<bool>()) return text + "no errors were found\n";
  if (const double sample = result.at("sample").get<double>(); sample < 1)
    return text + fmt::format("{:.4g} % of the data read: no errors were found in what was read\n", 100 * sample);
  return text + "read back, content not proved: no digests\n";
}

std::string restore_text(const Request& request, const Json& result) {
  const bool dry = result.at("dry_run").get<bool>();
  std::string text;
  for (const Json& disk : result.at("disks"))
    text += fmt::format("{}: {} to {}\n", word(disk, "name"), dry ? "would be written" : "written", word(disk, "image"));
  if (dry && request.restore.define) text += fmt::format("{}: would be defined\n", word(result, "domain"));
  if (dry) return text;
  for (const Json& file : result.at("files")) text += printable(file.get<std::string>()) + "\n";
  if (result.at("defined").get<bool>()) text += fmt::format("{}: defined\n", word(result, "domain"));
  return job_text(result, text + (result.at("verified").get<bool>() ? "what was read is what was backed up"
                                                                    : "content not proved: no digests"));
}

std::string counted(std::uint64_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string check_headline(const Json& result) {
  const auto number = [&](const char* key) { return result.at(key).get<std::uint64_t>(); };
  std::string text;
  const auto add = [&](std::uint64_t count, const char* one, const char* many) {
    if (count != 0) text += (text.empty() ? "" : ", ") + counted(count, one, many);
  };
  add(number("corruptions"), "corruption", "corruptions");
  add(number("leaks"), "leaked cluster", "leaked clusters");
  add(number("check-errors"), "place that could not be checked", "places that could not be checked");
  if (text.empty()) text = "no errors were found";
  add(number("corruptions-fixed"), "corruption repaired", "corruptions repaired");
  add(number("leaks-fixed"), "leaked cluster freed", "leaked clusters freed");
  return text;
}

std::string check_text(const Json& result) {
  const std::string name = word(result, "filename");
  if (!result.contains("findings")) return fmt::format("{}: {}, which has no check\n", name, word(result, "format"));
  std::string text = fmt::format("{}: {}\n", name, check_headline(result));
  for (const Json& finding : result.at("findings")) text += fmt::format("{}: {}\n", word(finding, "kind"), word(finding, "text"));
  const auto number = [&](const char* key) { return result.at(key).get<std::uint64_t>(); };
  if (const std::uint64_t all = number("corruptions") + number("leaks"); all > result.at("findings").size())
    text += fmt::format("and more, {} in all\n", all);
  return text + fmt::format("{} of {} clusters allocated, {} fragmented, {} compressed; the image ends at byte {}\n",
                            number("allocated-clusters"), number("total-clusters"), number("fragmented-clusters"),
                            number("compressed-clusters"), number("image-end-offset"));
}

std::string serve_text(const Json& result) {
  const auto clients = result.at("clients").get<std::uint64_t>();
  return fmt::format("served for {}: {} connection{}, {} read\n", human_time(result.at("seconds").get<double>()), clients,
                     clients == 1 ? "" : "s", size(result, "data_bytes"));
}

std::string kind_text(const Json& set) {
  const std::string parent = word(set, "parent");
  return parent.empty() ? word(set, "kind") : word(set, "kind") + " of " + parent;
}

std::string delete_text(const Json& result) {
  const char* done = result.at("dry_run").get<bool>() ? "would be deleted" : "deleted";
  std::string text;
  for (const Json& set : result.at("sets"))
    text += fmt::format("{}: {}, {}\n", word(set, "path"), done, size(set, "stored_bytes"));
  return text;
}

std::string list_text(const Request& request, const Json& result) {
  const Json& sets = result.at("sets");
  if (sets.empty()) return printable(request.path) + ": no sets\n";
  std::vector<Row> rows{{"VM", "time", "kind", "disks", "size", "stored", "set", ""}};
  for (const Json& set : sets)
    rows.push_back({word(set, "vm"), word(set, "time"), kind_text(set), std::to_string(set.at("images").size()),
                    size(set, "virtual_size"), size(set, "stored_bytes"), word(set, "path"), word(set, "note")});
  return table(rows);
}

}  // namespace

std::string text_of(const Request& request, const Json& result) {
  if (result.contains("error")) return {};
  switch (request.verb) {
    case kBackup:
      return backup_text(request, result);
    case kConvert:
      return convert_text(request, result);
    case kInfo:
      return result.contains("images") ? set_text(result) : image_text(result);
    case kVerify:
      return verify_text(result);
    case kRestore:
      return restore_text(request, result);
    case kMerge:
      return merge_text(result);
    case kDetails:
      return result["details"].dump(2) + "\n";
    case kDelete:
      return delete_text(result);
    case kTune:
      return tune_text(result);
    case kServe:
      return serve_text(result);
    case kKey:
      return key_text(request, result);
    case kCheck:
      return check_text(result);
    default:
      return list_text(request, result);
  }
}

std::vector<std::string> stage_lines(const Json& result) {
  std::vector<std::string> lines;
  if (!result.contains("disks")) return lines;
  for (const Json& disk : result.at("disks")) {
    std::string line = word(disk, "name") + ": busy";
    for (const auto& [stage, seconds] : disk.at("stages").items())
      line += fmt::format(" {} {}", stage, human_time(seconds.get<double>()));
    lines.push_back(line);
  }
  return lines;
}

}  // namespace nasbackup::tools
