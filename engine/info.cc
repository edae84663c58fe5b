// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::image_info, set_info, list_sets: what files and sets are, from the files alone.
#include "engine/io/fault.h"
#include "engine/io/image_probe.h"
#include "engine/nasbackup.h"
#include "engine/set/catalogue.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

const char* encryption_name(std::uint32_t crypt_method) noexcept {
  switch (crypt_method) {
    case 0:
      return "none";
    case 1:
      return "aes";
    default:
      return "luks";
  }
}

ImageInfo describe(const std::string& path, LifelineState* state) {
  const ProbedImage image = probe_image(path, state);
  ImageInfo info;
  info.path = path;
  info.file_size = image.file_size;
  info.disk_size = image.disk_size;
  info.virtual_size = image.file_size;
  info.format = image.format == ImageFormat::luks ? "luks" : "raw";
  info.encryption = image.format == ImageFormat::luks ? "luks" : "none";
  if (image.format != ImageFormat::qcow2) return info;
  info.format = "qcow2";
  info.virtual_size = image.header.virtual_size;
  info.cluster_size = image.header.cluster_size;
  info.version = image.header.version;
  info.compression = image.header.compression_type == 0 ? "zlib" : "zstd";
  info.encryption = encryption_name(image.header.crypt_method);
  info.backing_file = image.header.backing_file;
  info.backing_format = image.header.backing_format;
  info.snapshots = image.header.snapshots;
  return info;
}

/// A set whose image cannot be told of is still listed; the note says which it was.
ImageInfo describe_or_note(const std::string& path, LifelineState* state, std::string& note) {
  try {
    return describe(path, state);
  } catch (const Fault& fault) {
    if (note.empty()) note = fault.what();
    ImageInfo info;
    info.path = path;
    return info;
  }
}

SetInfo describe(const set::CatalogueSet& found, LifelineState* state) {
  SetInfo info;
  info.path = found.path;
  info.vm = found.vm;
  info.time = found.time;
  info.kind = found.manifest ? found.manifest->kind : "full";
  info.stored_bytes = found.stored_bytes();
  info.note = found.note;
  for (const set::CatalogueFile& image : found.images) {
    info.images.push_back(describe_or_note(found.path + "/" + image.name, state, info.note));
    info.virtual_size += info.images.back().virtual_size;
  }
  return info;
}

LifelineState* state_of(Lifeline* lifeline) noexcept { return lifeline == nullptr ? nullptr : &lifeline->state(); }

}  // namespace

const char* version() noexcept { return NASBACKUP_VERSION; }

ImageInfo image_info(const std::string& path, Lifeline* lifeline) {
  return translate_faults([&] { return describe(path, state_of(lifeline)); });
}

bool is_set(const std::string& path, Lifeline* lifeline) {
  return translate_faults([&] { return set::is_set(path, state_of(lifeline)); });
}

SetInfo set_info(const std::string& path, Lifeline* lifeline) {
  return translate_faults([&] { return describe(set::find_set(path, state_of(lifeline)), state_of(lifeline)); });
}

std::vector<SetInfo> list_sets(const std::string& dir, Lifeline* lifeline) {
  return translate_faults([&] {
    std::vector<SetInfo> sets;
    for (const set::CatalogueSet& found : set::list(dir, state_of(lifeline))) sets.push_back(describe(found, state_of(lifeline)));
    return sets;
  });
}

}  // namespace nasbackup
