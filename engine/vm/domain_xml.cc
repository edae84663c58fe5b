// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The volume's id: shared with CloudStack's nasbackup.sh, so that its restore finds our files.
#include "engine/vm/domain_xml.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <grp.h>
#include <pugixml.hpp>
#include <pwd.h>

#include "engine/io/base_name.h"
#include "engine/io/fault.h"

namespace nasbackup::vm {
namespace {

constexpr const char* kAgentChannel = "org.qemu.guest_agent.0";

/// The same attributes as virsh domblklist looks at, in the same order.
std::string source_of(const pugi::xml_node& disk) {
  const pugi::xml_node source = disk.child("source");
  const std::string volume = source.attribute("volume").value();
  if (!volume.empty()) return std::string(source.attribute("pool").value()) + "/" + volume;
  if (std::string(disk.attribute("type").value()) == "nvme") {
    return fmt::format("nvme:{}", source.attribute("namespace").value());
  }
  for (const char* name : {"file", "dev", "dir", "name", "path"}) {
    if (const std::string value = source.attribute(name).value(); !value.empty()) return value;
  }
  return {};
}

std::string obstacle_of(const DomainDisk& disk, std::string_view device) {
  if (disk.source.empty()) return "it has no medium";
  if (disk.type == "vhostuser" || disk.type == "vhostvdpa") return "QEMU does not see its data (" + disk.type + ")";
  if (disk.type == "dir") return "it shows a directory of the host as a disk";
  // A LUN's commands go past QEMU's block layer, so a write during the job would not be copied before it happens.
  if (device == "lun") return "the guest talks to it directly (device='lun')";
  return {};
}

DomainDisk parse_disk(const pugi::xml_node& node, std::string_view device) {
  DomainDisk disk;
  disk.target = node.child("target").attribute("dev").value();
  disk.bus = node.child("target").attribute("bus").value();
  disk.type = node.attribute("type").value();
  disk.source = source_of(node);
  disk.protocol = node.child("source").attribute("protocol").value();
  disk.id = volume_id(disk.type, disk.source);
  if (disk.id.empty() || disk.id == "." || disk.id == "..") disk.id = disk.target;
  disk.format = node.child("driver").attribute("type").value();
  disk.serial = node.child_value("serial");
  disk.encrypted = !node.select_nodes(".//encryption").empty();
  disk.read_only = !node.child("readonly").empty();
  disk.transient = !node.child("transient").empty();
  disk.obstacle = obstacle_of(disk, device);
  disk.at_rest = parse_disk_at_rest(node);
  return disk;
}

std::vector<DomainDisk> parse_disks(const pugi::xml_node& devices) {
  std::vector<DomainDisk> disks;
  for (const pugi::xml_node& node : devices.children("disk")) {
    const std::string_view device = node.attribute("device").as_string("disk");
    if (device == "cdrom" || device == "floppy") continue;
    disks.push_back(parse_disk(node, device));
    disks.back().position = static_cast<unsigned>(disks.size() - 1);
  }
  return disks;
}

/// Both spellings: text content, and since libvirt 8.5 <nvram type='file'><source file=…/>.
std::string parse_nvram(const pugi::xml_node& os) {
  const pugi::xml_node nvram = os.child("nvram");
  const std::string file = nvram.child("source").attribute("file").value();
  if (!file.empty()) return file;
  const std::string device = nvram.child("source").attribute("dev").value();
  return device.empty() ? nvram.text().as_string() : device;
}

std::string parse_tpm(const pugi::xml_node& devices, const std::string& uuid) {
  const pugi::xml_node backend = devices.child("tpm").child("backend");
  if (std::string(backend.attribute("type").value()) != "emulator") return {};
  const std::string own_path = backend.child("source").attribute("path").value();
  if (!own_path.empty()) return own_path;
  const bool old = std::string(backend.attribute("version").value()) == "1.2";
  return "/var/lib/libvirt/swtpm/" + uuid + (old ? "/tpm1.2" : "/tpm2");
}

/// "+64055" is a number, "libvirt-qemu" a name; libvirt writes numbers into live XML, a static label may have names.
template <class Lookup>
unsigned parse_owner(std::string_view text, Lookup by_name) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size()) return number;
  return by_name(std::string(text));
}

void parse_dac_label(const pugi::xml_node& domain, DomainDescription& out) {
  const pugi::xml_node label = domain.find_child_by_attribute("seclabel", "model", "dac");
  const std::string text = label.child_value("label");
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return;
  out.uid = parse_owner(std::string_view(text).substr(0, colon), [](const std::string& name) -> unsigned {
    const passwd* entry = getpwnam(name.c_str());
    return entry != nullptr ? entry->pw_uid : 0;
  });
  out.gid = parse_owner(std::string_view(text).substr(colon + 1), [](const std::string& name) -> unsigned {
    const group* entry = getgrnam(name.c_str());
    return entry != nullptr ? entry->gr_gid : 0;
  });
}

AgentChannel parse_agent(const pugi::xml_node& devices) {
  for (const pugi::xml_node& channel : devices.children("channel")) {
    const pugi::xml_node target = channel.child("target");
    if (std::string(target.attribute("name").value()) != kAgentChannel) continue;
    const bool connected = std::string(target.attribute("state").value()) == "connected";
    return connected ? AgentChannel::connected : AgentChannel::disconnected;
  }
  return AgentChannel::absent;
}

pugi::xml_node load(pugi::xml_document& document, std::string_view xml) {
  const pugi::xml_parse_result parsed = document.load_buffer(xml.data(), xml.size());
  const pugi::xml_node domain = document.child("domain");
  if (!parsed || !domain) {
    throw Fault(FaultKind::source, fmt::format("domain XML: cannot be read: {}", parsed ? "no <domain>" : parsed.description()));
  }
  return domain;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void refuse_unknown(const DomainDescription& domain, const std::vector<std::string>& names, const char* option) {
  for (const std::string& name : names) {
    const bool known =
        std::any_of(domain.disks.begin(), domain.disks.end(), [&](const DomainDisk& disk) { return disk.target == name; });
    if (known) continue;
    std::vector<std::string> there;
    for (const DomainDisk& disk : domain.disks) there.push_back(disk.target);
    throw Fault(FaultKind::usage, fmt::format("{}: domain {} has no disk of that name: {} (it has {})", option, domain.name, name,
                                              there.empty() ? "none" : fmt::format("{}", fmt::join(there, ", "))));
  }
}

}  // namespace

std::string volume_id(std::string_view type, std::string_view source) {
  constexpr std::string_view kDrbd = "/dev/drbd/by-res/cs-";
  if (source.starts_with(kDrbd)) {
    const std::string_view rest = source.substr(kDrbd.size());
    return std::string(rest.substr(0, rest.find('/')));
  }
  // pool/image; a namespace between the two (pool/ns/image) must not put a slash into a file name either.
  if (type == "network" && source.find('/') == std::string_view::npos) return std::string(source);
  return std::string(base_name(source));
}

std::vector<UsedFile> parse_used_files(std::string_view xml) {
  pugi::xml_document document;
  const pugi::xml_node domain = load(document, xml);
  std::vector<UsedFile> files;
  for (const pugi::xml_node& disk : domain.child("devices").children("disk")) {
    const bool writes = disk.child("readonly").empty();
    for (const pugi::xpath_node& found : disk.select_nodes(".//source")) {
      const pugi::xml_node source = found.node();
      // Of a chain only the top is written, and what it is being mirrored to.
      const std::string_view above = source.parent().name();
      for (const char* name : {"file", "dev"})
        if (const std::string path = source.attribute(name).value(); !path.empty())
          files.push_back({path, writes && above != "backingStore"});
    }
  }
  if (const std::string nvram = parse_nvram(domain.child("os")); !nvram.empty()) files.push_back({nvram, true});
  return files;
}

DomainDescription parse_domain(std::string_view xml) {
  pugi::xml_document document;
  const pugi::xml_node domain = load(document, xml);
  DomainDescription out;
  out.name = domain.child_value("name");
  out.uuid = domain.child_value("uuid");
  out.id = domain.attribute("id").as_int(-1);
  out.disks = parse_disks(domain.child("devices"));
  out.nvram = parse_nvram(domain.child("os"));
  out.tpm_state = parse_tpm(domain.child("devices"), out.uuid);
  out.agent = parse_agent(domain.child("devices"));
  parse_dac_label(domain, out);
  return out;
}

std::vector<DomainDisk> select_disks(const DomainDescription& domain, const std::vector<std::string>& only,
                                     const std::vector<std::string>& except, bool at_rest) {
  refuse_unknown(domain, only, "--disk");
  refuse_unknown(domain, except, "--exclude");
  std::vector<DomainDisk> chosen;
  for (const DomainDisk& disk : domain.disks) {
    if (contains(except, disk.target) || (!only.empty() && !contains(only, disk.target))) continue;
    if (disk.source.empty() && only.empty()) continue;
    if (const std::string& obstacle = at_rest ? disk.at_rest.obstacle : disk.obstacle; !obstacle.empty()) {
      throw Fault(FaultKind::source, fmt::format("domain {}: disk {} cannot be backed up: {} (--exclude {} leaves it out)",
                                                 domain.name, disk.target, obstacle, disk.target));
    }
    chosen.push_back(disk);
  }
  if (chosen.empty()) throw Fault(FaultKind::source, fmt::format("domain {}: no disk is left to back up", domain.name));
  return chosen;
}

}  // namespace nasbackup::vm
