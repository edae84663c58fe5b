// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// How the sets of one VM stand on each other: an increment on its parent, by the names of their directories
// (docs/formats/set.md). From manifests that nothing has proved: what they say is bounded, and a chain that comes back to itself
// ends there. Immutable; it refers to the sets it was made from. Safe from any thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/set/catalogue.h"

namespace nasbackup::set {

class Chains {
 public:
  /// `sets`: all of one VM; they outlive this.
  explicit Chains(const std::vector<CatalogueSet>& sets);

  /// Null: it has none, or it is not there.
  const CatalogueSet* parent_of(const CatalogueSet& set) const;
  /// One line when the set needs another that is missing or was replaced, anywhere below it; else empty.
  std::string break_of(const CatalogueSet& set) const;
  /// The set and what it stands on, down to where there is no parent.
  std::vector<const CatalogueSet*> below(const CatalogueSet& set) const;
  /// All that need the set, each before what it stands on.
  std::vector<const CatalogueSet*> above(const CatalogueSet& set) const;

 private:
  std::map<std::string, const CatalogueSet*> by_name_;
  std::multimap<std::string, const CatalogueSet*> children_;  // by the parent's name
};

}  // namespace nasbackup::set
