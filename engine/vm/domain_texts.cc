// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The model: virsh dominfo, domiflist, domblklist of libvirt 9 (no public contract describes them).
#include "engine/vm/domain_texts.h"

#include <algorithm>
#include <climits>
#include <memory>

#include <fmt/format.h>
#include <pugixml.hpp>

namespace nasbackup::vm {
namespace {

/// Code points; a table with wide letters is a column or two off, as no locale is consulted.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

std::string escape_controls(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out;
}

std::string first_attribute(const pugi::xml_node& node, std::initializer_list<const char*> names) {
  for (const pugi::xml_attribute& attribute : node.attributes()) {  // XPath takes the first in document order
    const auto is_name = [&](const char* name) { return std::string_view(attribute.name()) == name; };
    if (std::any_of(names.begin(), names.end(), is_name)) return attribute.value();
  }
  return {};
}

std::string or_minus(std::string text) { return text.empty() ? "-" : text; }

std::string line(const char* label, const std::string& value) { return fmt::format("{:<15} {}\n", label, value); }

const char* state_name(unsigned char state) {
  constexpr const char* kNames[] = {"no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended"};
  return state < std::size(kNames) ? kNames[state] : "no state";
}

const char* yes_or_no(int answer) { return answer < 0 ? "unknown" : answer > 0 ? "yes" : "no"; }

std::string identity_lines(const Domain& domain) {
  const int id = domain.current_id();
  std::string out = line("Id:", id < 0 ? "-" : std::to_string(id)) + line("Name:", domain.name()) + line("UUID:", domain.uuid());
  if (char* type = virDomainGetOSType(domain.get())) {
    out += line("OS Type:", type);
    free(type);
  }
  return out;
}

std::string resource_lines(const Domain& domain) {
  virDomainInfo info{};
  if (virDomainGetInfo(domain.get(), &info) < 0) throw_libvirt("domain " + domain.name(), "cannot get its information");
  std::string out = line("State:", state_name(info.state)) + line("CPU(s):", std::to_string(info.nrVirtCpu));
  if (info.cpuTime != 0) out += line("CPU time:", fmt::format("{:.1f}s", static_cast<double>(info.cpuTime) / 1e9));
  out += line("Max memory:", info.maxMem == UINT_MAX ? "no limit" : fmt::format("{} KiB", info.maxMem));
  return out + line("Used memory:", fmt::format("{} KiB", info.memory));
}

std::string security_lines(const Domain& domain) {
  virSecurityModel model{};
  if (virNodeGetSecurityModel(domain.connection(), &model) < 0 || model.model[0] == '\0') return {};
  std::string out = line("Security model:", model.model) + line("Security DOI:", model.doi);
  const auto label = std::make_unique<virSecurityLabel>();
  if (virDomainGetSecurityLabel(domain.get(), label.get()) == 0 && label->label[0] != '\0') {
    out += line("Security label:", fmt::format("{} ({})", label->label, label->enforcing != 0 ? "enforcing" : "permissive"));
  }
  return out;
}

std::string message_lines(const Domain& domain) {
  char** messages = nullptr;
  const int count = virDomainGetMessages(domain.get(), &messages, 0);
  std::string out;
  for (int i = 0; i < count; ++i) {
    out += line(i == 0 ? "Messages:" : "", messages[i]);
    free(messages[i]);
  }
  free(messages);
  return out;
}

/// As virsh prints it: nvme://<PCI address>/<namespace>.
std::string nvme_source(const pugi::xml_node& source) {
  const pugi::xml_node address = source.child("address");
  return fmt::format("nvme://{:04x}:{:02x}:{:02x}.{}/{}", address.attribute("domain").as_uint(),
                     address.attribute("bus").as_uint(), address.attribute("slot").as_uint(),
                     address.attribute("function").as_uint(), source.attribute("namespace").value());
}

pugi::xml_node devices_of(pugi::xml_document& document, std::string_view xml) {
  document.load_buffer(xml.data(), xml.size());
  return document.child("domain").child("devices");
}

}  // namespace

std::string virsh_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> cells = rows;
  std::vector<std::size_t> widths(cells.empty() ? 0 : cells.front().size());
  for (std::vector<std::string>& row : cells) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = escape_controls(row[i]);
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  std::size_t rule = 0;
  for (const std::size_t width : widths) rule += width + 3;
  std::string out;
  for (const std::vector<std::string>& row : cells) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += " " + row[i];
      if (i + 1 < row.size()) out.append(widths[i] + 2 - width_of(row[i]), ' ');
    }
    out += "\n";
    if (&row == &cells.front()) out += std::string(rule, '-') + "\n";
  }
  return out + "\n";
}

std::string interface_table(std::string_view domain_xml) {
  pugi::xml_document document;
  std::vector<std::vector<std::string>> rows = {{"Interface", "Type", "Source", "Model", "MAC"}};
  for (const pugi::xml_node& node : devices_of(document, domain_xml).children("interface")) {
    rows.push_back({or_minus(node.child("target").attribute("dev").value()), node.attribute("type").value(),
                    or_minus(first_attribute(node.child("source"), {"bridge", "dev", "network", "name", "path"})),
                    or_minus(node.child("model").attribute("type").value()),
                    or_minus(node.child("mac").attribute("address").value())});
  }
  return virsh_table(rows);
}

std::string disk_table(std::string_view domain_xml) {
  pugi::xml_document document;
  std::vector<std::vector<std::string>> rows = {{"Target", "Source"}};
  for (const pugi::xml_node& node : devices_of(document, domain_xml).children("disk")) {
    const pugi::xml_node source = node.child("source");
    const bool nvme = std::string_view(node.attribute("type").value()) == "nvme";
    rows.push_back(
        {node.child("target").attribute("dev").value(),
         nvme ? nvme_source(source) : or_minus(first_attribute(source, {"file", "dev", "dir", "name", "volume", "path"}))});
  }
  return virsh_table(rows);
}

std::string info_text(const Domain& domain) {
  std::string out = identity_lines(domain) + resource_lines(domain);
  out += line("Persistent:", yes_or_no(virDomainIsPersistent(domain.get())));
  int autostart = 0;
  if (virDomainGetAutostart(domain.get(), &autostart) == 0) out += line("Autostart:", autostart != 0 ? "enable" : "disable");
  out += line("Managed save:", yes_or_no(virDomainHasManagedSaveImage(domain.get(), 0)));
  return out + security_lines(domain) + message_lines(domain) + "\n";
}

std::vector<DomainText> domain_texts(const Domain& domain) {
  const std::string xml = domain.xml();
  return {{"domain-config.xml", xml},
          {"dominfo.xml", info_text(domain)},
          {"domiflist.xml", interface_table(xml)},
          {"domblklist.xml", disk_table(xml)}};
}

}  // namespace nasbackup::vm
