// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The bucket that jobs share; see rate_group.h.
#include "engine/io/rate_group.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <thread>

#include "engine/io/fault.h"

namespace nasbackup {

namespace {

constexpr std::array<char, 8> kMagic{'n', 'b', 'r', 'a', 't', 'e', '\r', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kLongestName = 64;
/// Whoever begins a group holds it alone for some microseconds.
constexpr std::chrono::seconds kPatience{2};
constexpr std::chrono::milliseconds kPause{2};

[[noreturn]] void refuse(const std::string& path, const std::string& what, int error) {
  throw Fault(FaultKind::failed, path + ": " + what + ": " + std::strerror(error));
}

FileDescriptor open_file(const std::string& path) {
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!file) refuse(path, "open", errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) refuse(path, "stat", errno);
  if (!S_ISREG(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    throw Fault(FaultKind::failed, path + ": must be a file that only its owner, this user, can read and write");
  return file;
}

/// Whether the file still has its name: the last member may have taken it away while we waited for the lock.
bool has_name(int file) {
  struct stat info {};
  return ::fstat(file, &info) == 0 && info.st_nlink > 0;
}

}  // namespace

/// The file. What is in it is trusted only as far as the bucket's own bounds go.
struct RateGroup::Segment {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t size = sizeof(Segment);
  BucketState bucket;
};

bool is_rate_group_name(std::string_view name) noexcept {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= kLongestName && plain(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return plain(c) || c == '.' || c == '-' || c == '_'; });
}

RateGroup::RateGroup(const std::string& run_directory, const std::string& name) : path_(run_directory + "/rate-" + name) {
  if (!is_rate_group_name(name))
    throw Fault(FaultKind::usage, "--rate-group " + name + ": write up to 64 letters, digits, '.', '-' or '_'");
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!join()) {
    if (std::chrono::steady_clock::now() > until)
      throw Fault(FaultKind::locked, path_ + ": another run has it locked and does not let go");
    std::this_thread::sleep_for(kPause);
  }
  void* page = ::mmap(nullptr, sizeof(Segment), PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (page == MAP_FAILED) refuse(path_, "map", errno);
  segment_ = static_cast<Segment*>(page);
}

// Alone: it begins anew, whatever is in it. Between the two locks another one may do the same, which changes nothing.
bool RateGroup::join() {
  file_ = open_file(path_);
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) == 0 && has_name(file_.get())) {
    const Segment fresh;
    if (::ftruncate(file_.get(), sizeof fresh) != 0) refuse(path_, "size", errno);
    if (::pwrite(file_.get(), static_cast<const void*>(&fresh), sizeof fresh, 0) != ssize_t{sizeof fresh})
      refuse(path_, "write", errno);
  }
  if (::flock(file_.get(), LOCK_SH | LOCK_NB) != 0 || !has_name(file_.get())) return false;
  struct Head {
    std::array<char, 8> magic{};
    std::uint32_t version = 0, size = 0;
  } head;
  struct stat info {};
  const bool whole = ::fstat(file_.get(), &info) == 0 && info.st_size == off_t{sizeof(Segment)} &&
                     ::pread(file_.get(), &head, sizeof head, 0) == ssize_t{sizeof head};
  if (!whole || head.magic != kMagic || head.version != kVersion || head.size != sizeof(Segment))
    throw Fault(FaultKind::failed, path_ + ": not a rate group of this version, and another run uses it: name another group");
  return true;
}

RateGroup::~RateGroup() {
  ::munmap(segment_, sizeof(Segment));
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(path_.c_str());
}

BucketState& RateGroup::bucket() const noexcept { return segment_->bucket; }

}  // namespace nasbackup
