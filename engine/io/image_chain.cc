// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See image_chain.h.
#include "engine/io/image_chain.h"

#include <set>
#include <utility>

#include "engine/io/fault.h"
#include "engine/io/image_probe.h"
#include "engine/io/luks_header_place.h"
#include "engine/io/parent_layer.h"
#include "engine/io/qcow2_layer.h"
#include "engine/io/raw_layer.h"
#include "formats/qcow2_format.h"

namespace nasbackup {

namespace {

constexpr std::size_t kMostLayers = 64;

[[noreturn]] void refuse(const std::string& path, const std::string& what) { throw UnreadableImage(path + ": " + what); }

/// A relative name is relative to the file that names it.
std::string beside(const std::string& child, const std::string& name) {
  const std::string path = name.starts_with("file:") ? name.substr(5) : name;
  const std::size_t colon = path.find(':'), slash = path.find('/');
  if (colon != std::string::npos && (slash == std::string::npos || colon < slash))
    refuse(child, "backing file: " + name + ": neither a path nor file:PATH");
  if (path.find('\0') != std::string::npos) refuse(child, "backing file: its name has a NUL byte");
  if (path.starts_with('/')) return path;
  const std::size_t folder = child.rfind('/');
  return folder == std::string::npos ? path : child.substr(0, folder + 1) + path;
}

std::string format_of_backing(const std::string& child, const std::string& name) {
  if (name == "file" || name == "host_device") return "raw";
  if (name.empty() || name == "raw" || name == "qcow2" || name == "luks") return name;
  refuse(child, "backing format: " + name + ": not supported");
}

/// Opens one file after the other, down the chain.
class Chain {
 public:
  Chain(const ImagePlace& place, LifelineState* lifeline)
      : shared_(place.shared), keys_(place.keys), known_(place.backing), lifeline_(lifeline) {}

  std::unique_ptr<ImageLayer> open(const std::string& path, const std::string& format) {
    auto bytes = std::make_unique<ImageBytes>(path, lifeline_);
    files_.push_back(path);
    if (!shared_) bytes->lock_for_reading();
    if (!seen_.insert(bytes->identity()).second) refuse(path, "the chain of backing files comes back to it");
    if (seen_.size() > kMostLayers) refuse(path, "the chain of backing files is more than 64 deep");
    if (format == "raw") return std::make_unique<RawLayer>(std::move(bytes));
    ProbedImage image = probe_image(*bytes);
    if (image.format == ImageFormat::luks) {
      enter(*bytes, format.empty());
      if (format == "luks") return std::make_unique<RawLayer>(std::move(bytes));
      image = probe_image(*bytes);
    } else if (format == "luks") {
      refuse(path, "is no LUKS container");
    }
    if (image.format == ImageFormat::qcow2) return open_qcow2(std::move(bytes), image.header, format.empty());
    if (format == "qcow2") refuse(path, "is no qcow2");
    return std::make_unique<RawLayer>(std::move(bytes));
  }

  bool encrypted() const noexcept { return encrypted_; }
  std::vector<std::string>& files() noexcept { return files_; }
  std::vector<std::string>& notes() noexcept { return notes_; }

 private:
  bool has_keys() const noexcept { return keys_ != nullptr && keys_->size() > 0; }

  void enter(ImageBytes& bytes, bool probed) {
    if (!has_keys() && probed)
      refuse(bytes.path(), "looks like a LUKS container; write --source-key FILE to open it, or -f raw if it is a raw disk");
    const auto header = find_luks_header(bytes);
    const auto volume_key = open_key(bytes, header);
    if (header.facts.payload_offset > bytes.file_size())
      throw Fault(FaultKind::damaged, bytes.path() +
                                          ": LUKS header: payload offset: " + std::to_string(header.facts.payload_offset) +
                                          ", beyond the file's " + std::to_string(bytes.file_size()) + " bytes");
    bytes.enter_container(header.facts.payload_offset, volume_key.bytes());
  }

  crypto::Secret open_key(const ImageBytes& bytes, const LuksHeaderPlace& header) {
    encrypted_ = true;
    if (!has_keys()) throw Fault(FaultKind::wrong_key, bytes.path() + ": encrypted; write --source-key FILE to open it");
    return unlock(bytes, header, *keys_).volume_key;
  }

  std::unique_ptr<ImageLayer> open_qcow2(std::unique_ptr<ImageBytes> bytes, const qcow2::HeaderFacts& header, bool probed) {
    const std::string path = bytes->path();
    if (probed && (!header.backing_file.empty() || header.has_data_file))
      refuse(path, std::string("looks like a qcow2 that names a ") + (header.has_data_file ? "data" : "backing") +
                       " file; write -f qcow2 if it is one, or -f raw if it is a raw disk");
    std::unique_ptr<crypto::AesXts> cipher;
    if (header.crypt_method == qcow2::kCryptLuks)
      cipher = std::make_unique<crypto::AesXts>(open_key(*bytes, find_luks_header(*bytes)).bytes());
    if (header.snapshots > 0)
      notes_.push_back(path + ": its internal snapshots (" + std::to_string(header.snapshots) + ") are not read");
    std::unique_ptr<ImageLayer> backing = open_backing(path, header);
    return std::make_unique<Qcow2Layer>(std::move(bytes), header, std::move(cipher), std::move(backing));
  }

  std::unique_ptr<ImageLayer> open_backing(const std::string& path, const qcow2::HeaderFacts& header) {
    if (next_known_ < known_.files.size()) return open_known(path, header, known_.files[next_known_++]);
    if (known_.alone && !header.backing_file.empty())
      throw Fault(FaultKind::damaged,
                  path + ": qcow2 header: backing file: " + header.backing_file + ": it was written without one");
    if (known_.ends || header.backing_file.empty()) return nullptr;
    return open(beside(path, header.backing_file), format_of_backing(path, header.backing_format));
  }

  std::unique_ptr<ImageLayer> open_known(const std::string& path, const qcow2::HeaderFacts& header, const BackingPlace& known) {
    if (!known.name.empty() && header.backing_file != known.name)
      throw Fault(FaultKind::damaged,
                  path + ": qcow2 header: backing file: " + header.backing_file + ": it was written with " + known.name);
    if (known.unread) return std::make_unique<ParentLayer>(path, header.virtual_size);
    return open(known.path, known.format);
  }

  bool shared_;
  luks::KeyRing* keys_;
  const KnownBacking& known_;
  std::size_t next_known_ = 0;
  LifelineState* lifeline_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen_;
  bool encrypted_ = false;
  std::vector<std::string> files_, notes_;
};

}  // namespace

OpenedImage open_image(const ImagePlace& place, LifelineState* lifeline) {
  Chain chain(place, lifeline);
  OpenedImage opened;
  opened.layer = chain.open(place.path, place.format);
  opened.encrypted = chain.encrypted();
  opened.files = std::move(chain.files());
  opened.notes = std::move(chain.notes());
  return opened;
}

}  // namespace nasbackup
