// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a file is, from its first bytes. No state; every call on the file is marked on the lifeline, which may be null.
#pragma once

#include <cstdint>
#include <string>

#include "formats/qcow2_header_reader.h"

namespace nasbackup {

struct LifelineState;

enum class ImageFormat { raw, qcow2, luks };

struct ProbedImage {
  ImageFormat format = ImageFormat::raw;
  std::uint64_t file_size = 0;  ///< apparent, or the device's
  std::uint64_t disk_size = 0;  ///< bytes of the blocks in use
  qcow2::HeaderFacts header;    ///< of a qcow2
};

/// Throws Fault: not_found, source (cannot be read), damaged (a header that breaks the format's rules).
ProbedImage probe_image(const std::string& path, LifelineState* lifeline);

/// A raw guest disk must not be able to pose as another format, and we read no other format as a source: without `-f` a file
/// that looks like one is refused.
void refuse_unless_raw(const std::string& path, LifelineState* lifeline);

}  // namespace nasbackup
