// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The seal at the end of a manifest: SHA-256 of every byte before the line that it stands on and, when the set is encrypted,
// their HMAC-SHA256 under the set key (docs/formats/manifest.md, "The seal"). Pure functions; safe from any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "crypto/key_wrap.h"
#include "crypto/secret.h"

namespace nasbackup::set {

/// What HKDF derives the key for that wraps the set key under an image's volume key.
inline constexpr std::string_view kSetKeyPurpose = "nasbackup set key 1";
constexpr std::size_t kSetKeyBytes = crypto::kWrappedKeyBytes;

struct ManifestSeal {
  std::string sha256;                  ///< 64 hexadecimal digits
  std::string hmac;                    ///< the same; empty: the set is not encrypted
  std::vector<crypto::Wrapping> keys;  ///< the set key under the volume key of each disk's image, in their order

  friend bool operator==(const ManifestSeal&, const ManifestSeal&) = default;
};

/// The whole manifest: `body`, a JSON object over several lines, with the seal as its last member. `set_key`: null when the set
/// is not encrypted.
std::string seal_text(std::string body, const std::vector<crypto::Wrapping>& keys, const crypto::Secret* set_key);

/// True when the text has a seal and its SHA-256 is right: it was not damaged. Looks at nothing else, so that it may be asked of
/// later versions too.
bool is_undamaged(std::string_view text);
/// True when nothing stands behind the sealed bytes but this seal, which was read from the text.
bool ends_with_seal(std::string_view text, const ManifestSeal& seal);
/// True when the holder of the key sealed the text.
bool is_authentic(std::string_view text, const ManifestSeal& seal, const crypto::Secret& set_key);

}  // namespace nasbackup::set
