// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Whose socket and scratch files are these?
#include "engine/vm/run_names.h"

#include <gtest/gtest.h>

namespace nasbackup::vm {
namespace {

constexpr const char* kRun = "0123456789abcdef";

TEST(RunNames, FindTheRunIdInTheirOwnNames) {
  EXPECT_EQ(run_id_in("/var/lib/" + socket_name(kRun)), kRun);
  EXPECT_EQ(run_id_in(scratch_name(kRun, "vda")), kRun);
}

TEST(RunNames, FindNothingInForeignNames) {
  for (const char* name : {"nbd.sock", "vda.scratch", "nasbackup-.sock", "nasbackup-0123456789abcde.sock",
                           "nasbackup-0123456789abcdef0.sock", "nasbackup-0123456789ABCDEF.sock", "nasbackup-0123456789abcdef",
                           "nasbackup-0123456789abcdef.scratch", "nasbackup-0123456789abcdef-.scratch",
                           "xnasbackup-0123456789abcdef.sock", "nasbackup-0123456789abcdef.sock/inside", ""}) {
    EXPECT_EQ(run_id_in(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace nasbackup::vm
