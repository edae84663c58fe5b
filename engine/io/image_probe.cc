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

void refuse_unless_raw(const std::string& path, LifelineState* lifeline) {
  std::vector<std::byte> start(8);
  try {
    const ImageBytes bytes(path, lifeline);
    start.resize(bytes.read_up_to(0, start));
  } catch (const Fault&) {
    return;  // its opening as a source says why
  }
  const char* format = qcow2::has_magic(start) ? "qcow2" : luks::has_magic(start) ? "luks" : nullptr;
  if (format != nullptr)
    throw Fault(FaultKind::source,
                path + ": looks like " + format + ", which is not read as a source; write -f raw if it is a raw disk");
}

}  // namespace nasbackup
