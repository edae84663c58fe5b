// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a check of a qcow2 finds, as data. All of it is counted; of each kind the first ones are kept, with a text for people,
// because a broken table can have millions. Used by one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nasbackup::qcow2 {

/// `check_error`: something could not be checked. `note`: worth a line, and no fault.
enum class FindingKind { corruption, leak, check_error, note };
inline constexpr std::size_t kFindingKinds = 4;

/// Where the value stands that the finding is about.
enum class Table {
  header,
  l1_table,
  l2_table,
  refcount_table,
  refcount_block,
  snapshot_table,
  snapshot_l1_table,
  bitmap_directory,
  bitmap_table,
  luks_header,
};

std::string_view name_of(FindingKind kind) noexcept;  ///< "corruption", "leak", "check-error", "note"
std::string_view name_of(Table table) noexcept;       ///< "L2 table"

/// One value of a table.
struct TableEntry {
  Table table = Table::header;
  std::uint64_t index = 0;        ///< of the entry
  std::uint64_t value = 0;        ///< as it stands there
  std::uint64_t file_offset = 0;  ///< of the value itself
};

struct Finding {
  FindingKind kind = FindingKind::corruption;
  TableEntry entry;
  std::string text;  ///< one line, "L2 table entry 5 at 0x40028: 0x8000…: what is wrong"
};

class Findings {
 public:
  static constexpr std::size_t kMostKept = 1000;  ///< of each kind

  /// `what`: the end of the line.
  void add(FindingKind kind, const TableEntry& entry, std::string_view what);
  void corrupt(const TableEntry& entry, std::string_view what) { add(FindingKind::corruption, entry, what); }
  /// Of a cluster whose stored refcount is not what its references come to.
  void add_mismatch(FindingKind kind, const TableEntry& refcount, std::uint64_t cluster, std::uint64_t references);
  /// Those of another thread, behind ours.
  void append(Findings&& others);

  std::uint64_t count(FindingKind kind) const noexcept { return counts_[static_cast<std::size_t>(kind)]; }
  const std::vector<Finding>& kept() const noexcept { return kept_; }

 private:
  /// Counts it; true when there is room to keep it.
  bool wants(FindingKind kind) noexcept;

  std::array<std::uint64_t, kFindingKinds> counts_{};
  std::vector<Finding> kept_;
};

}  // namespace nasbackup::qcow2
