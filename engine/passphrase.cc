// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::Passphrase, and passphrase.h.
#include "engine/passphrase.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string_view>
#include <utility>

#include "crypto/secret.h"
#include "engine/io/child_process.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/lifeline_state.h"
#include "engine/set/text.h"
#include "engine/translate_faults.h"
#include "formats/luks_format.h"

namespace nasbackup {

using crypto::Secret;

namespace {

constexpr std::size_t kMostBytes = 8u << 20;  // cryptsetup's limit of a key file (DEFAULT_KEYFILE_SIZE_MAXKB)
constexpr std::size_t kFirstRoom = 4096;
constexpr int kTick = 100;                   // ms between two looks at the stop token
constexpr useconds_t kCommandTick = 10'000;  // microseconds
constexpr unsigned kLeastIterations = 1'000'000;

[[noreturn]] void refuse(const std::string& origin, const std::string& what) {
  throw Fault(FaultKind::usage, "passphrase: " + origin + ": " + what);
}

void wait_for_bytes(int fd, const std::stop_token& stop, const std::string& origin) {
  pollfd one{fd, POLLIN, 0};
  while (!stop.stop_requested())
    if (const int ready = ::poll(&one, 1, kTick); ready > 0 || (ready < 0 && errno != EINTR)) return;
  throw Fault(FaultKind::interrupted, "passphrase: " + origin + ": stopped while waiting for it");
}

/// Into a larger place of the same kind: a passphrase never lies in ordinary memory.
Secret grown(const Secret& secret, std::size_t size) {
  Secret larger(size);
  std::memcpy(larger.bytes().data(), secret.bytes().data(), secret.size());
  return larger;
}

/// One read(); nothing when there is nothing yet.
std::size_t read_some(int fd, std::span<std::byte> into, const std::string& origin, LifelineState* state, bool& ended) {
  const TargetCall mark(state);
  const ssize_t got = ::read(fd, into.data(), into.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
  if (got < 0) refuse(origin, std::string("read: ") + std::strerror(errno));
  ended = got == 0;
  return static_cast<std::size_t>(got);
}

Secret read_to_end(int fd, const std::string& origin, const std::stop_token& stop, LifelineState* state) {
  Secret secret(kFirstRoom);
  std::size_t size = 0;
  for (bool ended = false; !ended;) {
    if (size > kMostBytes) refuse(origin, "longer than 8 MiB");
    if (size == secret.size()) secret = grown(secret, size * 4);
    wait_for_bytes(fd, stop, origin);
    size += read_some(fd, secret.bytes().subspan(size), origin, state, ended);
  }
  return Secret::copy_of(secret.bytes().first(size));
}

/// For the end of a command that has closed its output.
void wait_for(ChildProcess& command, const std::stop_token& stop) {
  while (!command.has_ended()) {
    if (stop.stop_requested()) throw Fault(FaultKind::interrupted, "passphrase: the command: stopped while waiting for it");
    ::usleep(kCommandTick);
  }
}

FileDescriptor open_file(const std::string& path, LifelineState* state) {
  const TargetCall mark(state);
  // Not waiting here for whoever writes into a FIFO: that must end when we are asked to stop.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file) refuse(path, std::string("open: ") + std::strerror(errno));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) refuse(path, std::string("stat: ") + std::strerror(errno));
  if (S_ISDIR(info.st_mode)) refuse(path, "is a directory");
  if (S_ISREG(info.st_mode) && info.st_size > static_cast<off_t>(kMostBytes)) refuse(path, "longer than 8 MiB");
  return file;
}

}  // namespace

Passphrase::Passphrase(std::string origin, Secret secret) : origin_(std::move(origin)) {
  if (secret.size() == 0) refuse(origin_, "is empty");
  if (secret.size() > kMostBytes) refuse(origin_, "longer than 8 MiB");
  secret_ = std::make_shared<const Secret>(std::move(secret));
}

std::shared_ptr<const Passphrase> Passphrase::from_file(const std::string& path, std::stop_token stop, Lifeline* lifeline) {
  return translate_faults([&] {
    LifelineState* state = lifeline == nullptr ? nullptr : &lifeline->state();
    const FileDescriptor file = open_file(path, state);
    return std::shared_ptr<const Passphrase>(new Passphrase(path, read_to_end(file.get(), path, stop, state)));
  });
}

std::shared_ptr<const Passphrase> Passphrase::from_descriptor(int fd, std::stop_token stop) {
  return translate_faults([&] {
    const std::string origin = "the descriptor";
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) refuse(origin, std::strerror(errno));
    if ((flags & O_ACCMODE) == O_WRONLY) refuse(origin, "is open for writing only");  // poll would wait for ever
    return std::shared_ptr<const Passphrase>(new Passphrase(origin, read_to_end(fd, origin, stop, nullptr)));
  });
}

std::shared_ptr<const Passphrase> Passphrase::from_command(const std::string& command, std::stop_token stop) {
  return translate_faults([&] {
    const std::string origin = "the command";
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw Fault(FaultKind::failed, std::string("passphrase: pipe: ") + std::strerror(errno));
    const FileDescriptor output(ends[0]);
    FileDescriptor input(ends[1]);
    ChildProcess running({{"/bin/sh", "-c", command}, {}, input.get()}, "passphrase");
    input = FileDescriptor();
    Secret secret = read_to_end(output.get(), origin, stop, nullptr);
    wait_for(running, stop);
    if (const std::string complaint = running.complaint(); !complaint.empty())
      throw Fault(FaultKind::failed, "passphrase: " + origin + ": " + complaint);
    return std::shared_ptr<const Passphrase>(new Passphrase(origin, std::move(secret)));
  });
}

std::shared_ptr<const Passphrase> Passphrase::from_bytes(const void* bytes, std::size_t size) {
  return translate_faults([&] {
    const std::span all(static_cast<const std::byte*>(bytes), size);
    return std::shared_ptr<const Passphrase>(new Passphrase("memory", Secret::copy_of(all)));
  });
}

void require_openable_by_qemu(const Passphrase& passphrase) {
  const auto bytes = passphrase.secret()->bytes();
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  while (!rest.empty()) {
    if (rest.front() == '\0') refuse(passphrase.origin(), "has a NUL byte in it, with which qemu could not open the image");
    const std::size_t length = set::utf8_sequence(rest);
    if (length == 0) refuse(passphrase.origin(), "is not UTF-8, as which qemu reads it to open the image");
    rest.remove_prefix(length);
  }
}

void require_strong(unsigned iterations, bool allow_weak) {
  const unsigned least = allow_weak ? luks::kMinIterations : kLeastIterations;
  if (iterations < least || iterations > luks::kMaxIterations)
    throw Fault(FaultKind::usage, "PBKDF2 iterations: " + std::to_string(iterations) + ", must be " + std::to_string(least) +
                                      " to " + std::to_string(luks::kMaxIterations));
}

void check_encryption(const TransferOptions& options) {
  if (!options.encrypt) return;
  require_openable_by_qemu(*options.encrypt);
  require_strong(options.pbkdf_iterations, options.allow_weak_pbkdf);
}

}  // namespace nasbackup
