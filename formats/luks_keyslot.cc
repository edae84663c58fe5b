// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_keyslot.h.
#include "formats/luks_keyslot.h"

#include <cassert>
#include <utility>

#include "crypto/aes_xts.h"
#include "crypto/af_split.h"
#include "crypto/pbkdf2.h"

namespace nasbackup::luks {

using crypto::Secret;

std::uint32_t slot_key_blocks(const SlotKdf& kdf, std::size_t key_bytes) noexcept {
  return crypto::pbkdf2_blocks(kdf.hash, key_bytes);
}

void derive_slot_key_block(const SlotKdf& kdf, std::span<const std::byte> passphrase, std::uint32_t block,
                           std::span<std::byte> slot_key, std::stop_token stop) {
  crypto::pbkdf2_block(kdf.hash, passphrase, kdf.salt, kdf.iterations, block, slot_key, std::move(stop));
}

Secret derive_slot_key(const SlotKdf& kdf, std::span<const std::byte> passphrase, std::size_t key_bytes, std::stop_token stop) {
  Secret key(key_bytes);
  crypto::pbkdf2(kdf.hash, passphrase, kdf.salt, kdf.iterations, key.bytes(), std::move(stop));
  return key;
}

void VolumeKeyDigest::compute(std::span<const std::byte> volume_key, std::stop_token stop) {
  crypto::pbkdf2(hash, volume_key, salt, iterations, value, std::move(stop));
}

bool VolumeKeyDigest::matches(std::span<const std::byte> volume_key, std::stop_token stop) const {
  VolumeKeyDigest candidate = *this;
  candidate.compute(volume_key, std::move(stop));
  return crypto::same_bytes(candidate.value, value);
}

// Key material is encrypted as a payload would be, its first sector being number 0.
void seal_key_material(crypto::Hash hash, std::span<const std::byte> volume_key, std::span<const std::byte> slot_key,
                       std::span<std::byte> material) {
  assert(material.size() == material_bytes(static_cast<std::uint32_t>(volume_key.size())));
  crypto::af_complete(hash, volume_key, material);
  crypto::AesXts(slot_key).encrypt(0, material);
}

std::optional<Secret> open_key_material(const VolumeKeyDigest& digest, std::span<const std::byte> slot_key,
                                        std::span<const std::byte> material, std::stop_token stop) {
  assert(material.size() == material_bytes(static_cast<std::uint32_t>(slot_key.size())));
  Secret split = Secret::copy_of(material);
  crypto::AesXts(slot_key).decrypt(0, split.bytes());
  Secret volume_key(slot_key.size());
  crypto::af_merge(digest.hash, split.bytes(), volume_key.bytes());
  if (!digest.matches(volume_key.bytes(), std::move(stop))) return std::nullopt;
  return volume_key;
}

}  // namespace nasbackup::luks
