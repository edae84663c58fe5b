// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where passphrases are to be read from. The command line only says so; the bytes are read by the worker, because a path may
// hang, and by nobody else. Keys of Ceph clients stand on the command line itself: they are taken from there before anything else
// happens, and only the worker keeps them. Not for several threads at once.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/nasbackup.h"

namespace nasbackup::tools {

struct PassphrasePlace {
  enum class Kind { file, descriptor, command, ready, memory };
  Kind kind = Kind::file;
  std::string text;                                   ///< path or command
  int descriptor = -1;                                ///< as the caller named it; close_all_but() moves it out of stdio's way
  std::shared_ptr<const Passphrase> ready = nullptr;  ///< of Kind::ready
  std::shared_ptr<StorageKeys> keys = nullptr;        ///< of Kind::memory
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
void forget_secrets(std::span<const PassphrasePlaces* const> secrets) noexcept;

/// Takes the keys that stand on the command line out of it, so that the list of processes does not show them, and puts their
/// names in their places in `words`. Empty: there are no rbd: locations.
PassphrasePlaces take_storage_keys(std::span<char* const> arguments, std::vector<std::string>& words);

/// What take_storage_keys() took. Throws nasbackup::Error.
StorageKeys storage_keys_of(const PassphrasePlaces& places);

/// Reads all of them, each to its end; descriptors are closed. Throws nasbackup::Error.
std::vector<std::shared_ptr<const Passphrase>> read_passphrases(const PassphrasePlaces& places, const JobControl& control);

}  // namespace nasbackup::tools
