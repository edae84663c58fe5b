// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_key_ring.h.
#include "formats/luks_key_ring.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "crypto/secret.h"
#include "formats/format_error.h"

namespace nasbackup::luks {

using crypto::Secret;

namespace {

constexpr std::size_t kMostKnown = 64;  // each takes a page of locked memory

}  // namespace

KeyRing::KeyRing(std::vector<Passphrase> passphrases, std::stop_token stop, Derive derive)
    : passphrases_(std::move(passphrases)), stop_(std::move(stop)), derive_(std::move(derive)) {}

const KeyRing::Known* KeyRing::find(const SlotKdf& kdf, std::size_t passphrase, std::size_t key_bytes) const noexcept {
  for (const Known& known : known_)
    if (known.passphrase == passphrase && known.slot_key->size() == key_bytes && known.kdf == kdf) return &known;
  return nullptr;
}

std::shared_ptr<const Secret> KeyRing::slot_key(const SlotKdf& kdf, std::size_t passphrase, std::size_t key_bytes) {
  if (const Known* known = find(kdf, passphrase, key_bytes)) return known->slot_key;
  auto key = std::make_shared<const Secret>(derive_(kdf, passphrases_[passphrase]->bytes(), key_bytes, stop_));
  if (known_.size() == kMostKnown) known_.erase(known_.begin());
  known_.push_back({kdf, passphrase, std::move(key)});
  return known_.back().slot_key;
}

bool KeyRing::has(std::span<const std::byte> passphrase, std::size_t index) const noexcept {
  return crypto::same_bytes(passphrases_[index]->bytes(), passphrase);
}

std::optional<Unlocked> KeyRing::try_slot(const HeaderFacts& facts, const ReadAt& read, unsigned slot, std::size_t passphrase) {
  std::vector<std::byte> material(material_bytes(facts.key_bytes));
  read(facts.slots[slot].material_offset, material);
  const std::shared_ptr<const Secret> key = slot_key(facts.kdf(slot), passphrase, facts.key_bytes);
  auto volume_key = open_key_material(facts.volume_key_digest(), key->bytes(), material, stop_);
  if (!volume_key) return std::nullopt;
  return Unlocked{std::move(*volume_key), slot, passphrase};
}

std::optional<Unlocked> KeyRing::unlock(const HeaderFacts& facts, const ReadAt& read) {
  require_supported(facts);
  std::vector<unsigned> tried(passphrases_.size());  // a bit for each slot
  for (const bool only_known : {true, false})
    for (std::size_t passphrase = 0; passphrase < passphrases_.size(); ++passphrase)
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        if (!facts.slots[slot].enabled || (tried[passphrase] >> slot & 1) != 0) continue;
        if (only_known && find(facts.kdf(slot), passphrase, facts.key_bytes) == nullptr) continue;
        tried[passphrase] |= 1u << slot;
        if (auto unlocked = try_slot(facts, read, slot, passphrase)) return unlocked;
      }
  return std::nullopt;
}

std::optional<Unlocked> KeyRing::unlock(const HeaderFacts& facts, std::span<const std::byte> header) {
  return unlock(facts, [&](std::uint64_t offset, std::span<std::byte> into) {
    if (offset > header.size() || header.size() - offset < into.size())
      throw FormatError("LUKS header: key material at byte " + std::to_string(offset) + " is missing");
    std::memcpy(into.data(), header.data() + offset, into.size());
  });
}

}  // namespace nasbackup::luks
