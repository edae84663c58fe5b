// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See digest_chain.h.
#include "engine/io/digest_chain.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/io/fault.h"

namespace nasbackup {

DigestChain::DigestChain(std::unique_ptr<DigestFile> file) { files_.push_back(std::move(file)); }

void DigestChain::add(std::unique_ptr<DigestFile> parent) {
  const auto expect = [&](const char* what, std::uint64_t found, std::uint64_t expected) {
    if (found != expected)
      throw Fault(FaultKind::damaged, parent->path() + ": " + what + ": " + std::to_string(found) + ", what stands on it has " +
                                          std::to_string(expected));
  };
  expect("virtual size", parent->reader().virtual_size(), virtual_size());
  expect("piece size", parent->reader().piece_size(), piece_size());
  files_.push_back(std::move(parent));
}

DigestChain::Expected DigestChain::at(std::uint64_t number) {
  Expected expected{{}, nullptr, UINT64_MAX};
  for (const auto& file : files_) {
    expected.digest = file->at(number);
    expected.digester = &file->digester();
    expected.run_until = std::min(expected.run_until, file->run_until(number));
    if (expected.digest.kind != digests::PieceKind::parent) break;
  }
  return expected;
}

}  // namespace nasbackup
