// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where passphrases are to be read from. The command line only says so; the bytes are read by the worker, because a path may
// hang, and by nobody else. Not for several threads at once.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/nasbackup.h"

namespace nasbackup::tools {

struct PassphrasePlace {
  enum class Kind { file, descriptor, command, ready };
  Kind kind = Kind::file;
  std::string text;     ///< path or command
  int descriptor = -1;  ///< as the caller named it; close_all_but() moves it out of stdio's way
  std::shared_ptr<const Passphrase> ready = nullptr;
};

using PassphrasePlaces = std::vector<PassphrasePlace>;

/// Names of descriptors (/dev/stdin, /dev/fd/63 of a shell's `<(…)`) are taken for what they are: in the worker they would name
/// something else.
PassphrasePlace place_of_file(const std::string& path);
PassphrasePlace place_of_descriptor(int descriptor);
PassphrasePlace place_of_command(const std::string& command);

/// One that was read with the rest of a configuration.
PassphrasePlace place_of_passphrase(std::shared_ptr<const Passphrase> passphrase);

/// The first of them that is a file, for commands that are printed; empty: none is.
std::string file_of(const PassphrasePlaces& places);

/// Closes every descriptor from 3 on, but those of the places, which close on exec from now on. Throws UsageError for one that is
/// not open.
void close_all_but(std::span<PassphrasePlaces* const> kept);

/// In a process that is not to read them.
void close_descriptors(std::span<const PassphrasePlaces* const> secrets) noexcept;

/// Reads all of them, each to its end; descriptors are closed. Throws nasbackup::Error.
std::vector<std::shared_ptr<const Passphrase>> read_passphrases(const PassphrasePlaces& places, const JobControl& control);

}  // namespace nasbackup::tools
