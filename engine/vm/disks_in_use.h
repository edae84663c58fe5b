// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The files and devices that the active domains of this host have as disks, and those whose memory is saved (virsh managedsave):
// these go on with what they know of their disks. Image locks do not show them all: libvirt gives each QEMU device nodes of its
// own, and locks on one node are not seen on another. Two paths are one when file or device is the same. Not seen: what lies
// below or above in a stack of devices (LVM, partitions), and disks of type 'volume'. Used by one thread; ask() and user_of()
// block for as long as libvirtd and the file systems take.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <sys/types.h>

namespace nasbackup {
struct LifelineState;
}

namespace nasbackup::vm {

class Connection;

class DisksInUse {
 public:
  struct User {
    std::string domain;
    bool writes = false;
    bool saved = false;  ///< it is shut off, its memory saved
  };

  /// Throws Fault(source) when libvirt cannot be asked.
  static DisksInUse ask(const std::string& uri, LifelineState* lifeline);

  /// The domain that has what is at this path, one that writes to it first; nothing when none has, or nothing is there.
  std::optional<User> user_of(const std::string& path) const;

 private:
  /// Of a file its place, of a device its number.
  struct Identity {
    bool device = false;
    dev_t number = 0;
    ino_t inode = 0;
    auto operator<=>(const Identity&) const = default;
  };
  explicit DisksInUse(LifelineState* lifeline) : lifeline_(lifeline) {}
  void add_all(const Connection& connection, bool saved);
  std::optional<Identity> identity_of(const std::string& path) const;
  void add(const std::string& path, const User& user);

  LifelineState* lifeline_;
  std::map<Identity, User> users_;
};

}  // namespace nasbackup::vm
