// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::image_info, set_info, list_sets: what files and sets are, from the files alone.
#include "engine/io/image_probe.h"
#include "engine/nasbackup.h"
#include "engine/set/catalogue.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

const char* encryption_name(std::uint32_t crypt_method) noexcept {
  switch (crypt_method) {
    case 0: return "none";
    case 1: return "aes";
    default: return "luks";
  }
}

ImageInfo describe(const std::string& path) {
  const ProbedImage image = probe_image(path, nullptr);
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

}  // namespace

const char* version() noexcept { return NASBACKUP_VERSION; }

ImageInfo image_info(const std::string& path) {
  return translate_faults([&] { return describe(path); });
}

}  // namespace nasbackup
