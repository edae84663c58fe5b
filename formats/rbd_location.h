// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Where an image of a Ceph cluster is, as QEMU and CloudStack write it (qemu block/rbd.c, qemu_rbd_parse_filename):
// `rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:OPTION=VALUE…]`. A backslash takes the meaning of the character behind it.
// Pure functions; what cannot be read throws FormatError.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crypto/secret.h"

namespace nasbackup {

struct RbdLocation {
  std::string pool;
  std::string name_space;  ///< empty: the pool's own
  std::string image;
  std::string snapshot;  ///< empty: the image as it is now

  std::string user;        ///< `id`: without "client."; empty: Ceph's own default
  std::string conf;        ///< path of a ceph.conf; empty: the first of Ceph's usual places that is there
  crypto::Secret key;      ///< `key`: empty: none here
  std::string stored_key;  ///< the name under which somebody keeps the key for us; empty: nobody does
  std::vector<std::pair<std::string, std::string>>
      options;  ///< of Ceph's configuration, in their order: mon_host, auth_supported …
};

bool is_rbd_location(std::string_view text) noexcept;

RbdLocation parse_rbd_location(std::string_view text);

/// The same as text, but for the key: that is never written.
std::string to_string(const RbdLocation& location);

/// `rbd:POOL/IMAGE` of any text that begins as a location does: nothing of its options.
std::string rbd_location_for_people(std::string_view text);

/// A value as it is meant, from a place in a location that must not be copied.
crypto::Secret unescaped_secret(std::string_view escaped);

/// Where the values of `key` stand in a text that holds rbd: locations, maybe several and among other words (offset, length).
std::vector<std::pair<std::size_t, std::size_t>> find_rbd_keys(std::string_view text);

}  // namespace nasbackup
