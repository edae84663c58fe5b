// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See checkpoint.h.
#include "engine/vm/checkpoint.h"

#include <algorithm>
#include <memory>
#include <sstream>

#include <libvirt/libvirt-domain-checkpoint.h>
#include <libvirt/virterror.h>
#include <pugixml.hpp>

namespace nasbackup::vm {

namespace {

struct FreeCheckpoint {
  void operator()(virDomainCheckpointPtr checkpoint) const noexcept { virDomainCheckpointFree(checkpoint); }
};
using Checkpoint = std::unique_ptr<virDomainCheckpoint, FreeCheckpoint>;

bool is_gone(int code) { return code == VIR_ERR_NO_DOMAIN_CHECKPOINT || code == VIR_ERR_NO_DOMAIN; }

}  // namespace

std::string checkpoint_xml(const std::string& name, const std::vector<DomainDisk>& backed_up,
                           const std::vector<DomainDisk>& all) {
  pugi::xml_document document;
  pugi::xml_node root = document.append_child("domaincheckpoint");
  root.append_child("name").text() = name.c_str();
  pugi::xml_node list = root.append_child("disks");
  for (const DomainDisk& disk : all) {
    const auto is_it = [&](const DomainDisk& other) { return other.target == disk.target; };
    const bool keeps_bitmap = disk.format == "qcow2" && std::any_of(backed_up.begin(), backed_up.end(), is_it);
    pugi::xml_node node = list.append_child("disk");
    node.append_attribute("name") = disk.target.c_str();
    node.append_attribute("checkpoint") = keeps_bitmap ? "bitmap" : "no";
  }
  std::ostringstream out;
  document.save(out, "  ", pugi::format_default | pugi::format_no_declaration);
  return out.str();
}

bool has_checkpoint(const Domain& domain, const std::string& name) {
  return Checkpoint(virDomainCheckpointLookupByName(domain.get(), name.c_str(), 0)) != nullptr;
}

bool delete_checkpoint(Domain& domain, const std::string& name) {
  const Checkpoint checkpoint(virDomainCheckpointLookupByName(domain.get(), name.c_str(), 0));
  if (checkpoint == nullptr) return is_gone(last_error().code);
  if (virDomainCheckpointDelete(checkpoint.get(), 0) == 0 || is_gone(last_error().code)) return true;
  throw_libvirt("domain " + domain.name(), "the checkpoint " + name + " cannot be deleted");
}

}  // namespace nasbackup::vm
