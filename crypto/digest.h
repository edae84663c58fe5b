// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The hash functions that LUKS headers name. A Digest is used by one thread at a time; the functions are pure.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

struct evp_md_ctx_st;

namespace nasbackup::crypto {

enum class Hash { sha1, sha256, sha512 };

inline constexpr std::size_t kMaxDigestBytes = 64;

constexpr std::size_t digest_bytes(Hash hash) noexcept { return hash == Hash::sha1 ? 20 : hash == Hash::sha256 ? 32 : 64; }

/// By the name that headers use, "sha256"; nothing for one that we do not have.
std::optional<Hash> find_hash(std::string_view name) noexcept;

/// Hashes one message after the other.
class Digest {
 public:
  explicit Digest(Hash hash);
  void update(std::span<const std::byte> bytes);
  /// Writes digest_bytes() and begins the next message.
  void finish(std::span<std::byte> out);

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };
  void begin();

  Hash hash_;
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace nasbackup::crypto
