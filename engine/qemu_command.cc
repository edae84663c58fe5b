// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See qemu_command.h. Source: qemu-img(1) --object and --image-opts; QEMU's docs/system/qemu-block-drivers, "LUKS".
#include "engine/qemu_command.h"

#include <algorithm>
#include <cctype>

namespace nasbackup {

namespace {

/// In QEMU's key=value,… a comma that belongs to a value stands twice.
std::string option_value(const std::string& text) {
  std::string value;
  for (const char c : text) value += c == ',' ? std::string(",,") : std::string(1, c);
  return value;
}

std::string shell_word(const std::string& text) {
  const auto is_plain = [](unsigned char c) {
    return std::isalnum(c) || std::string_view("_-+=:,./@%").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_plain)) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

/// Of the file at the top, which is named.
std::string top_options(FileLayers layers, const std::string& image) {
  switch (layers) {
    case FileLayers::qcow2:
      return "driver=qcow2,file.driver=file,file.filename=" + option_value(image);
    case FileLayers::luks_in_qcow2:
      return "driver=qcow2,encrypt.key-secret=sec0,file.driver=file,file.filename=" + option_value(image);
    case FileLayers::qcow2_in_luks:
      return "driver=qcow2,file.driver=luks,file.key-secret=sec0,file.file.driver=file,file.file.filename=" + option_value(image);
    case FileLayers::raw_in_luks:
      break;
  }
  return "driver=luks,key-secret=sec0,file.driver=file,file.filename=" + option_value(image);
}

/// Of a file that the one above it names: its name must not stand here, or QEMU takes all of it from here.
std::string below_options(FileLayers layers, const std::string& level) {
  if (layers == FileLayers::luks_in_qcow2) return "," + level + "encrypt.key-secret=sec0";
  if (layers == FileLayers::qcow2_in_luks) return "," + level + "file.driver=luks," + level + "file.key-secret=sec0";
  return {};
}

std::string image_options(const std::vector<FileLayers>& chain, const std::string& image) {
  std::string options = top_options(chain.front(), image), level;
  for (std::size_t i = 1; i < chain.size(); ++i) options += below_options(chain[i], level += "backing.");
  return options;
}

}  // namespace

std::string qemu_command(const std::vector<FileLayers>& chain, const std::string& image, const std::string& passphrase_file) {
  const std::string secret = "secret,id=sec0,file=" + option_value(passphrase_file.empty() ? "PASSPHRASE-FILE" : passphrase_file);
  const bool encrypted = std::any_of(chain.begin(), chain.end(), [](FileLayers layers) { return layers != FileLayers::qcow2; });
  return "qemu-img info " + (encrypted ? "--object " + shell_word(secret) + " " : "") + "--image-opts " +
         shell_word(image_options(chain, image));
}

}  // namespace nasbackup
