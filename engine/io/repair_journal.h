// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Makes the changes of a repair one change: what will stand in the image is first written to a hidden file beside it
// (.IMAGE.nasbackup-repair) and flushed; only then is the image changed, flushed, and the journal removed. After a kill the
// journal is either not whole, and the image untouched, or whole, and applied again by finish_interrupted(). A block that is
// in some sector neither what it was nor what it shall be tells that somebody else has used the image meanwhile: then nothing is
// written.
//
//     magic "NBREPAIR", version 1 (8 bytes, big-endian)
//     for each block: file offset, length (8 bytes each), what stands there, what shall stand there
//     the end: offset 2^64 - 1, number of blocks, SHA-256 (32 bytes) of all that comes before
//
// Blocking calls, marked on the lifeline, which may be null. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "crypto/digest.h"
#include "engine/io/file_descriptor.h"

namespace nasbackup {

struct LifelineState;

class RepairJournal {
 public:
  static constexpr std::size_t kMostBlockBytes = 2u << 20;  ///< a cluster

  /// `image`: open for reading and writing, and locked; stays the caller's. Throws Fault unless it is a regular file.
  RepairJournal(int image, const std::string& path, LifelineState* lifeline);
  /// Removes a journal that was not committed.
  ~RepairJournal();
  RepairJournal(const RepairJournal&) = delete;
  RepairJournal& operator=(const RepairJournal&) = delete;

  /// Applies what an interrupted repair left, if it did. To be called before anything else. True: the image was changed.
  bool finish_interrupted();
  /// `offset` in the file; both of the same size, at most kMostBlockBytes.
  void add(std::uint64_t offset, std::span<const std::byte> old, std::span<const std::byte> now);
  bool empty() const noexcept { return blocks_ == 0; }
  void commit();
  void discard() noexcept;

 private:
  struct Block;
  using TakeBlock = std::function<void(const Block&)>;

  void begin();
  void append(std::span<const std::byte> bytes);
  /// False when the journal is not whole.
  bool for_each_block(const TakeBlock& take) const;
  bool ends_with(crypto::Digest& digest, std::uint64_t at) const;
  void apply();
  void remove();
  void sync_directory() const;

  int image_;
  std::string path_;
  std::string journal_path_;
  LifelineState* lifeline_;
  FileDescriptor journal_;
  crypto::Digest digest_{crypto::Hash::sha256};
  std::uint64_t written_ = 0;
  std::uint64_t blocks_ = 0;
  bool committed_ = false;
};

}  // namespace nasbackup
