// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See details.h.
#include "tools/cloudstack/details.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tools/descriptor.h"
#include "tools/printable.h"

namespace nasbackup::tools::cloudstack {

namespace {

constexpr std::size_t kMostBytes = 64 << 10;
constexpr unsigned long kMostBandwidth = 1 << 20;  // MiB/s

[[noreturn]] void refuse(const std::string& path, const std::string& what) { throw UsageError(printable(path) + ": " + what); }

std::string read_all(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!file) refuse(path, std::strerror(errno));
  std::string content(kMostBytes + 1, '\0');
  std::size_t length = 0;
  for (ssize_t got = 1; got != 0 && length < content.size();) {
    got = ::read(file.get(), content.data() + length, content.size() - length);
    if (got < 0 && errno != EINTR) refuse(path, std::strerror(errno));
    if (got > 0) length += static_cast<std::size_t>(got);
  }
  if (length > kMostBytes) refuse(path, "larger than 64 KiB");
  content.resize(length);
  return content;
}

/// Empty: it is not there, or null.
std::string text_at(const Json& map, const char* key, const std::string& path) {
  const auto found = map.find(key);
  if (found == map.end() || found->is_null()) return {};
  if (!found->is_string()) refuse(path, std::string(key) + ": not a string");
  return found->get<std::string>();
}

/// From the file itself, or from the one that it names.
std::string passphrase_of(const Zone& zone) {
  if (!zone.passphrase.empty()) return zone.passphrase;
  const auto named = zone.options.find("encrypt");
  return named == zone.options.end() || named->second.values.empty() ? std::string() : read_all(named->second.values.front());
}

}  // namespace

Details read_details(const std::string& path) {
  const Json map = Json::parse(read_all(path), nullptr, false);
  if (!map.is_object()) refuse(path, "not a JSON object");
  Details details;
  details.compression = text_at(map, "compression", path) == "true";
  details.encryption = text_at(map, "encryption", path) == "true";
  details.integrity_check = text_at(map, "integrity_check", path) == "true";
  details.bandwidth_limit = text_at(map, "bandwidth_limit", path);
  const std::string passphrase = text_at(map, "encryption_passphrase", path);
  details.passphrase = as_passphrase(passphrase);
  return details;
}

std::shared_ptr<const Passphrase> as_passphrase(const std::string& text) {
  return text.empty() ? nullptr : Passphrase::from_bytes(text.data(), text.size());
}

Details details_of(const Zone& zone) {
  return {zone.compression, zone.encryption, zone.integrity_check, zone.bandwidth == 0 ? "" : std::to_string(zone.bandwidth),
          as_passphrase(zone.passphrase)};
}

Json json_of(const Zone& zone, bool with_secrets) {
  Json map = Json::object();
  if (zone.compression) map["compression"] = "true";
  if (zone.encryption) {
    map["encryption"] = "true";
    const std::string passphrase = with_secrets ? passphrase_of(zone) : std::string();
    map["encryption_passphrase"] = passphrase.empty() ? Json(nullptr) : Json(passphrase);
  }
  if (zone.bandwidth != 0) map["bandwidth_limit"] = std::to_string(zone.bandwidth);
  if (zone.integrity_check) map["integrity_check"] = "true";
  if (zone.max_per_host != 0) {  // nasbackup.sh's alone: CloudStack's Java looks at the keys that it knows
    map["max_per_host"] = std::to_string(zone.max_per_host);
    map["queue_timeout"] = std::to_string(zone.queue_timeout);
  }
  return map;
}

std::string rate_of(const std::string& mebibytes, const std::string& where) {
  const bool digits = mebibytes.find_first_not_of("0123456789") == std::string::npos && mebibytes.size() <= 7;
  if (!digits || (!mebibytes.empty() && std::stoul(mebibytes) > kMostBandwidth))
    throw UsageError(where + " " + printable(mebibytes) + ": must be a whole number of MiB/s, 0 for no limit");
  return mebibytes.find_first_not_of('0') == std::string::npos ? std::string() : mebibytes + "M";
}

void add_details(CommandLine& line, const Details& details, bool layered) {
  const bool has_passphrase = line.has("encrypt") || line.has("encrypt-fd") || line.has("encrypt-command");
  if (details.encryption && !details.passphrase && !has_passphrase)
    throw UsageError("encryption is switched on, and there is no passphrase for it");
  if (details.encryption && (details.compression || line.has("compress")) && !layered) throw UsageError(kBothRefused);
  if (details.compression && !line.has("compress")) line.values["compress"] = {""};
  if (details.encryption && !has_passphrase) line.passphrase = details.passphrase;
  if (details.integrity_check && !line.has("verify")) line.values["verify"] = {""};
  const std::string rate = rate_of(details.bandwidth_limit, "bandwidth_limit");
  if (!rate.empty() && !line.has("rate") && !line.has("rate-schedule")) line.values["rate"] = {rate};
}

void add_details(CommandLine& line) {
  const std::string* file = line.value("details");
  const std::string* zone_name = line.value("zone");
  if (file == nullptr && zone_name == nullptr) return;
  const std::string* config = line.value("config");
  const Zone zone = read_zone(config == nullptr ? kDefaultConfiguration : *config, config != nullptr || zone_name != nullptr,
                              zone_name == nullptr ? "" : *zone_name);
  add_details(line, file == nullptr ? details_of(zone) : read_details(*file), zone.layered);
}

}  // namespace nasbackup::tools::cloudstack
