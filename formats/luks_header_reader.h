// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a LUKS1 header says, read from bytes that somebody else may have made. Everything that QEMU asks of a header is asked here
// too: what it refuses, we refuse, with a line that says why. Pure; safe everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "crypto/digest.h"
#include "formats/luks_format.h"
#include "formats/luks_keyslot.h"

namespace nasbackup::luks {

struct SlotFacts {
  bool enabled = false;
  std::uint32_t iterations = 0;
  Salt salt{};
  std::uint64_t material_offset = 0;  ///< bytes from the header's beginning
};

struct HeaderFacts {
  std::string cipher;  ///< "aes-xts-plain64"
  std::string hash;    ///< "sha256"
  std::string uuid;
  std::uint32_t key_bytes = 0;
  std::uint64_t payload_offset = 0;  ///< bytes; in a qcow2 without meaning
  std::uint32_t digest_iterations = 0;
  Salt digest_salt{};
  std::array<std::byte, kDigestBytes> digest{};
  std::array<SlotFacts, kSlots> slots;

  unsigned slots_in_use() const noexcept;

  // For headers that require_supported() has passed.
  VolumeKeyDigest volume_key_digest() const;
  SlotKdf kdf(unsigned slot) const;
};

enum class Place {
  container,  ///< the payload follows in the same file
  in_qcow2,   ///< the extension "full disk encryption header" points at it
};

bool has_magic(std::span<const std::byte> start) noexcept;
/// `start`: at least the header's first sizeof(Phdr) bytes. `room`: the size of the file, or of the header's place in the qcow2.
/// Throws FormatError. Says nothing about the cipher: any is described.
HeaderFacts parse_header(std::span<const std::byte> start, std::uint64_t room, Place place);
/// Throws FormatError unless it is aes-xts-plain64 with a hash that we have.
void require_supported(const HeaderFacts& facts);

}  // namespace nasbackup::luks
