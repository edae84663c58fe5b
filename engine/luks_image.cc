// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_image.h.
#include "engine/luks_image.h"

#include <utility>

#include "engine/io/fault.h"
#include "engine/io/slot_key.h"
#include "formats/format_error.h"

namespace nasbackup {

KeysOfImage keys_of(const LuksHeaderFile& file) {
  const luks::HeaderFacts& facts = file.facts();
  KeysOfImage keys;
  keys.image = file.path();
  keys.format = file.place() == luks::Place::container ? "luks" : "qcow2";
  keys.cipher = facts.cipher;
  keys.hash = facts.hash;
  keys.uuid = facts.uuid;
  for (unsigned i = 0; i < luks::kSlots; ++i)
    keys.slots.push_back({i, facts.slots[i].enabled, facts.slots[i].enabled ? facts.slots[i].iterations : 0});
  return keys;
}

luks::KeyRing ring_of(const Passphrases& passphrases, std::stop_token stop) {
  std::vector<luks::KeyRing::Passphrase> secrets;
  for (const auto& passphrase : passphrases) secrets.push_back(passphrase->secret());
  return luks::KeyRing(std::move(secrets), std::move(stop), derive_slot_key_on_threads);
}

luks::Unlocked unlock(const LuksHeaderFile& file, luks::KeyRing& ring) {
  const auto read = [&](std::uint64_t offset, std::span<std::byte> into) { file.read(offset, into); };
  try {
    if (auto unlocked = ring.unlock(file.facts(), read)) return std::move(*unlocked);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::failed, file.path() + ": " + error.what());
  }
  throw Fault(FaultKind::wrong_key,
              file.path() + (ring.size() == 1 ? ": the passphrase does not open it" : ": none of the passphrases opens it"));
}

}  // namespace nasbackup
