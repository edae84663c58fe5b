// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See drbd_device.h.
#include "engine/io/drbd_device.h"

#include <filesystem>
#include <string_view>

#include "engine/io/fault.h"

namespace nasbackup {

namespace {

constexpr std::string_view kDevice = "/dev/drbd";
constexpr std::string_view kResource = "cs-";
constexpr char kVolume[] = "0";

}  // namespace

bool is_drbd_device(const std::string& path) noexcept {
  const std::string_view number = path.starts_with(kDevice) ? std::string_view(path).substr(kDevice.size()) : "";
  return !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string drbd_resource_path(const std::string& device, const std::string& by_resource) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (fs::directory_iterator at(by_resource, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    const fs::path link = at->path() / kVolume;
    if (at->path().filename().string().starts_with(kResource) && fs::equivalent(link, device, ignored)) return link.string();
  }
  throw Fault(FaultKind::source, "Failed to resolve LINSTOR volume UUID for " + device + ": no link below " + by_resource +
                                     " leads to it" + (error ? " (" + error.message() + ")" : ""));
}

}  // namespace nasbackup
