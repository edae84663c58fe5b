// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See restored_domain.h.
#include "engine/vm/restored_domain.h"

#include <sstream>

#include <pugixml.hpp>

#include "engine/io/fault.h"
#include "engine/io/location.h"

namespace nasbackup::vm {

namespace {

pugi::xml_node parse(pugi::xml_document& document, std::string_view xml) {
  const pugi::xml_parse_result parsed =
      document.load_buffer(xml.data(), xml.size(), pugi::parse_default | pugi::parse_ws_pcdata_single);
  const pugi::xml_node domain = document.child("domain");
  if (!parsed || !domain)
    throw Fault(FaultKind::damaged,
                std::string("domain XML: cannot be read: ") + (parsed ? "no <domain>" : parsed.description()));
  return domain;
}

void set(pugi::xml_node node, const char* attribute, const std::string& value) {
  pugi::xml_attribute found = node.attribute(attribute);
  if (!found) found = node.append_attribute(attribute);
  found.set_value(value.c_str());
}

pugi::xml_node child(pugi::xml_node node, const char* name) {
  const pugi::xml_node found = node.child(name);
  return found ? found : node.append_child(name);
}

/// nbd://host:port/name and nbd+unix:///name?socket=path.
void set_nbd(pugi::xml_node source, const std::string& uri) {
  set(source, "protocol", "nbd");
  const std::size_t scheme = uri.find("://");
  std::string rest = uri.substr(scheme + 3);
  const std::size_t query = rest.find('?');
  const std::string parameters = query == std::string::npos ? "" : rest.substr(query + 1);
  rest.resize(std::min(query, rest.size()));
  const std::size_t slash = rest.find('/');
  const std::string authority = rest.substr(0, slash);
  set(source, "name", slash == std::string::npos ? "" : rest.substr(slash + 1));
  pugi::xml_node host = source.append_child("host");
  if (uri.starts_with("nbd+unix:")) {
    if (!parameters.starts_with("socket=")) throw Fault(FaultKind::usage, "domain XML: NBD URI without a socket");
    set(host, "transport", "unix");
    return set(host, "socket", parameters.substr(7));
  }
  const std::size_t colon = authority.rfind(':');
  set(host, "name", authority.substr(0, colon));
  set(host, "port", colon == std::string::npos ? "10809" : authority.substr(colon + 1));
}

/// `mon_host`: addresses that libvirt's XML cannot say ("[v2:…]") are left to the host's ceph.conf.
void add_monitors(pugi::xml_node source, std::string_view monitors) {
  while (!monitors.empty()) {
    const std::size_t end = std::min(monitors.find_first_of("; ,"), monitors.size());
    const std::string monitor(monitors.substr(0, end));
    monitors.remove_prefix(std::min(end + 1, monitors.size()));
    if (monitor.empty() || monitor.starts_with("[v")) continue;
    const std::size_t colon = monitor.ends_with(']') ? std::string::npos : monitor.rfind(':');
    pugi::xml_node host = source.append_child("host");
    const std::string name = monitor.substr(0, colon);
    set(host, "name", name.starts_with('[') && name.ends_with(']') ? name.substr(1, name.size() - 2) : name);
    if (colon != std::string::npos) set(host, "port", monitor.substr(colon + 1));
  }
}

/// libvirt finds the key by a secret of its own: that of the disk as it was, if it had one.
void set_rbd(pugi::xml_node source, const std::string& text, pugi::xml_node old_secret) {
  const RbdLocation location = read_rbd_location(text);
  set(source, "protocol", "rbd");
  const std::string in_pool = location.name_space.empty() ? location.image : location.name_space + '/' + location.image;
  set(source, "name", location.pool + '/' + in_pool);
  for (const auto& [option, value] : location.options)
    if (option == "mon_host") add_monitors(source, value);
  if (!location.conf.empty()) set(source.append_child("config"), "file", location.conf);
  if (location.user.empty() || !old_secret) return;
  pugi::xml_node auth = source.append_child("auth");
  set(auth, "username", location.user);
  auth.append_copy(old_secret);
}

/// What told of the old place (encryption, reservations, chains, aliases) goes; how the guest sees the disk stays.
void place_disk(pugi::xml_node disk, const RestoredPlace& place) {
  pugi::xml_document kept;  // nodes that are removed are gone
  for (const pugi::xml_node from : {disk.child("source").child("auth"), disk.child("auth")})
    if (from.child("secret").attribute("type").value() == std::string_view("ceph")) kept.append_copy(from.child("secret"));
  for (const char* gone : {"source", "backingStore", "mirror", "encryption", "auth", "alias"})
    while (disk.remove_child(gone)) {
    }
  const bool nbd = place.kind == RestoredPlace::Kind::nbd, rbd = place.kind == RestoredPlace::Kind::rbd;
  set(disk, "type", nbd || rbd ? "network" : place.kind == RestoredPlace::Kind::block ? "block" : "file");
  pugi::xml_node driver = child(disk, "driver");
  set(driver, "name", "qemu");
  set(driver, "type", place.format);
  pugi::xml_node source = disk.insert_child_after("source", driver);
  if (nbd) return set_nbd(source, place.location);
  if (rbd) return set_rbd(source, place.location, kept.child("secret"));
  set(source, place.kind == RestoredPlace::Kind::block ? "dev" : "file", place.location);
}

void set_nvram(pugi::xml_node domain, const std::string& path) {
  pugi::xml_node nvram = child(child(domain, "os"), "nvram");
  nvram.remove_children();
  nvram.remove_attribute("type");
  nvram.text().set(path.c_str());
}

}  // namespace

std::string rewrite_domain(std::string_view xml, const RestoredDomain& changes) {
  pugi::xml_document document;
  pugi::xml_node domain = parse(document, xml);
  domain.remove_attribute("id");
  if (!changes.name.empty()) child(domain, "name").text().set(changes.name.c_str());
  if (changes.new_uuid) domain.remove_child("uuid");
  for (pugi::xml_node disk : domain.child("devices").children("disk")) {
    const auto found = changes.disks.find(disk.child("target").attribute("dev").value());
    if (found != changes.disks.end()) place_disk(disk, found->second);
  }
  if (changes.new_macs)
    for (pugi::xml_node interface : domain.child("devices").children("interface")) interface.remove_child("mac");
  if (!changes.nvram.empty()) set_nvram(domain, changes.nvram);
  // Labels that libvirt drew for the run that was: it draws them anew.
  for (pugi::xml_node label = domain.child("seclabel"); label;) {
    const pugi::xml_node next = label.next_sibling("seclabel");
    if (std::string_view(label.attribute("type").value()) == "dynamic") domain.remove_child(label);
    label = next;
  }
  std::ostringstream text;
  document.save(text, "  ", pugi::format_default | pugi::format_no_declaration);
  return text.str();
}

std::string name_of_domain(std::string_view xml) {
  pugi::xml_document document;
  return parse(document, xml).child_value("name");
}

}  // namespace nasbackup::vm
