// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See repair_journal.h.
#include "engine/io/repair_journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "engine/io/fault.h"
#include "engine/io/lifeline_state.h"
#include "engine/io/whole_write.h"
#include "formats/big_endian.h"

namespace nasbackup {

namespace {

using Sha256 = std::array<std::byte, 32>;

struct FileHead {
  char magic[8];
  Be64 version;
};

struct BlockHead {
  Be64 offset;
  Be64 length;  ///< at the end: how many blocks there were
};
static_assert(sizeof(BlockHead) == 16);

constexpr FileHead kHead{{'N', 'B', 'R', 'E', 'P', 'A', 'I', 'R'}, 1};
constexpr std::uint64_t kEnd = ~std::uint64_t{0};

constexpr std::size_t kSector = 512;  // what a disk writes whole or not at all

/// Every sector is what it was or what it shall be.
bool is_between(std::span<const std::byte> there, std::span<const std::byte> old, std::span<const std::byte> now) {
  for (std::size_t at = 0; at < there.size(); at += kSector) {
    const std::size_t length = std::min(kSector, there.size() - at);
    if (std::memcmp(&there[at], &old[at], length) != 0 && std::memcmp(&there[at], &now[at], length) != 0) return false;
  }
  return true;
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// False when the file ends too early.
bool read_all(int fd, std::uint64_t offset, std::span<std::byte> into, const std::string& path) {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_target_errno(errno, path, "read");
    if (got == 0) return false;
    into = into.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return true;
}

std::string journal_of(const std::string& image) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::canonical(image, error);  // beside the file, whatever link led to it
  if (error) throw Fault(FaultKind::failed, image + ": " + error.message());
  const std::string name = "." + whole.filename().string().substr(0, 220) + ".nasbackup-repair";
  return (whole.parent_path() / name).string();
}

}  // namespace

struct RepairJournal::Block {
  std::uint64_t offset;
  std::span<const std::byte> old;
  std::span<const std::byte> now;
};

RepairJournal::RepairJournal(int image, const std::string& path, LifelineState* lifeline)
    : image_(image), path_(path), journal_path_(journal_of(path)), lifeline_(lifeline) {
  struct stat info {};
  if (::fstat(image_, &info) != 0) throw_target_errno(errno, path_, "stat");
  if (!S_ISREG(info.st_mode)) throw Fault(FaultKind::failed, path_ + ": is not a regular file; only files are repaired");
}

RepairJournal::~RepairJournal() {
  if (journal_ && !committed_) discard();
}

bool RepairJournal::finish_interrupted() {
  const TargetCall mark(lifeline_);
  journal_ = FileDescriptor(::open(journal_path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!journal_ && errno == ENOENT) return false;
  if (!journal_) throw_target_errno(errno, journal_path_, "open");
  committed_ = true;  // whatever happens now, it stays until it is applied
  const bool whole = for_each_block([](const Block&) {});
  if (whole) apply();
  remove();
  return whole;
}

void RepairJournal::begin() {
  journal_ = FileDescriptor(::open(journal_path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!journal_) throw_target_errno(errno, journal_path_, "open");
  digest_ = crypto::Digest(crypto::Hash::sha256);
  written_ = blocks_ = 0;
  committed_ = false;
  append(bytes_of(kHead));
}

void RepairJournal::append(std::span<const std::byte> bytes) {
  const TargetCall mark(lifeline_);
  write_whole(journal_.get(), written_, bytes, journal_path_);
  digest_.update(bytes);
  written_ += bytes.size();
}

void RepairJournal::add(std::uint64_t offset, std::span<const std::byte> old, std::span<const std::byte> now) {
  assert(old.size() == now.size() && now.size() <= kMostBlockBytes);
  if (!journal_) begin();
  append(bytes_of(BlockHead{offset, now.size()}));
  append(old);
  append(now);
  ++blocks_;
}

void RepairJournal::commit() {
  append(bytes_of(BlockHead{kEnd, blocks_}));
  Sha256 sum;
  digest_.finish(sum);
  const TargetCall mark(lifeline_);
  write_whole(journal_.get(), written_, sum, journal_path_);
  sync_whole(journal_.get(), journal_path_);
  sync_directory();
  committed_ = true;
  apply();
  remove();
}

void RepairJournal::discard() noexcept {
  const TargetCall mark(lifeline_);
  if (journal_) ::unlink(journal_path_.c_str());
  journal_.reset();
  blocks_ = 0;
}

bool RepairJournal::for_each_block(const TakeBlock& take) const {
  FileHead head;
  if (!read_all(journal_.get(), 0, std::as_writable_bytes(std::span(&head, 1)), journal_path_)) return false;
  if (std::memcmp(&head, &kHead, sizeof head) != 0) return false;
  crypto::Digest digest(crypto::Hash::sha256);
  digest.update(bytes_of(head));
  std::vector<std::byte> bytes;
  std::uint64_t at = sizeof head;
  for (std::uint64_t blocks = 0;; ++blocks) {
    BlockHead block;
    if (!read_all(journal_.get(), at, std::as_writable_bytes(std::span(&block, 1)), journal_path_)) return false;
    at += sizeof block;
    digest.update(bytes_of(block));
    if (block.offset == kEnd) return block.length == blocks && ends_with(digest, at);
    if (block.length > kMostBlockBytes) return false;
    bytes.resize(2 * block.length);
    if (!read_all(journal_.get(), at, bytes, journal_path_)) return false;
    at += bytes.size();
    digest.update(bytes);
    take({block.offset, std::span(bytes).first(block.length), std::span(bytes).last(block.length)});
  }
}

bool RepairJournal::ends_with(crypto::Digest& digest, std::uint64_t at) const {
  Sha256 sum, stored;
  digest.finish(sum);
  return read_all(journal_.get(), at, stored, journal_path_) && stored == sum;
}

void RepairJournal::apply() {
  const auto look = [this](const Block& block) {
    std::vector<std::byte> there(block.now.size());
    if (!read_all(image_, block.offset, there, path_) || !is_between(there, block.old, block.now))
      throw Fault(FaultKind::failed, path_ + ": was changed after a repair was interrupted; the repair is not finished, remove " +
                                         journal_path_ + " to give it up");
  };
  if (!for_each_block(look)) throw Fault(FaultKind::failed, journal_path_ + ": does not read back; the image was not changed");
  for_each_block([this](const Block& block) { write_whole(image_, block.offset, block.now, path_); });
  sync_whole(image_, path_);
}

void RepairJournal::remove() {
  if (::unlink(journal_path_.c_str()) != 0) throw_target_errno(errno, journal_path_, "remove");
  journal_.reset();
  blocks_ = 0;
  sync_directory();
}

void RepairJournal::sync_directory() const {
  const std::string parent = std::filesystem::path(journal_path_).parent_path().string();
  const FileDescriptor directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw_target_errno(errno, parent, "open");
  if (::fsync(directory.get()) != 0 && errno != EINVAL && errno != ENOTSUP) throw_target_errno(errno, parent, "fsync");
}

}  // namespace nasbackup
