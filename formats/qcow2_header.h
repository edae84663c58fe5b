// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The header cluster of a qcow2 image that we write: version 3 with the extensions that QEMU itself writes.
#pragma once

#include <string>
#include <vector>

#include "formats/qcow2_format.h"
#include "formats/qcow2_geometry.h"

namespace nasbackup::qcow2 {

/// One whole cluster: header, extensions, the name of the backing file if any, zeroes (specification, "Header" and "Header
/// extensions"). `backing`: a qcow2; empty: none. It must find room: require_room_for().
std::vector<std::byte> header_cluster(const Geometry& geometry, CompressionType compression, const std::string& backing = {});

/// Throws FormatError unless that name can stand in the header: at most 1023 bytes, and within the first cluster.
void require_room_for(const Geometry& geometry, const std::string& backing);

}  // namespace nasbackup::qcow2
