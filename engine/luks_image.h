// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// An encrypted image as the verbs see it: what its header says, and the key that opens it. Used by one thread at a time.
#pragma once

#include <memory>
#include <vector>

#include "engine/io/luks_header_file.h"
#include "engine/nasbackup.h"
#include "formats/luks_key_ring.h"

namespace nasbackup {

using Passphrases = std::vector<std::shared_ptr<const Passphrase>>;

KeysOfImage keys_of(const LuksHeaderFile& file);

/// A stop ends what it derives.
luks::KeyRing ring_of(const Passphrases& passphrases, std::stop_token stop);

}  // namespace nasbackup
