// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See mount_point.h.
#include "engine/mount_point.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "engine/io/fault.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/run_lock.h"

namespace nasbackup {

namespace {

constexpr std::string_view kRecordPrefix = "mount-";
constexpr std::string_view kPointPrefix = "csbackup.";
constexpr std::size_t kRandomLetters = 5;
constexpr int kTries = 100;

std::string record_path(const std::string& run_id) {
  return std::string(kRunDirectory) + "/" + std::string(kRecordPrefix) + run_id;
}

std::string random_letters() {
  constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  unsigned char bytes[kRandomLetters];
  if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    throw Fault(FaultKind::failed, std::string("getrandom: ") + std::strerror(errno));
  std::string letters;
  for (const unsigned char byte : bytes) letters += kLetters[byte % (sizeof kLetters - 1)];
  return letters;
}

std::string below() {
  const char* directory = std::getenv("TMPDIR");
  return directory != nullptr && *directory == '/' ? directory : "/tmp";
}

void write_record(const std::string& run_id, const std::string& point) {
  const std::string path = record_path(run_id);
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file || ::write(file.get(), point.data(), point.size()) != static_cast<ssize_t>(point.size()))
    throw Fault(FaultKind::failed, path + ": cannot be written: " + std::strerror(errno));
}

/// Empty: there is none.
std::string read_record(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  char text[4096];
  const ssize_t length = file ? ::read(file.get(), text, sizeof text) : 0;
  return std::string(text, length > 0 ? static_cast<std::size_t>(length) : 0);
}

bool may_be_ours(const std::string& point) {
  const std::string name = std::filesystem::path(point).filename().string();
  return name.starts_with(kPointPrefix) && name.size() == kPointPrefix.size() + kRandomLetters;
}

}  // namespace

std::string make_mount_point(const std::string& run_id) {
  make_run_directory();
  for (int i = 0; i < kTries; ++i) {
    const std::string point = below() + "/" + std::string(kPointPrefix) + random_letters();
    struct stat ignored {};
    if (::lstat(point.c_str(), &ignored) == 0) continue;  // somebody's; it must not stand in our record
    write_record(run_id, point);
    if (::mkdir(point.c_str(), 0700) == 0) return point;
    if (errno == EEXIST) continue;
    const int error = errno;
    ::unlink(record_path(run_id).c_str());
    throw Fault(FaultKind::failed, point + ": cannot make the directory: " + std::strerror(error));
  }
  throw Fault(FaultKind::failed, below() + ": no name left for a mount point");
}

void remove_mount_point(const std::string& run_id) noexcept {
  try {
    const std::string record = record_path(run_id);
    const std::string point = read_record(record);
    if (may_be_ours(point)) ::rmdir(point.c_str());  // one that is not empty is not ours any more
    if (!point.empty()) ::unlink(record.c_str());
  } catch (const std::exception&) {  // no memory: the next run sweeps it
  }
}

void sweep_mount_points() noexcept {
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(kRunDirectory, ignored), end; !ignored && at != end; at.increment(ignored)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(kRecordPrefix)) continue;
    const std::string run_id = name.substr(kRecordPrefix.size());
    if (is_run_id(run_id) && !run_is_alive(run_id)) remove_mount_point(run_id);
  }
}

}  // namespace nasbackup
