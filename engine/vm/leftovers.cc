// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Whose is it? The name says (run_names.h). Is that run dead? Its lock says. Both must be answered yes.
#include "engine/vm/leftovers.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/io/fault.h"
#include "engine/io/run_lock.h"
#include "engine/vm/backup_xml.h"
#include "engine/vm/job_end.h"
#include "engine/vm/job_places.h"
#include "engine/vm/run_names.h"

namespace nasbackup::vm {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kEndPatience{30'000};

bool of_dead_run(const std::string& path) {
  const std::optional<std::string> run = run_id_in(path);
  return run && !run_is_alive(*run);
}

void sweep_job(Domain& domain, std::vector<std::string>& swept) {
  if (!wait_while_job_begins(domain, kEndPatience))
    throw Fault(FaultKind::source, "domain " + domain.name() + ": a backup job does not get beyond its beginning");
  const std::optional<std::string> xml = domain.backup_job();
  if (!xml) return;
  const std::string socket = parse_backup(*xml).socket;
  if (!of_dead_run(socket)) return;
  if (!abort_own_job(domain, socket, kEndPatience)) {
    throw Fault(FaultKind::source, "domain " + domain.name() + ": the backup job of a dead run does not end: " + socket);
  }
  swept.push_back("ended the backup job that a dead run had left: " + socket);
}

void sweep_files(const std::string& directory, std::vector<std::string>& swept) {
  std::error_code error;
  std::vector<fs::path> dead;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    if (of_dead_run(entry.path().string())) dead.push_back(entry.path());
  }
  for (const fs::path& path : dead) {
    if (fs::remove(path, error)) swept.push_back("removed what a dead run had left: " + path.string());
  }
}

/// Somebody listens there: the job of another domain whose run is dead; that domain's next run ends it. Asked with a socket of
/// another kind, which the kernel refuses to connect: QEMU must see no client (class Handshake).
bool is_served(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) return false;
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  const bool served = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 || errno == EPROTOTYPE;
  close(fd);
  return served;
}

void sweep_private_directories(std::vector<std::string>& swept) {
  std::error_code error;
  std::vector<fs::path> dead;
  for (const fs::directory_entry& entry : fs::directory_iterator(kRunDirectory, error)) {
    const std::string run = entry.path().filename().string();
    if (!is_run_id(run) || run_is_alive(run) || is_served((entry.path() / socket_name(run)).string())) continue;
    dead.push_back(entry.path());
  }
  for (const fs::path& path : dead) {
    if (fs::remove_all(path, error) > 0 && !error) swept.push_back("removed what a dead run had left: " + path.string());
  }
}

}  // namespace

std::vector<std::string> sweep_leftovers(Domain& domain, const std::string& scratch_dir) {
  std::vector<std::string> swept;
  sweep_job(domain, swept);
  const int id = domain.current_id();
  if (const std::string own = domain_directory(id); id >= 0 && !own.empty()) sweep_files(own, swept);
  if (!scratch_dir.empty()) sweep_files(scratch_dir, swept);
  sweep_private_directories(swept);
  return swept;
}

}  // namespace nasbackup::vm
