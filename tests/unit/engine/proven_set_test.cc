// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Sets that were made, then changed by hand: what a reader with, and without, the passphrase takes for proven.
#include "engine/proven_set.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/backup_run.h"
#include "engine/io/fault.h"
#include "engine/set/hex.h"

namespace nasbackup {
namespace {

namespace fs = std::filesystem;

std::shared_ptr<const Passphrase> pass(const std::string& text) { return Passphrase::from_bytes(text.data(), text.size()); }

std::string read(const fs::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

void write(const fs::path& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }

class ProvenSetTest : public testing::Test {
 protected:
  ProvenSetTest() {
    std::string pattern = (fs::temp_directory_path() / "proven-XXXXXX").string();
    base_ = ::mkdtemp(pattern.data());
    std::string disk(400'000, 'd');
    disk.replace(100'000, 200'000, std::string(200'000, '\0'));
    for (const char* name : {"a.raw", "b.raw"}) write(base_ / name, disk += name);
    fs::create_directory(base_ / "to");
  }
  ~ProvenSetTest() override { fs::remove_all(base_); }

  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "a backup locks its run under /run/nasbackup";
  }

  /// A new set; its directory.
  fs::path make(bool encrypted, const std::string& name = "vm", const std::string& compression = "") {
    BackupOptions options;
    options.vm = name;
    options.to = (base_ / "to").string();
    options.min_free = 0;
    options.compression = compression;
    options.pbkdf_iterations = 1000;
    options.allow_weak_pbkdf = true;
    if (encrypted) options.encrypt = pass("right");
    const JobControl control;
    BackupRun run(options, control);
    run.open_set();
    run.add_file("domain-config.xml", "<domain/>");
    run.add_secret_file("nvram.fd", kVariables);
    for (const char* disk : {"a.raw", "b.raw"}) {
      set::ManifestDisk entry;
      entry.name = entry.id = disk;
      entry.order = disk[0] - 'a';
      run.add_disk(entry, {(base_ / disk).string(), "raw"});
    }
    run.copy_disks();
    set::Manifest manifest;
    manifest.vm_name = name;
    return run.finish(manifest, 0).set;
  }

  static ProvenSet open(const fs::path& set, const std::vector<std::string>& passphrases = {}) {
    static const JobControl control;
    Passphrases all;
    for (const std::string& text : passphrases) all.push_back(pass(text));
    luks::KeyRing ring = ring_of(all, {});
    return ProvenSet(set.string(), ring, control);
  }

  /// What opening and looking at all files of the set comes to: the first complaint, or nothing.
  static std::string complaint(const fs::path& set, const std::vector<std::string>& passphrases, FaultKind expected) {
    try {
      const ProvenSet proven = open(set, passphrases);
      const auto lines = proven.damage();
      if (lines.empty()) return "";
      EXPECT_EQ(expected, FaultKind::damaged);
      return lines.front();
    } catch (const Fault& fault) {
      EXPECT_EQ(fault.kind(), expected) << fault.what();
      return fault.what();
    }
  }

  static std::string damage(const fs::path& set, const std::vector<std::string>& passphrases) {
    return complaint(set, passphrases, FaultKind::damaged);
  }

  static fs::path file_of(const fs::path& set, const std::string& ending, const std::string& beginning = "") {
    for (const auto& entry : fs::directory_iterator(set)) {
      const std::string name = entry.path().filename();
      if (name.starts_with(beginning) && name.ends_with(ending)) return entry.path();
    }
    ADD_FAILURE() << "no *" << ending;
    return {};
  }

  static constexpr char kVariables[] = "variables of the firmware";
  fs::path base_;
};

std::string text_of(const std::vector<std::byte>& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

TEST_F(ProvenSetTest, GivesItsSmallFilesAndOpensThoseThatAreSealed) {
  EXPECT_EQ(text_of(open(make(false, "p")).small_file("nvram.fd")), kVariables);
  const fs::path set = make(true, "e");
  EXPECT_FALSE(fs::exists(set / "nvram.fd"));
  EXPECT_EQ(read(set / "nvram.fd.sealed").find("variables"), std::string::npos);
  const ProvenSet proven = open(set, {"right"});
  EXPECT_EQ(text_of(proven.small_file("nvram.fd.sealed")), kVariables);
  EXPECT_EQ(text_of(proven.small_file("domain-config.xml")), "<domain/>");
  EXPECT_THROW(proven.small_file("nvram.fd"), Fault);
  EXPECT_THROW(proven.small_file("../e"), Fault);
}

TEST_F(ProvenSetTest, GivesNoSmallFileThatWasChanged) {
  const fs::path set = make(true);
  const ProvenSet proven = open(set, {"right"});
  for (const char* name : {"nvram.fd.sealed", "domain-config.xml"}) {
    std::string content = read(set / name);
    content.back() = static_cast<char>(content.back() ^ 1);
    write(set / name, content);
    EXPECT_THROW(proven.small_file(name), Fault) << name;
    fs::remove(set / name);
    EXPECT_THROW(proven.small_file(name), Fault) << name;
  }
}

TEST_F(ProvenSetTest, IsWhatWasWritten) {
  for (const char* compression : {"", "zlib"})
    for (const bool encrypted : {false, true}) {
      const fs::path set = make(encrypted, std::string("vm") + compression + (encrypted ? "e" : ""), compression);
      const std::vector<std::string> keys = encrypted ? std::vector<std::string>{"wrong", "right"} : std::vector<std::string>{};
      const ProvenSet proven = open(set, keys);
      EXPECT_EQ(proven.damage(), std::vector<std::string>{});
      EXPECT_EQ(proven.encrypted(), encrypted);
      ASSERT_EQ(proven.manifest().disks.size(), 2u);
      const auto digests = proven.own_digests_of(1);
      std::string disk = read(base_ / "b.raw");
      disk.resize(digests->reader().pieces() * 65536);
      for (std::uint64_t piece = 0; piece < digests->reader().pieces(); ++piece) {
        auto bytes = std::as_writable_bytes(std::span(disk).subspan(piece * 65536, 65536));
        EXPECT_TRUE(digests->matches(piece, bytes)) << piece;
        bytes[0] ^= std::byte{1};
        EXPECT_FALSE(digests->matches(piece, bytes)) << piece;
      }
    }
}

TEST_F(ProvenSetTest, ThatIsEncryptedNeedsThePassphrase) {
  const fs::path set = make(true);
  EXPECT_NE(complaint(set, {}, FaultKind::wrong_key), "");
  EXPECT_NE(complaint(set, {"wrong"}, FaultKind::wrong_key), "");
}

TEST_F(ProvenSetTest, ThatIsNotEncryptedIsDamageForWhoeverHasAPassphraseForIt) { EXPECT_NE(damage(make(false), {"right"}), ""); }

/// Somebody takes the encrypted set's place with one that needs no key.
TEST_F(ProvenSetTest, WhoseImageIsNotEncryptedAnyMoreIsDamaged) {
  const fs::path plain = make(false, "plain"), set = make(true, "vm");
  fs::copy_file(file_of(plain, "a.raw.qcow2"), file_of(set, "a.raw.qcow2"), fs::copy_options::overwrite_existing);
  EXPECT_NE(damage(set, {"right"}).find("not encrypted"), std::string::npos);
}

TEST_F(ProvenSetTest, WithImagesOfAnotherSetIsDamaged) {
  const fs::path other = make(true, "other"), set = make(true, "vm");
  for (const char* ending : {"a.raw.qcow2", "b.raw.qcow2"}) {
    const std::string kept = read(file_of(set, ending));
    fs::copy_file(file_of(other, ending), file_of(set, ending), fs::copy_options::overwrite_existing);
    EXPECT_NE(damage(set, {"right"}), "") << ending;
    write(file_of(set, ending), kept);
  }
  EXPECT_EQ(damage(set, {"right"}), "");
}

TEST_F(ProvenSetTest, WithSwappedFilesIsDamaged) {
  for (const bool encrypted : {false, true}) {
    const std::vector<std::string> keys = encrypted ? std::vector<std::string>{"right"} : std::vector<std::string>{};
    const fs::path set = make(encrypted, encrypted ? "e" : "p");
    for (const char* ending : {"a.raw.qcow2.digests", "b.raw.qcow2.digests"}) {
      const std::string a = ending, b = a.front() == 'a' ? "b.raw.qcow2.digests" : "a.raw.qcow2.digests";
      const std::string kept = read(file_of(set, a));
      write(file_of(set, a), read(file_of(set, b)));
      EXPECT_NE(damage(set, keys), "");
      write(file_of(set, a), kept);
    }
    EXPECT_EQ(damage(set, keys), "");
  }
}

TEST_F(ProvenSetTest, OfAnotherNameOrTimeIsDamaged) {
  const fs::path set = make(true);
  const fs::path moved = set.parent_path() / "2020.01.02.03.04.05";
  fs::rename(set, moved);
  EXPECT_NE(damage(moved, {"right"}).find("is that of another set"), std::string::npos);
}

TEST_F(ProvenSetTest, WithAnySidecarMissingShortOrChangedIsDamagedAndSaysWhich) {
  for (const bool encrypted : {false, true}) {
    const std::vector<std::string> keys = encrypted ? std::vector<std::string>{"right"} : std::vector<std::string>{};
    const fs::path set = make(encrypted, encrypted ? "e" : "p");
    for (const char* ending : {"a.raw.qcow2.digests", "b.raw.qcow2.digests", "manifest.json", "domain-config.xml",
                               encrypted ? "nvram.fd.sealed" : "nvram.fd"}) {
      const fs::path file = file_of(set, ending);
      const std::string kept = read(file);
      for (std::size_t at = 0; at < kept.size(); at += 1 + kept.size() / 41) {
        std::string changed = kept;
        changed[at] = static_cast<char>(changed[at] ^ 4);
        write(file, changed);
        EXPECT_NE(damage(set, keys), "") << ending << ' ' << at;
        write(file, kept.substr(0, at));
        EXPECT_NE(damage(set, keys).find(file.filename().string()), std::string::npos) << ending << " cut at " << at;
      }
      fs::remove(file);
      EXPECT_NE(damage(set, keys).find(file.string() + ": is missing"), std::string::npos);
      write(file, kept);
    }
    EXPECT_EQ(damage(set, keys), "");
  }
}

TEST_F(ProvenSetTest, WithAWrappedKeyChangedIsDamaged) {
  const fs::path set = make(true), file = set / "manifest.json";
  const std::string kept = read(file);
  const std::size_t keys = kept.find("\"keys\": [\"") + 10;
  for (std::size_t at = keys; at < keys + 184; at += 13) {
    std::string changed = kept;
    changed[at] = changed[at] == '0' ? '1' : '0';
    write(file, changed);
    EXPECT_NE(damage(set, {"right"}), "") << at;
  }
}

/// The digest file's root is right in itself, and another than the manifest's.
TEST_F(ProvenSetTest, WithDigestsThatSomebodyMadeAnewIsDamaged) {
  const fs::path other = make(true, "other"), set = make(true, "vm");
  fs::copy_file(file_of(other, "a.raw.qcow2.digests"), file_of(set, "a.raw.qcow2.digests"), fs::copy_options::overwrite_existing);
  EXPECT_NE(damage(set, {"right"}).find("root"), std::string::npos);
}

TEST_F(ProvenSetTest, OpensWithANewKeyToo) {
  const fs::path set = make(true);
  const std::string manifest = read(set / "manifest.json");
  KeyOptions options;
  options.path = set.string();
  options.passphrases = {pass("right")};
  options.new_passphrase = pass("new");
  options.pbkdf_iterations = 1000;
  options.allow_weak_pbkdf = true;
  key_add(options, {});
  EXPECT_EQ(damage(set, {"new"}), "");
  key_remove({set.string(), {pass("right")}}, {});
  EXPECT_EQ(damage(set, {"new"}), "");
  EXPECT_NE(complaint(set, {"right"}, FaultKind::wrong_key), "");
  EXPECT_EQ(read(set / "manifest.json"), manifest) << "keys come and go without it";
}

TEST_F(ProvenSetTest, HoldsNoDigestOfPlaintextWithoutAKey) {
  const fs::path set = make(true);
  const ProvenSet proven = open(set, {"right"});
  for (std::size_t disk = 0; disk < 2; ++disk) {
    const auto digests = proven.own_digests_of(disk);
    EXPECT_EQ(digests->reader().kind(), digests::Kind::gmac_aes_256);
    std::string bytes = read(base_ / (disk == 0 ? "a.raw" : "b.raw"));
    bytes.resize(digests->reader().pieces() * 65536);
    const auto unkeyed = digests::PieceDigester(65536).take(0, std::as_bytes(std::span(bytes)));
    const std::string file = read(digests->path());
    for (const auto& piece : unkeyed)
      if (piece.kind == digests::PieceKind::data) {
        EXPECT_EQ(file.find(std::string(reinterpret_cast<const char*>(piece.tag.data()), piece.tag.size())), std::string::npos);
      }
  }
}

}  // namespace
}  // namespace nasbackup
