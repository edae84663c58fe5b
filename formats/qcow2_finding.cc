// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qcow2_finding.h.
#include "formats/qcow2_finding.h"

#include <cstdio>
#include <utility>

namespace nasbackup::qcow2 {

namespace {

std::string hex(std::uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string place_of(const TableEntry& entry) {
  const std::string where = " at " + hex(entry.file_offset);
  switch (entry.table) {
    case Table::header:
    case Table::luks_header:
      return std::string(name_of(entry.table)) + where + ": " + hex(entry.value) + ": ";
    default:
      return std::string(name_of(entry.table)) + " entry " + std::to_string(entry.index) + where + ": " + hex(entry.value) + ": ";
  }
}

}  // namespace

std::string_view name_of(FindingKind kind) noexcept {
  switch (kind) {
    case FindingKind::corruption:
      return "corruption";
    case FindingKind::leak:
      return "leak";
    case FindingKind::check_error:
      return "check-error";
    case FindingKind::note:
      return "note";
  }
  return "";
}

std::string_view name_of(Table table) noexcept {
  switch (table) {
    case Table::header:
      return "header";
    case Table::l1_table:
      return "L1 table";
    case Table::l2_table:
      return "L2 table";
    case Table::refcount_table:
      return "refcount table";
    case Table::refcount_block:
      return "refcount block";
    case Table::snapshot_table:
      return "snapshot table";
    case Table::snapshot_l1_table:
      return "snapshot L1 table";
    case Table::bitmap_directory:
      return "bitmap directory";
    case Table::bitmap_table:
      return "bitmap table";
    case Table::luks_header:
      return "LUKS header";
  }
  return "";
}

bool Findings::wants(FindingKind kind) noexcept { return ++counts_[static_cast<std::size_t>(kind)] <= kMostKept; }

void Findings::add(FindingKind kind, const TableEntry& entry, std::string_view what) {
  if (wants(kind)) kept_.push_back({kind, entry, place_of(entry) + std::string(what)});
}

void Findings::add_mismatch(FindingKind kind, const TableEntry& refcount, std::uint64_t cluster, std::uint64_t references) {
  if (!wants(kind)) return;
  std::string text = place_of(refcount) + "cluster " + std::to_string(cluster) + " has refcount " +
                     std::to_string(refcount.value) + " and " + std::to_string(references) +
                     (references == 1 ? " reference" : " references");
  kept_.push_back({kind, refcount, std::move(text)});
}

void Findings::append(Findings&& others) {
  for (Finding& finding : others.kept_) {
    const auto kind = static_cast<std::size_t>(finding.kind);
    --others.counts_[kind];
    if (wants(finding.kind)) kept_.push_back(std::move(finding));
  }
  for (std::size_t kind = 0; kind < kFindingKinds; ++kind) counts_[kind] += others.counts_[kind];
}

}  // namespace nasbackup::qcow2
