// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A LUKS header as the tests make it: composed by us, of a random source that repeats itself and next to no key stretching.
#pragma once

#include <cstring>
#include <string_view>
#include <vector>

#include "formats/luks_header.h"
#include "formats/luks_header_reader.h"
#include "formats/luks_key_ring.h"
#include "tests/unit/crypto/counting_random.h"
#include "tests/unit/crypto/hex.h"

namespace nasbackup::luks {

struct SampleHeader {
  std::vector<std::byte> bytes;
  crypto::Secret volume_key;
};

inline crypto::Secret secret(std::string_view text) { return crypto::Secret::copy_of(bytes_of(text)); }

inline KeyRing::Passphrase passphrase(std::string_view text) { return std::make_shared<const crypto::Secret>(secret(text)); }

/// `kdf` of one sample may be used for another.
inline SampleHeader sample_header(std::string_view passphrase, const SlotKdf& kdf, std::uint64_t seed = 2,
                                  std::uint32_t payload_offset = kPayloadOfContainer) {
  CountingRandom random(seed);
  ImageDraw draw = draw_image(random);
  HeaderRecipe recipe{payload_offset, draw.uuid, {crypto::Hash::sha256, draw.digest_salt, 1000, {}}, kdf};
  recipe.digest.compute(draw.volume_key.bytes());
  const crypto::Secret slot_key = derive_slot_key(kdf, bytes_of(passphrase), kVolumeKeyBytes);
  auto bytes = compose_header(recipe, draw.volume_key, slot_key, std::move(draw.stripes));
  return {std::move(bytes), std::move(draw.volume_key)};
}

inline SlotKdf sample_kdf(std::uint32_t iterations = 1000) {
  CountingRandom random;
  return draw_slot(random, iterations);
}

inline SampleHeader sample_header() { return sample_header("correct horse", sample_kdf()); }

/// Writes a number over a field.
inline void poke(std::vector<std::byte>& header, std::size_t offset, std::uint32_t value) {
  const Be32 field = value;
  std::memcpy(header.data() + offset, static_cast<const void*>(&field), sizeof field);
}

inline constexpr std::size_t slot_field(unsigned slot, std::size_t field) { return 208 + 48 * slot + field; }

}  // namespace nasbackup::luks
