// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/vm_name.h"

#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

TEST(VmName, MayHaveSpacesCommasQuotesAndUmlauts) {
  for (const char* name : {"i-2-3-VM", "my vm, the \"second\" one", "it's", "-rf", "Bücher", "a..b"}) {
    EXPECT_NO_THROW(check_vm_name(name)) << name;
  }
}

TEST(VmName, ThatLeavesOrHidesTheDirectoryIsRefused) {
  for (const char* name : {"", ".", "..", "../other", "a/b", "/etc", ".hidden", "lost+found"}) {
    EXPECT_FAULT(FaultKind::usage, check_vm_name(name)) << name;
  }
}

TEST(VmName, WithControlCharactersIsRefusedAndNotEchoed) {
  for (const char* name : {"a\nb", "a\x1b[31m", "a\x7f", "a\xc2\x9b", "a\xff", "\xed\xa0\x80"}) {
    const auto [seen, fault] = outcome_of([&] { check_vm_name(name); });
    EXPECT_EQ(Seen::fault, seen) << name;
    EXPECT_EQ(std::string::npos, std::string(fault.what()).find_first_of("\n\x1b\x7f\xff\x9b")) << name;
  }
}

TEST(VmName, IsAsLongAsTheFileSystemLets) {
  EXPECT_NO_THROW(check_vm_name(std::string(kMaxVmName, 'x')));
  EXPECT_FAULT(FaultKind::usage, check_vm_name(std::string(kMaxVmName + 1, 'x')));
}

using VmNameInAFileSystem = SetFixture;

TEST_F(VmNameInAFileSystem, OfEveryAcceptedShapeBecomesADirectory) {
  for (const std::string& name : {std::string("a b,c\"d'e"), std::string("-n"), std::string(kMaxVmName, 'x')}) {
    auto for_name = options(kRunA);
    for_name.vm = name;
    const auto set = PartialSet::begin(for_name, nullptr);
    EXPECT_TRUE(fs::exists(target_ + '/' + name + "/.partial-" + kRunA)) << name;
  }
}

}  // namespace
}  // namespace nasbackup::set
