// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See checkpoint.h.
#include "engine/vm/checkpoint.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <sstream>

#include <libvirt/libvirt-domain-checkpoint.h>
#include <libvirt/virterror.h>
#include <pugixml.hpp>

#include "engine/io/fault.h"
#include "engine/vm/job_end.h"

namespace nasbackup::vm {

namespace {

/// libvirt 9.0 crashes when the checkpoint is deleted with which a job is just beginning, whose caller may be dead.
constexpr std::chrono::seconds kBeginPatience{10};

struct FreeCheckpoint {
  void operator()(virDomainCheckpointPtr checkpoint) const noexcept { virDomainCheckpointFree(checkpoint); }
};
using Checkpoint = std::unique_ptr<virDomainCheckpoint, FreeCheckpoint>;

bool is_gone(int code) { return code == VIR_ERR_NO_DOMAIN_CHECKPOINT || code == VIR_ERR_NO_DOMAIN; }

bool is_among(const DomainDisk& disk, const std::vector<DomainDisk>& disks) {
  return std::any_of(disks.begin(), disks.end(), [&](const DomainDisk& other) { return other.target == disk.target; });
}

std::string xml_of(const std::string& name, std::time_t created, const std::vector<DomainDisk>& with_bitmap,
                   const std::vector<DomainDisk>& all) {
  pugi::xml_document document;
  pugi::xml_node root = document.append_child("domaincheckpoint");
  root.append_child("name").text() = name.c_str();
  if (created != 0) root.append_child("creationTime").text() = static_cast<long long>(created);
  pugi::xml_node list = root.append_child("disks");
  for (const DomainDisk& disk : all) {
    pugi::xml_node node = list.append_child("disk");
    node.append_attribute("name") = disk.target.c_str();
    node.append_attribute("checkpoint") = can_hold_bitmap(disk) && is_among(disk, with_bitmap) ? "bitmap" : "no";
  }
  std::ostringstream out;
  document.save(out, "  ", pugi::format_default | pugi::format_no_declaration);
  return out.str();
}

Checkpoint find(const Domain& domain, const std::string& name) {
  return Checkpoint(virDomainCheckpointLookupByName(domain.get(), name.c_str(), 0));
}

[[noreturn]] void fail(const Domain& domain, const std::string& name, const std::string& what) {
  throw_libvirt("domain " + domain.name(), "the checkpoint " + name + " " + what);
}

/// Of one disk, whose bitmap may not be there at all.
void delete_bitmap(Domain& domain, const std::string& name, const DomainDisk& disk, const std::vector<DomainDisk>& all) {
  redefine_checkpoint(domain, name, {disk}, all);
  const Checkpoint checkpoint = find(domain, name);
  if (checkpoint == nullptr || virDomainCheckpointDelete(checkpoint.get(), 0) == 0) return;
  // libvirt has no code of its own for it: "bitmap 'X' not found in backing chain of 'vda'".
  if (last_error().message.find("not found") == std::string::npos) fail(domain, name, "cannot be deleted on " + disk.target);
  if (virDomainCheckpointDelete(checkpoint.get(), VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) != 0)
    fail(domain, name, "cannot be forgotten");
}

}  // namespace

bool can_hold_bitmap(const DomainDisk& disk) noexcept { return disk.format == "qcow2"; }

std::string checkpoint_xml(const std::string& name, const std::vector<DomainDisk>& backed_up,
                           const std::vector<DomainDisk>& all) {
  return xml_of(name, 0, backed_up, all);
}

bool has_checkpoint(const Domain& domain, const std::string& name) noexcept { return find(domain, name) != nullptr; }

void redefine_checkpoint(Domain& domain, const std::string& name, const std::vector<DomainDisk>& with_bitmap,
                         const std::vector<DomainDisk>& all) {
  const std::string xml = xml_of(name, std::time(nullptr), with_bitmap, all);
  const Checkpoint checkpoint(virDomainCheckpointCreateXML(domain.get(), xml.c_str(), VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE));
  if (checkpoint == nullptr) fail(domain, name, "cannot be defined again");
}

// libvirt gives a size for each bitmap that is there and consistent, in all layers since the checkpoint, and none for any other.
std::map<std::string, std::uint64_t> usable_bitmaps(Domain& domain, const std::string& name) {
  const Checkpoint checkpoint = find(domain, name);
  if (checkpoint == nullptr) fail(domain, name, "is not known");
  constexpr unsigned kFlags = VIR_DOMAIN_CHECKPOINT_XML_SIZE | VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN;
  char* const text = virDomainCheckpointGetXMLDesc(checkpoint.get(), kFlags);
  if (text == nullptr) fail(domain, name, "cannot be asked for its bitmaps");
  const std::unique_ptr<char, void (*)(void*)> owned(text, std::free);
  pugi::xml_document document;
  document.load_string(text);
  std::map<std::string, std::uint64_t> usable;
  for (const pugi::xml_node& disk : document.child("domaincheckpoint").child("disks").children("disk"))
    if (disk.attribute("size")) usable[disk.attribute("name").value()] = disk.attribute("size").as_ullong();
  return usable;
}

bool delete_checkpoint(Domain& domain, const std::string& name) {
  const Checkpoint checkpoint = find(domain, name);
  if (checkpoint == nullptr) return is_gone(last_error().code);
  if (virDomainCheckpointDelete(checkpoint.get(), 0) == 0 || is_gone(last_error().code)) return true;
  fail(domain, name, "cannot be deleted");
}

bool forget_checkpoint(Domain& domain, const std::string& name) {
  const Checkpoint checkpoint = find(domain, name);
  if (checkpoint == nullptr) return is_gone(last_error().code);
  if (virDomainCheckpointDelete(checkpoint.get(), VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) == 0) return true;
  fail(domain, name, "cannot be forgotten");
}

bool uproot_checkpoint(Domain& domain, const std::string& name, const std::vector<DomainDisk>& all) {
  if (!domain.state().active()) {
    forget_checkpoint(domain, name);
    return false;
  }
  if (!wait_while_job_begins(domain, kBeginPatience))
    throw Fault(FaultKind::source, "domain " + domain.name() + ": the checkpoint " + name + " stays while a backup job begins");
  if (const Checkpoint known = find(domain, name); known != nullptr && virDomainCheckpointDelete(known.get(), 0) == 0)
    return true;
  forget_checkpoint(domain, name);
  for (const DomainDisk& disk : all)
    if (can_hold_bitmap(disk)) delete_bitmap(domain, name, disk, all);
  return true;
}

}  // namespace nasbackup::vm
