// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See storage_keys.h.
#include "engine/storage_keys.h"

#include <algorithm>
#include <cstring>

#include "engine/io/fault.h"
#include "engine/io/location.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

constexpr char kHidden = 'x';

std::string free_name(const StorageKeys& keys) {
  for (std::size_t number = keys.size() + 1;; ++number)
    if (std::string name = std::to_string(number); !keys.contains(name)) return name;
}

std::string keep(const crypto::Secret& key, StorageKeys& keys) {
  const std::string name = free_name(keys);
  keys[name] = Passphrase::from_bytes(key.bytes().data(), key.size());
  return name;
}

/// RFC 4648; never in ordinary memory.
crypto::Secret base64(std::span<const std::byte> bytes) {
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  crypto::Secret text((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = [&](std::size_t at) { return at < bytes.size() ? std::to_integer<unsigned>(bytes[at]) : 0u; };
    const std::size_t group = i / 4 * 3;
    const unsigned bits = byte(group) << 16 | byte(group + 1) << 8 | byte(group + 2);
    const bool filler = group + i % 4 > bytes.size();
    text.bytes()[i] = static_cast<std::byte>(filler ? '=' : kAlphabet[bits >> (18 - 6 * (i % 4)) & 63]);
  }
  return text;
}

/// POOL[/NAMESPACE]/IMAGE, nothing escaped.
void read_name(const std::string& name, RbdLocation& location) {
  const std::size_t first = name.find('/'), last = name.rfind('/');
  if (first == std::string::npos || first == 0 || last + 1 == name.size())
    throw Fault(FaultKind::source, "rbd: image " + name + ": is not POOL/IMAGE");
  location.pool = name.substr(0, first);
  location.image = name.substr(last + 1);
  if (last > first) location.name_space = name.substr(first + 1, last - first - 1);
}

}  // namespace

RbdKeys rbd_keys_of(const StorageKeys& keys) {
  RbdKeys secrets;
  for (const auto& [name, key] : keys) secrets[name] = key->secret();
  return secrets;
}

std::string take_storage_keys(char* text, StorageKeys& keys) {
  return translate_faults([&] {
    const std::string_view whole(text);
    std::string named;
    std::size_t taken = 0;
    for (const auto& [offset, length] : find_rbd_keys(whole)) {
      const std::string_view before = whole.substr(taken, offset - taken);
      named += before.substr(0, before.size() - std::strlen("key="));
      named += "stored_key=" + keep(unescaped_secret(whole.substr(offset, length)), keys);
      std::fill_n(text + offset, length, kHidden);
      taken = offset + length;
    }
    return named += whole.substr(taken);
  });
}

std::string without_key(std::string location, StorageKeys& keys) {
  return is_rbd_location(location) ? take_storage_keys(location.data(), keys) : location;
}

std::string rbd_location_of(const vm::RbdDisk& disk, std::span<const std::byte> key, StorageKeys& keys) {
  RbdLocation location;
  read_name(disk.name, location);
  location.snapshot = disk.snapshot;
  location.user = disk.user;
  location.conf = disk.conf;
  if (!key.empty()) location.stored_key = keep(base64(key), keys);
  std::string monitors;
  for (const std::string& monitor : disk.monitors) monitors += (monitors.empty() ? "" : ";") + monitor;
  if (!monitors.empty()) location.options.emplace_back("mon_host", monitors);
  // What Ceph itself would choose for a client without a name, libvirt leaves to it too.
  if (!disk.user.empty()) location.options.emplace_back("auth_supported", "cephx;none");
  return to_string(location);
}

}  // namespace nasbackup
