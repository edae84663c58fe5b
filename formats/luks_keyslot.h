// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// A key slot: passphrase -> slot key -> key material -> volume key. What takes long (PBKDF2) is apart from the rest, and in
// pieces that do not depend on each other, so that whoever has threads can use them; a stop ends it with crypto::Stopped. Pure;
// safe everywhere. Specification: "Adding new passwords" and "Master key recovery".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>

#include "crypto/digest.h"
#include "crypto/secret.h"
#include "formats/luks_format.h"

namespace nasbackup::luks {

/// How a passphrase becomes a slot key. Slots that have it in common, in one image or in many, are opened by one derivation.
struct SlotKdf {
  crypto::Hash hash = crypto::Hash::sha256;
  Salt salt{};
  std::uint32_t iterations = 0;

  friend bool operator==(const SlotKdf&, const SlotKdf&) noexcept = default;
};

/// A slot key of `key_bytes` is derived in so many blocks.
std::uint32_t slot_key_blocks(const SlotKdf& kdf, std::size_t key_bytes) noexcept;
/// One of them, counted from 0; touches its own part of `slot_key` only.
void derive_slot_key_block(const SlotKdf& kdf, std::span<const std::byte> passphrase, std::uint32_t block,
                           std::span<std::byte> slot_key, std::stop_token stop = {});
/// All of them, one after the other.
crypto::Secret derive_slot_key(const SlotKdf& kdf, std::span<const std::byte> passphrase, std::size_t key_bytes,
                               std::stop_token stop = {});

/// What tells the right volume key from a wrong one (mk-digest). One block of PBKDF2.
struct VolumeKeyDigest {
  crypto::Hash hash = crypto::Hash::sha256;
  Salt salt{};
  std::uint32_t iterations = 0;
  std::array<std::byte, kDigestBytes> value{};

  /// Fills `value`.
  void compute(std::span<const std::byte> volume_key, std::stop_token stop = {});
  /// Takes the same time for every wrong key.
  bool matches(std::span<const std::byte> volume_key, std::stop_token stop = {}) const;
};

/// In place: `material` comes full of random bytes (material_bytes()) and leaves as it lies on disk.
void seal_key_material(crypto::Hash hash, std::span<const std::byte> volume_key, std::span<const std::byte> slot_key,
                       std::span<std::byte> material);
/// The volume key, or nothing when the slot key is not the one that sealed it. `material` as it lies on disk.
std::optional<crypto::Secret> open_key_material(const VolumeKeyDigest& digest, std::span<const std::byte> slot_key,
                                                std::span<const std::byte> material, std::stop_token stop = {});

}  // namespace nasbackup::luks
