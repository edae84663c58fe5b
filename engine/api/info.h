// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What an image is, what a set is, and which sets there are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keys.h"

namespace nasbackup {

/// A file that an image stands on.
struct BackingFile {
  std::string path;
  std::uint64_t file_size = 0;
};

/// How stock QEMU opens an image that is encrypted or stands on others.
struct QemuCommand {
  std::string content;  ///< "qcow2" or "raw": for an image whose LUKS layer holds this, or is inside it
  std::string command;  ///< for a shell; PASSPHRASE-FILE stands in it unless InfoOptions named one
};

/// What an image is.
struct ImageInfo {
  std::string path;
  std::string format;   ///< of the file: "qcow2", "luks" or "raw"; in a set empty when the image cannot be read
  std::string content;  ///< of a LUKS container that was opened: "qcow2" or "raw"; else empty
  std::optional<std::uint64_t> virtual_size;  ///< not known of a LUKS container that was not opened
  std::uint64_t file_size = 0;                ///< apparent size
  std::uint64_t disk_size = 0;                ///< blocks in use
  std::string encryption;                     ///< "none", "aes", "luks"
  std::optional<KeysOfImage> keys;            ///< when the encryption is LUKS
  std::vector<QemuCommand> open_with;  ///< the same, or when it stands on others; two, when only the passphrase could tell which
  std::vector<BackingFile> stands_on;  ///< of an increment's image in its set: from the top, by the sets' manifests

  // Of a qcow2, be it the file or what the container holds.
  unsigned version = 0;               ///< 0: no qcow2
  std::uint64_t cluster_size = 0;     ///< bytes
  std::string compression;            ///< "zlib" or "zstd": that of its compressed clusters, if there are any
  std::uint32_t deflate_history = 0;  ///< 4096 or 32768: how far the streams of a sample look back; 0: there were none
  std::string backing_file;           ///< empty: none
  std::string backing_format;
  unsigned snapshots = 0;
};

/// A set in the chain of another.
struct ChainLink {
  std::string set;   ///< name of its directory
  std::string time;  ///< RFC 3339, UTC; empty: not known
  std::string kind;
  std::uint64_t stored_bytes = 0;
  bool missing = false;
};

struct SetInfo {
  std::string path;  ///< DIR/VM/TIME
  std::string vm;
  std::string time;                   ///< RFC 3339, UTC
  std::string kind;                   ///< "full", or "increment" of a parent
  std::string parent;                 ///< name of the set that it stands on, in the same DIR/VM; empty: none
  std::vector<ChainLink> chain;       ///< of set_info: what it stands on, the full set first, and itself
  std::vector<std::string> children;  ///< of set_info: the sets that stand on it, directly or not
  std::uint64_t virtual_size = 0;
  std::uint64_t stored_bytes = 0;  ///< sizes of all files of the set
  std::vector<ImageInfo> images;
  std::string note;      ///< what is wrong with it; empty: nothing
  bool damaged = false;  ///< and it is a file that is missing, cannot be read or is not what the manifest says
};

struct InfoOptions {
  std::string path;
  std::vector<std::shared_ptr<const Passphrase>> passphrases;  ///< each is tried; none is needed
  std::string passphrase_file;                                 ///< stands in QemuCommand; empty: a word in its place
};

/// True when `path` is a set's directory (or DIR/VM, whose newest set is meant) and not an image. On the control's lifeline, here
/// and below, a watcher sees how long a call on the files has not come back.
bool is_set(const std::string& path, const JobControl& control = {});
/// Without a passphrase what the file shows to everybody is told; a passphrase that does not open it is an Error, wrong_key.
ImageInfo image_info(const InfoOptions& options, const JobControl& control = {});
SetInfo set_info(const InfoOptions& options, const JobControl& control = {});
/// The whole sets under a target directory, oldest first for each VM; from the files alone.
std::vector<SetInfo> list_sets(const std::string& dir, const JobControl& control = {});

}  // namespace nasbackup
