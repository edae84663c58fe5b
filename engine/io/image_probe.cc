// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a file is; see image_probe.h.
#include "engine/io/image_probe.h"

#include <vector>

#include "engine/io/fault.h"
#include "formats/format_error.h"
#include "formats/luks_header_reader.h"

namespace nasbackup {

ProbedImage probe_image(const ImageBytes& bytes) {
  std::vector<std::byte> start(qcow2::kHeaderReadBytes);
  start.resize(bytes.read_up_to(0, start));
  ProbedImage image;
  if (luks::has_magic(start)) image.format = ImageFormat::luks;
  if (!qcow2::has_magic(start)) return image;
  image.format = ImageFormat::qcow2;
  try {
    image.header = qcow2::parse_header(start);
  } catch (const FormatError& error) {
    throw Fault(FaultKind::damaged, bytes.path() + ": " + error.what());
  }
  return image;
}

}  // namespace nasbackup
