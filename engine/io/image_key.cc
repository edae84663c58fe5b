// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Keys, and their stretching beside the data; see image_key.h.
#include "engine/io/image_key.h"

#include <utility>

#include <boost/asio/post.hpp>

#include "engine/io/thread_cpu.h"

namespace nasbackup {

namespace {

/// Runs `work` on the pool; the future has its end, or what it threw.
template <class Work>
auto begin_on(asio::thread_pool& threads, Work work) {
  auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
  auto future = task->get_future();
  asio::post(threads, [task] { (*task)(); });
  return future;
}

/// A slot key whose blocks, which do not depend on each other, are derived on as many threads as there are. The last one to come
/// gives the key away.
struct Derivation {
  std::shared_ptr<const crypto::Secret> passphrase;
  luks::SlotKdf kdf;
  std::stop_token stop;
  crypto::Secret key{luks::kVolumeKeyBytes};
  std::atomic<std::uint32_t> blocks_left{0};
  std::atomic_flag failed;
  std::promise<std::shared_ptr<const crypto::Secret>> done;

  void derive(std::uint32_t block) {
    try {
      luks::derive_slot_key_block(kdf, passphrase->bytes(), block, key.bytes(), stop);
      if (--blocks_left > 0) return;
      passphrase.reset();
      done.set_value(std::make_shared<const crypto::Secret>(std::move(key)));
    } catch (...) {
      if (!failed.test_and_set()) done.set_exception(std::current_exception());  // a stop, or no memory
    }
  }
};

}  // namespace

ImageKey::ImageKey(luks::ImageDraw draw, const digests::Salt& tag_salt, luks::SlotKdf kdf, std::uint32_t digest_iterations)
    : draw_(std::move(draw)), tag_salt_(tag_salt), kdf_(kdf), cipher_(draw_.volume_key.bytes()) {
  digest_.salt = draw_.digest_salt;
  digest_.iterations = digest_iterations;
}

ImageKey::~ImageKey() {
  if (digest_done_.valid()) digest_done_.wait();
}

std::vector<std::byte> ImageKey::header(std::uint32_t payload_offset) {
  digest_done_.get();
  const luks::HeaderRecipe recipe{payload_offset, draw_.uuid, digest_, kdf_};
  return luks::compose_header(recipe, draw_.volume_key, *slot_key_.get(), std::move(draw_.stripes));
}

JobKeys::JobKeys(std::shared_ptr<const crypto::Secret> passphrase, Stretching stretching, crypto::RandomSource& random,
                 std::stop_token stop)
    : stretching_(stretching), stop_(std::move(stop)), random_(random), kdf_(luks::draw_slot(random, stretching.slot)) {
  auto derivation = std::make_shared<Derivation>();
  derivation->passphrase = std::move(passphrase);
  derivation->kdf = kdf_;
  derivation->stop = stop_;
  derivation->blocks_left = luks::slot_key_blocks(kdf_, luks::kVolumeKeyBytes);
  slot_key_ = derivation->done.get_future().share();
  for (std::uint32_t block = 0, blocks = derivation->blocks_left; block < blocks; ++block)
    asio::post(threads_, [this, derivation, block] {
      const CpuMeter meter(cpu_ns_);
      derivation->derive(block);
    });
}

JobKeys::JobKeys(luks::SharedSlot slot, Stretching stretching, crypto::RandomSource& random, std::stop_token stop)
    : stretching_(stretching), stop_(std::move(stop)), random_(random), kdf_(slot.kdf) {
  std::promise<std::shared_ptr<const crypto::Secret>> known;
  slot_key_ = known.get_future().share();
  known.set_value(std::move(slot.key));
}

JobKeys::~JobKeys() { threads_.join(); }

std::shared_ptr<ImageKey> JobKeys::next_image() {
  luks::ImageDraw draw = luks::draw_image(random_);
  digests::Salt tag_salt;
  random_.fill(tag_salt);
  std::shared_ptr<ImageKey> key(new ImageKey(std::move(draw), tag_salt, kdf_, stretching_.digest));
  key->slot_key_ = slot_key_;
  key->threads_ = threads_.get_executor();
  key->digest_done_ = begin_on(threads_, [this, key = key.get()] {
    const CpuMeter meter(cpu_ns_);
    key->digest_.compute(key->draw_.volume_key.bytes(), stop_);
  });
  return key;
}

}  // namespace nasbackup
