// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A small file of an encrypted set, sealed: AES-256-GCM under a key of its own, derived from the set key; its name in the set is
// authenticated too (docs/formats/manifest.md, "Sealed files"). Pure but for the random source; safe everywhere.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "crypto/random_source.h"
#include "crypto/secret.h"

namespace nasbackup::sealed {

/// What the name of a sealed file has behind that of its content.
inline constexpr std::string_view kSuffix = ".sealed";

/// The file. `name`: as it is called in the set, with kSuffix. Throws FormatError for more than a GiB.
std::vector<std::byte> seal(const crypto::Secret& set_key, std::string_view name, std::span<const std::byte> content,
                            crypto::RandomSource& random);

/// Its content. Throws FormatError: no sealed file, a version that is not known, or anything that is not as it was sealed under
/// this key and name.
std::vector<std::byte> open(const crypto::Secret& set_key, std::string_view name, std::span<const std::byte> file);

}  // namespace nasbackup::sealed
