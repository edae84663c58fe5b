// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: a LUKS1 header, in a container and in a qcow2. The input: the phdr, then eight bytes that are its room (2 MiB when
// they are missing); no key is stretched. Promised: everything that a slot names lies behind the header and before the payload,
// and no two overlap; of what is supported every part can be used; a slot that is switched on or off is what it was told, and the
// others are as before.
#include <algorithm>
#include <cstring>

#include "formats/luks_header.h"
#include "formats/luks_header_reader.h"
#include "tests/fuzz/fuzz_target.h"

namespace nasbackup::luks {
namespace {

using fuzz::accepted;
using fuzz::Bytes;
using fuzz::require;

bool same(const SlotFacts& a, const SlotFacts& b) noexcept {
  return a.enabled == b.enabled && a.iterations == b.iterations && a.salt == b.salt && a.material_offset == b.material_offset;
}

void require_bounds(const HeaderFacts& facts, std::uint64_t room, Place place) {
  require(facts.key_bytes > 0 && facts.key_bytes <= kMaxKeyBytes && facts.digest_iterations <= kMaxIterations, "work is bounded");
  if (place == Place::container) require(facts.payload_offset <= room, "the payload begins in the file");
  const std::uint64_t bytes = material_bytes(facts.key_bytes);
  for (unsigned i = 0; i < kSlots; ++i) {
    const SlotFacts& slot = facts.slots[i];
    require(slot.material_offset >= sizeof(Phdr) && slot.material_offset + bytes <= facts.payload_offset,
            "material has its place");
    require(place == Place::container || slot.material_offset + bytes <= room, "material lies in the header's room");
    require(!slot.enabled || (slot.iterations > 0 && slot.iterations <= kMaxIterations), "stretching is bounded");
    for (unsigned other = 0; other < i; ++other)
      require(slot.material_offset + bytes <= facts.slots[other].material_offset ||
                  facts.slots[other].material_offset + bytes <= slot.material_offset,
              "slots do not overlap");
  }
}

void use(const HeaderFacts& facts) {
  require(facts.volume_key_digest().iterations == facts.digest_iterations, "the digest is that of the header");
  for (unsigned i = 0; i < kSlots; ++i) require(facts.kdf(i).salt == facts.slots[i].salt, "a slot's salt is its own");
}

void switch_slot(std::span<const std::byte> start, std::uint64_t room, Place place, const HeaderFacts& before, unsigned slot) {
  Bytes bytes(start.begin(), start.begin() + sizeof(Phdr));
  const std::span<std::byte, sizeof(Phdr)> phdr(bytes.data(), sizeof(Phdr));
  SlotKdf kdf{crypto::Hash::sha256, {}, kMinIterations};
  kdf.salt.fill(std::byte{7});
  if (before.slots[slot].enabled)
    disable_slot(phdr, slot);
  else
    enable_slot(phdr, slot, kdf);
  const HeaderFacts after = parse_header(bytes, room, place);
  require(after.slots[slot].enabled != before.slots[slot].enabled, "the slot was switched");
  require(!after.slots[slot].enabled || after.slots[slot].salt == kdf.salt, "it has the salt that it was given");
  require(after.slots[slot].material_offset == before.slots[slot].material_offset, "its material stays where it is");
  for (unsigned other = 0; other < kSlots; ++other)
    require(other == slot || same(after.slots[other], before.slots[other]), "other slots are as before");
}

void run(std::span<const std::byte> start) {
  fuzz::Input rest(start.subspan(std::min(start.size(), sizeof(Phdr))));
  const std::uint64_t room = rest.rest().empty() ? kPayloadOfContainer * kSectorBytes : rest.word();
  for (const Place place : {Place::container, Place::in_qcow2}) {
    const auto facts = accepted([&] { return parse_header(start, room, place); });
    if (!facts) continue;
    require_bounds(*facts, room, place);
    if (accepted([&] { return require_supported(*facts), true; })) use(*facts);
    for (unsigned slot = 0; slot < kSlots; ++slot) switch_slot(start, room, place, *facts, slot);
  }
}

}  // namespace
}  // namespace nasbackup::luks

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::luks::run(nasbackup::fuzz::bytes_of(data, size));
  return 0;
}
