// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a file, or what a LUKS container holds, is: from its first bytes. No state; every call on the file is marked on the
// lifeline, which may be null.
#pragma once

#include <string>

#include "engine/io/image_bytes.h"
#include "formats/qcow2_header_reader.h"

namespace nasbackup {

enum class ImageFormat { raw, qcow2, luks };

struct ProbedImage {
  ImageFormat format = ImageFormat::raw;
  qcow2::HeaderFacts header;  ///< of a qcow2
};

/// Throws Fault: source (cannot be read), damaged (a header that breaks the format's rules).
ProbedImage probe_image(const ImageBytes& bytes);

}  // namespace nasbackup
