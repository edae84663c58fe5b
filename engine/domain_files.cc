// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See domain_files.h.
#include "engine/domain_files.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/vm/domain_texts.h"

namespace nasbackup {

namespace {

/// Firmware variables take some hundred KiB, the state of a TPM less: more than this is something else.
constexpr std::uintmax_t kMostFirmwareState = 64u << 20;

std::optional<std::string> read_small_file(const std::filesystem::path& path, std::string& why_not) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return why_not = error.message(), std::nullopt;
  if (size > kMostFirmwareState) return why_not = "larger than 64 MiB", std::nullopt;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file || content.str().size() != size) return why_not = "cannot be read", std::nullopt;
  return content.str();
}

void keep_file(BackupRun& run, const std::filesystem::path& path, const std::string& name) {
  std::string why_not;
  if (const auto content = read_small_file(path, why_not))
    run.add_secret_file(name, *content);
  else
    run.warn(path.string() + ": not in the backup: " + why_not);
}

/// The TPM's state directory holds a few files, by the emulator's names, below a directory for the TPM's version.
void keep_tpm_state(BackupRun& run, const std::string& directory) {
  std::error_code error;
  bool any = false;
  for (std::filesystem::recursive_directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (!at->is_regular_file(ignored) || at->path().filename() == ".lock") continue;
    keep_file(run, at->path(), "tpm." + at->path().filename().string());
    any = true;
  }
  if (error || !any)
    run.warn(directory + ": the TPM's state is not in the backup: " + (error ? error.message() : "no files there"));
}

}  // namespace

void keep_texts_and_firmware(BackupRun& run, const vm::Domain& domain, const vm::DomainDescription& description) {
  for (const vm::DomainText& text : vm::domain_texts(domain)) run.add_file(text.file_name, text.content);
  if (!description.nvram.empty()) keep_file(run, description.nvram, "nvram.fd");
  if (!description.tpm_state.empty()) keep_tpm_state(run, description.tpm_state);
}

void refuse_plaintext_of_encrypted(const std::vector<vm::DomainDisk>& disks, const BackupOptions& options) {
  if (options.allow_plaintext || options.encrypt) return;
  for (const vm::DomainDisk& disk : disks)
    if (disk.encrypted)
      throw Fault(FaultKind::source,
                  disk.target + ": is encrypted, and the backup would not be; write -e FILE, --allow-plaintext, or --exclude " +
                      disk.target);
}

set::ManifestDisk manifest_entry(const vm::DomainDisk& disk) {
  set::ManifestDisk entry;
  entry.name = disk.target;
  entry.id = disk.id;
  entry.source = disk.source;
  entry.source_type = disk.type;
  entry.serial = disk.serial;
  entry.bus = disk.bus;
  entry.order = disk.position;
  return entry;
}

}  // namespace nasbackup
