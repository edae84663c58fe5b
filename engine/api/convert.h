// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// One image to another.
#pragma once

#include <string>

#include "job.h"

namespace nasbackup {

/// One image to another.
struct ConvertOptions : TransferOptions {
  std::string source;                   ///< path, nbd:// or nbd+unix:// URI, or rbd: location
  std::string source_format;            ///< "raw", "qcow2", "luks", or empty to probe
  std::string target;                   ///< path, nbd URI, rbd: location, or "null:"
  std::string target_format = "qcow2";  ///< "qcow2", "raw", or "luks" (a raw disk in a LUKS container)
  bool shared_source = false;           ///< -U: do not look at image locks of the source
  bool force = false;                   ///< replace a target file that exists, or write over a Ceph image; never what is in use
};

/// Writes one image from another. Throws Error; no target file is left then that was not there before.
JobReport convert(const ConvertOptions& options, const JobControl& control);

}  // namespace nasbackup
