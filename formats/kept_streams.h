// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The streams of compressed clusters, kept while an image is read, so that what was decoded and compared can be stored again and
// need not be encoded. They lie in room that somebody else keeps alive. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstring>
#include <map>
#include <span>

#include "formats/compression.h"
#include "formats/compressor.h"
#include "formats/units.h"

namespace nasbackup {

class KeptStreams {
 public:
  /// Wanted are those of that codec, of clusters of that many bytes. `room`: as much as the clusters that will be read.
  KeptStreams(Codec codec, std::uint64_t cluster, std::span<std::byte> room) noexcept
      : codec_(codec), cluster_(cluster), room_(room) {}

  bool wants(Codec codec, std::uint64_t cluster) const noexcept { return codec == codec_ && cluster == cluster_; }
  /// Copies the stream of the cluster at `at`, unless the cluster would rather be stored in another way.
  void keep(GuestOffset at, std::span<const std::byte> stream) {
    if (stream.empty() || stream.size() > most_worth_keeping(cluster_) || stream.size() > room_.size()) return;
    std::memcpy(room_.data(), stream.data(), stream.size());
    streams_[at] = room_.first(stream.size());
    room_ = room_.subspan(stream.size());
  }

  /// Of the cluster at `at`; empty: none was kept.
  std::span<std::byte> at(GuestOffset at) const {
    const auto found = streams_.find(at);
    return found == streams_.end() ? std::span<std::byte>() : found->second;
  }
  /// What is left: enough for the clusters of which none was kept.
  std::span<std::byte> room() const noexcept { return room_; }

 private:
  Codec codec_;
  std::uint64_t cluster_;
  std::span<std::byte> room_;
  std::map<GuestOffset, std::span<std::byte>> streams_;
};

}  // namespace nasbackup
