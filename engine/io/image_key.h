// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The keys of one job that encrypts. Each image has a random volume key of its own, known at once, so that data can be encrypted;
// the key slot that guards it takes seconds of key stretching (PBKDF2), which run beside the data on threads of their own and are
// waited for only when the header is written. All images of a job share the slot's salt, so that there is one derivation to write
// them and one to read them (ARCHITECTURE.md, "What we write", 4).
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/thread_pool.hpp>

#include "crypto/aes_xts.h"
#include "crypto/random_source.h"
#include "crypto/secret.h"
#include "formats/digest_format.h"
#include "formats/luks_header.h"
#include "formats/luks_key_ring.h"

namespace nasbackup {

namespace asio = boost::asio;

/// How often PBKDF2 is iterated.
struct Stretching {
  std::uint32_t slot = 2'000'000;
  std::uint32_t digest = 250'000;  ///< of the volume key's digest
};

/// One image's key. header() is for one thread, all else for any.
class ImageKey {
 public:
  /// Waits for its digest, which is computed on another thread: a job that fails early lets its keys go before that is done.
  ~ImageKey();
  ImageKey(const ImageKey&) = delete;
  ImageKey& operator=(const ImageKey&) = delete;

  const crypto::AesXts& cipher() const noexcept { return cipher_; }
  const crypto::Secret& volume_key() const noexcept { return draw_.volume_key; }
  /// As the header has it.
  std::string uuid() const { return luks::uuid_text(draw_.uuid); }
  /// Of the key that the tags of this image's digests are made with.
  const digests::Salt& tag_salt() const noexcept { return tag_salt_; }
  /// Everything in front of the payload, which begins at `payload_offset` (in sectors): phdr and key material. Blocks until the
  /// key stretching is done. To be called once.
  std::vector<std::byte> header(std::uint32_t payload_offset);
  /// Where to wait for header() without holding anybody up.
  asio::any_io_executor threads() const { return threads_; }

 private:
  friend class JobKeys;
  ImageKey(luks::ImageDraw draw, const digests::Salt& tag_salt, luks::SlotKdf kdf, std::uint32_t digest_iterations);

  luks::ImageDraw draw_;
  digests::Salt tag_salt_;
  luks::SlotKdf kdf_;
  crypto::AesXts cipher_;
  luks::VolumeKeyDigest digest_;
  asio::any_io_executor threads_;
  std::future<void> digest_done_;
  std::shared_future<std::shared_ptr<const crypto::Secret>> slot_key_;
};

/// Used by one thread; outlives its images' keys.
class JobKeys {
 public:
  /// Begins the key stretching. `random` is drawn from in the order of the calls, by this constructor first, so that the same
  /// source gives the same bytes. `passphrase` is not needed any more when the images' headers are written.
  /// A stop ends the stretching, and the waiting for it, with crypto::Stopped.
  JobKeys(std::shared_ptr<const crypto::Secret> passphrase, Stretching stretching, crypto::RandomSource& random,
          std::stop_token stop = {});
  /// With a slot that other images have, and whose key is known: nothing is stretched.
  JobKeys(luks::SharedSlot slot, Stretching stretching, crypto::RandomSource& random, std::stop_token stop = {});
  ~JobKeys();
  JobKeys(const JobKeys&) = delete;
  JobKeys& operator=(const JobKeys&) = delete;

  std::shared_ptr<ImageKey> next_image();
  /// How the slot key is derived; and the key, once it is.
  const luks::SlotKdf& kdf() const noexcept { return kdf_; }
  const std::shared_future<std::shared_ptr<const crypto::Secret>>& slot_key() const noexcept { return slot_key_; }
  /// CPU seconds that the key stretching took so far.
  double cpu_seconds() const noexcept { return static_cast<double>(cpu_ns_) / 1e9; }

 private:
  Stretching stretching_;
  std::stop_token stop_;
  crypto::RandomSource& random_;
  luks::SlotKdf kdf_;
  std::shared_future<std::shared_ptr<const crypto::Secret>> slot_key_;
  std::atomic<std::int64_t> cpu_ns_{0};
  asio::thread_pool threads_{2};  // last: what runs on it uses the rest
};

}  // namespace nasbackup
