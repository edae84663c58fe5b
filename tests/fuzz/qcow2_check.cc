// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: the whole check of an image, and its repair. The input is the image (memory_check.h, unpacked). Promised: what is
// found stands in the image; a repair changes only what is there, leaves no corruption that was not there, and no leak that it
// could repair.
#include "tests/fuzz/memory_check.h"

namespace nasbackup::qcow2 {
namespace {

using fuzz::accepted;
using fuzz::Bytes;
using fuzz::require;

std::uint64_t corruptions(const MetadataCheck& check) noexcept { return check.findings.count(FindingKind::corruption); }

/// An image with more is not repaired here: that takes as long as five checks, and most of it goes into texts.
constexpr std::size_t kFewFindings = 200;

/// But for COPIED flags: a refcount that is right may be one for which the flag is wrong. Nothing when not all findings were
/// kept.
std::optional<std::uint64_t> corruptions_beside_copied(const MetadataCheck& check) {
  if (corruptions(check) > Findings::kMostKept) return std::nullopt;
  return std::ranges::count_if(check.findings.kept(), [](const Finding& finding) {
    return finding.kind == FindingKind::corruption && finding.text.find("COPIED") == std::string::npos;
  });
}

void require_findings(const Findings& findings) {
  std::uint64_t counted = 0;
  for (const FindingKind kind : {FindingKind::corruption, FindingKind::leak, FindingKind::check_error, FindingKind::note})
    counted += std::min<std::uint64_t>(findings.count(kind), Findings::kMostKept);
  require(findings.kept().size() == counted, "of each kind so many are kept");
  for (const Finding& finding : findings.kept()) require(!finding.text.empty(), "a finding has a text");
}

/// What a round hands out, put into the image when it is sound: as engine/check.cc does.
class Repair {
 public:
  explicit Repair(Bytes image) : image_(std::move(image)) {}

  /// What was found before it changed something.
  MetadataCheck round(RepairRound round) {
    blocks_.clear();
    const RepairRequest request{
        round, [&](std::uint64_t offset, std::span<const std::byte> old, std::span<const std::byte> now) {
          require(old.size() == now.size() && offset <= image_.size() && now.size() <= image_.size() - offset,
                  "a block is in the file");
          require(std::equal(old.begin(), old.end(), image_.begin() + static_cast<std::ptrdiff_t>(offset)),
                  "old is what stands there");
          blocks_.emplace_back(offset, Bytes(now.begin(), now.end()));
        }};
    MetadataCheck check = fuzz::check_tables(image_, &request);
    const bool sound = round == RepairRound::copied        ? check.refcount_mismatches == 0
                       : round == RepairRound::header_bits ? check.only_header_bits
                                                           : true;
    if (sound) apply();
    return check;
  }
  /// Whether the last round had something to change.
  bool changed() const noexcept { return !blocks_.empty(); }

 private:
  void apply() {
    std::sort(blocks_.begin(), blocks_.end());
    std::uint64_t end = 0;
    for (const auto& [offset, bytes] : blocks_) {
      require(offset >= end, "blocks do not overlap");
      end = offset + bytes.size();
      std::copy(bytes.begin(), bytes.end(), image_.begin() + static_cast<std::ptrdiff_t>(offset));
    }
  }

  Bytes image_;
  std::vector<std::pair<std::uint64_t, Bytes>> blocks_;
};

void repair(std::span<const std::byte> image, const MetadataCheck& before) {
  Repair repair(Bytes(image.begin(), image.end()));
  repair.round(RepairRound::refcounts);
  repair.round(RepairRound::copied);
  repair.round(RepairRound::header_bits);
  const MetadataCheck after = repair.round(RepairRound::leaks);
  require(!repair.changed(), "after a repair of all there is no leak left to repair");
  const auto were = corruptions_beside_copied(before), are = corruptions_beside_copied(after);
  if (were) require(are && *are <= *were, "a repair makes nothing worse");
}

void run(std::span<const std::byte> image) {
  auto check = accepted([&] { return fuzz::check_tables(image); });
  if (!check) return;
  require_findings(check->findings);
  if (!fuzz::is_clean(*check) && check->findings.kept().size() <= kFewFindings) repair(image, *check);
  fuzz::check_streams(image, *check);
  require_findings(check->findings);
}

}  // namespace
}  // namespace nasbackup::qcow2

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nasbackup::qcow2::run(nasbackup::fuzz::unpacked(nasbackup::fuzz::bytes_of(data, size)));
  return 0;
}
