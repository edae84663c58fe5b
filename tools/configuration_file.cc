// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See configuration_file.h.
#include "tools/configuration_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tools/descriptor.h"
#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

constexpr std::size_t kMostBytes = 64 << 10;

[[noreturn]] void refuse_file(const std::string& place, const std::string& what) {
  throw UsageError(printable(place + ": " + what));
}

/// False when there is no such file.
bool read_file(const std::string& path, std::string& content) {
  // Without waiting for a writer, should it be a FIFO.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file && errno == ENOENT) return false;
  if (!file) refuse_file(path, std::strerror(errno));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) refuse_file(path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) refuse_file(path, "not a file: write a TOML file such as " + std::string(kDefaultConfiguration));
  // What it says is obeyed by root.
  if ((info.st_mode & S_IWOTH) != 0) refuse_file(path, "everybody may write to it: take that right away (chmod o-w)");
  content.resize(kMostBytes + 1);
  std::size_t length = 0;
  for (ssize_t got = 1; got > 0 && length < content.size(); length += static_cast<std::size_t>(got)) {
    got = ::read(file.get(), content.data() + length, content.size() - length);
    if (got < 0) refuse_file(path, std::strerror(errno));
  }
  if (length > kMostBytes) refuse_file(path, "larger than 64 KiB: write a smaller one");
  content.resize(length);
  return true;
}

/// The values of one key, in the form that a command line has them in.
class OptionReader {
 public:
  OptionReader(const Option& option, std::string place) : option_(option), place_(std::move(place)) {}

  ConfiguredValue read(const toml::node& node) const {
    if (const auto* flag = node.as_boolean()) return {flag_values(flag->get()), place_};
    if (option_.value == Value::none) refuse_type("true or false");
    const toml::array* many = node.as_array();
    if (many == nullptr) return {{text_of(node)}, place_};
    if (!option_.repeatable) refuse_type(wanted());
    ConfiguredValue result{{}, place_};
    for (const toml::node& one : *many) result.values.push_back(text_of(one));
    return result;
  }

 private:
  std::vector<std::string> flag_values(bool on) const {
    if (option_.value == Value::required) refuse_type(wanted());
    return on ? std::vector<std::string>{""} : std::vector<std::string>{};
  }

  std::string text_of(const toml::node& node) const {
    std::string text;
    if (const auto* number = node.as_integer())
      text = std::to_string(number->get());
    else if (const auto* string = node.as_string())
      text = string->get();
    else
      refuse_type(wanted());
    if (text.empty() || text.find('\0') != std::string::npos) refuse_type(wanted());
    if (const std::string allowed = choices_instead(option_, text); !allowed.empty()) refuse_type(allowed);
    return text;
  }

  std::string wanted() const {
    return std::string(option_.metavar) + (option_.repeatable ? " or an array of them" : "") + ", a string or a whole number" +
           (option_.value == Value::optional ? ", or true or false" : "");
  }

  [[noreturn]] void refuse_type(const std::string& instead) const {
    refuse_file(place_, std::string(option_.name) + ": write " + instead);
  }

  const Option& option_;
  std::string place_;
};

std::string place_in(const std::string& path, const toml::source_region& source) {
  return path + ":" + std::to_string(source.begin.line);
}

}  // namespace

std::optional<ConfigurationFile> ConfigurationFile::read(const std::string& path, std::span<const Option> table) {
  std::string content;
  if (!read_file(path, content)) return std::nullopt;
  try {
    return ConfigurationFile(path, content, table);
  } catch (const toml::parse_error& error) {
    refuse_file(place_in(path, error.source()), std::string(error.description()));
  }
}

ConfigurationFile::ConfigurationFile(std::string path, const std::string& content, std::span<const Option> table)
    : path_(std::move(path)), table_(table), root_(toml::parse(content, path_)) {}

std::string ConfigurationFile::place_of(const toml::source_region& source) const { return place_in(path_, source); }

void ConfigurationFile::refuse(const toml::source_region& source, const std::string& what) const {
  refuse_file(place_of(source), what);
}

ConfiguredOptions ConfigurationFile::options_in(const toml::table& table, Verbs verbs, IsOther is_other) const {
  ConfiguredOptions found;
  for (const auto& [key, node] : table) {
    if (is_other(key.str(), node)) continue;
    const std::string place = place_of(key.source());
    found.emplace(key.str(), OptionReader(option(std::string(key.str()), verbs, place), place).read(node));
  }
  return found;
}

const Option& ConfigurationFile::option(const std::string& name, Verbs verbs, const std::string& place) const {
  std::vector<std::string> names;
  std::string instead;
  for (const Option& option : table_) {
    const bool fits = !option.per_run && (option.verbs & verbs) != 0;
    if (option.name == name && fits) return option;
    if (fits) names.emplace_back(option.name);
    if (option.name == name)
      instead =
          option.per_run ? "belongs on the command line: write --" + name + " there" : "not an option of this verb: leave it out";
  }
  if (!instead.empty()) refuse_file(place, name + ": " + instead);
  const std::string near = nearest(name, names);
  refuse_file(place, name + ": no such option: " + (near.empty() ? "nasbackup VERB --help lists the options" : "write " + near));
}

bool ConfigurationFile::belongs_to(const Verb& verb, const std::string& name) const {
  return std::any_of(table_.begin(), table_.end(),
                     [&](const Option& option) { return option.name == name && (option.verbs & verb.bit) != 0; });
}

}  // namespace nasbackup::tools
