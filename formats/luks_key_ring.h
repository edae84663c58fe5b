// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The passphrases that were given, and what became of them: opens headers, and derives a slot key only once for all images that
// have a slot's salt and count in common. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "crypto/secret.h"
#include "formats/luks_header_reader.h"
#include "formats/luks_keyslot.h"

namespace nasbackup::luks {

/// A slot's key, with what it is derived from besides the passphrase: images that have it in common cost one derivation.
struct SharedSlot {
  SlotKdf kdf;
  std::shared_ptr<const crypto::Secret> key;
};

struct Unlocked {
  crypto::Secret volume_key;
  unsigned slot = 0;
  std::size_t passphrase = 0;  ///< index of the one that opened it
};

class KeyRing {
 public:
  using Passphrase = std::shared_ptr<const crypto::Secret>;
  using Derive = std::function<crypto::Secret(const SlotKdf&, std::span<const std::byte> passphrase, std::size_t key_bytes,
                                              std::stop_token)>;
  /// Fills the span from an offset counted from the header's beginning, or throws.
  using ReadAt = std::function<void(std::uint64_t offset, std::span<std::byte> into)>;

  /// A stop ends whatever is being derived, with crypto::Stopped. `derive`: for whoever has threads.
  explicit KeyRing(std::vector<Passphrase> passphrases, std::stop_token stop = {}, Derive derive = derive_slot_key);

  /// Tries each passphrase on each slot in use, those first that need no derivation. Nothing when none fits. Throws FormatError
  /// for a cipher or hash that we do not have.
  std::optional<Unlocked> unlock(const HeaderFacts& facts, const ReadAt& read);
  /// The same from the header's bytes. Throws FormatError when a slot's key material is not among them.
  std::optional<Unlocked> unlock(const HeaderFacts& facts, std::span<const std::byte> header);

  /// The slot key of one of the passphrases, derived unless it is known already.
  std::shared_ptr<const crypto::Secret> slot_key(const SlotKdf& kdf, std::size_t passphrase, std::size_t key_bytes);

  std::size_t size() const noexcept { return passphrases_.size(); }
  /// Is it the passphrase of that index? Takes the same time for every other of its length.
  bool has(std::span<const std::byte> passphrase, std::size_t index) const noexcept;

 private:
  struct Known {
    SlotKdf kdf;
    std::size_t passphrase;
    std::shared_ptr<const crypto::Secret> slot_key;
  };

  const Known* find(const SlotKdf& kdf, std::size_t passphrase, std::size_t key_bytes) const noexcept;
  std::optional<Unlocked> try_slot(const HeaderFacts& facts, const ReadAt& read, unsigned slot, std::size_t passphrase);

  std::vector<Passphrase> passphrases_;
  std::stop_token stop_;
  Derive derive_;
  std::vector<Known> known_;
};

}  // namespace nasbackup::luks
