// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See chain.h.
#include "engine/set/chain.h"

#include <algorithm>
#include <set>

namespace nasbackup::set {

Chains::Chains(const std::vector<CatalogueSet>& sets) {
  for (const CatalogueSet& set : sets) {
    by_name_.emplace(set.name, &set);
    if (set.manifest && set.manifest->parent) children_.emplace(set.manifest->parent->set, &set);
  }
}

const CatalogueSet* Chains::parent_of(const CatalogueSet& set) const {
  if (!set.manifest || !set.manifest->parent) return nullptr;
  const auto found = by_name_.find(set.manifest->parent->set);
  return found == by_name_.end() ? nullptr : found->second;
}

std::string Chains::break_of(const CatalogueSet& set) const {
  for (const CatalogueSet* link : below(set)) {
    if (!link->manifest || !link->manifest->parent) continue;
    const ManifestParent& named = *link->manifest->parent;
    const std::string whose = link == &set ? "its parent " : link->name + ", on which it stands, has a parent that ";
    const std::string who = link == &set ? whose + named.set + " " : whose;
    const CatalogueSet* parent = parent_of(*link);
    if (parent == nullptr) return who + "is missing";
    if (!parent->manifest) return who + "cannot be read";
    if (parent->manifest->seal.sha256 != named.sha256) return who + "is not the one that it was made from";
  }
  return {};
}

std::vector<const CatalogueSet*> Chains::below(const CatalogueSet& set) const {
  std::vector<const CatalogueSet*> links;
  std::set<const CatalogueSet*> seen;
  for (const CatalogueSet* link = &set; link != nullptr && seen.insert(link).second; link = parent_of(*link))
    links.push_back(link);
  return links;
}

std::vector<const CatalogueSet*> Chains::above(const CatalogueSet& set) const {
  std::vector<const CatalogueSet*> found{&set};
  std::set<const CatalogueSet*> seen{&set};
  for (std::size_t next = 0; next < found.size(); ++next) {
    const auto [begin, end] = children_.equal_range(found[next]->name);
    for (auto child = begin; child != end; ++child)
      if (seen.insert(child->second).second) found.push_back(child->second);
  }
  found.erase(found.begin());
  std::reverse(found.begin(), found.end());
  return found;
}

}  // namespace nasbackup::set
