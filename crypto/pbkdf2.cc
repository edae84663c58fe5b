// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See pbkdf2.h. The library's own PKCS5_PBKDF2_HMAC copies large contexts in every iteration: 0.44 to 0.69 s for a million of
// SHA-256, where this takes 0.10 s (with SHA instructions): two calls of the bare compression function, the pads of HMAC hashed
// once. For that it needs the hash functions' old interface, deprecated in OpenSSL 3 but without a successor.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/pbkdf2.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>

#include "crypto/crypto_error.h"

namespace nasbackup::crypto {

namespace {

struct Sha1 {
  using Context = SHA_CTX;
  using Word = std::uint32_t;
  static constexpr std::size_t kBlock = SHA_CBLOCK, kDigest = SHA_DIGEST_LENGTH, kLengthField = 8;
  static constexpr auto init = SHA1_Init;
  static constexpr auto update = SHA1_Update;
  static constexpr auto final = SHA1_Final;
  static constexpr auto transform = SHA1_Transform;
  static_assert(offsetof(Context, h0) == 0 && offsetof(Context, h4) == 16);
};

struct Sha256 {
  using Context = SHA256_CTX;
  using Word = std::uint32_t;
  static constexpr std::size_t kBlock = SHA256_CBLOCK, kDigest = SHA256_DIGEST_LENGTH, kLengthField = 8;
  static constexpr auto init = SHA256_Init;
  static constexpr auto update = SHA256_Update;
  static constexpr auto final = SHA256_Final;
  static constexpr auto transform = SHA256_Transform;
  static_assert(offsetof(Context, h) == 0);
};

struct Sha512 {
  using Context = SHA512_CTX;
  using Word = std::uint64_t;
  static constexpr std::size_t kBlock = SHA512_CBLOCK, kDigest = SHA512_DIGEST_LENGTH, kLengthField = 16;
  static constexpr auto init = SHA512_Init;
  static constexpr auto update = SHA512_Update;
  static constexpr auto final = SHA512_Final;
  static constexpr auto transform = SHA512_Transform;
  static_assert(offsetof(Context, h) == 0);
};

template <class Word>
Word big_endian(Word word) noexcept {
  if constexpr (std::endian::native == std::endian::big) return word;
  if constexpr (sizeof(Word) == 4) return __builtin_bswap32(word);
  if constexpr (sizeof(Word) == 8) return __builtin_bswap64(word);
}

/// Iterations between two looks at whether to stop: some milliseconds.
constexpr std::uint32_t kAtOnce = 1u << 14;

/// Everything that is derived from the passphrase, on the stack of one call and wiped at its end.
template <class Hash>
class Derivation {
  using Context = typename Hash::Context;
  using Word = typename Hash::Word;
  using Block = std::array<unsigned char, Hash::kBlock>;
  static constexpr std::size_t kWords = Hash::kDigest / sizeof(Word);
  using State = std::array<Word, kWords>;

 public:
  explicit Derivation(std::span<const std::byte> passphrase) noexcept {
    Block key{};
    if (passphrase.size() > key.size()) {  // RFC 2104
      Context context;
      Hash::init(&context);
      Hash::update(&context, passphrase.data(), passphrase.size());
      Hash::final(key.data(), &context);
      OPENSSL_cleanse(&context, sizeof context);
    } else if (!passphrase.empty()) {
      std::memcpy(key.data(), passphrase.data(), passphrase.size());
    }
    hash_pad(inner_, key, 0x36);
    hash_pad(outer_, key, 0x5c);
    OPENSSL_cleanse(key.data(), key.size());
    prepare_padding();
  }
  ~Derivation() { OPENSSL_cleanse(this, sizeof *this); }
  Derivation(const Derivation&) = delete;
  Derivation& operator=(const Derivation&) = delete;

  /// F(P, S, c, i) of the RFC; `number` counts from 1.
  void run(std::span<const std::byte> salt, std::uint32_t iterations, std::uint32_t number, std::span<std::byte> out,
           const std::stop_token& stop) {
    first(salt, number);
    load(sum_);
    for (std::uint32_t done = 1; done < iterations;) {
      if (stop.stop_requested()) throw Stopped();
      for (const std::uint32_t until = done + std::min(kAtOnce, iterations - done); done < until; ++done) next();
    }
    for (Word& word : sum_) word = big_endian(word);
    std::memcpy(out.data(), sum_.data(), out.size());
  }

 private:
  static void hash_pad(Context& context, const Block& key, unsigned char pad) noexcept {
    Block padded = key;
    for (unsigned char& byte : padded) byte = static_cast<unsigned char>(byte ^ pad);
    Hash::init(&context);
    Hash::update(&context, padded.data(), padded.size());
    OPENSSL_cleanse(padded.data(), padded.size());
  }

  // From the second iteration on both hashes end with one block: a digest, the end mark and the length of pad and digest.
  void prepare_padding() noexcept {
    block_.fill(0);
    block_[Hash::kDigest] = 0x80;
    constexpr std::size_t bits = (Hash::kBlock + Hash::kDigest) * 8;
    static_assert(bits < 65536 && Hash::kDigest + 1 + Hash::kLengthField <= Hash::kBlock);
    block_[Hash::kBlock - 2] = static_cast<unsigned char>(bits >> 8);
    block_[Hash::kBlock - 1] = static_cast<unsigned char>(bits & 0xff);
  }

  void first(std::span<const std::byte> salt, std::uint32_t number) noexcept {
    const std::uint32_t index = big_endian(number);
    work_ = inner_;
    Hash::update(&work_, salt.data(), salt.size());
    Hash::update(&work_, &index, sizeof index);
    Hash::final(block_.data(), &work_);
    work_ = outer_;
    Hash::transform(&work_, block_.data());
    store();
  }

  void next() noexcept {
    set_state(inner_);
    Hash::transform(&work_, block_.data());
    store();
    set_state(outer_);
    Hash::transform(&work_, block_.data());
    store();
    State now;
    load(now);
    for (std::size_t i = 0; i < kWords; ++i) sum_[i] ^= now[i];
  }

  void set_state(const Context& from) noexcept { std::memcpy(static_cast<void*>(&work_), &from, sizeof(State)); }
  void load(State& state) const noexcept { std::memcpy(state.data(), &work_, sizeof(State)); }
  /// The state, as a digest, becomes the beginning of the next block.
  void store() noexcept {
    State state;
    load(state);
    for (Word& word : state) word = big_endian(word);
    std::memcpy(block_.data(), state.data(), Hash::kDigest);
  }

  Context inner_, outer_;  // each after its pad
  Context work_;
  Block block_;
  State sum_;
};

}  // namespace

void pbkdf2_block(Hash hash, std::span<const std::byte> passphrase, std::span<const std::byte> salt, std::uint32_t iterations,
                  std::uint32_t index, std::span<std::byte> key, std::stop_token stop) {
  assert(iterations > 0 && index < pbkdf2_blocks(hash, key.size()));
  const std::size_t size = digest_bytes(hash);
  const auto out = key.subspan(index * size, std::min(size, key.size() - index * size));
  switch (hash) {
    case Hash::sha1:
      return Derivation<Sha1>(passphrase).run(salt, iterations, index + 1, out, stop);
    case Hash::sha256:
      return Derivation<Sha256>(passphrase).run(salt, iterations, index + 1, out, stop);
    case Hash::sha512:
      return Derivation<Sha512>(passphrase).run(salt, iterations, index + 1, out, stop);
  }
}

void pbkdf2(Hash hash, std::span<const std::byte> passphrase, std::span<const std::byte> salt, std::uint32_t iterations,
            std::span<std::byte> key, std::stop_token stop) {
  for (std::uint32_t i = 0; i < pbkdf2_blocks(hash, key.size()); ++i)
    pbkdf2_block(hash, passphrase, salt, iterations, i, key, stop);
}

}  // namespace nasbackup::crypto
