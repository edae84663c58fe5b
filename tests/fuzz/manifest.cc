// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: manifest.json. The input is read as it is; then as the body of a manifest, to which the seal is put that belongs
// to it, once of a set that is not encrypted and once with a wrapped key for each disk. Promised: what was read, written again,
// is read as the same, and its seal is authentic; every name stays in the set's directory; sizes can be added up.
#include <algorithm>
#include <string>

#include "engine/io/fault.h"
#include "engine/set/manifest.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::set {
namespace {

using fuzz::accepted;
using fuzz::require;

constexpr char kWhere[] = "manifest.json";

std::optional<Manifest> read(const std::string& text) {
  return accepted<Fault>([&] { return read_manifest(text, kWhere); });
}

void require_names(const Manifest& manifest) {
  for (const ManifestDisk& disk : manifest.disks)
    require(is_file_name(disk.file) && is_file_name(disk.digests.file), "a disk's files lie in the set");
  for (const ManifestFile& file : manifest.files)
    require(is_file_name(file.name) && file.name != kManifestName, "files lie in the set");
}

void require_sizes(const Manifest& manifest) {
  std::uint64_t stored = 0, guest = 0;
  bool fits = true;
  for (const ManifestDisk& disk : manifest.disks) {
    fits = fits && !__builtin_add_overflow(stored, disk.stored_bytes, &stored) &&
           !__builtin_add_overflow(guest, disk.virtual_size, &guest);
    fits = fits && !__builtin_add_overflow(stored, disk.digests.size, &stored);
  }
  for (const ManifestFile& file : manifest.files) fits = fits && !__builtin_add_overflow(stored, file.size, &stored);
  require(fits, "sizes can be added up");
}

/// All but what the seal computes.
Manifest unsealed(Manifest manifest) {
  manifest.seal.sha256.clear();
  manifest.seal.hmac.clear();
  return manifest;
}

void write_again(const Manifest& manifest, const crypto::Secret* key) {
  const std::string text = write_manifest(manifest, key);
  if (text.size() > kMaxManifestSize) return;  // escapes take more room than what they stand for
  const auto again = read(text);
  require(again && unsealed(*again) == unsealed(manifest), "what was read is read again as the same");
  if (key != nullptr)
    require(accepted<Fault>([&] { return check_seal(text, *again, *key, kWhere), true; }).has_value(), "our seal is authentic");
}

void read_sealed(const std::string& body, const std::vector<crypto::Wrapping>& keys, const crypto::Secret* key) {
  const auto manifest = read(seal_text(body, keys, key));
  if (!manifest) return;
  require_names(*manifest);
  require_sizes(*manifest);
  require(manifest->seal.hmac.empty() == (key == nullptr), "an encrypted set is authenticated");
  write_again(*manifest, key);
}

std::size_t count(const std::string& text, std::string_view word) {
  std::size_t found = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
  return found;
}

void run(std::string text) {
  static const crypto::Secret key(kSetKeyBytes);
  if (const auto whole = read(text)) require_names(*whole);
  if (!text.ends_with("\n}")) text += "\n}";
  read_sealed(text, {}, nullptr);
  read_sealed(text, std::vector<crypto::Wrapping>(std::min(count(text, "\"digests\""), kMaxManifestDisks)), &key);
}

}  // namespace
}  // namespace nasbackup::set

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::set::run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
