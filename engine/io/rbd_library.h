// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// librbd and librados, loaded when the first Ceph image is opened and not before: with all that they bring along they would
// make every start of the command slower, and keep it from starting where Ceph is not installed. The only file that knows
// where their functions come from. Immutable once loaded; any thread.
#pragma once

#include <rados/librados.h>
#include <rbd/librbd.h>

namespace nasbackup {

// What we use of them, both libraries in one list.
#define NASBACKUP_RBD_FUNCTIONS(use)                                                                                             \
  use(rados_conf_read_file) use(rados_conf_set) use(rados_connect) use(rados_create) use(rados_get_instance_id)                  \
      use(rados_ioctx_create) use(rados_ioctx_destroy) use(rados_ioctx_set_namespace) use(rados_shutdown)                        \
          use(rbd_aio_create_completion) use(rbd_aio_flush) use(rbd_aio_get_return_value) use(rbd_aio_read) use(rbd_aio_release) \
              use(rbd_aio_write) use(rbd_aio_write_zeroes) use(rbd_close) use(rbd_create4) use(rbd_diff_iterate2)                \
                  use(rbd_get_features) use(rbd_get_id) use(rbd_get_modify_timestamp) use(rbd_get_overlap)                       \
                      use(rbd_get_stripe_count) use(rbd_image_options_create) use(rbd_image_options_destroy)                     \
                          use(rbd_list_lockers) use(rbd_open) use(rbd_open_read_only) use(rbd_remove) use(rbd_rename)            \
                              use(rbd_stat) use(rbd_watchers_list) use(rbd_watchers_list_cleanup)

struct RbdLibrary {
#define NASBACKUP_RBD_MEMBER(name) decltype(&::name) name = nullptr;
  NASBACKUP_RBD_FUNCTIONS(NASBACKUP_RBD_MEMBER)
#undef NASBACKUP_RBD_MEMBER
};

/// Loads them at the first call. Throws Fault(failed) where they are not installed, or too old.
const RbdLibrary& rbd_library();

}  // namespace nasbackup
