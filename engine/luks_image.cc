// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_image.h.
#include "engine/luks_image.h"

#include <utility>

#include "engine/io/slot_key.h"

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

}  // namespace nasbackup
