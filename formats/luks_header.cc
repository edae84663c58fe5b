// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_header.h.
#include "formats/luks_header.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string_view>

namespace nasbackup::luks {

using crypto::Secret;

namespace {

template <std::size_t N>
std::array<char, N> padded(std::string_view text) noexcept {
  assert(text.size() < N);
  std::array<char, N> field{};
  std::copy(text.begin(), text.end(), field.begin());
  return field;
}

/// RFC 4122, version 4: random.
std::array<char, 40> text_of(Uuid uuid) noexcept {
  uuid[6] = (uuid[6] & std::byte{0x0f}) | std::byte{0x40};
  uuid[8] = (uuid[8] & std::byte{0x3f}) | std::byte{0x80};
  std::array<char, 40> text{};
  char* at = text.data();
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
    *at++ = "0123456789abcdef"[std::to_integer<unsigned>(uuid[i]) >> 4];
    *at++ = "0123456789abcdef"[std::to_integer<unsigned>(uuid[i]) & 15];
  }
  return text;
}

void set_enabled(KeySlot& slot, const SlotKdf& kdf) noexcept {
  slot.active = kSlotEnabled;
  slot.iterations = kdf.iterations;
  slot.salt = kdf.salt;
}

void set_disabled(KeySlot& slot) noexcept {
  slot.active = kSlotDisabled;
  slot.iterations = 0;
  slot.salt = {};
}

Phdr phdr_of(const HeaderRecipe& recipe) noexcept {
  Phdr phdr{};
  phdr.magic = kMagic;
  phdr.version = kVersion;
  phdr.cipher_name = padded<32>("aes");
  phdr.cipher_mode = padded<32>("xts-plain64");
  phdr.hash_spec = padded<32>("sha256");
  phdr.payload_offset = recipe.payload_offset;
  phdr.key_bytes = kVolumeKeyBytes;
  phdr.mk_digest = recipe.digest.value;
  phdr.mk_digest_salt = recipe.digest.salt;
  phdr.mk_digest_iterations = recipe.digest.iterations;
  phdr.uuid = text_of(recipe.uuid);
  for (unsigned i = 0; i < kSlots; ++i) {
    set_disabled(phdr.slots[i]);
    phdr.slots[i].key_material_offset = kAlignSectors + i * material_sectors(kVolumeKeyBytes);
    phdr.slots[i].stripes = kStripes;
  }
  set_enabled(phdr.slots[0], recipe.kdf);
  return phdr;
}

template <class Change>
void change(std::span<std::byte, sizeof(Phdr)> bytes, Change&& with) noexcept {
  Phdr phdr;
  std::memcpy(static_cast<void*>(&phdr), bytes.data(), sizeof phdr);
  with(phdr);
  std::memcpy(bytes.data(), static_cast<const void*>(&phdr), sizeof phdr);
}

Secret drawn(crypto::RandomSource& random, std::size_t size) {
  Secret secret(size);
  random.fill(secret.bytes());
  return secret;
}

}  // namespace

std::string uuid_text(Uuid uuid) { return text_of(uuid).data(); }

SlotKdf draw_slot(crypto::RandomSource& random, std::uint32_t iterations) {
  SlotKdf kdf;
  kdf.iterations = iterations;
  random.fill(kdf.salt);
  return kdf;
}

ImageDraw draw_image(crypto::RandomSource& random) {
  ImageDraw draw;
  draw.volume_key = drawn(random, kVolumeKeyBytes);
  random.fill(draw.uuid);
  random.fill(draw.digest_salt);
  draw.stripes = drawn(random, material_bytes(kVolumeKeyBytes));
  return draw;
}

std::vector<std::byte> compose_header(const HeaderRecipe& recipe, const Secret& volume_key, const Secret& slot_key,
                                      Secret stripes) {
  assert(volume_key.size() == kVolumeKeyBytes && slot_key.size() == kVolumeKeyBytes);
  assert(recipe.payload_offset >= kPayloadInQcow2 && recipe.kdf.hash == crypto::Hash::sha256);
  const Phdr phdr = phdr_of(recipe);
  seal_key_material(recipe.kdf.hash, volume_key.bytes(), slot_key.bytes(), stripes.bytes());
  std::vector<std::byte> header(recipe.payload_offset * kSectorBytes);
  std::memcpy(header.data(), static_cast<const void*>(&phdr), sizeof phdr);
  std::memcpy(header.data() + kAlignSectors * kSectorBytes, stripes.bytes().data(), stripes.size());
  return header;
}

void enable_slot(std::span<std::byte, sizeof(Phdr)> phdr, unsigned slot, const SlotKdf& kdf) noexcept {
  change(phdr, [&](Phdr& p) { set_enabled(p.slots[slot], kdf); });
}

void disable_slot(std::span<std::byte, sizeof(Phdr)> phdr, unsigned slot) noexcept {
  change(phdr, [&](Phdr& p) { set_disabled(p.slots[slot]); });
}

}  // namespace nasbackup::luks
