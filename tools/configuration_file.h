// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A configuration file, parsed: its tables, and the options that stand in one, by the table in options.h. For those who know what
// its tables mean: configuration.cc, cloudstack/zone.cc. One thread; errors are UsageError, "FILE:LINE: what".
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <toml++/toml.h>

#include "tools/configuration.h"

namespace nasbackup::tools {

class ConfigurationFile {
 public:
  /// Nothing when there is no such file.
  static std::optional<ConfigurationFile> read(const std::string& path, std::span<const Option> table = options());

  const toml::table& root() const noexcept { return root_; }
  std::string place_of(const toml::source_region& source) const;
  [[noreturn]] void refuse(const toml::source_region& source, const std::string& what) const;

  /// Whether a key means something else than an option.
  using IsOther = bool (*)(std::string_view key, const toml::node& node);
  /// The options of these verbs that stand in `table`.
  ConfiguredOptions options_in(const toml::table& table, Verbs verbs, IsOther is_other) const;
  /// Whether this verb has an option of that name.
  bool belongs_to(const Verb& verb, const std::string& name) const;

 private:
  ConfigurationFile(std::string path, const std::string& content, std::span<const Option> table);
  const Option& option(const std::string& name, Verbs verbs, const std::string& place) const;

  std::string path_;
  std::span<const Option> table_;
  toml::table root_;
};

/// Whether `named`, which wins, leaves nothing to say for this option. The limit is one thing, and so is the passphrase.
template <class Named>
bool covered(const std::string& option, const Named& named) {
  const bool of_limit = option == "rate" || option == "rate-schedule" || option == "burst";
  const bool of_passphrase = option == "encrypt" || option == "encrypt-fd" || option == "encrypt-command";
  return named.contains(option) || (of_limit && (named.contains("rate") || named.contains("rate-schedule"))) ||
         (of_passphrase && (named.contains("encrypt") || named.contains("encrypt-fd") || named.contains("encrypt-command")));
}

}  // namespace nasbackup::tools
