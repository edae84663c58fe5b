// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// pugixml does the escaping: domain names and paths may hold quotes, ampersands and spaces.
#include "engine/vm/backup_xml.h"

#include <cctype>
#include <sstream>

#include <fmt/format.h>
#include <pugixml.hpp>

namespace nasbackup::vm {
namespace {

std::string escape_uri(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte < 0x80 && (std::isalnum(byte) != 0 || std::string_view("-._~/").find(c) != std::string_view::npos);
    if (plain)
      out += c;
    else
      out += fmt::format("%{:02X}", byte);
  }
  return out;
}

}  // namespace

std::string pull_job_xml(const std::string& socket, const std::vector<BackupDisk>& disks) {
  pugi::xml_document document;
  pugi::xml_node job = document.append_child("domainbackup");
  job.append_attribute("mode") = "pull";
  pugi::xml_node server = job.append_child("server");
  server.append_attribute("transport") = "unix";
  server.append_attribute("socket") = socket.c_str();
  pugi::xml_node list = job.append_child("disks");
  for (const BackupDisk& disk : disks) {
    pugi::xml_node node = list.append_child("disk");
    node.append_attribute("name") = disk.target.c_str();
    node.append_attribute("backup") = "yes";
    node.append_attribute("type") = "file";
    node.append_attribute("backupmode") = disk.since.empty() ? "full" : "incremental";
    if (!disk.since.empty()) node.append_attribute("incremental") = disk.since.c_str();
    node.append_child("scratch").append_attribute("file") = disk.scratch.c_str();
  }
  std::ostringstream out;
  document.save(out, "  ", pugi::format_default | pugi::format_no_declaration);
  return out.str();
}

BackupDescription parse_backup(std::string_view xml) {
  pugi::xml_document document;
  if (!document.load_buffer(xml.data(), xml.size())) return {};
  const pugi::xml_node job = document.child("domainbackup");
  BackupDescription out;
  out.pull = std::string_view(job.attribute("mode").value()) == "pull";
  out.socket = job.child("server").attribute("socket").value();
  for (const pugi::xml_node& node : job.child("disks").children("disk")) {
    if (std::string_view(node.attribute("backup").value()) != "yes") continue;
    const std::string target = node.attribute("name").value();
    const std::string name = node.attribute("exportname").as_string(target.c_str());
    out.disks.push_back({target, node.child("scratch").attribute("file").value(), name, node.attribute("incremental").value(),
                         node.attribute("exportbitmap").value()});
  }
  return out;
}

std::string nbd_uri(std::string_view socket, std::string_view export_name) {
  return "nbd+unix:///" + escape_uri(export_name) + "?socket=" + escape_uri(socket);
}

std::string nbd_tcp_uri(std::string_view host, std::string_view port, std::string_view export_name) {
  const bool ipv6 = host.find(':') != std::string_view::npos;
  const std::string authority = ipv6 ? fmt::format("[{}]", host) : escape_uri(host);
  return fmt::format("nbd://{}:{}/{}", authority, port, escape_uri(export_name));
}

}  // namespace nasbackup::vm
