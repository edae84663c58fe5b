// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See disk_at_rest.h.
#include "engine/vm/disk_at_rest.h"

#include <string_view>

#include <pugixml.hpp>

#include "engine/vm/backup_xml.h"

namespace nasbackup::vm {
namespace {

std::string attribute(const pugi::xml_node& node, const char* name) { return node.attribute(name).value(); }

/// `named`: what <driver> or <format> says; libvirt takes nothing for raw. Empty: none that can be read.
std::string format_of(const std::string& named, const pugi::xml_node& encryption) {
  if (named == "qcow2") return "qcow2";
  if (!named.empty() && named != "raw") return {};
  return encryption ? "luks" : "raw";
}

/// <encryption>, <auth>: in <source> since libvirt 3.9, in <disk> before.
pugi::xml_node in_source_or_beside(const pugi::xml_node& layer, const char* name) {
  const pugi::xml_node inside = layer.child("source").child(name);
  return inside ? inside : layer.child(name);
}

pugi::xml_node encryption_of(const pugi::xml_node& layer) { return in_source_or_beside(layer, "encryption"); }

std::string path_of(const pugi::xml_node& layer) {
  const std::string type = attribute(layer, "type");
  if (type == "file") return attribute(layer.child("source"), "file");
  return type == "block" ? attribute(layer.child("source"), "dev") : std::string();
}

std::string monitor_of(const pugi::xml_node& host) {
  const std::string name = attribute(host, "name"), port = attribute(host, "port");
  const bool bare_ipv6 = name.find(':') != std::string::npos && !name.starts_with('[');
  return (bare_ipv6 ? "[" + name + "]" : name) + (port.empty() ? "" : ":" + port);
}

void place_in_ceph(const pugi::xml_node& node, DiskAtRest& disk) {
  if (disk.format != "raw") {
    disk.obstacle = "a format within a Ceph image cannot be read: " + disk.format;
    return;
  }
  const pugi::xml_node source = node.child("source"), auth = in_source_or_beside(node, "auth"), secret = auth.child("secret");
  RbdDisk rbd;
  rbd.name = attribute(source, "name");
  rbd.snapshot = attribute(source.child("snapshot"), "name");
  for (const pugi::xml_node& host : source.children("host")) rbd.monitors.push_back(monitor_of(host));
  rbd.user = attribute(auth, "username");
  rbd.key = {attribute(secret, "uuid"), attribute(secret, "usage")};
  rbd.conf = attribute(source.child("config"), "file");
  disk.rbd = std::move(rbd);
}

void place_on_nbd_server(const pugi::xml_node& source, DiskAtRest& disk) {
  const pugi::xml_node host = source.child("host");
  const std::string transport = host.attribute("transport").as_string("tcp");
  if (attribute(source, "tls") == "yes") {
    disk.obstacle = "its NBD server wants TLS, for which only libvirt knows the certificates";
  } else if (disk.format != "raw") {
    disk.obstacle = "a format within an NBD export cannot be read: " + disk.format;
  } else if (transport == "unix") {
    disk.location = nbd_uri(attribute(host, "socket"), attribute(source, "name"));
  } else if (transport == "tcp") {
    disk.location = nbd_tcp_uri(attribute(host, "name"), host.attribute("port").as_string("10809"), attribute(source, "name"));
  } else {
    disk.obstacle = "its NBD server is reached by " + transport;
  }
}

void place_on_network(const pugi::xml_node& node, DiskAtRest& disk) {
  const pugi::xml_node source = node.child("source");
  const std::string protocol = attribute(source, "protocol");
  if (protocol == "nbd")
    place_on_nbd_server(source, disk);
  else if (protocol == "rbd")
    place_in_ceph(node, disk);
  else
    disk.obstacle = protocol + " disks cannot be read while the VM is shut off";
}

void place(const pugi::xml_node& node, DiskAtRest& disk) {
  const std::string type = attribute(node, "type");
  const pugi::xml_node source = node.child("source");
  if (!source) {
    disk.obstacle = "it has no medium";
  } else if (source.child("slices")) {
    disk.obstacle = "it is a slice of its file, which only QEMU can read";
  } else if (type == "network") {
    place_on_network(node, disk);
  } else if (type == "file" || type == "block") {
    disk.location = path_of(node);
    if (disk.location.empty()) disk.obstacle = "it has no medium";
  } else {
    disk.obstacle = "a disk of type " + type + " cannot be read while the VM is shut off";
  }
}

/// An element without anything in it ends the chain; where there is none, the headers say what follows.
void add_backing(const pugi::xml_node& node, DiskAtRest& disk) {
  for (pugi::xml_node layer = node.child("backingStore"); layer; layer = layer.child("backingStore")) {
    if (!layer.child("source")) {
      disk.backing.ends = true;
      return;
    }
    const std::string named = attribute(layer.child("format"), "type");
    BackingPlace place{path_of(layer), format_of(named, encryption_of(layer))};
    if (place.path.empty() || place.format.empty() || layer.child("source").child("slices")) {
      disk.obstacle = "it stands on something that cannot be read: " + attribute(layer, "type") + ", " + named;
      return;
    }
    disk.backing.files.push_back(std::move(place));
  }
}

}  // namespace

DiskAtRest parse_disk_at_rest(const pugi::xml_node& node) {
  DiskAtRest disk;
  const std::string named = attribute(node.child("driver"), "type");
  disk.format = format_of(named, encryption_of(node));
  if (disk.format.empty()) {
    disk.obstacle = "its format cannot be read: " + named;
    return disk;
  }
  place(node, disk);
  if (disk.obstacle.empty() && disk.format == "qcow2") add_backing(node, disk);
  return disk;
}

}  // namespace nasbackup::vm
