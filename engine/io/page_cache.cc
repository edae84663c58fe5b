// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The page cache's part of a file; see page_cache.h.
#include "engine/io/page_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "engine/io/file_descriptor.h"
#include "engine/io/lifeline_state.h"

namespace nasbackup {

namespace {

constexpr std::uint64_t kWindow = 8u << 20;  // mapped at once

/// To everybody else the kernel says that all is in memory (mincore(2) since Linux 5.2).
bool may_ask(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return false;
  return info.st_uid == ::geteuid() || ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0;
}

/// Pages in memory of a window that begins at a whole page; a negative number when it cannot be mapped.
std::int64_t pages_in_memory(int fd, std::uint64_t from, std::uint64_t length, std::uint64_t page) {
  void* mapped = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(from));
  if (mapped == MAP_FAILED) return -1;
  std::vector<unsigned char> pages((length + page - 1) / page);
  const int result = ::mincore(mapped, length, pages.data());
  ::munmap(mapped, length);
  if (result != 0) return -1;
  return std::count_if(pages.begin(), pages.end(), [](unsigned char bits) { return (bits & 1) != 0; });
}

std::int64_t size_of(const std::string& path, LifelineState* lifeline) noexcept {
  const TargetCall mark(lifeline);
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return file ? ::lseek(file.get(), 0, SEEK_END) : -1;  // of a device too
}

}  // namespace

double cached_share(const std::string& path, const std::vector<GuestRange>& ranges, LifelineState* lifeline) noexcept try {
  const TargetCall mark(lifeline);
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file || !may_ask(file.get(), path)) return -1;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::uint64_t cached = 0, all = 0;
  for (const GuestRange& range : ranges) {
    for (std::uint64_t at = round_down(range.start.value, page); at < range.end().value; at += kWindow) {
      const std::uint64_t length = std::min(kWindow, range.end().value - at);
      const std::int64_t pages = pages_in_memory(file.get(), at, length, page);
      if (pages < 0) return -1;
      cached += static_cast<std::uint64_t>(pages);
      all += (length + page - 1) / page;
    }
  }
  return all == 0 ? -1 : static_cast<double>(cached) / static_cast<double>(all);
} catch (...) {
  return -1;
}

void drop_cached(const std::string& path, const std::vector<GuestRange>& ranges, LifelineState* lifeline) noexcept {
  const TargetCall mark(lifeline);
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return;
  ::fdatasync(file.get());  // what is dirty cannot go
  for (const GuestRange& range : ranges)
    ::posix_fadvise(file.get(), static_cast<off_t>(range.start.value), static_cast<off_t>(range.length), POSIX_FADV_DONTNEED);
}

bool let_file_go(const std::string& path, LifelineState* lifeline) noexcept {
  const std::int64_t size = size_of(path, lifeline);
  if (size <= 0) return size == 0;
  const std::vector<GuestRange> whole{{GuestOffset(0), static_cast<std::uint64_t>(size)}};
  drop_cached(path, whole, lifeline);
  return cached_share(path, whole, lifeline) == 0;
}

}  // namespace nasbackup
