// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The key slots of an image, or of all images of a set.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// A key slot of a LUKS header.
struct KeySlotInfo {
  unsigned slot = 0;  ///< 0 to 7
  bool in_use = false;
  std::uint32_t iterations = 0;  ///< of PBKDF2; when it is in use
};

/// The keys of one image.
struct KeysOfImage {
  std::string image;   ///< path
  std::string format;  ///< "luks": a container; "qcow2": encrypted inside
  std::string cipher;  ///< "aes-xts-plain64"
  std::string hash;    ///< "sha256"
  std::string uuid;
  std::vector<KeySlotInfo> slots;  ///< all eight
  std::vector<unsigned> changed;   ///< the slots that were filled or emptied
};

/// A change to the key slots of an image, or of all images of a set.
struct KeyOptions {
  std::string path;
  std::vector<std::shared_ptr<const Passphrase>> passphrases;  ///< each is tried
  std::shared_ptr<const Passphrase> new_passphrase;            ///< of key_add
  std::optional<unsigned> slot;                                ///< of key_remove: this one; else those that the passphrase opens
  std::uint32_t pbkdf_iterations = kPbkdfIterations;           ///< of the new slot
  bool allow_weak_pbkdf = false;                               ///< for tests: fewer than a million of them
};

/// What the key slots are; needs no key.
std::vector<KeysOfImage> key_list(const std::string& path, const JobControl& control = {});
/// Gives every image one more passphrase; its data stays as it is. Before the first image is changed it is made sure that all of
/// them open and have a slot free. Throws Error: wrong_key when no passphrase opens one.
std::vector<KeysOfImage> key_add(const KeyOptions& options, const JobControl& control);
/// Takes a slot from every image, or the slots that the (one) passphrase opens. Never the last one. With `slot` a passphrase is
/// not needed, but must open the image when there is one. Who kept a copy of the header can still open the image with the old
/// key.
std::vector<KeysOfImage> key_remove(const KeyOptions& options, const JobControl& control);

}  // namespace nasbackup
