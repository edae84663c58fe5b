// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See call.h.
#include "tools/cloudstack/call.h"

#include <algorithm>

#include "tools/printable.h"

namespace nasbackup::tools::cloudstack {

namespace {

// cloudstack-contract.md, 2.2.
constexpr Flag kFlags[] = {
    {'o', "operation", "backup|delete|stats", &Call::operation, nullptr},
    {'v', "vm", "domain name", &Call::vm, nullptr},
    {'t', "type", "storage type", &Call::type, nullptr},
    {'s', "storage", "storage address", &Call::storage, nullptr},
    {'m', "mount", "mount options", &Call::mount_options, nullptr},
    {'p', "path", "backup path", &Call::path, nullptr},
    {'d', "diskpaths", "disk,disk,...", &Call::disk_paths, nullptr},
    {'q', "quiesce", "true|false", &Call::quiesce, nullptr},
    {0, "quiesce-timeout", "seconds", &Call::quiesce_timeout, nullptr},
    {'M', "mode", "full|incremental|legacy-full", &Call::mode, nullptr},
    {0, "bitmap-new", "name", &Call::bitmap_new, nullptr},
    {0, "bitmap-parent", "name", &Call::bitmap_parent, nullptr},
    {0, "parent-paths", "path,path,...", &Call::parent_paths, nullptr},
    {'c', "compress", "", nullptr, &Call::compress},
    {'b', "bandwidth", "MiB/s", &Call::bandwidth, nullptr},
    {'e', "encrypt", "passphrase file", &Call::passphrase_file, &Call::encrypt},
    {0, "verify", "", nullptr, &Call::verify},
    {'S', "scratch-dir", "directory", &Call::scratch_or_secrets, nullptr},
    {0, "secrets", "volume:secret,...", &Call::scratch_or_secrets, nullptr},
    {'K', "keyfiles", "volume:file,...", &Call::key_files, nullptr},
    {'h', "help", "", nullptr, &Call::help},
};

const Flag* find(std::string_view word) {
  const auto is_it = [&](const Flag& flag) {
    const bool is_short = word.size() == 2 && word[0] == '-' && flag.short_name != 0 && word[1] == flag.short_name;
    return is_short || (word.starts_with("--") && word.substr(2) == flag.long_name);
  };
  const auto found = std::find_if(std::begin(kFlags), std::end(kFlags), is_it);
  return found == std::end(kFlags) ? nullptr : found;
}

}  // namespace

std::span<const Flag> flags() { return kFlags; }

Call parse_call(const std::vector<std::string>& words) {
  Call call;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const Flag* flag = find(words[i]);
    if (flag == nullptr) throw CallError("Invalid option: " + printable(words[i]));
    if (flag->on != nullptr) call.*flag->on = true;
    if (flag->text == nullptr) continue;
    if (++i == words.size()) throw CallError("Option " + words[i - 1] + " needs a value");
    call.*flag->text = words[i];
  }
  return call;
}

std::string usage_text() {
  std::string text = "\nUsage: nasbackup.sh -o <operation> ...\n";
  for (const Flag& flag : kFlags) {
    text += "  ";
    if (flag.short_name != 0) text += std::string("-") + flag.short_name + ", ";
    text += "--" + std::string(flag.long_name);
    if (!flag.value.empty()) text += " <" + std::string(flag.value) + ">";
    text += "\n";
  }
  return text + "\n";
}

std::vector<std::string> comma_list(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find(',', start), text.size());
    if (end > start) words.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return words;
}

}  // namespace nasbackup::tools::cloudstack
