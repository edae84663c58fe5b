// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See rbd_location.h.
#include "formats/rbd_location.h"

#include <cstring>

#include "formats/format_error.h"

namespace nasbackup {

namespace {

constexpr std::string_view kScheme = "rbd:";
constexpr std::string_view kKeyOption = ":key=";
constexpr std::size_t kMostBytes = 64u << 10;  // of a location: hundreds of monitors have room in it
constexpr std::size_t kMostName = 4096;        // of pool, image …: what is longer Ceph refuses anyway
constexpr std::size_t kMostOptions = 256;
constexpr std::size_t kMostShown = 200;  // of a location in a message

/// The first of `delimiters` that no backslash stands before.
std::size_t find_bare(std::string_view text, std::string_view delimiters) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
      continue;
    }
    if (delimiters.find(text[i]) != text.npos) return i;
  }
  return text.npos;
}

/// What stands before the delimiter, which is taken off with it; all of it when there is none.
std::string_view take_until(std::string_view& rest, std::string_view delimiter) noexcept {
  const std::size_t end = find_bare(rest, delimiter);
  const std::string_view taken = rest.substr(0, end);
  rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
  return taken;
}

/// Calls `take` with each character that is meant. A backslash at the very end means itself.
template <class Take>
void each_meant(std::string_view escaped, Take take) {
  for (std::size_t i = 0; i < escaped.size(); ++i) {
    if (escaped[i] == '\\' && i + 1 < escaped.size()) ++i;
    take(escaped[i]);
  }
}

std::string unescaped(std::string_view escaped) {
  std::string meant;
  each_meant(escaped, [&](char c) { meant += c; });
  return meant;
}

std::string escaped(std::string_view meant) {
  std::string text;
  for (const char c : meant) {
    if (std::strchr(":;@=\\/", c) != nullptr) text += '\\';
    text += c;
  }
  return text;
}

[[noreturn]] void refuse(std::string_view text, const std::string& what) {
  std::string where = rbd_location_for_people(text);
  if (where.size() > kMostShown) where = where.substr(0, kMostShown) + "…";
  throw FormatError(where + ": " + what);
}

std::string checked_name(std::string_view text, std::string_view name, const char* what) {
  std::string meant = unescaped(name);
  if (meant.empty()) refuse(text, std::string(what) + ": is empty");
  if (meant.size() > kMostName) refuse(text, std::string(what) + ": longer than " + std::to_string(kMostName) + " bytes");
  return meant;
}

void read_names(std::string_view text, std::string_view names, RbdLocation& location) {
  const std::size_t slash = find_bare(names, "/");
  if (slash == names.npos) refuse(text, "no pool in it: write rbd:POOL/IMAGE");
  location.pool = checked_name(text, take_until(names, "/"), "pool");
  const std::size_t at = find_bare(names, "@");
  if (at != names.npos) location.snapshot = checked_name(text, names.substr(at + 1), "snapshot");
  names = names.substr(0, at);
  if (find_bare(names, "/") != names.npos) location.name_space = checked_name(text, take_until(names, "/"), "namespace");
  location.image = checked_name(text, names, "image");
}

void read_option(std::string_view text, std::string_view option, RbdLocation& location) {
  const std::size_t equals = find_bare(option, "=");
  if (equals == option.npos || equals == 0) refuse(text, "option without a name or a value");
  const std::string name = unescaped(option.substr(0, equals));
  const std::string_view value = option.substr(equals + 1);
  if (name == "key")
    location.key = unescaped_secret(value);
  else if (name == "stored_key")
    location.stored_key = unescaped(value);
  else if (name == "id")
    location.user = unescaped(value);
  else if (name == "conf")
    location.conf = unescaped(value);
  else
    location.options.emplace_back(name, unescaped(value));
  if (location.options.size() > kMostOptions) refuse(text, "more than " + std::to_string(kMostOptions) + " options");
}

void append(std::string& text, std::string_view name, std::string_view value) {
  if (!value.empty()) text += ':' + escaped(name) + '=' + escaped(value);
}

}  // namespace

crypto::Secret unescaped_secret(std::string_view escaped) {
  crypto::Secret meant(escaped.size());
  std::size_t size = 0;
  each_meant(escaped, [&](char c) { meant.bytes()[size++] = static_cast<std::byte>(c); });
  meant.shorten(size);
  return meant;
}

bool is_rbd_location(std::string_view text) noexcept { return text.starts_with(kScheme); }

RbdLocation parse_rbd_location(std::string_view text) {
  if (!is_rbd_location(text)) throw FormatError("rbd: location does not begin with rbd:");
  if (text.size() > kMostBytes) refuse(text.substr(0, kMostName), "longer than " + std::to_string(kMostBytes) + " bytes");
  if (text.find('\0') != text.npos) refuse(text.substr(0, text.find('\0')), "has a NUL byte in it");
  std::string_view rest = text.substr(kScheme.size());
  RbdLocation location;
  read_names(text, take_until(rest, ":"), location);
  while (!rest.empty()) read_option(text, take_until(rest, ":"), location);
  return location;
}

std::string to_string(const RbdLocation& location) {
  std::string text = std::string(kScheme) + escaped(location.pool) + '/';
  if (!location.name_space.empty()) text += escaped(location.name_space) + '/';
  text += escaped(location.image);
  if (!location.snapshot.empty()) text += '@' + escaped(location.snapshot);
  append(text, "id", location.user);
  append(text, "conf", location.conf);
  append(text, "stored_key", location.stored_key);
  for (const auto& [name, value] : location.options) append(text, name, value);
  return text;
}

std::string rbd_location_for_people(std::string_view text) {
  const std::string_view rest = text.substr(std::min(kScheme.size(), text.size()));
  return std::string(kScheme) + unescaped(rest.substr(0, find_bare(rest, ":")));
}

// Neither the comma, which separates the locations of nasbackup.sh's -d, nor the colon is in a key: that is base64.
std::vector<std::pair<std::size_t, std::size_t>> find_rbd_keys(std::string_view text) {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  for (std::size_t at = text.find(kScheme); at < text.size();) {
    at = text.find(kKeyOption, at);
    if (at == text.npos) break;
    const std::size_t value = at + kKeyOption.size();
    const bool is_option = text[at - 1] != '\\';
    const std::size_t length = std::min(find_bare(text.substr(value), ":,"), text.size() - value);
    if (is_option && length > 0) found.emplace_back(value, length);
    at = value;
  }
  return found;
}

}  // namespace nasbackup
