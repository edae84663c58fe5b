// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See slot_key.h.
#include "engine/io/slot_key.h"

#include <thread>
#include <vector>

namespace nasbackup {

crypto::Secret derive_slot_key_on_threads(const luks::SlotKdf& kdf, std::span<const std::byte> passphrase,
                                          std::size_t key_bytes) {
  crypto::Secret key(key_bytes);
  const auto out = key.bytes();
  std::vector<std::jthread> others;
  for (std::uint32_t block = 1; block < luks::slot_key_blocks(kdf, key_bytes); ++block)
    others.emplace_back([&kdf, passphrase, block, out] { luks::derive_slot_key_block(kdf, passphrase, block, out); });
  luks::derive_slot_key_block(kdf, passphrase, 0, out);
  others.clear();  // joins
  return key;
}

}  // namespace nasbackup
