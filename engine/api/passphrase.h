// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Passphrases and keys: where they come from, and that they show nowhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stop_token>
#include <string>

#include "lifeline.h"

namespace nasbackup {

namespace crypto {
class Secret;
}

/// A passphrase that opens or encrypts images. Every byte counts, a trailing newline too, as in qemu. The bytes lie in locked
/// memory that no core file has, and are wiped with the last reference. Immutable; threads may share one. What cannot be a
/// passphrase (nothing at all, more than 8 MiB, a directory) throws Error(usage); a stop throws Error(failed).
class Passphrase {
 public:
  /// A FIFO is waited for. On `lifeline` a watcher sees how long a call on the file has not come back.
  static std::shared_ptr<const Passphrase> from_file(const std::string& path, std::stop_token stop = {},
                                                     Lifeline* lifeline = nullptr);
  /// Reads to the end; does not close it.
  static std::shared_ptr<const Passphrase> from_descriptor(int fd, std::stop_token stop = {});
  /// What the command writes to its stdout; it runs under /bin/sh, with nothing on its stdin and our stderr.
  static std::shared_ptr<const Passphrase> from_command(const std::string& command, std::stop_token stop = {});
  /// A copy of the caller's bytes, which the caller should wipe.
  static std::shared_ptr<const Passphrase> from_bytes(const void* bytes, std::size_t size);

  /// Where it came from, for messages.
  const std::string& origin() const noexcept { return origin_; }
  const std::shared_ptr<const crypto::Secret>& secret() const noexcept { return secret_; }

 private:
  Passphrase(std::string origin, crypto::Secret secret);

  std::string origin_;
  std::shared_ptr<const crypto::Secret> secret_;
};

/// Keys of Ceph clients, by the names that rbd: locations give them (`stored_key=NAME` in place of `key=…`): a location is shown
/// and copied, a key never is.
using StorageKeys = std::map<std::string, std::shared_ptr<const Passphrase>>;

/// Moves the keys of all rbd: locations in `text`, which may stand there among other words, to `keys`. They are overwritten in
/// `text`; returned is the text with their names in their places.
std::string take_storage_keys(char* text, StorageKeys& keys);

/// How often PBKDF2 hashes for a key slot: a number and not a time, so that a busy host writes no weak slot.
inline constexpr std::uint32_t kPbkdfIterations = 2'000'000;

}  // namespace nasbackup
