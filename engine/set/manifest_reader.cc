// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The reading half of manifest.h. Unlike the writer it believes nothing.
#include <nlohmann/json.hpp>
#include <set>

#include "engine/io/fault.h"
#include "engine/io/run_lock.h"
#include "engine/set/hex.h"
#include "engine/set/manifest.h"
#include "engine/set/set_name.h"
#include "engine/set/text.h"

namespace nasbackup::set {

namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 8;                    // ours is 4; deeper JSON costs memory for nothing
constexpr std::uint64_t kMaxSize = 1ull << 62;  // sums of a few sizes must not overflow
constexpr std::uint64_t kMaxTotal = 1ull << 63;

/// Refuses depth and a key that stands twice in one object: two readers could take different ones.
class Bouncer {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw std::out_of_range("nested too deeply");
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key && !keys_.back().insert(parsed.get<std::string>()).second) {
      throw std::out_of_range("a key stands twice in one object");
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

/// One object of the manifest; every getter names what is wrong with what.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json_.is_object()) fail("is not an object");
  }

  std::string text(const char* key, std::size_t limit = kMaxManifestText) const {
    const Json& value = get(key);
    if (!value.is_string()) fail(key, "is not a string");
    const auto& string = value.get_ref<const std::string&>();
    if (string.size() > limit) fail(key, "is too long");
    if (!is_plain_text(string)) fail(key, "has control characters in it");
    return string;
  }

  std::string file_name(const char* key) const {
    std::string name = text(key, kMaxFileName);
    if (!is_file_name(name)) fail(key, "is not a file name");
    return name;
  }

  /// Bytes as hexadecimal digits; the text.
  template <std::size_t N>
  std::string hex(const char* key) const {
    std::string digits = text(key);
    if (!from_hex<N>(digits)) fail(key, "is not " + std::to_string(2 * N) + " hexadecimal digits");
    return digits;
  }

  bool flag(const char* key) const {
    const Json& value = get(key);
    if (!value.is_boolean()) fail(key, "is neither true nor false");
    return value.get<bool>();
  }

  std::uint64_t size(const char* key, std::uint64_t limit = kMaxSize) const {
    const Json& value = get(key);
    if (!value.is_number_unsigned()) fail(key, "is not a whole number");
    const auto number = value.get<std::uint64_t>();
    if (number > limit) fail(key, "is too large");
    return number;
  }

  bool is_null(const char* key) const { return get(key).is_null(); }

  /// The members of a list of at most `limit`, each with its place for messages.
  template <class Read>
  void each(const char* key, std::size_t limit, Read read) const {
    const Json& list = get(key);
    if (!list.is_array()) fail(key, "is not a list");
    if (list.size() > limit) fail(key, "has too many members");
    for (std::size_t i = 0; i < list.size(); ++i) read(list[i], where_ + key + '[' + std::to_string(i) + "].");
  }

  Fields object(const char* key) const { return Fields(get(key), where_ + key + '.'); }

  [[noreturn]] void fail(const std::string& what) const { throw Fault(FaultKind::damaged, where_ + ' ' + what); }
  [[noreturn]] void fail(const char* key, const std::string& what) const {
    throw Fault(FaultKind::damaged, where_ + key + ' ' + what);
  }

 private:
  const Json& get(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail(key, "is missing");
    return *found;
  }

  const Json& json_;
  std::string where_;
};

bool is_power_of_two(std::uint64_t n) noexcept { return n != 0 && (n & (n - 1)) == 0; }

/// A UUID as LUKS headers have it, or nothing.
std::string read_uuid(const Fields& fields) {
  const std::string uuid = fields.text("luks_uuid", 36);
  if (uuid.find_first_not_of("0123456789abcdef-") != std::string::npos || (!uuid.empty() && uuid.size() != 36))
    fields.fail("luks_uuid", "is not a UUID");
  return uuid;
}

ManifestDigests read_digests(const Fields& fields) {
  ManifestDigests digests;
  digests.file = fields.file_name("file");
  digests.size = fields.size("size");
  digests.kind = fields.text("kind");
  if (digests.kind != kDigestsXxh3 && digests.kind != kDigestsGmac) fields.fail("kind", "is not a kind of digests");
  digests.piece_size = fields.size("piece_size", 2u << 20);
  if (digests.piece_size < 65536 || !is_power_of_two(digests.piece_size)) fields.fail("piece_size", "is not the size of a piece");
  digests.root = fields.hex<32>("root");
  return digests;
}

/// What version 2 did not have.
void read_chain(const Fields& fields, ManifestDisk& disk) {
  disk.parent_bytes = fields.size("parent_bytes");
  if (!fields.text("parent_file").empty()) disk.parent_file = fields.file_name("parent_file");
  disk.full_because = fields.text("full_because");
  disk.has_bitmap = fields.flag("has_bitmap");
}

ManifestDisk read_disk(const Fields& fields, unsigned version) {
  ManifestDisk disk;
  disk.name = fields.text("name");
  disk.id = fields.text("id");
  disk.file = fields.file_name("file");
  disk.source = fields.text("source");
  disk.source_type = fields.text("source_type");
  disk.serial = fields.text("serial");
  disk.bus = fields.text("bus");
  disk.order = fields.size("order", kMaxManifestDisks);
  disk.virtual_size = fields.size("virtual_size");
  disk.stored_bytes = fields.size("stored_bytes");
  disk.data_bytes = fields.size("data_bytes");
  disk.zero_bytes = fields.size("zero_bytes");
  if (version > 2) read_chain(fields, disk);
  disk.luks_uuid = read_uuid(fields);
  disk.digests = read_digests(fields.object("digests"));
  return disk;
}

unsigned read_version(const Fields& top, const std::string& where) {
  if (top.text("format") != "nasbackup set") top.fail("format", "is not that of a nasbackup set");
  const auto version = top.size("version");
  if (version == 0) top.fail("version", "is 0");
  if (version >= kOldestManifestVersion && version <= kManifestVersion) return static_cast<unsigned>(version);
  throw Fault(
      FaultKind::failed,
      where + ": version " + std::to_string(version) + ": this program reads version " + std::to_string(kManifestVersion) +
          (version < kOldestManifestVersion ? "; a nasbackup wrote it that had no digests yet" : "; a newer nasbackup wrote it"));
}

void read_options(const Fields& options, Manifest& manifest) {
  manifest.cluster_size = options.size("cluster_size", 2u << 20);
  if (manifest.cluster_size < 512 || !is_power_of_two(manifest.cluster_size))
    options.fail("cluster_size", "is not a qcow2 cluster size");
  manifest.compression = options.text("compression");
  manifest.encryption = options.text("encryption");
  if (manifest.encryption != "none" && manifest.encryption != "luks") options.fail("encryption", "is neither 'none' nor 'luks'");
}

/// A parent's SHA-256 stands in its child, so that no chain can come back to where it began.
ManifestParent read_parent(const Fields& fields, const std::string& child) {
  ManifestParent parent;
  parent.set = fields.file_name("set");
  if (parent.set == child) fields.fail("set", "is not the name of another set");
  parent.sha256 = fields.hex<32>("sha256");
  if (!fields.text("hmac_sha256").empty()) parent.hmac = fields.hex<32>("hmac_sha256");
  return parent;
}

/// What a full set was merged from.
void read_sources(const Fields& top, Manifest& manifest) {
  top.each("merged_from", kMaxManifestSources, [&](const Json& source, const std::string& at) {
    const Fields fields(source, at);
    manifest.merged_from.push_back({fields.file_name("set"), fields.hex<32>("sha256")});
  });
  if (!manifest.merged_from.empty() && manifest.parent) top.fail("merged_from", "does not fit the kind");
}

void read_head(const Fields& top, const std::string& where, unsigned version, Manifest& manifest) {
  manifest.set = top.text("set");
  manifest.time = top.text("time");
  if (!is_file_name(manifest.set)) top.fail("set", "is not the name of a set");
  if (!SetName::parse_rfc3339(manifest.time)) top.fail("time", "is not a time");
  manifest.run = top.text("run");
  if (!is_run_id(manifest.run)) top.fail("run", "is not a run id");
  manifest.kind = top.text("kind");
  if (manifest.kind != kFull && manifest.kind != kIncrement)
    throw Fault(FaultKind::failed, where + ": kind '" + manifest.kind + "': this program knows 'full' and 'increment'");
  if (top.is_null("parent") != (manifest.kind == kFull)) top.fail("parent", "does not fit the kind");
  if (!top.is_null("parent")) manifest.parent = read_parent(top.object("parent"), manifest.set);
  if (version > 2) {
    read_sources(top, manifest);
    manifest.checkpoint = top.text("checkpoint");
  }
  manifest.consistency = top.text("consistency");
  if (manifest.consistency != "crash" && manifest.consistency != "filesystem")
    top.fail("consistency", "is neither 'crash' nor 'filesystem'");
  manifest.tool_version = top.object("tool").text("version");
  manifest.vm_name = top.object("vm").text("name");
  manifest.vm_uuid = top.object("vm").text("uuid");
  read_options(top.object("options"), manifest);
}

/// No file may be named twice, and the sizes may be added up by whoever reads them.
void check_files(const Fields& top, const Manifest& manifest) {
  std::set<std::string> names{kManifestName};
  std::uint64_t stored = 0;
  std::uint64_t virtual_size = 0;
  const auto add = [&](const std::string& name, std::uint64_t bytes, std::uint64_t guest) {
    if (!names.insert(name).second) top.fail("disks, files", "name one file twice");
    stored += bytes;
    virtual_size += guest;
    if (stored > kMaxTotal || virtual_size > kMaxTotal) top.fail("disks, files", "are too large together");
  };
  for (const auto& disk : manifest.disks) {
    add(disk.file, disk.stored_bytes, disk.virtual_size);
    add(disk.digests.file, disk.digests.size, 0);
  }
  for (const auto& file : manifest.files) add(file.name, file.size, 0);
}

/// An image stands on one of the parent's, and so only in an increment.
void check_chain(const Fields& top, const Manifest& manifest) {
  for (const ManifestDisk& disk : manifest.disks)
    if (!disk.parent_file.empty() && !manifest.parent) top.fail("disks", "stand on a parent, which the set does not have");
}

ManifestSeal read_seal(const Fields& fields, const std::string& where) {
  ManifestSeal seal;
  seal.sha256 = fields.hex<32>("sha256");
  if (!fields.text("hmac_sha256").empty()) seal.hmac = fields.hex<32>("hmac_sha256");
  fields.each("keys", kMaxManifestDisks, [&](const Json& key, const std::string& at) {
    const auto wrapping = key.is_string() ? from_hex<crypto::kWrappingBytes>(key.get_ref<const std::string&>()) : std::nullopt;
    if (!wrapping) throw Fault(FaultKind::damaged, at + " is not a wrapped key (" + where + ")");
    seal.keys.push_back(*wrapping);
  });
  return seal;
}

/// All of a set is encrypted and authenticated, or nothing: a set that says one thing here and another there was tampered with.
void check_encryption(const Fields& top, const Manifest& manifest) {
  const bool encrypted = manifest.encryption == "luks";
  if (manifest.seal.hmac.empty() == encrypted) top.fail("seal.hmac_sha256", "does not fit the encryption");
  if (manifest.seal.keys.size() != (encrypted ? manifest.disks.size() : 0)) top.fail("seal.keys", "do not fit the disks");
  for (const ManifestDisk& disk : manifest.disks)
    if (disk.luks_uuid.empty() == encrypted || (disk.digests.kind == kDigestsGmac) != encrypted)
      top.fail("disks", "do not fit the encryption");
}

Manifest read_fields(const Json& json, const std::string& where) {
  const Fields top(json, where + ": ");
  const unsigned version = read_version(top, where);
  Manifest manifest;
  read_head(top, where, version, manifest);
  top.each("disks", kMaxManifestDisks,
           [&](const Json& disk, const std::string& at) { manifest.disks.push_back(read_disk(Fields(disk, at), version)); });
  top.each("files", kMaxManifestFiles, [&](const Json& file, const std::string& at) {
    const Fields fields(file, at);
    manifest.files.push_back({fields.file_name("name"), fields.size("size"), fields.hex<32>("sha256")});
  });
  top.each("warnings", kMaxManifestWarnings, [&](const Json& warning, const std::string& at) {
    const bool good = warning.is_string() && warning.get_ref<const std::string&>().size() <= kMaxManifestText &&
                      is_plain_text(warning.get_ref<const std::string&>());
    if (!good) throw Fault(FaultKind::damaged, at + " is not a plain string");
    manifest.warnings.push_back(warning.get<std::string>());
  });
  manifest.seal = read_seal(top.object("seal"), where);
  check_files(top, manifest);
  check_chain(top, manifest);
  check_encryption(top, manifest);
  return manifest;
}

[[noreturn]] void throw_unsealed(const std::string& where) {
  throw Fault(FaultKind::damaged, where + ": seal: is missing, or not that of what stands before it: the manifest was changed");
}

}  // namespace

Manifest read_manifest(std::string_view text, const std::string& where) {
  if (text.size() > kMaxManifestSize) throw Fault(FaultKind::damaged, where + ": longer than 2 MiB");
  Json json;
  try {
    json = Json::parse(text.begin(), text.end(), Bouncer());
  } catch (const std::exception& error) {
    throw Fault(FaultKind::damaged, where + ": not a manifest: " + plain_text(error.what(), 200));
  }
  if (!is_undamaged(text)) throw_unsealed(where);
  Manifest manifest = read_fields(json, where);
  if (!ends_with_seal(text, manifest.seal)) throw_unsealed(where);
  return manifest;
}

void check_seal(std::string_view text, const Manifest& manifest, const crypto::Secret& set_key, const std::string& where) {
  if (!is_authentic(text, manifest.seal, set_key))
    throw Fault(FaultKind::damaged, where + ": seal: the HMAC is not that of the manifest: it was changed");
}

}  // namespace nasbackup::set
