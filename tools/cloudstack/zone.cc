// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See zone.h.
#include "tools/cloudstack/zone.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>

#include "tools/configuration_file.h"
#include "tools/printable.h"

namespace nasbackup::tools::cloudstack {

namespace {

constexpr char kZones[] = "zones";
constexpr char kFirstPart[] = "nas";              // TOML takes an unquoted nas.backup.… for tables in tables
constexpr std::int64_t kMostBandwidth = 1 << 20;  // MiB/s
constexpr std::int64_t kMostBackups = 1024;
constexpr std::int64_t kLongestWait = 7 * 24 * 3600;

/// Reads one table into a zone. What it does not say stays as it is.
class TableReader {
 public:
  TableReader(const ConfigurationFile& file, Zone& zone) : file_(file), zone_(zone) {}

  void read(const toml::table& table) {
    for (const auto& [key, node] : table) read_key(std::string(key.str()), node);
    for (auto& [name, value] : file_.options_in(table, kBackup, is_ours)) {
      if (name == "rate") file_.refuse(table.source(), "rate: write nas.backup.bandwidth.limit.mbps here");
      zone_.options[name] = value;
    }
  }

 private:
  static bool is_ours(std::string_view key, const toml::node& node) {
    return node.is_table() || key.starts_with(std::string(kFirstPart) + ".") || switches().contains(std::string(key)) ||
           numbers().contains(std::string(key));
  }

  static const std::map<std::string, bool Zone::*>& switches() {
    static const std::map<std::string, bool Zone::*> all{{"nas.backup.compression.enabled", &Zone::compression},
                                                         {"nas.backup.encryption.enabled", &Zone::encryption},
                                                         {"nas.backup.integrity.check", &Zone::integrity_check},
                                                         {"restore_opens_encrypted", &Zone::restore_opens_encrypted},
                                                         {"layered", &Zone::layered},
                                                         {"size_marker", &Zone::size_marker}};
    return all;
  }

  struct Number {
    std::uint64_t Zone::*member;
    std::int64_t most;
    const char* wanted;
  };
  static const std::map<std::string, Number>& numbers() {
    static const std::map<std::string, Number> all{
        {"nas.backup.bandwidth.limit.mbps", {&Zone::bandwidth, kMostBandwidth, "write MiB/s as a whole number, 0 for no limit"}},
        {"max_per_host", {&Zone::max_per_host, kMostBackups, "write how many backups, 1 to 1024, 0 for no cap"}},
        {"queue_timeout", {&Zone::queue_timeout, kLongestWait, "write seconds as a whole number, 604800 at most"}}};
    return all;
  }

  void read_key(const std::string& key, const toml::node& node) {
    const bool is_cloudstacks = key == kFirstPart || key.starts_with(std::string(kFirstPart) + ".");
    if (is_cloudstacks && node.is_table()) {
      for (const auto& [part, inner] : *node.as_table()) read_key(key + "." + std::string(part.str()), inner);
      return;
    }
    if (const auto found = switches().find(key); found != switches().end())
      zone_.*found->second = flag(key, node);
    else if (const auto number = numbers().find(key); number != numbers().end())
      read_number(key, node, number->second);
    else if (key == "nas.backup.encryption.passphrase")
      read_passphrase(key, node);
    else if (is_cloudstacks || (node.is_table() && key != kZones))
      file_.refuse(node.source(), key + ": no such key");
  }

  bool flag(const std::string& key, const toml::node& node) const {
    if (!node.is_boolean()) file_.refuse(node.source(), key + ": write true or false");
    return node.as_boolean()->get();
  }

  void read_passphrase(const std::string& key, const toml::node& node) {
    const auto* text = node.as_string();
    if (text == nullptr) file_.refuse(node.source(), key + ": write a string");
    zone_.passphrase = text->get();
  }

  void read_number(const std::string& key, const toml::node& node, const Number& number) {
    const auto* value = node.as_integer();
    if (value == nullptr || value->get() < 0 || value->get() > number.most)
      file_.refuse(node.source(), key + ": " + number.wanted);
    zone_.*number.member = static_cast<std::uint64_t>(value->get());
  }

  const ConfigurationFile& file_;
  Zone& zone_;
};

std::string zone_named_in(const ConfigurationFile& file) {
  const toml::node* node = file.root().get("zone");
  if (node == nullptr) return {};
  if (!node->is_string()) file.refuse(node->source(), "zone: write a string");
  return node->as_string()->get();
}

/// All zones are read, so that what is wrong with another one shows before it matters.
const toml::table* read_zones(const ConfigurationFile& file, const toml::table& zones, const std::string& wanted) {
  const toml::table* found = nullptr;
  for (const auto& [name, node] : zones) {
    if (!node.is_table()) file.refuse(name.source(), std::string(name.str()) + ": not a table: write [cloudstack.zones.NAME]");
    Zone ignored;
    TableReader(file, ignored).read(*node.as_table());
    if (name.str() == wanted) found = node.as_table();
  }
  return found;
}

}  // namespace

Zone read_zone(const std::string& path, bool must_exist, const std::string& asked) {
  Zone zone;
  const auto file = ConfigurationFile::read(path);
  if (!file && must_exist) throw UsageError(printable(path + ": " + std::strerror(ENOENT)));
  if (!file) return zone;
  zone.file = path;
  zone.name = asked.empty() ? zone_named_in(*file) : asked;
  const toml::node* table = file->root().get(kCloudStackTable);
  const bool has_table = table != nullptr && table->is_table();
  if (table != nullptr && !has_table) file->refuse(table->source(), "cloudstack: not a table: write [cloudstack]");
  if (has_table) TableReader(*file, zone).read(*table->as_table());
  const toml::node* zones = has_table ? table->as_table()->get(kZones) : nullptr;
  const toml::table* of_zone = zones != nullptr && zones->is_table() ? read_zones(*file, *zones->as_table(), zone.name) : nullptr;
  if (of_zone != nullptr) TableReader(*file, zone).read(*of_zone);
  // A zone that is misspelt must not do without what its table switches on.
  if (of_zone == nullptr && !zone.name.empty() && (!asked.empty() || zones != nullptr))
    throw UsageError(printable(path + ": zone " + zone.name + ": there is no table [cloudstack.zones.\"" + zone.name + "\"]"));
  return zone;
}

}  // namespace nasbackup::tools::cloudstack
