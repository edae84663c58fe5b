// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See digest.h.
#include "crypto/digest.h"

#include <openssl/evp.h>

#include <cassert>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

namespace {

const EVP_MD* implementation(Hash hash) noexcept {
  switch (hash) {
    case Hash::sha1:
      return ::EVP_sha1();
    case Hash::sha256:
      return ::EVP_sha256();
    case Hash::sha512:
      return ::EVP_sha512();
  }
  return nullptr;
}

void require(int result) {
  if (result != 1) throw CryptoError("digest: the library refuses");
}

}  // namespace

std::optional<Hash> find_hash(std::string_view name) noexcept {
  if (name == "sha1") return Hash::sha1;
  if (name == "sha256") return Hash::sha256;
  if (name == "sha512") return Hash::sha512;
  return std::nullopt;
}

void Digest::Free::operator()(evp_md_ctx_st* context) const noexcept { ::EVP_MD_CTX_free(context); }

Digest::Digest(Hash hash) : hash_(hash), context_(::EVP_MD_CTX_new()) {
  if (!context_) throw std::bad_alloc();
  begin();
}

void Digest::begin() { require(::EVP_DigestInit_ex(context_.get(), implementation(hash_), nullptr)); }

void Digest::update(std::span<const std::byte> bytes) { require(::EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size())); }

void Digest::finish(std::span<std::byte> out) {
  assert(out.size() == digest_bytes(hash_));
  require(::EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(out.data()), nullptr));
  begin();
}

}  // namespace nasbackup::crypto
