// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Composes the LUKS1 header of an image: aes-xts-plain64, sha256, a volume key of 64 bytes, slot 0 in use. The other seven slots
// are disabled but have valid offsets and stripes (QEMU looks at all eight); their key material is zero, as QEMU leaves it: which
// slots are in use stands in the header for everybody, so random bytes would hide nothing and cost room on the target.
// All randomness is drawn ahead by draw_…() in a fixed order, so that the same random source gives the same bytes however the
// work is spread over threads. Pure; safe everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "crypto/random_source.h"
#include "crypto/secret.h"
#include "formats/luks_format.h"
#include "formats/luks_keyslot.h"

namespace nasbackup::luks {

inline constexpr std::uint32_t kVolumeKeyBytes = 64;
inline constexpr std::uint32_t kPayloadInQcow2 = kAlignSectors + kSlots * material_sectors(kVolumeKeyBytes);
inline constexpr std::uint32_t kPayloadOfContainer = 4096;  ///< 2 MiB: cryptsetup's alignment
static_assert(kPayloadInQcow2 == 4040 && kPayloadInQcow2 <= kPayloadOfContainer);

/// The volume key is random and needs no stretching; QEMU's ratio.
constexpr std::uint32_t digest_iterations(std::uint32_t slot_iterations) noexcept {
  return slot_iterations / 8 > kMinIterations ? slot_iterations / 8 : kMinIterations;
}

using Uuid = std::array<std::byte, 16>;
/// As a header has it: version 4 of RFC 4122, which fixes six of the bits.
std::string uuid_text(Uuid uuid);

/// What is drawn for a slot, or once for all images that one derivation is to open: the salt.
SlotKdf draw_slot(crypto::RandomSource& random, std::uint32_t iterations);

/// What is drawn for each image, in the order of the members.
struct ImageDraw {
  crypto::Secret volume_key;
  Uuid uuid{};
  Salt digest_salt{};
  crypto::Secret stripes;  ///< material_bytes(): becomes the key material of slot 0
};
ImageDraw draw_image(crypto::RandomSource& random);

struct HeaderRecipe {
  std::uint32_t payload_offset = kPayloadInQcow2;  ///< in sectors
  Uuid uuid{};
  VolumeKeyDigest digest;  ///< computed
  SlotKdf kdf;             ///< of slot 0
};

/// Everything in front of the payload. `stripes` is used up: wiped when this returns.
std::vector<std::byte> compose_header(const HeaderRecipe& recipe, const crypto::Secret& volume_key,
                                      const crypto::Secret& slot_key, crypto::Secret stripes);

/// Changes one slot in a phdr of which it is known that it is one.
void enable_slot(std::span<std::byte, sizeof(Phdr)> phdr, unsigned slot, const SlotKdf& kdf) noexcept;
void disable_slot(std::span<std::byte, sizeof(Phdr)> phdr, unsigned slot) noexcept;

}  // namespace nasbackup::luks
