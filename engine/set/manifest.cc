// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Manifest; see manifest.h.
#include "engine/set/manifest.h"

#include <nlohmann/json.hpp>

#include "engine/set/text.h"

namespace nasbackup::set {

namespace {

using Json = nlohmann::ordered_json;  // people read it: keys in the order of the documentation

std::string shown(const std::string& text) { return plain_text(text, kMaxManifestText); }

Json disk_json(const ManifestDisk& disk) {
  return {{"name", shown(disk.name)},
          {"id", shown(disk.id)},
          {"file", disk.file},
          {"source", shown(disk.source)},
          {"source_type", shown(disk.source_type)},
          {"serial", shown(disk.serial)},
          {"bus", shown(disk.bus)},
          {"order", disk.order},
          {"virtual_size", disk.virtual_size},
          {"stored_bytes", disk.stored_bytes},
          {"data_bytes", disk.data_bytes},
          {"zero_bytes", disk.zero_bytes},
          {"parent_bytes", disk.parent_bytes},
          {"parent_file", disk.parent_file},
          {"full_because", shown(disk.full_because)},
          {"has_bitmap", disk.has_bitmap},
          {"luks_uuid", disk.luks_uuid},
          {"digests",
           {{"file", disk.digests.file},
            {"size", disk.digests.size},
            {"kind", disk.digests.kind},
            {"piece_size", disk.digests.piece_size},
            {"root", disk.digests.root}}}};
}

Json parent_json(const std::optional<ManifestParent>& parent) {
  if (!parent) return nullptr;
  return {{"set", parent->set}, {"sha256", parent->sha256}, {"hmac_sha256", parent->hmac}};
}

Json sources_json(const std::vector<ManifestSource>& sources) {
  Json list = Json::array();
  for (const ManifestSource& source : sources) list.push_back({{"set", source.set}, {"sha256", source.sha256}});
  return list;
}

Json warnings_json(const std::vector<std::string>& warnings) {
  Json list = Json::array();
  for (const auto& warning : warnings) {
    if (list.size() < kMaxManifestWarnings) list.push_back(shown(warning));
  }
  return list;
}

}  // namespace

bool is_file_name(std::string_view name) noexcept {
  const bool length = !name.empty() && name.size() <= kMaxFileName;
  return length && name.front() != '.' && name.find('/') == std::string_view::npos && is_plain_text(name);
}

std::string backing_name(const std::string& parent_set, const std::string& parent_file) {
  return "../" + parent_set + "/" + parent_file;
}

std::string write_manifest(const Manifest& manifest, const crypto::Secret* set_key) {
  Json disks = Json::array();
  for (const auto& disk : manifest.disks) disks.push_back(disk_json(disk));
  Json files = Json::array();
  for (const auto& file : manifest.files) files.push_back({{"name", file.name}, {"size", file.size}, {"sha256", file.sha256}});
  const Json json = {{"format", "nasbackup set"},
                     {"version", kManifestVersion},
                     {"set", manifest.set},
                     {"time", manifest.time},
                     {"run", manifest.run},
                     {"kind", manifest.kind},
                     {"parent", parent_json(manifest.parent)},
                     {"merged_from", sources_json(manifest.merged_from)},
                     {"checkpoint", shown(manifest.checkpoint)},
                     {"consistency", manifest.consistency},
                     {"tool", {{"name", "nasbackup"}, {"version", shown(manifest.tool_version)}}},
                     {"vm", {{"name", shown(manifest.vm_name)}, {"uuid", shown(manifest.vm_uuid)}}},
                     {"options",
                      {{"cluster_size", manifest.cluster_size},
                       {"compression", shown(manifest.compression)},
                       {"encryption", manifest.encryption}}},
                     {"disks", disks},
                     {"files", files},
                     {"warnings", warnings_json(manifest.warnings)}};
  return seal_text(json.dump(2), manifest.seal.keys, set_key);
}

}  // namespace nasbackup::set
