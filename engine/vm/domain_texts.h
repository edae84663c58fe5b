// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The four texts that CloudStack keeps beside the images of a running VM. Three of them are virsh's text tables despite
// their names (nasbackup.sh redirects virsh into them); they are made here from libvirt's API, letter for letter.
// Thread-safety: functions without state (that of the Domain given).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/vm/domain.h"

namespace nasbackup::vm {

struct DomainText {
  std::string file_name;
  std::string content;
};

/// domain-config.xml, dominfo.xml, domiflist.xml, domblklist.xml.
std::vector<DomainText> domain_texts(const Domain& domain);

/// virsh's table: a blank before each cell, two after it, a rule under the first row, an empty line at the end.
std::string virsh_table(const std::vector<std::vector<std::string>>& rows);
std::string interface_table(std::string_view domain_xml);  ///< virsh domiflist
std::string disk_table(std::string_view domain_xml);       ///< virsh domblklist
std::string info_text(const Domain& domain);               ///< virsh dominfo

}  // namespace nasbackup::vm
