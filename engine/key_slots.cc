// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::key_list, key_add, key_remove: the key slots of images and sets, without touching data.
//
// A crash leaves every image openable with the keys it had. Adding: key material, salt and count, fsync, then the mark that
// enables the slot, fsync. Removing: the mark, fsync, then the rest is wiped, fsync. The mark is four bytes within one sector.
#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "crypto/crypto_error.h"
#include "crypto/random_source.h"
#include "engine/job_state.h"
#include "engine/luks_image.h"
#include "engine/passphrase.h"
#include "engine/set/catalogue.h"
#include "engine/translate_faults.h"
#include "formats/luks_header.h"

namespace nasbackup {

using crypto::Secret;
using luks::KeyRing;

namespace {

constexpr std::size_t kActiveBytes = sizeof(Be32);
static_assert(offsetof(luks::KeySlot, active) == 0);

std::vector<std::string> images_at(const std::string& path, LifelineState* state) {
  if (!set::is_set(path, state)) return {path};
  const set::CatalogueSet found = set::find_set(path, state);
  std::vector<std::string> images;
  for (const set::CatalogueFile& image : found.images) images.push_back(found.path + "/" + image.name);
  if (images.empty()) throw Fault(FaultKind::not_found, found.path + ": there is no image in this set");
  return images;
}

/// One image under change.
class KeySlots {
 public:
  KeySlots(const std::string& path, const JobControl& control)
      : file_(path, ImageBytes::Access::change, state_of(control)), stop_(control.stop) {
    luks::HeaderFacts facts = file_.facts();
    try {
      luks::require_supported(facts);
    } catch (const FormatError& error) {
      throw Fault(FaultKind::failed, path + ": " + error.what());
    }
    file_.read(0, phdr_);
  }

  const luks::HeaderFacts& facts() const noexcept { return file_.facts(); }
  const std::string& path() const noexcept { return file_.path(); }

  luks::Unlocked unlock(KeyRing& ring) { return file_.unlock(ring); }

  /// The slots that a passphrase of the ring opens.
  std::vector<unsigned> opened_by(KeyRing& ring) {
    std::vector<unsigned> found;
    for (unsigned slot = 0; slot < luks::kSlots; ++slot)
      if (facts().slots[slot].enabled && opens(slot, *ring.slot_key(facts().kdf(slot), 0, facts().key_bytes)))
        found.push_back(slot);
    if (found.empty()) throw Fault(FaultKind::wrong_key, path() + ": the passphrase does not open it");
    return found;
  }

  unsigned free_slot() const {
    const auto& slots = facts().slots;
    const auto found = std::find_if(slots.begin(), slots.end(), [](const luks::SlotFacts& slot) { return !slot.enabled; });
    if (found == slots.end()) throw Fault(FaultKind::failed, path() + ": all eight key slots are in use");
    return static_cast<unsigned>(found - slots.begin());
  }

  void require_removable(const std::vector<unsigned>& slots) const {
    for (const unsigned slot : slots)
      if (!facts().slots[slot].enabled)
        throw Fault(FaultKind::usage, path() + ": key slot " + std::to_string(slot) + ": is not in use");
    if (facts().slots_in_use() <= slots.size())
      throw Fault(FaultKind::usage, path() + ": key slot " + std::to_string(slots.front()) +
                                        ": holds the last key, without which the image could never be opened again");
  }

  void add(unsigned slot, const luks::SlotKdf& kdf, const Secret& volume_key, const Secret& slot_key) {
    Secret material(luks::material_bytes(facts().key_bytes));
    crypto::system_random().fill(material.bytes());
    luks::seal_key_material(kdf.hash, volume_key.bytes(), slot_key.bytes(), material.bytes());
    file_.write(facts().slots[slot].material_offset, material.bytes());
    luks::enable_slot(phdr_, slot, kdf);
    write_slot(slot, kActiveBytes, sizeof(luks::KeySlot));
    file_.sync();
    if (!opens(slot, slot_key))
      throw Fault(FaultKind::failed, path() + ": what was written does not read back; no key was added");
    write_slot(slot, 0, kActiveBytes);
    file_.sync();
  }

  void remove(unsigned slot) {
    luks::disable_slot(phdr_, slot);
    write_slot(slot, 0, kActiveBytes);
    file_.sync();
    write_slot(slot, kActiveBytes, sizeof(luks::KeySlot));
    file_.write(facts().slots[slot].material_offset, std::vector<std::byte>(luks::material_bytes(facts().key_bytes)));
    file_.sync();
  }

 private:
  bool opens(unsigned slot, const Secret& slot_key) const {
    std::vector<std::byte> material(luks::material_bytes(facts().key_bytes));
    file_.read(facts().slots[slot].material_offset, material);
    return luks::open_key_material(facts().volume_key_digest(), slot_key.bytes(), material, stop_).has_value();
  }

  void write_slot(unsigned slot, std::size_t from, std::size_t to) {
    const std::size_t at = offsetof(luks::Phdr, slots) + slot * sizeof(luks::KeySlot);
    file_.write(at + from, std::span<const std::byte>(phdr_).subspan(at + from, to - from));
  }

  LuksHeaderFile file_;
  std::stop_token stop_;
  std::array<std::byte, sizeof(luks::Phdr)> phdr_;
};

void stop_if_asked(const JobControl& control) {
  if (control.stop.stop_requested()) throw Fault(FaultKind::interrupted, "key: stopped; nothing was changed");
}

/// All of them open, locked and read before the first is changed.
std::vector<KeySlots> open_all(const KeyOptions& options, const JobControl& control) {
  std::vector<KeySlots> images;
  for (const std::string& path : images_at(options.path, state_of(control))) images.emplace_back(path, control);
  return images;
}

/// A failure half-way says how far it came.
template <class Change>
void change_each(std::vector<KeySlots>& images, Change&& change) {
  std::size_t done = 0;
  const auto so_far = [&](const std::exception& failure) {
    const std::string line = failure.what();
    if (done == 0) return line;
    return line + "; changed before it: " + std::to_string(done) + " of " + std::to_string(images.size()) + " images";
  };
  try {
    for (; done < images.size(); ++done) change(images[done], done);
  } catch (const Fault& fault) {
    throw Fault(fault.kind(), so_far(fault));
  } catch (const crypto::Stopped& stopped) {
    throw Fault(FaultKind::interrupted, so_far(stopped));
  }
}

std::vector<KeysOfImage> outcome(const std::vector<KeySlots>& images, const std::vector<std::vector<unsigned>>& changed,
                                 const JobControl& control) {
  std::vector<KeysOfImage> result;
  for (std::size_t i = 0; i < images.size(); ++i) {
    result.push_back(keys_of(LuksHeaderFile(images[i].path(), ImageBytes::Access::read, state_of(control))));
    result.back().changed = changed[i];
  }
  return result;
}

std::vector<KeysOfImage> add(const KeyOptions& options, const JobControl& control) {
  if (options.passphrases.empty()) throw Fault(FaultKind::usage, "key add: without a passphrase that opens the image");
  if (!options.new_passphrase) throw Fault(FaultKind::usage, "key add: without a new passphrase");
  require_openable_by_qemu(*options.new_passphrase);
  require_strong(options.pbkdf_iterations, options.allow_weak_pbkdf);
  std::vector<KeySlots> images = open_all(options, control);
  KeyRing ring = ring_of(options.passphrases, control.stop), new_ring = ring_of({options.new_passphrase}, control.stop);
  luks::SlotKdf kdf = luks::draw_slot(crypto::system_random(), options.pbkdf_iterations);  // one salt: one derivation opens all
  std::vector<luks::Unlocked> unlocked;
  std::vector<std::vector<unsigned>> slots;
  for (KeySlots& image : images) {
    stop_if_asked(control);
    slots.push_back({image.free_slot()});
    unlocked.push_back(image.unlock(ring));
  }
  stop_if_asked(control);
  change_each(images, [&](KeySlots& image, std::size_t i) {
    kdf.hash = image.facts().volume_key_digest().hash;
    image.add(slots[i].front(), kdf, unlocked[i].volume_key, *new_ring.slot_key(kdf, 0, image.facts().key_bytes));
  });
  return outcome(images, slots, control);
}

std::vector<KeysOfImage> remove(const KeyOptions& options, const JobControl& control) {
  if (!options.slot && options.passphrases.size() != 1)
    throw Fault(FaultKind::usage, "key remove: write the slot, or the one passphrase that is to go");
  if (options.slot && *options.slot >= luks::kSlots)
    throw Fault(FaultKind::usage, "key slot " + std::to_string(*options.slot) + ": must be 0 to 7");
  std::vector<KeySlots> images = open_all(options, control);
  KeyRing ring = ring_of(options.passphrases, control.stop);
  std::vector<std::vector<unsigned>> slots;
  for (KeySlots& image : images) {
    stop_if_asked(control);
    if (options.slot && ring.size() != 0) image.unlock(ring);
    slots.push_back(options.slot ? std::vector{*options.slot} : image.opened_by(ring));
    image.require_removable(slots.back());
  }
  stop_if_asked(control);
  change_each(images, [&](KeySlots& image, std::size_t i) {
    for (const unsigned slot : slots[i]) image.remove(slot);
  });
  return outcome(images, slots, control);
}

}  // namespace

std::vector<KeysOfImage> key_list(const std::string& path, const JobControl& control) {
  return translate_faults([&] {
    std::vector<KeysOfImage> result;
    for (const std::string& image : images_at(path, state_of(control)))
      result.push_back(keys_of(LuksHeaderFile(image, ImageBytes::Access::read, state_of(control))));
    return result;
  });
}

std::vector<KeysOfImage> key_add(const KeyOptions& options, const JobControl& control) {
  return translate_faults([&] { return add(options, control); });
}

std::vector<KeysOfImage> key_remove(const KeyOptions& options, const JobControl& control) {
  return translate_faults([&] { return remove(options, control); });
}

}  // namespace nasbackup
