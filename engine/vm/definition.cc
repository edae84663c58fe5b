// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See definition.h.
#include "engine/vm/definition.h"

#include <memory>

#include <libvirt/virterror.h>

#include "engine/io/fault.h"
#include "engine/vm/domain_xml.h"

namespace nasbackup::vm {
namespace {

using DomainHandle = std::unique_ptr<virDomain, int (*)(virDomainPtr)>;

DomainHandle found(virDomainPtr domain, const std::string& what) {
  if (domain == nullptr && last_error().code != VIR_ERR_NO_DOMAIN) throw_libvirt("domain " + what, "cannot be looked up");
  return {domain, [](virDomainPtr handle) { return handle == nullptr ? 0 : virDomainFree(handle); }};
}

std::string uuid_of(const DomainHandle& domain) {
  char text[VIR_UUID_STRING_BUFLEN] = {};
  if (virDomainGetUUIDString(domain.get(), text) < 0) throw_libvirt("domain", "has no UUID");
  return text;
}

void refuse_running(const DomainHandle& domain, const std::string& name) {
  if (virDomainIsActive(domain.get()) == 1) throw Fault(FaultKind::locked, "domain " + name + ": runs; shut it down first");
}

}  // namespace

void refuse_defined(const Connection& connection, const std::string& xml, bool replace) {
  const DomainDescription wanted = parse_domain(xml);
  const std::string where = "domain " + wanted.name;
  if (const auto same_name = found(virDomainLookupByName(connection.get(), wanted.name.c_str()), wanted.name)) {
    refuse_running(same_name, wanted.name);
    if (uuid_of(same_name) != wanted.uuid)
      throw Fault(FaultKind::source, where + ": exists, with another UUID; write --new-name NAME to define a second one");
    if (!replace)
      throw Fault(FaultKind::source, where + ": exists; write --force to replace its definition, or --new-name and --new-uuid");
  }
  if (wanted.uuid.empty()) return;
  const auto same_uuid = found(virDomainLookupByUUIDString(connection.get(), wanted.uuid.c_str()), wanted.uuid);
  if (!same_uuid) return;
  const std::string other = virDomainGetName(same_uuid.get());
  refuse_running(same_uuid, other);
  if (other != wanted.name)
    throw Fault(FaultKind::source, where + ": its UUID is that of domain " + other + "; write --new-uuid to draw another one");
}

void define_domain(const Connection& connection, const std::string& xml, bool replace) {
  refuse_defined(connection, xml, replace);
  const virDomainPtr defined = virDomainDefineXML(connection.get(), xml.c_str());
  if (defined == nullptr) throw_libvirt("domain " + parse_domain(xml).name, "libvirt does not define it");
  virDomainFree(defined);
}

}  // namespace nasbackup::vm
