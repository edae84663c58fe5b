// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See luks_header_place.h.
#include "engine/io/luks_header_place.h"

#include <vector>

#include "engine/io/fault.h"
#include "formats/format_error.h"
#include "formats/qcow2_format.h"
#include "formats/qcow2_header_reader.h"

namespace nasbackup {

namespace {

LuksHeaderPlace find(const ImageBytes& bytes) {
  LuksHeaderPlace found;
  std::vector<std::byte> start(qcow2::kHeaderReadBytes);
  start.resize(bytes.read_up_to(0, start));
  std::uint64_t room = bytes.file_size();
  if (!luks::has_magic(start)) {
    if (!qcow2::has_magic(start)) throw NotEncrypted(bytes.path() + ": not encrypted: neither qcow2 nor LUKS");
    const qcow2::HeaderFacts image = qcow2::parse_header(start);
    if (image.crypt_method != qcow2::kCryptLuks)
      throw NotEncrypted(bytes.path() +
                         (image.crypt_method == 0 ? ": not encrypted" : ": encrypted the old way (AES), not with LUKS"));
    found.place = luks::Place::in_qcow2;
    found.start = image.crypto_header_offset;
    if (found.start > room || room - found.start < image.crypto_header_length)
      throw FormatError("LUKS header: offset " + std::to_string(found.start) + ", length " +
                        std::to_string(image.crypto_header_length) + ", beyond the file's " + std::to_string(room) + " bytes");
    room = image.crypto_header_length;
    start.resize(sizeof(luks::Phdr));
    start.resize(bytes.read_up_to(found.start, start));
  }
  found.facts = luks::parse_header(start, room, found.place);
  return found;
}

}  // namespace

LuksHeaderPlace find_luks_header(const ImageBytes& bytes) {
  try {
    return find(bytes);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, bytes.path() + ": " + error.what());
  }
}

void read_luks_header(const ImageBytes& bytes, const LuksHeaderPlace& header, std::uint64_t offset, std::span<std::byte> into) {
  if (bytes.read_up_to(header.start + offset, into) < into.size())
    throw Fault(FaultKind::damaged, bytes.path() + ": LUKS header: ends before byte " + std::to_string(offset + into.size()));
}

luks::Unlocked unlock(const ImageBytes& bytes, const LuksHeaderPlace& header, luks::KeyRing& ring) {
  const auto read = [&](std::uint64_t offset, std::span<std::byte> into) { read_luks_header(bytes, header, offset, into); };
  try {
    if (auto unlocked = ring.unlock(header.facts, read)) return std::move(*unlocked);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::failed, bytes.path() + ": " + error.what());
  }
  throw Fault(FaultKind::wrong_key,
              bytes.path() + (ring.size() == 1 ? ": the passphrase does not open it" : ": none of the passphrases opens it"));
}

}  // namespace nasbackup
