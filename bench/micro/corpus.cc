// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The corpus of the micro benchmarks; see corpus.h.
#include "bench/micro/corpus.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "formats/is_zero.h"
#include "formats/units.h"

namespace nasbackup::bench {

namespace {
namespace fs = std::filesystem;

constexpr std::size_t kAmount = 16 << 20;      // the strongest levels take seconds for it
constexpr std::size_t kSpread = 8;             // of the files that are read, every eighth cluster
constexpr std::size_t kLargestFile = 8 << 20;  // one huge file must not be most of it
constexpr std::size_t kBlock = 4096;

/// FNV-1a: puts the files into an order that mixes all of the directory and is the same every time.
std::uint64_t place_of(const std::string& path) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char letter : path) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  return hash ^ hash >> 32;
}

std::vector<std::string> files_under(const std::string& top) {
  std::vector<std::string> files;
  const auto options = fs::directory_options::skip_permission_denied;
  for (const auto& entry : fs::recursive_directory_iterator(top, options))
    if (std::error_code ignored; entry.symlink_status(ignored).type() == fs::file_type::regular) files.push_back(entry.path());
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return place_of(a) < place_of(b); });
  return files;
}

void read_at(std::ifstream& file, std::uint64_t at, std::span<std::byte> into) {
  file.seekg(static_cast<std::streamoff>(at));
  file.read(reinterpret_cast<char*>(into.data()), static_cast<std::streamsize>(into.size()));
  file.clear();
}

/// Whole files, one behind the other, each padded to a block.
std::vector<std::byte> contents_of(const std::string& top, std::size_t amount) {
  std::vector<std::byte> bytes;
  for (const auto& path : files_under(top)) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    if (error || size == 0 || size > kLargestFile) continue;
    const std::size_t start = bytes.size();
    bytes.resize(start + round_up(size, kBlock));
    std::ifstream file(path, std::ios::binary);
    read_at(file, 0, std::span(bytes).subspan(start, size));
    if (bytes.size() >= amount) break;
  }
  return bytes;
}

void keep(std::vector<std::byte>& kept, std::span<const std::byte> cluster) {
  if (kept.size() < kAmount && !is_zero(cluster)) kept.insert(kept.end(), cluster.begin(), cluster.end());
}

std::vector<std::byte> clusters_of_files(const std::string& top) {
  const auto all = contents_of(top, kAmount * kSpread);
  std::vector<std::byte> kept;
  for (std::size_t at = 0; at + kClusterSize <= all.size(); at += kSpread * kClusterSize)
    keep(kept, std::span(all).subspan(at, kClusterSize));
  return kept;
}

std::vector<std::byte> clusters_of_disk(const std::string& path) {
  const std::uint64_t step = std::max<std::uint64_t>(fs::file_size(path) / (4 * kAmount), 1) * kClusterSize;
  std::ifstream file(path, std::ios::binary);
  std::vector<std::byte> kept, cluster(kClusterSize);
  for (std::uint64_t at = 0; at + kClusterSize <= fs::file_size(path); at += step) {
    read_at(file, at, cluster);
    keep(kept, cluster);
  }
  return kept;
}
}  // namespace

Corpus::Corpus(const std::string& place) : bytes_(fs::is_directory(place) ? clusters_of_files(place) : clusters_of_disk(place)) {
  if (bytes_.empty()) throw std::runtime_error("corpus: no data: " + place);
}

std::string corpus_place() {
  const char* place = std::getenv("NASBACKUP_CORPUS");
  return place != nullptr ? place : "/usr";
}

const Corpus& corpus() {
  static const Corpus it(corpus_place());
  return it;
}

}  // namespace nasbackup::bench
