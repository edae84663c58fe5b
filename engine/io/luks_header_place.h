// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where the LUKS header of an image lies: at the file's beginning (a container), or where the extension of an encrypted qcow2
// points; and the key behind it. No state; a key ring is used by one thread at a time.
#pragma once

#include "engine/io/image_bytes.h"
#include "formats/luks_header_reader.h"
#include "formats/luks_key_ring.h"

namespace nasbackup {

struct LuksHeaderPlace {
  luks::Place place = luks::Place::container;
  std::uint64_t start = 0;  ///< of the header, in the file
  luks::HeaderFacts facts;
};

/// Throws Fault: damaged (a header that breaks the rules), failed (not encrypted, or not with LUKS1), source.
LuksHeaderPlace find_luks_header(const ImageBytes& bytes);

/// Reads from an offset counted from the header's beginning. Throws Fault, damaged when it ends too early.
void read_luks_header(const ImageBytes& bytes, const LuksHeaderPlace& header, std::uint64_t offset, std::span<std::byte> into);

/// Throws Fault: wrong_key when no passphrase of the ring fits, failed for a cipher that we do not have.
luks::Unlocked unlock(const ImageBytes& bytes, const LuksHeaderPlace& header, luks::KeyRing& ring);

}  // namespace nasbackup
