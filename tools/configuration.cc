// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See configuration.h.
#include "tools/configuration.h"

#include <cerrno>
#include <cstring>

#include "tools/configuration_file.h"
#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

/// The zone at the top is nasbackup.sh's.
bool is_no_option(std::string_view key, const toml::node& node) { return node.is_table() || key == "zone"; }
bool is_never_other(std::string_view, const toml::node&) { return false; }

ConfiguredOptions read_for(const ConfigurationFile& file, const Verb& wanted) {
  ConfiguredOptions of_all = file.options_in(file.root(), kAllVerbs, is_no_option), of_verb, of_both;
  for (const auto& [key, node] : file.root()) {
    if (!node.is_table() || key.str() == kCloudStackTable) continue;
    const Verb* verb = find_verb(key.str());
    if (verb == nullptr) file.refuse(key.source(), "[" + std::string(key.str()) + "]: no such verb");
    ConfiguredOptions found = file.options_in(*node.as_table(), verb->bit, is_never_other);
    if (verb->bit == wanted.bit) of_verb = std::move(found);
  }
  for (auto& [name, value] : of_all)
    if (file.belongs_to(wanted, name) && !covered(name, of_verb)) of_both.emplace(name, std::move(value));
  of_both.merge(of_verb);
  return of_both;
}

}  // namespace

ConfiguredOptions read_configuration(const std::string& path, bool must_exist, const Verb& verb, std::span<const Option> table) {
  if (const auto file = ConfigurationFile::read(path, table)) return read_for(*file, verb);
  if (must_exist) throw UsageError(printable(path + ": " + std::strerror(ENOENT)));
  return {};
}

void add_configured(CommandLine& line, const ConfiguredOptions& configured) {
  const auto written = line.values;
  for (const auto& [name, value] : configured) {
    if (value.values.empty() || covered(name, written)) continue;
    line.values[name] = value.values;
    line.places[name] = value.place;
  }
}

void add_configuration(CommandLine& line) {
  const std::string* named = line.value("config");
  add_configured(line, read_configuration(named == nullptr ? kDefaultConfiguration : *named, named != nullptr, *line.verb));
}

}  // namespace nasbackup::tools
