// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The sets under a target, from the files alone. A set is a visible directory DIR/VM/NAME that has our manifest, or whose
// name is a set's and that has *.qcow2 in it (CloudStack's nasbackup.sh writes those). Partial sets, everything hidden and
// names with control characters are skipped. Nothing on the target is believed: names, counts and sizes are bounded, links are
// not followed. No state; safe from any thread. `state` may be null.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/lifeline_state.h"
#include "engine/set/directory.h"
#include "engine/set/manifest.h"

namespace nasbackup::set {

struct CatalogueFile {
  std::string name;
  std::uint64_t size = 0;  ///< apparent size of what is there
};

struct CatalogueSet {
  std::string path;                   ///< DIR/VM/NAME
  std::string vm;                     ///< name of the directory it is in
  std::string name;                   ///< of its own directory
  std::string time;                   ///< RFC 3339 UTC; empty when neither name nor manifest says
  std::optional<Manifest> manifest;   ///< none: another program's set, or see `note`
  std::vector<CatalogueFile> images;  ///< *.qcow2, *.qcow2.luks: in the manifest's order, then by name (root.* first)
  std::vector<CatalogueFile> files;   ///< everything else, by name
  std::string note;                   ///< what is wrong with it, one line; empty when nothing
  bool damaged = false;               ///< it is a file that is missing, or is not what the manifest says, or the manifest

  std::uint64_t stored_bytes() const noexcept;
};

/// All sets under `dir`: by VM, oldest first. Throws Fault(not_found) when `dir` does not exist, Fault(failed) when a
/// directory cannot be read; a broken set only gets its note.
std::vector<CatalogueSet> list(const std::string& dir, LifelineState* state);

/// Those of one VM, in its directory; oldest first.
std::vector<CatalogueSet> list_vm(const Directory& vm_directory, const std::string& vm);

/// The path without links, dots and a slash at the end. Throws Fault(not_found).
std::string real_path(const std::string& path, LifelineState* state);

/// The set at `path`, or the newest in it when it is DIR/VM. Throws Fault(not_found).
CatalogueSet find_set(const std::string& path, LifelineState* state);

/// True when find_set() would find one.
bool is_set(const std::string& path, LifelineState* state);

}  // namespace nasbackup::set
