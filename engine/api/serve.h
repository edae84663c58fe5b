// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Images over NBD, for others to read.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "job.h"

namespace nasbackup {

/// An image that others may read over NBD: on a UNIX socket, or on a port of 127.0.0.1. Of TransferOptions source
/// keys, threads, memory, limit, rate group and time-out count, and of an NBD source the connections.
struct ServeOptions : TransferOptions {
  std::string source;                          ///< a set, DIR/VM for its newest, or an image: path, nbd:// or nbd+unix:// URI
  std::string source_format;                   ///< of an image: "raw", "qcow2", "luks", or empty to probe
  bool shared_source = false;                  ///< -U: do not look at image locks
  std::string socket;                          ///< path of the UNIX socket; empty: `port`
  std::optional<std::uint16_t> port;           ///< on 127.0.0.1; 0: one that is free
  std::chrono::seconds handshake_timeout{10};  ///< for a client that connects, until it has chosen an export
};

struct ServedExport {
  std::string name;
  std::string uri;     ///< for a client
  std::string source;  ///< as it may be shown
  std::uint64_t virtual_size = 0;
};

struct ServeReport {
  std::vector<ServedExport> exports;
  std::uint64_t clients = 0;     ///< connections that were let in
  std::uint64_t data_bytes = 0;  ///< read from the source
  double seconds = 0;
};

/// Serves until it is asked to stop, which is its good end: clients have a second then to fetch what they asked for. Each export
/// is told of through on_message when clients may connect. Throws Error when it cannot begin; a read that fails is told to the
/// client and through on_message, and serving goes on.
ServeReport serve(const ServeOptions& options, const JobControl& control);

}  // namespace nasbackup
