// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See sealed_file.h.
#include "formats/sealed_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "crypto/aes_gcm.h"
#include "crypto/hkdf.h"
#include "formats/big_endian.h"
#include "formats/format_error.h"

namespace nasbackup::sealed {

namespace {

constexpr std::array<char, 8> kMagic{'n', 'b', 's', 'e', 'a', 'l', 'e', 'd'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kMostContent = 1u << 30;  // in memory whole

struct Header {
  std::array<char, 8> magic;
  Be32 version;
  Be32 reserved;  ///< zero
  std::array<std::byte, 32> salt;
};
static_assert(sizeof(Header) == 48);

/// A key for this file alone, so that the nonce may be zero.
crypto::Secret key_of(const crypto::Secret& set_key, const Header& header) {
  return crypto::hkdf_sha256(set_key.bytes(), header.salt, "nasbackup sealed file 1", crypto::kGcmKeyBytes);
}

/// Shown and authenticated: header and name.
std::string shown(const Header& header, std::string_view name) {
  return std::string(reinterpret_cast<const char*>(&header), sizeof header).append(name);
}

std::span<const std::byte> bytes_of(const std::string& text) noexcept { return std::as_bytes(std::span(text)); }

}  // namespace

std::vector<std::byte> seal(const crypto::Secret& set_key, std::string_view name, std::span<const std::byte> content,
                            crypto::RandomSource& random) {
  if (content.size() > kMostContent)
    throw FormatError("sealed file: content of " + std::to_string(content.size()) + " bytes, at most 2^30");
  Header header{kMagic, kVersion, 0u, {}};
  random.fill(header.salt);
  std::vector<std::byte> file(sizeof header + content.size() + crypto::kGcmTagBytes);
  std::memcpy(file.data(), static_cast<const void*>(&header), sizeof header);
  std::copy(content.begin(), content.end(), file.begin() + sizeof header);
  const auto message = std::span(file).subspan(sizeof header, content.size());
  const crypto::GcmTag tag = crypto::gcm_seal(key_of(set_key, header).bytes(), {}, bytes_of(shown(header, name)), message);
  std::copy(tag.begin(), tag.end(), file.end() - crypto::kGcmTagBytes);
  return file;
}

std::vector<std::byte> open(const crypto::Secret& set_key, std::string_view name, std::span<const std::byte> file) {
  if (file.size() < sizeof(Header) + crypto::kGcmTagBytes)
    throw FormatError("sealed file: too short: " + std::to_string(file.size()) + " bytes");
  Header header;
  std::memcpy(static_cast<void*>(&header), file.data(), sizeof header);
  if (header.magic != kMagic) throw FormatError("sealed file: it is none: no magic");
  if (header.version != kVersion) throw FormatError("sealed file: version: " + std::to_string(header.version));
  crypto::GcmTag tag;
  std::memcpy(tag.data(), file.data() + file.size() - tag.size(), tag.size());
  const auto sealed = file.subspan(sizeof header, file.size() - sizeof header - tag.size());
  std::vector<std::byte> content(sealed.begin(), sealed.end());
  if (!crypto::gcm_open(key_of(set_key, header).bytes(), {}, bytes_of(shown(header, name)), content, tag))
    throw FormatError("sealed file: it is not what was sealed under this key and name");
  return content;
}

}  // namespace nasbackup::sealed
