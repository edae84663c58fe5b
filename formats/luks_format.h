// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The on-disk definitions of LUKS1, shared by writer and reader: structs, marks, limits.
// Source: "LUKS On-Disk Format Specification", version 1.2.1 ("the specification"); where it leaves something open, what QEMU
// (crypto/block-luks.c) does and asks for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "formats/big_endian.h"

namespace nasbackup::luks {

inline constexpr std::array<unsigned char, 6> kMagic{'L', 'U', 'K', 'S', 0xba, 0xbe};
inline constexpr std::uint16_t kVersion = 1;

inline constexpr std::uint64_t kSectorBytes = 512;         ///< always, whatever the disk has
inline constexpr unsigned kSlots = 8;                      ///< LUKS_NUMKEYS
inline constexpr std::uint32_t kStripes = 4000;            ///< LUKS_STRIPES; QEMU takes no other number
inline constexpr std::uint32_t kSlotEnabled = 0x00ac71f3;  ///< LUKS_KEY_ENABLED
inline constexpr std::uint32_t kSlotDisabled = 0x0000dead;
inline constexpr std::size_t kSaltBytes = 32;          ///< LUKS_SALTSIZE
inline constexpr std::size_t kDigestBytes = 20;        ///< LUKS_DIGESTSIZE
inline constexpr std::uint32_t kAlignSectors = 8;      ///< LUKS_ALIGN_KEYSLOTS, 4096 bytes: header and key material end on it
inline constexpr std::uint32_t kMaxKeyBytes = 64;      ///< AES-256-XTS, the largest that there is
inline constexpr std::uint32_t kMinIterations = 1000;  ///< specification, "PBKDF2"
/// Nobody stretches for minutes: a header that asks for more wants our time.
inline constexpr std::uint32_t kMaxIterations = 1u << 28;

using Salt = std::array<std::byte, kSaltBytes>;

/// Section "Key slot layout".
struct KeySlot {
  Be32 active;
  Be32 iterations;
  Salt salt;
  Be32 key_material_offset;  ///< in sectors
  Be32 stripes;
};
static_assert(sizeof(KeySlot) == 48);

/// Section "The partition header" (phdr).
struct Phdr {
  std::array<unsigned char, 6> magic;
  Be16 version;
  std::array<char, 32> cipher_name;
  std::array<char, 32> cipher_mode;
  std::array<char, 32> hash_spec;
  Be32 payload_offset;  ///< in sectors
  Be32 key_bytes;
  std::array<std::byte, kDigestBytes> mk_digest;
  Salt mk_digest_salt;
  Be32 mk_digest_iterations;
  std::array<char, 40> uuid;
  std::array<KeySlot, kSlots> slots;
};
static_assert(sizeof(Phdr) == 592 && alignof(Phdr) == 4);
static_assert(offsetof(Phdr, payload_offset) == 104 && offsetof(Phdr, mk_digest_iterations) == 164 &&
              offsetof(Phdr, slots) == 208);

/// Key material in bytes: the key, split into stripes.
constexpr std::size_t material_bytes(std::uint32_t key_bytes) noexcept { return std::size_t{key_bytes} * kStripes; }

/// The sectors that a slot's key material takes, as QEMU and cryptsetup lay them out.
constexpr std::uint32_t material_sectors(std::uint32_t key_bytes) noexcept {
  const auto sectors = static_cast<std::uint32_t>((material_bytes(key_bytes) + kSectorBytes - 1) / kSectorBytes);
  return (sectors + kAlignSectors - 1) / kAlignSectors * kAlignSectors;
}
static_assert(material_sectors(64) == 504 && material_sectors(32) == 256);

}  // namespace nasbackup::luks
