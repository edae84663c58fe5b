// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Opens an image file with all that it stands on: a LUKS container around it, its encryption, its backing files. The one place
// that decides which format a file has. Blocking calls. No state.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/io/image_layer.h"
#include "formats/luks_key_ring.h"

namespace nasbackup {

struct LifelineState;

/// A file that an image stands on.
struct BackingPlace {
  std::string path;
  std::string format;     ///< as in ImagePlace
  std::string name = {};  ///< what the header of the image on it must call it, or that is damaged; empty: whatever it says
  bool unread = false;    ///< it is not opened, and nothing under it: what the image leaves to it is ExtentKind::parent
};

/// What an image stands on, where somebody knows it better than the headers (libvirt's <backingStore>).
struct KnownBacking {
  std::vector<BackingPlace> files;  ///< from the top; under the last of them the headers hold again
  bool ends = false;                ///< but nothing is under the last of them, whatever its header says
  bool alone = false;  ///< nothing is under the last of them, or the image: a header that says otherwise is not what was written
};

struct ImagePlace {
  std::string path;
  std::string format;             ///< "raw", "qcow2", "luks" (a raw disk in a LUKS container); empty: probed
  bool shared = false;            ///< do not look at image locks
  luks::KeyRing* keys = nullptr;  ///< null, or empty: none is known
  KnownBacking backing = {};
};

struct OpenedImage {
  std::unique_ptr<ImageLayer> layer;
  bool encrypted = false;          ///< it, or what it stands on
  std::vector<std::string> files;  ///< its path, and that of each file that it stands on
  std::vector<std::string> notes;  ///< what a user should know of it, a line each
};

/// A raw disk must not be able to pose as an image that leads to other files: a probed qcow2 that names a backing or data file is
/// refused, and so is a probed container when no key is known. Backing files are those of `backing`, else they have the format
/// that their child's header names; a chain is at most 64 deep. Throws Fault: not_found, source (in use, not supported, not of
/// that format), wrong_key, damaged.
OpenedImage open_image(const ImagePlace& place, LifelineState* lifeline);

}  // namespace nasbackup
