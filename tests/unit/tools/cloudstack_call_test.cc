// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tools/cloudstack/call.h"
#include "tools/cloudstack/call_request.h"
#include "tools/cloudstack/work.h"

namespace nasbackup::tools::cloudstack {
namespace {

using Words = std::vector<std::string>;

const Words kBackup{"-o", "backup", "-v", "vm", "-t", "nfs", "-s", "host:/export", "-m", "", "-p", "vm/2026.11.26.09.30.00",
                    "-d", ""};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Request request_of(const Words& words, const Zone& zone = {}) { return make_call_request(parse_call(words), zone); }

TEST(CloudStackCall, TakesEveryFlagInBothFormsInAnyOrder) {
  for (const Flag& flag : flags()) {
    for (const std::string& name : {std::string("--") + std::string(flag.long_name), std::string("-") + flag.short_name}) {
      if (name.size() == 2 && flag.short_name == 0) continue;
      const Words value = flag.value.empty() ? Words{name} : Words{name, "value"};
      const Call call = parse_call(with(with({"-o", "backup"}, value), {"-p", "x"}));
      EXPECT_EQ(call.path, "x") << name;
      if (flag.text != nullptr && flag.long_name != "path") {
        EXPECT_EQ(call.*flag.text, "value") << name;
      }
      if (flag.on != nullptr) {
        EXPECT_TRUE(call.*flag.on) << name;
      }
    }
  }
}

TEST(CloudStackCall, TheLastOccurrenceWins) { EXPECT_EQ(parse_call({"-v", "one", "--vm", "two"}).vm, "two"); }

TEST(CloudStackCall, ValuesAreNeverTakenForFlags) {
  const Call call = parse_call({"-m", "-c", "-q", "true", "-d", ""});
  EXPECT_EQ(call.mount_options, "-c");
  EXPECT_FALSE(call.compress);
  EXPECT_EQ(call.quiesce, "true");
}

TEST(CloudStackCall, FlagsWithAnEqualsSignAndFlagsWithoutTheirValueAreRefused) {
  EXPECT_THROW(parse_call({"--operation=backup"}), CallError);
  EXPECT_THROW(parse_call({"-cb", "5"}), CallError);
  EXPECT_THROW(parse_call({"-o"}), CallError);
}

TEST(CloudStackCall, LegacyFullIsNoMode) {
  const Request one = request_of(kBackup), other = request_of(with(kBackup, {"-M", "legacy-full"}));
  EXPECT_EQ(one.backup.checkpoint, "");
  EXPECT_EQ(other.backup.checkpoint, "");
  EXPECT_EQ(request_of(with(kBackup, {"-M", "full", "--bitmap-new", "b"})).backup.checkpoint, "b");
}

TEST(CloudStackCall, TheBandwidthIsMebibytesAndZeroLiftsTheZonesLimit) {
  Zone zone;
  zone.bandwidth = 20;
  EXPECT_EQ(request_of(with(kBackup, {"-b", "50"})).backup.limit.rate, 50u << 20);
  EXPECT_EQ(request_of(kBackup, zone).backup.limit.rate, 20u << 20);
  EXPECT_EQ(request_of(with(kBackup, {"-b", "0"}), zone).backup.limit.rate, 0u);
}

TEST(CloudStackCall, TheLimitIsThatOfEachDiskWhereTheZoneSaysSo) {
  Zone zone;
  EXPECT_FALSE(request_of(with(kBackup, {"-b", "50"}), zone).backup.limit.per_disk);
  zone.options["rate-per-disk"] = {{""}, {}};
  EXPECT_TRUE(request_of(with(kBackup, {"-b", "50"}), zone).backup.limit.per_disk);
}

TEST(CloudStackCall, TheRunGivesWayToGuestsUnlessTheZoneSaysOtherwise) {
  Zone zone;
  EXPECT_EQ(request_of(kBackup, zone).priority, Priority::low);
  zone.options["priority"] = {{"normal"}, {}};
  EXPECT_EQ(request_of(kBackup, zone).priority, Priority::normal);
}

TEST(CloudStackCall, TheFallbacksMarkerIsForIncrementsOnly) {
  for (const char* mode : {"incremental", "content-incremental"})
    EXPECT_TRUE(asks_for_increment(parse_call(with(kBackup, {"-M", mode, "--bitmap-new", "b"})))) << mode;
  for (const char* mode : {"", "legacy-full", "full", "content-full"})
    EXPECT_FALSE(asks_for_increment(parse_call(with(kBackup, {"-M", mode, "--bitmap-new", "b"})))) << mode;
}

TEST(CloudStackCall, ABitmapIsForCheckpointsOfTheModesThatHaveThemAndForEveryStoppedVm) {
  EXPECT_EQ(request_of(with(kBackup, {"-M", "full", "--bitmap-new", "b"})).backup.checkpoint, "b");
  EXPECT_THROW(request_of(with(kBackup, {"-M", "incremental", "--bitmap-new", "b"})), CallError);
  const Words increment{"-M", "incremental", "--bitmap-new", "b", "--bitmap-parent", "a", "--parent-paths", "vm/1/x,vm/1/y"};
  const Request request = request_of(with(kBackup, increment));
  EXPECT_EQ(request.backup.checkpoint, "b");
  EXPECT_EQ(request.backup.named_parent->checkpoint, "a");
  EXPECT_EQ(request.backup.named_parent->files, (Words{"vm/1/x", "vm/1/y"}));
  for (const char* mode : {"", "legacy-full", "content-full", "content-incremental"}) {
    const BackupOptions backup = request_of(with(kBackup, {"-M", mode, "--bitmap-new", "b"})).backup;
    EXPECT_EQ(backup.checkpoint, "") << mode;
    EXPECT_EQ(backup.stopped_bitmap, "b") << mode;
  }
}

TEST(CloudStackCall, SIsADirectoryOrPairsOfVolumeAndSecret) {
  for (const char* flag : {"-S", "--scratch-dir", "--secrets"}) {
    EXPECT_EQ(request_of(with(kBackup, {flag, "/scratch"})).backup.scratch, "/scratch");
    const Request request = request_of(with(kBackup, {flag, "one:1111,two:2222"}));
    EXPECT_EQ(request.backup.source_secrets, (Words{"1111", "2222"}));
    EXPECT_TRUE(request.has_secrets());
    for (const char* bad : {"scratch", "one:", "one:1,two"}) EXPECT_THROW(request_of(with(kBackup, {flag, bad})), CallError);
  }
}

TEST(CloudStackCall, CompressionAndEncryptionTogetherNeedTheConfigurationsWord) {
  Zone zone;
  const Words both = with(kBackup, {"-c", "-e", "/key"});
  EXPECT_THROW(request_of(both, zone), CallError);
  zone.layered = true;
  EXPECT_EQ(request_of(both, zone).passphrases.size(), 1u);
}

TEST(CloudStackCall, AVersionThatIsTooOldIsNamedAsTheScriptDoes) {
  EXPECT_EQ(complaint_about({7'002'000, 4'002'000}), "");
  EXPECT_EQ(
      complaint_about({7'002'000, 4'001'050}),
      "Failure... Your QEMU version 4.1.50 or libvirt version 7.2.0 is unsupported. Consider upgrading to the required minimum "
      "version of QEMU: 4.2.0 and Libvirt: 7.2.0");
  EXPECT_NE(complaint_about({7'001'009, 5'000'000}), "");
}

}  // namespace
}  // namespace nasbackup::tools::cloudstack
