// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See listening_socket.h.
#include "engine/serve/listening_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/io/fault.h"

namespace nasbackup {

namespace {

constexpr int kBacklog = 128;
/// Replies are large: the more of one the kernel takes at once, the fewer turns it takes.
constexpr int kSendBuffer = 2 << 20;

[[noreturn]] void throw_errno(const std::string& where, const std::string& what) {
  throw Fault(FaultKind::failed, where + ": " + what + ": " + std::strerror(errno));
}

FileDescriptor new_socket(int family, const std::string& where) {
  FileDescriptor made(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) throw_errno(where, "socket");
  return made;
}

void set_option(int socket, int level, int name, int value) noexcept { ::setsockopt(socket, level, name, &value, sizeof value); }

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    throw Fault(FaultKind::usage,
                "--socket " + path + ": too long: write at most " + std::to_string(sizeof address.sun_path - 1) + " bytes");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

template <class Address>
const sockaddr* generic(const Address& address) noexcept {
  return reinterpret_cast<const sockaddr*>(&address);
}

/// What connecting comes to: an errno, 0 when somebody listens.
int try_to_connect(const std::string& path) {
  const FileDescriptor probe = new_socket(AF_UNIX, path);
  const sockaddr_un address = address_of(path);
  return ::connect(probe.get(), generic(address), sizeof address) == 0 ? 0 : errno;
}

/// What is there may be replaced: nothing, or the socket of a dead server.
void check_place(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return;
    throw_errno(path, "stat");
  }
  if (!S_ISSOCK(info.st_mode)) throw Fault(FaultKind::failed, path + ": exists and is no socket");
  const int error = try_to_connect(path);
  // EAGAIN: he listens, and so many wait already that nobody else may.
  if (error == 0 || error == EAGAIN) throw Fault(FaultKind::locked, path + ": another server listens there");
  if (error != ECONNREFUSED) throw Fault(FaultKind::failed, path + ": connect: " + std::strerror(error));
}

/// The directory that the socket lies in, as a path that is short however long its name is.
class ShortDirectory {
 public:
  explicit ShortDirectory(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string name = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    directory_ = FileDescriptor(::open(name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory_) throw_errno(path, "open the directory");
  }
  std::string path_of(const std::string& file) const { return "/proc/self/fd/" + std::to_string(directory_.get()) + "/" + file; }

 private:
  FileDescriptor directory_;
};

/// Percent-encoded, so that it can stand in a URI.
std::string encoded(const std::string& text, bool slash_stays) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string result;
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    const bool letter = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
    const bool plain = letter || (byte >= '0' && byte <= '9') || (byte != 0 && std::strchr("-._~", byte) != nullptr);
    if (plain || (slash_stays && byte == '/'))
      result += character;
    else
      result += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return result;
}

}  // namespace

ListeningSocket::ListeningSocket(FileDescriptor socket, std::string path, std::uint16_t port) noexcept
    : socket_(std::move(socket)), path_(std::move(path)), port_(port) {}

// It listens before it has its name, so that whoever sees the file can connect; and the name goes from the dead server's socket
// to ours in one step.
ListeningSocket ListeningSocket::at_path(const std::string& path) {
  address_of(path);
  check_place(path);
  const ShortDirectory directory(path);
  const std::string hidden = directory.path_of(".nbd-" + std::to_string(::getpid()));
  const sockaddr_un address = address_of(hidden);
  ::unlink(hidden.c_str());
  FileDescriptor made = new_socket(AF_UNIX, path);
  if (::bind(made.get(), generic(address), sizeof address) != 0) throw_errno(path, "bind");
  ListeningSocket listening(std::move(made), hidden, 0);
  struct stat info {};
  if (::chmod(hidden.c_str(), 0600) != 0 || ::lstat(hidden.c_str(), &info) != 0) throw_errno(path, "chmod");
  listening.device_ = info.st_dev;
  listening.inode_ = info.st_ino;
  if (::listen(listening.fd(), kBacklog) != 0) throw_errno(path, "listen");
  if (::rename(hidden.c_str(), path.c_str()) != 0) throw_errno(path, "rename");
  listening.path_ = path;
  return listening;
}

ListeningSocket ListeningSocket::at_port(std::uint16_t port) {
  const std::string where = "127.0.0.1:" + std::to_string(port);
  FileDescriptor made = new_socket(AF_INET, where);
  set_option(made.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(made.get(), generic(address), sizeof address) != 0 || ::listen(made.get(), kBacklog) != 0) {
    const FaultKind kind = errno == EADDRINUSE ? FaultKind::locked : FaultKind::failed;
    throw Fault(kind, where + ": bind: " + std::strerror(errno));
  }
  socklen_t length = sizeof address;
  if (::getsockname(made.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) throw_errno(where, "getsockname");
  return {std::move(made), "", ntohs(address.sin_port)};
}

// Only what is still ours: somebody may have put something else there.
ListeningSocket::~ListeningSocket() {
  struct stat info {};
  if (!socket_ || path_.empty() || ::lstat(path_.c_str(), &info) != 0) return;
  if (info.st_dev == device_ && info.st_ino == inode_) ::unlink(path_.c_str());
}

std::string ListeningSocket::uri(const std::string& export_name) const {
  const std::string name = encoded(export_name, false);
  if (path_.empty()) return "nbd://127.0.0.1:" + std::to_string(port_) + "/" + name;
  return "nbd+unix:///" + name + "?socket=" + encoded(path_, true);
}

FileDescriptor ListeningSocket::accept() const noexcept {
  FileDescriptor client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client) return client;
  set_option(client.get(), SOL_SOCKET, SO_SNDBUF, kSendBuffer);
  set_option(client.get(), SOL_SOCKET, SO_SNDBUFFORCE, kSendBuffer);  // as root, also beyond the system's limit
  if (path_.empty()) set_option(client.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  return client;
}

}  // namespace nasbackup
