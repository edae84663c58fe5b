// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The header cluster of a qcow2 image that we write: version 3 with the extensions that QEMU itself writes.
#pragma once

#include <vector>

#include "formats/qcow2_format.h"
#include "formats/qcow2_geometry.h"

namespace nasbackup::qcow2 {

/// One whole cluster: header, extensions, zeroes (specification, "Header" and "Header extensions").
std::vector<std::byte> header_cluster(const Geometry& geometry, CompressionType compression);

}  // namespace nasbackup::qcow2
