// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See slot_key.h.
#include "engine/io/slot_key.h"

#include <future>
#include <utility>
#include <vector>

namespace nasbackup {

crypto::Secret derive_slot_key_on_threads(const luks::SlotKdf& kdf, std::span<const std::byte> passphrase, std::size_t key_bytes,
                                          std::stop_token stop) {
  crypto::Secret key(key_bytes);
  const auto derive = [&kdf, passphrase, out = key.bytes(), stop = std::move(stop)](std::uint32_t block) {
    luks::derive_slot_key_block(kdf, passphrase, block, out, stop);
  };
  std::vector<std::future<void>> others;  // which wait when they are destroyed
  for (std::uint32_t block = 1; block < luks::slot_key_blocks(kdf, key_bytes); ++block)
    others.push_back(std::async(std::launch::async, derive, block));
  derive(0);
  for (auto& other : others) other.get();
  return key;
}

}  // namespace nasbackup
