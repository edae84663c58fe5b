// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Makes a domain known to libvirt from its XML. virDomainDefineXML() replaces a definition of the same name and UUID without a
// word, so it is looked first whether there is one. Functions without state; they block for as long as libvirtd takes.
#pragma once

#include <string>

#include "engine/vm/connection.h"

namespace nasbackup::vm {

/// Throws Fault when the domain of this XML cannot be defined beside the ones there are: locked when one of its name or UUID
/// runs, source when there is one otherwise. `replace`: one of its name and its UUID may be there, shut off.
void refuse_defined(const Connection& connection, const std::string& xml, bool replace);

/// refuse_defined(), and then defines it. Throws Fault(source) when libvirt does not take it.
void define_domain(const Connection& connection, const std::string& xml, bool replace);

}  // namespace nasbackup::vm
