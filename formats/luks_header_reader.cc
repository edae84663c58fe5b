// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Reads a LUKS1 header; see luks_header_reader.h.
#include "formats/luks_header_reader.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "formats/format_error.h"

namespace nasbackup::luks {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw FormatError("LUKS header: " + what); }

[[noreturn]] void refuse_slot(unsigned slot, const std::string& what) {
  refuse("key slot " + std::to_string(slot) + ": " + what);
}

/// A name must end within its field.
template <std::size_t N>
std::string text(const std::array<char, N>& field, const char* name) {
  const auto end = std::find(field.begin(), field.end(), '\0');
  if (end == field.end()) refuse(std::string(name) + ": does not end within its " + std::to_string(N) + " bytes");
  return {field.begin(), end};
}

void check_iterations(std::uint32_t iterations, const std::string& whose) {
  if (iterations == 0 || iterations > kMaxIterations)
    refuse(whose + "iterations: " + std::to_string(iterations) + ", must be 1 to " + std::to_string(kMaxIterations));
}

void check_fixed(const Phdr& phdr, std::uint64_t room, Place place) {
  if (phdr.version != kVersion)
    refuse("version: " + std::to_string(phdr.version) + ", must be 1" + (phdr.version == 2 ? " (LUKS2 is not supported)" : ""));
  if (phdr.key_bytes == 0 || phdr.key_bytes > kMaxKeyBytes)
    refuse("key_bytes: " + std::to_string(phdr.key_bytes) + ", must be 1 to " + std::to_string(kMaxKeyBytes));
  check_iterations(phdr.mk_digest_iterations, "volume key digest: ");
  if (phdr.payload_offset < kAlignSectors)
    refuse("payload_offset: " + std::to_string(phdr.payload_offset) + " sectors, lies in the header");
  if (place == Place::container && phdr.payload_offset > room / kSectorBytes)
    refuse("payload_offset: " + std::to_string(phdr.payload_offset) + " sectors, beyond the file's " + std::to_string(room) +
           " bytes");
}

/// Sectors from `start` up to `end`.
struct Sectors {
  std::uint64_t start, end;
};

Sectors material_of(const Phdr& phdr, unsigned slot) noexcept {
  const std::uint64_t start = phdr.slots[slot].key_material_offset;
  return {start, start + material_sectors(phdr.key_bytes)};
}

void check_slot(const Phdr& phdr, unsigned index, std::uint64_t room, Place place) {
  const KeySlot& slot = phdr.slots[index];
  if (slot.active != kSlotEnabled && slot.active != kSlotDisabled)
    refuse_slot(index, "active: " + std::to_string(slot.active) + ", means neither enabled nor disabled");
  if (slot.active == kSlotEnabled) check_iterations(slot.iterations, "key slot " + std::to_string(index) + ": ");
  if (slot.stripes != kStripes)
    refuse_slot(index, "stripes: " + std::to_string(slot.stripes) + ", must be " + std::to_string(kStripes));
  const Sectors material = material_of(phdr, index);
  const std::string where = "key material of sectors " + std::to_string(material.start) + " to " + std::to_string(material.end);
  if (material.start < kAlignSectors) refuse_slot(index, where + " overlaps the header");
  if (material.end > phdr.payload_offset)
    refuse_slot(index, where + " overlaps the payload at " + std::to_string(phdr.payload_offset));
  if (place == Place::in_qcow2 && material.end * kSectorBytes > room)
    refuse_slot(index, where + " leaves the header's " + std::to_string(room) + " bytes");
  for (unsigned other = 0; other < index; ++other) {
    const Sectors theirs = material_of(phdr, other);
    if (material.start < theirs.end && theirs.start < material.end)
      refuse_slot(index, where + " overlaps that of slot " + std::to_string(other));
  }
}

SlotFacts facts_of(const KeySlot& slot) noexcept {
  return {slot.active == kSlotEnabled, slot.iterations, slot.salt, slot.key_material_offset * kSectorBytes};
}

}  // namespace

unsigned HeaderFacts::slots_in_use() const noexcept {
  return static_cast<unsigned>(std::count_if(slots.begin(), slots.end(), [](const SlotFacts& slot) { return slot.enabled; }));
}

VolumeKeyDigest HeaderFacts::volume_key_digest() const {
  return {crypto::find_hash(hash).value(), digest_salt, digest_iterations, digest};
}

SlotKdf HeaderFacts::kdf(unsigned slot) const {
  return {crypto::find_hash(hash).value(), slots[slot].salt, slots[slot].iterations};
}

bool has_magic(std::span<const std::byte> start) noexcept {
  return start.size() >= kMagic.size() && std::memcmp(start.data(), kMagic.data(), kMagic.size()) == 0;
}

HeaderFacts parse_header(std::span<const std::byte> start, std::uint64_t room, Place place) {
  if (!has_magic(start)) refuse("no magic");
  if (start.size() < sizeof(Phdr) || room < sizeof(Phdr))
    refuse("ends at byte " + std::to_string(std::min<std::uint64_t>(start.size(), room)));
  Phdr phdr;
  std::memcpy(static_cast<void*>(&phdr), start.data(), sizeof phdr);
  check_fixed(phdr, room, place);
  HeaderFacts facts;
  facts.cipher = text(phdr.cipher_name, "cipher name") + "-" + text(phdr.cipher_mode, "cipher mode");
  facts.hash = text(phdr.hash_spec, "hash");
  facts.uuid = text(phdr.uuid, "uuid");
  facts.key_bytes = phdr.key_bytes;
  facts.payload_offset = phdr.payload_offset * kSectorBytes;
  facts.digest_iterations = phdr.mk_digest_iterations;
  facts.digest_salt = phdr.mk_digest_salt;
  facts.digest = phdr.mk_digest;
  for (unsigned i = 0; i < kSlots; ++i) {
    check_slot(phdr, i, room, place);
    facts.slots[i] = facts_of(phdr.slots[i]);
  }
  return facts;
}

void require_supported(const HeaderFacts& facts) {
  if (facts.cipher != "aes-xts-plain64") refuse("cipher: " + facts.cipher + ", only aes-xts-plain64 is supported");
  if (facts.key_bytes != 32 && facts.key_bytes != 64)
    refuse("key_bytes: " + std::to_string(facts.key_bytes) + ", must be 32 or 64 for aes-xts-plain64");
  if (!crypto::find_hash(facts.hash)) refuse("hash: " + facts.hash + ", must be sha1, sha256 or sha512");
}

}  // namespace nasbackup::luks
