// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// manifest.json: what a set holds and where it came from. Format: docs/formats/manifest.md. Plain values; the functions
// are pure and safe from any thread. A manifest that is read is hostile input: every size, count and name in it is bounded
// before it is used (manifest_reader.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/set/manifest_seal.h"

namespace nasbackup::set {

inline constexpr char kDigestsXxh3[] = "xxh3-128";
inline constexpr char kDigestsGmac[] = "gmac-aes-256";
/// What the name of a disk's digest file has behind that of its image.
inline constexpr char kDigestsSuffix[] = ".digests";

/// A disk's digest file (docs/formats/digests.md).
struct ManifestDigests {
  std::string file;
  std::uint64_t size = 0;           ///< of the file
  std::string kind = kDigestsXxh3;  ///< or kDigestsGmac, when the images are encrypted
  std::uint64_t piece_size = 65536;
  std::string root;  ///< 64 hexadecimal digits

  friend bool operator==(const ManifestDigests&, const ManifestDigests&) = default;
};

struct ManifestDisk {
  std::string name;         ///< target (vda), or disk0, disk1 … without libvirt
  std::string id;           ///< of the volume: base name of its path
  std::string file;         ///< image in the set
  std::string source;       ///< path or URI it was read from; no secret may stand in it
  std::string source_type;  ///< "file", "block", "network", …: libvirt's word
  std::string serial;
  std::string bus;
  std::uint64_t order = 0;  ///< place among the VM's disks, from 0
  std::uint64_t virtual_size = 0;
  std::uint64_t stored_bytes = 0;  ///< size of the image file
  std::uint64_t data_bytes = 0;    ///< stored; older versions: read as data, zeroes in it included
  std::uint64_t zero_bytes = 0;    ///< not stored, because zero
  std::uint64_t parent_bytes = 0;  ///< not stored, because as in the parent
  std::string parent_file;         ///< the image in the parent set on which this one stands; empty: it stands alone
  std::string full_because;        ///< why it stands alone in a set that was to be an increment; else empty
  bool has_bitmap = false;         ///< since this backup the disk has a bitmap with the name of the set's checkpoint
  std::string luks_uuid;           ///< of the image; empty: not encrypted
  ManifestDigests digests;

  friend bool operator==(const ManifestDisk&, const ManifestDisk&) = default;
};

/// A file of the set that is neither an image, nor its digests, nor the manifest.
struct ManifestFile {
  std::string name;
  std::uint64_t size = 0;
  std::string sha256;  ///< 64 hexadecimal digits

  friend bool operator==(const ManifestFile&, const ManifestFile&) = default;
};

inline constexpr char kFull[] = "full";
inline constexpr char kIncrement[] = "increment";

/// The set that an increment stands on: a sibling of its directory.
struct ManifestParent {
  std::string set;     ///< name of its directory
  std::string sha256;  ///< of its manifest's seal
  std::string hmac;    ///< the same; empty when it is not encrypted

  friend bool operator==(const ManifestParent&, const ManifestParent&) = default;
};

/// A set that was merged with others into one.
struct ManifestSource {
  std::string set;     ///< name of its directory
  std::string sha256;  ///< of its manifest's seal

  friend bool operator==(const ManifestSource&, const ManifestSource&) = default;
};

struct Manifest {
  std::string set;  ///< name of the set's directory
  std::string
      time;         ///< when what it holds was begun to be read, RFC 3339 UTC; the second that the name says, where we chose that
  std::string run;  ///< id of the run that wrote it
  std::string vm_name;
  std::string vm_uuid;                      ///< empty without libvirt
  std::string kind = kFull;                 ///< or kIncrement
  std::optional<ManifestParent> parent;     ///< of an increment, older than it
  std::vector<ManifestSource> merged_from;  ///< the sets whose content it has, the full one first; empty: it was read from disks
  std::string checkpoint;                   ///< libvirt's, created with the backup; empty: none
  std::string consistency = "crash";        ///< "crash", or "filesystem" when the guest's file systems were frozen
  std::string tool_version;
  std::uint64_t cluster_size = 65536;
  std::string compression = "none";  ///< as asked for: "zlib:default", "auto" …
  std::string encryption = "none";   ///< "none" or "luks"
  std::vector<ManifestDisk> disks;
  std::vector<ManifestFile> files;
  std::vector<std::string> warnings;
  ManifestSeal seal;  ///< of what is written, only the keys are taken from here

  friend bool operator==(const Manifest&, const Manifest&) = default;
};

inline constexpr char kManifestName[] = "manifest.json";
/// A manifest with 1024 disks and long names fits; a hostile one of this size parses into some tens of megabytes.
constexpr std::size_t kMaxManifestSize = 2 << 20;
constexpr unsigned kManifestVersion = 3;
constexpr unsigned kOldestManifestVersion = 2;  ///< without increments and checkpoints
constexpr std::size_t kMaxManifestDisks = 1024;
constexpr std::size_t kMaxManifestFiles = 4096;
constexpr std::size_t kMaxManifestSources = 64;  ///< as many as may stand on each other
constexpr std::size_t kMaxManifestWarnings = 256;
constexpr std::size_t kMaxManifestText = 1024;  ///< bytes of one string; longer ones are cut when written
constexpr std::size_t kMaxFileName = 255;       ///< NAME_MAX

/// A name that stays inside its directory and is visible there: no '/', no leading '.', plain UTF-8, at most 255 bytes.
bool is_file_name(std::string_view name) noexcept;

/// How the header of an increment's image names the one on which it stands: relative to its own directory, so that the chain can
/// be moved as a whole.
std::string backing_name(const std::string& parent_set, const std::string& parent_file);

/// The manifest as JSON text. Control characters and bytes that are not UTF-8 become '?'; what is too long is cut. `set_key`: of
/// a set whose images are encrypted; else null.
std::string write_manifest(const Manifest& manifest, const crypto::Secret* set_key = nullptr);

/// Throws Fault(damaged) naming `where` for everything that write_manifest would not write, but unknown keys, which are
/// skipped; Fault(failed) for a version or kind that this program does not know. Damage is found here, forgery by check_seal().
Manifest read_manifest(std::string_view text, const std::string& where);

/// Throws Fault(damaged) unless the manifest that was read from `text` is what the holder of the set key wrote.
void check_seal(std::string_view text, const Manifest& manifest, const crypto::Secret& set_key, const std::string& where);

}  // namespace nasbackup::set
