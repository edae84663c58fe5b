// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See pool_volumes.h.
#include "engine/vm/pool_volumes.h"

#include <memory>
#include <optional>
#include <sstream>

#include <pugixml.hpp>

namespace nasbackup::vm {
namespace {

struct Free {
  void operator()(virStoragePoolPtr pool) const noexcept { virStoragePoolFree(pool); }
  void operator()(virStorageVolPtr volume) const noexcept { virStorageVolFree(volume); }
};

struct VolumePlace {
  bool is_block;
  std::string path;
};

std::optional<VolumePlace> find_volume(virConnectPtr connection, const char* pool_name, const char* volume_name) {
  const std::unique_ptr<virStoragePool, Free> pool(virStoragePoolLookupByName(connection, pool_name));
  if (!pool) return std::nullopt;
  const std::unique_ptr<virStorageVol, Free> volume(virStorageVolLookupByName(pool.get(), volume_name));
  virStorageVolInfo info{};
  if (!volume || virStorageVolGetInfo(volume.get(), &info) < 0) return std::nullopt;
  if (info.type != VIR_STORAGE_VOL_FILE && info.type != VIR_STORAGE_VOL_BLOCK) return std::nullopt;
  const std::unique_ptr<char, decltype(&free)> path(virStorageVolGetPath(volume.get()), &free);
  if (!path) return std::nullopt;
  return VolumePlace{info.type == VIR_STORAGE_VOL_BLOCK, path.get()};
}

void name_by_path(pugi::xml_node disk, const VolumePlace& place) {
  disk.attribute("type").set_value(place.is_block ? "block" : "file");
  pugi::xml_node source = disk.child("source");
  source.remove_attribute("pool");
  source.remove_attribute("volume");
  source.append_attribute(place.is_block ? "dev" : "file").set_value(place.path.c_str());
}

}  // namespace

std::string with_volume_paths(virConnectPtr connection, std::string xml) {
  pugi::xml_document document;
  if (xml.find("volume") == std::string::npos || !document.load_string(xml.c_str())) return xml;
  for (pugi::xml_node disk : document.child("domain").child("devices").children("disk")) {
    if (std::string_view(disk.attribute("type").value()) != "volume") continue;
    const pugi::xml_node source = disk.child("source");
    const auto place = find_volume(connection, source.attribute("pool").value(), source.attribute("volume").value());
    if (place) name_by_path(disk, *place);
  }
  std::ostringstream text;
  document.save(text);
  return text.str();
}

}  // namespace nasbackup::vm
