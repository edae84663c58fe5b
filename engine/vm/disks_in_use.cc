// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See disks_in_use.h.
#include "engine/vm/disks_in_use.h"

#include <sys/stat.h>

#include <memory>

#include "engine/io/lifeline_state.h"
#include "engine/vm/connection.h"
#include "engine/vm/domain_xml.h"
#include "engine/vm/pool_volumes.h"

namespace nasbackup::vm {
namespace {

struct FreeDomain {
  void operator()(virDomainPtr domain) const noexcept { virDomainFree(domain); }
};
using DomainHandle = std::unique_ptr<virDomain, FreeDomain>;

std::vector<DomainHandle> list_domains(const Connection& connection, unsigned flags) {
  virDomainPtr* list = nullptr;
  const int count = virConnectListAllDomains(connection.get(), &list, flags);
  if (count < 0) throw_libvirt("libvirt", "cannot list the domains");
  std::vector<DomainHandle> domains;
  for (int i = 0; i < count; ++i) domains.emplace_back(list[i]);
  free(list);
  return domains;
}

}  // namespace

DisksInUse DisksInUse::ask(const std::string& uri, LifelineState* lifeline) {
  DisksInUse disks(lifeline);
  const Connection connection(uri);
  disks.add_all(connection, false);
  disks.add_all(connection, true);
  return disks;
}

void DisksInUse::add_all(const Connection& connection, bool saved) {
  const unsigned flags =
      saved ? VIR_CONNECT_LIST_DOMAINS_INACTIVE | VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE : VIR_CONNECT_LIST_DOMAINS_ACTIVE;
  for (const DomainHandle& domain : list_domains(connection, flags)) {
    const std::unique_ptr<char, decltype(&free)> xml(virDomainGetXMLDesc(domain.get(), 0), &free);
    if (!xml) continue;  // it has just ended
    for (const UsedFile& file : parse_used_files(with_volume_paths(connection.get(), xml.get())))
      add(file.path, {virDomainGetName(domain.get()), file.writes, saved});
  }
}

std::optional<DisksInUse::Identity> DisksInUse::identity_of(const std::string& path) const {
  const TargetCall mark(lifeline_);
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  if (S_ISBLK(info.st_mode)) return Identity{true, info.st_rdev, 0};
  return Identity{false, info.st_dev, info.st_ino};
}

void DisksInUse::add(const std::string& path, const User& user) {
  const auto identity = identity_of(path);
  if (!identity) return;
  User& known = users_.try_emplace(*identity, user).first->second;
  if (user.writes && !known.writes) known = user;
}

std::optional<DisksInUse::User> DisksInUse::user_of(const std::string& path) const {
  const auto identity = identity_of(path);
  const auto found = identity ? users_.find(*identity) : users_.end();
  return found == users_.end() ? std::nullopt : std::optional<User>(found->second);
}

}  // namespace nasbackup::vm
