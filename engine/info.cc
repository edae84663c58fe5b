// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::image_info, set_info, list_sets: what files and sets are, from the files alone.
#include <algorithm>
#include <map>

#include "engine/io/fault.h"
#include "engine/io/image_probe.h"
#include "engine/io/location.h"
#include "engine/job_state.h"
#include "engine/luks_image.h"
#include "engine/nasbackup.h"
#include "engine/pipeline/build_pipeline.h"
#include "engine/qemu_command.h"
#include "engine/set/catalogue.h"
#include "engine/set/chain.h"
#include "engine/translate_faults.h"
#include "formats/deflate_history.h"

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

const char* format_name(ImageFormat format) noexcept {
  switch (format) {
    case ImageFormat::qcow2:
      return "qcow2";
    case ImageFormat::luks:
      return "luks";
    default:
      return "raw";
  }
}

/// As many stand on each other (docs/formats/set.md).
constexpr std::size_t kMostSets = 64;

/// A listing reads nothing but headers.
enum class Look { at_headers, at_clusters };

/// Tells of images; the passphrases are stretched once for all that have a salt in common.
class Describer {
 public:
  Describer(const InfoOptions& options, Look look, const JobControl& control)
      : ring_(ring_of(options.passphrases, control.stop)),
        passphrase_file_(options.passphrase_file),
        look_(look),
        state_(state_of(control)) {}

  ImageInfo describe(const std::string& path) {
    if (is_remote(path)) throw Fault(FaultKind::usage, location_for_people(path) + ": is no file; only files are told of");
    ImageBytes bytes(path, state_);
    const ProbedImage image = probe_image(bytes);
    ImageInfo info;
    info.path = path;
    info.format = format_name(image.format);
    info.file_size = bytes.file_size();
    info.disk_size = bytes.disk_size();
    info.encryption = image.format == ImageFormat::luks ? "luks" : encryption_name(image.header.crypt_method);
    if (image.format != ImageFormat::luks) tell_content(image, bytes, info);
    if (info.encryption == "luks") tell_encryption(bytes, info);
    return info;
  }

  /// A set whose image cannot be told of is still listed; the note says which it was.
  ImageInfo describe_or_note(const std::string& path, SetInfo& set) {
    try {
      return describe(path);
    } catch (const Fault& fault) {
      if (fault.kind() == FaultKind::wrong_key) throw;
      if (!set.damaged) set.note = fault.what();
      set.damaged = true;
      ImageInfo info;
      info.path = path;
      return info;
    }
  }

 private:
  void tell_content(const ProbedImage& image, const ImageBytes& bytes, ImageInfo& info) const {
    if (image.format != ImageFormat::qcow2) {
      info.virtual_size = bytes.size();
      return;
    }
    const qcow2::HeaderFacts& header = image.header;
    info.virtual_size = header.virtual_size;
    info.cluster_size = header.cluster_size;
    info.version = header.version;
    info.compression = header.compression_type == 0 ? "zlib" : "zstd";
    info.backing_file = header.backing_file;
    info.backing_format = header.backing_format;
    info.snapshots = header.snapshots;
    if (look_ == Look::at_headers) return;
    const auto read = [&](std::uint64_t offset, std::span<std::byte> into) { return bytes.read_up_to(offset, into); };
    info.deflate_history = qcow2::deflate_history(header, read).value_or(0);
  }

  void tell_encryption(ImageBytes& bytes, ImageInfo& info) {
    const LuksHeaderFile header(info.path, ImageBytes::Access::read, state_);
    info.keys = keys_of(header);
    if (ring_.size() != 0) {
      const luks::Unlocked unlocked = header.unlock(ring_);
      if (info.format == "luks") tell_container(header.facts(), unlocked, bytes, info);
    }
    tell_commands(info);
  }

  void tell_container(const luks::HeaderFacts& facts, const luks::Unlocked& unlocked, ImageBytes& bytes, ImageInfo& info) const {
    if (facts.payload_offset > bytes.file_size())
      throw Fault(FaultKind::damaged, info.path + ": LUKS header: payload offset: " + std::to_string(facts.payload_offset) +
                                          ", beyond the file's " + std::to_string(bytes.file_size()) + " bytes");
    bytes.enter_container(facts.payload_offset, unlocked.volume_key.bytes());
    const ProbedImage content = probe_image(bytes);
    info.content = content.format == ImageFormat::qcow2 ? "qcow2" : "raw";
    tell_content(content, bytes, info);
  }

  /// What a closed container holds its name may say, but need not.
  void tell_commands(ImageInfo& info) const {
    const auto add = [&](const char* content, FileLayers layers) {
      info.open_with.push_back({content, qemu_command({layers}, info.path, passphrase_file_)});
    };
    if (info.format == "qcow2") return add("qcow2", FileLayers::luks_in_qcow2);
    if (info.content != "raw") add("qcow2", FileLayers::qcow2_in_luks);
    if (info.content != "qcow2") add("raw", FileLayers::raw_in_luks);
  }

  luks::KeyRing ring_;
  std::string passphrase_file_;
  Look look_;
  LifelineState* state_;
};

/// What the image does not show, because it is a closed container, its set's manifest knows.
void fill_from_manifest(const set::CatalogueSet& found, const std::string& file, ImageInfo& info) {
  if (!found.manifest || info.virtual_size) return;
  for (const set::ManifestDisk& disk : found.manifest->disks)
    if (disk.file == file) info.virtual_size = disk.virtual_size;
}

/// By the manifest: what is compressed and encrypted lies in a container.
FileLayers layers_of(const set::Manifest& manifest) {
  if (manifest.encryption == "none") return FileLayers::qcow2;
  return manifest.compression == "none" ? FileLayers::luks_in_qcow2 : FileLayers::qcow2_in_luks;
}

const set::ManifestDisk* disk_with(const set::CatalogueSet& found, const std::string& file) {
  if (!found.manifest) return nullptr;
  for (const set::ManifestDisk& disk : found.manifest->disks)
    if (disk.file == file) return &disk;
  return nullptr;
}

/// What an image of the set stands on. Nothing is told where some of it is missing, or there is too much: nobody opens it then.
void tell_chain(const set::CatalogueSet& found, const set::Chains& chains, const std::string& file,
                const std::string& passphrase_file, ImageInfo& info) {
  const auto sets = chains.below(found);
  const set::ManifestDisk* disk = disk_with(found, file);
  if (disk == nullptr || disk->parent_file.empty()) return;
  std::vector<FileLayers> layers{layers_of(*found.manifest)};
  std::vector<BackingFile> files;
  for (std::size_t i = 1; !disk->parent_file.empty(); ++i) {
    const std::string below = disk->parent_file;
    disk = i < std::min(sets.size(), kMostSets) ? disk_with(*sets[i], below) : nullptr;
    if (disk == nullptr) return;
    layers.push_back(layers_of(*sets[i]->manifest));
    files.push_back({sets[i]->path + "/" + below, disk->stored_bytes});
  }
  info.stands_on = std::move(files);
  info.open_with = {{"qcow2", qemu_command(layers, info.path, passphrase_file)}};
}

ChainLink link_of(const set::CatalogueSet& found) {
  return {found.name, found.time, found.manifest ? found.manifest->kind : set::kFull, found.stored_bytes(), false};
}

SetInfo describe(const set::CatalogueSet& found, const set::Chains& chains, Describer& describer) {
  SetInfo info;
  info.path = found.path;
  info.vm = found.vm;
  info.time = found.time;
  info.kind = found.manifest ? found.manifest->kind : set::kFull;
  if (found.manifest && found.manifest->parent) info.parent = found.manifest->parent->set;
  info.stored_bytes = found.stored_bytes();
  info.note = found.note;
  info.damaged = found.damaged;
  for (const set::CatalogueFile& image : found.images) {
    info.images.push_back(describer.describe_or_note(found.path + "/" + image.name, info));
    if (info.images.back().format.empty()) info.images.back().file_size = image.size;
    fill_from_manifest(found, image.name, info.images.back());
    info.virtual_size += info.images.back().virtual_size.value_or(0);
  }
  if (info.note.empty()) info.note = chains.break_of(found);
  return info;
}

/// The full set first; what is missing first of all.
std::vector<ChainLink> chain_of(const set::CatalogueSet& found, const set::Chains& chains) {
  std::vector<ChainLink> links;
  const auto below = chains.below(found);
  for (const set::CatalogueSet* set : below) links.push_back(link_of(*set));
  const auto& last = below.back()->manifest;
  if (last && last->parent && chains.parent_of(*below.back()) == nullptr) links.push_back({last->parent->set, "", "", 0, true});
  std::reverse(links.begin(), links.end());
  return links;
}

/// A set, and those of its VM around it.
struct Surroundings {
  set::CatalogueSet found;
  std::vector<set::CatalogueSet> sets;
};

Surroundings look_around(const std::string& path, LifelineState* state) {
  Surroundings around{set::find_set(path, state), {}};
  const auto directory = set::Directory::open(around.found.path.substr(0, around.found.path.rfind('/') + 1), state);
  around.sets = set::list_vm(directory, around.found.vm);
  return around;
}

SetInfo describe_in_chain(const InfoOptions& options, const JobControl& control) {
  Describer describer(options, Look::at_clusters, control);
  const Surroundings around = look_around(options.path, state_of(control));
  const set::CatalogueSet& found = around.found;
  const set::Chains chains(around.sets);
  SetInfo info = describe(found, chains, describer);
  for (std::size_t i = 0; i < info.images.size(); ++i)
    tell_chain(found, chains, found.images[i].name, options.passphrase_file, info.images[i]);
  info.chain = chain_of(found, chains);
  for (const set::CatalogueSet* child : chains.above(found)) info.children.push_back(child->name);
  std::sort(info.children.begin(), info.children.end());
  return info;
}

/// One that lies in a set is told of with what the manifests say besides.
ImageInfo describe_image(const InfoOptions& options, const JobControl& control) {
  ImageInfo info = Describer(options, Look::at_clusters, control).describe(options.path);
  const std::string path = set::real_path(options.path, state_of(control)), directory = path.substr(0, path.rfind('/'));
  if (directory.empty() || !set::is_set(directory, state_of(control))) return info;
  const Surroundings around = look_around(directory, state_of(control));
  if (around.found.path == directory)
    tell_chain(around.found, set::Chains(around.sets), path.substr(directory.size() + 1), options.passphrase_file, info);
  return info;
}

std::vector<SetInfo> describe_all(const std::string& dir, const JobControl& control) {
  Describer describer({}, Look::at_headers, control);
  std::map<std::string, std::vector<set::CatalogueSet>> vms;
  for (set::CatalogueSet& found : set::list(dir, state_of(control))) vms[found.vm].push_back(std::move(found));
  std::vector<SetInfo> infos;
  for (const auto& [vm, sets] : vms) {
    const set::Chains chains(sets);
    for (const set::CatalogueSet& found : sets) infos.push_back(describe(found, chains, describer));
  }
  return infos;
}

}  // namespace

const char* version() noexcept { return NASBACKUP_VERSION; }

ImageInfo image_info(const InfoOptions& options, const JobControl& control) {
  return translate_faults([&] { return describe_image(options, control); });
}

bool is_set(const std::string& path, const JobControl& control) {
  return translate_faults([&] { return set::is_set(path, state_of(control)); });
}

SetInfo set_info(const InfoOptions& options, const JobControl& control) {
  return translate_faults([&] { return describe_in_chain(options, control); });
}

std::vector<SetInfo> list_sets(const std::string& dir, const JobControl& control) {
  return translate_faults([&] { return describe_all(dir, control); });
}

}  // namespace nasbackup
