// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Image name; see image_name.h.
#include "engine/set/image_name.h"

#include <algorithm>
#include <string_view>

#include "engine/io/base_name.h"
#include "engine/set/text.h"

namespace nasbackup::set {

namespace {

/// Leaves room in NAME_MAX (255) for "datadisk.", a number and ".qcow2.luks".
constexpr std::size_t kMaxId = 200;

/// `rbd:<pool>/<id>:mon_host=…`: of what stands before the options, what is behind the last '/'.
std::string_view rbd_image(std::string_view source) noexcept {
  constexpr std::size_t kScheme = 4;
  const auto names = source.substr(kScheme, source.find(':', kScheme) - kScheme);
  const auto slash = names.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : names.substr(slash + 1);
}

/// `nbd://host/EXPORT`, `nbd+unix:///EXPORT?socket=…`.
std::string_view nbd_export(std::string_view source) noexcept {
  const auto authority = source.substr(source.find("://") + 3);
  const auto path = authority.substr(0, authority.find('?'));
  const auto slash = path.find('/');
  return slash == std::string_view::npos ? std::string_view{} : base_name(path.substr(slash + 1));
}

std::string safe_id(const std::string& id) {
  std::string safe = plain_text(id, kMaxId);
  std::replace_if(
      safe.begin(), safe.end(), [](char c) { return c == '/' || c == '\\' || c == ':' || c == '?'; }, '_');
  return safe.empty() ? "disk" : safe;
}

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

std::string disk_id(const std::string& source) {
  const std::string_view text = source;
  if (text.starts_with("rbd:")) return std::string(rbd_image(text));
  if (text.starts_with("nbd") && text.find("://") != std::string_view::npos) return std::string(nbd_export(text));
  constexpr std::string_view kDrbd = "/dev/drbd/by-res/cs-";
  if (text.starts_with(kDrbd)) {
    const auto rest = text.substr(kDrbd.size());
    return std::string(rest.substr(0, rest.find('/')));
  }
  const auto base = base_name(text);
  return base == "/" || base == "." || base == ".." ? std::string() : std::string(base);
}

std::string ImageNames::next(const std::string& id, bool root, const std::string& suffix) {
  const std::string stem = (root ? "root." : "datadisk.") + safe_id(id);
  std::string name = stem + suffix;
  for (unsigned copy = 2; !taken_.insert(lower_case(name)).second; ++copy) {
    name = stem + '-' + std::to_string(copy) + suffix;
  }
  return name;
}

}  // namespace nasbackup::set
