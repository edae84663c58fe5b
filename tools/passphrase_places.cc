// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See passphrase_places.h.
#include "tools/passphrase_places.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "tools/command_line.h"
#include "tools/descriptor.h"

namespace nasbackup::tools {

namespace {

constexpr int kFirstOther = STDERR_FILENO + 1;

/// The number in "/dev/fd/63"; -1 for any other path.
int named_descriptor(std::string_view path) {
  if (path == "/dev/stdin") return STDIN_FILENO;
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view directory : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(directory)) continue;
    const std::string_view digits = path.substr(directory.size());
    const bool number = !digits.empty() && digits.size() < 8 && digits.find_first_not_of("0123456789") == digits.npos;
    if (number) return std::stoi(std::string(digits));
  }
  return -1;
}

int moved(int descriptor) {
  const int copy = ::fcntl(descriptor, F_DUPFD_CLOEXEC, kFirstOther);
  if (copy < 0) throw UsageError("passphrase: descriptor " + std::to_string(descriptor) + ": " + std::strerror(errno));
  return copy;
}

std::shared_ptr<const Passphrase> read_one(const PassphrasePlace& place, const JobControl& control) {
  if (place.kind == PassphrasePlace::Kind::ready) return place.ready;
  if (place.kind == PassphrasePlace::Kind::command) return Passphrase::from_command(place.text, control.stop);
  if (place.kind == PassphrasePlace::Kind::file) return Passphrase::from_file(place.text, control.stop, control.lifeline.get());
  const Descriptor mine(place.descriptor);
  return Passphrase::from_descriptor(mine.get(), control.stop);
}

}  // namespace

PassphrasePlace place_of_file(const std::string& path) {
  const int descriptor = named_descriptor(path);
  if (descriptor >= 0) return place_of_descriptor(descriptor);
  return {PassphrasePlace::Kind::file, path};
}

PassphrasePlace place_of_descriptor(int descriptor) { return {PassphrasePlace::Kind::descriptor, {}, descriptor}; }

PassphrasePlace place_of_command(const std::string& command) { return {PassphrasePlace::Kind::command, command}; }

PassphrasePlace place_of_passphrase(std::shared_ptr<const Passphrase> passphrase) {
  return {PassphrasePlace::Kind::ready, {}, -1, std::move(passphrase)};
}

std::string file_of(const PassphrasePlaces& places) {
  for (const PassphrasePlace& place : places)
    if (place.kind == PassphrasePlace::Kind::file) return place.text;
  return {};
}

void close_all_but(std::span<PassphrasePlaces* const> kept) {
  std::vector<int> numbers;
  for (PassphrasePlaces* places : kept)
    for (PassphrasePlace& place : *places)
      if (place.kind == PassphrasePlace::Kind::descriptor) numbers.push_back(place.descriptor = moved(place.descriptor));
  std::sort(numbers.begin(), numbers.end());
  int next = kFirstOther;
  for (const int number : numbers) {
    if (number > next) ::close_range(static_cast<unsigned>(next), static_cast<unsigned>(number - 1), 0);
    next = number + 1;
  }
  ::close_range(static_cast<unsigned>(next), ~0u, 0);
}

void forget_secrets(std::span<const PassphrasePlaces* const> secrets) noexcept {
  for (const PassphrasePlaces* places : secrets)
    for (const PassphrasePlace& place : *places) {
      if (place.kind == PassphrasePlace::Kind::descriptor) ::close(place.descriptor);
      if (place.keys) place.keys->clear();
    }
}

PassphrasePlaces take_storage_keys(std::span<char* const> arguments, std::vector<std::string>& words) {
  const auto keys = std::make_shared<StorageKeys>();
  bool clusters = false;
  for (char* argument : arguments) {
    clusters = clusters || std::string_view(argument).find("rbd:") != std::string_view::npos;
    words.push_back(nasbackup::take_storage_keys(argument, *keys));
  }
  if (!clusters) return {};
  return {{PassphrasePlace::Kind::memory, {}, -1, nullptr, keys}};
}

StorageKeys storage_keys_of(const PassphrasePlaces& places) { return places.empty() ? StorageKeys() : *places.front().keys; }

std::vector<std::shared_ptr<const Passphrase>> read_passphrases(const PassphrasePlaces& places, const JobControl& control) {
  std::vector<std::shared_ptr<const Passphrase>> read;
  for (const PassphrasePlace& place : places) read.push_back(read_one(place, control));
  return read;
}

}  // namespace nasbackup::tools
