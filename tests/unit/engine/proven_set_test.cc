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

/// Sets of one disk of six pieces, each on the one before.
class ProvenChain : public ProvenSetTest {
 protected:
  static constexpr std::uint64_t kPiece = 65536;

  void SetUp() override {
    ProvenSetTest::SetUp();
    write(base_ / "c.raw", std::string(6 * kPiece, 'c'));
    for (const char* overlay : {"1", "2"}) {
      const std::string piece = std::to_string(std::stoi(overlay) * kPiece);
      shell("qemu-img create -q -f qcow2 -b c.raw -F raw " + std::string(overlay));
      shell("qemu-io -f qcow2 -c 'write -P 0x3" + std::string(overlay) + " " + piece + " 64k' " + overlay);
    }
  }

  void shell(const std::string& command) {
    const std::string line = "cd '" + base_.string() + "' && " + command + " > log 2>&1 || { cat log; false; }";
    ASSERT_EQ(std::system(line.c_str()), 0) << command;
  }

  /// What `overlay` has beyond c.raw, or that by itself, on that set, or on none.
  fs::path take(const std::string& name, const std::string& overlay, const fs::path& parent, const std::string& passphrase = "",
                std::optional<luks::SharedSlot> slot = {}) {
    BackupOptions options = with_key(passphrase);
    options.vm = "vm";
    options.set = "vm/" + name;
    options.to = (base_ / "to").string();
    options.min_free = 0;
    BackupRun run(options, control_);
    run.open_set();
    if (slot) run.transfer().share_slot(*slot);
    set::Manifest manifest;
    manifest.vm_name = "vm";
    set::ManifestDisk entry;
    entry.name = entry.id = "vda";
    SourcePlace source{(base_ / overlay).string(), overlay.ends_with(".raw") ? "raw" : "qcow2"};
    if (!parent.empty()) {
      const set::Manifest below = set::read_manifest(read(parent / "manifest.json"), "parent");
      manifest.kind = set::kIncrement;
      manifest.parent = set::ManifestParent{below.set, below.seal.sha256, below.seal.hmac};
      entry.parent_file = below.disks.front().file;
      source.backing.files = {{(base_ / "c.raw").string(), "raw", "", true}};
    }
    run.add_disk(entry, source, parent.filename());
    run.copy_disks();
    return run.finish(manifest, 0).set;
  }

  static BackupOptions with_key(const std::string& passphrase) {
    BackupOptions options;
    options.pbkdf_iterations = 1000;
    options.allow_weak_pbkdf = true;
    if (!passphrase.empty()) options.encrypt = pass(passphrase);
    return options;
  }

  const JobControl control_{};
};

TEST_F(ProvenChain, IsProvenToItsEndAndKnowsWhichSetHasWhat) {
  for (const std::string key : {"", "right"}) {
    const fs::path full = take("full" + key, "c.raw", "", key), first = take("first" + key, "1", full, key);
    const fs::path second = take("second" + key, "2", first, key);
    const std::vector<std::string> keys = key.empty() ? std::vector<std::string>{} : std::vector{key};
    const ProvenSet proven = open(second, keys);
    ASSERT_NE(proven.parent(), nullptr);
    ASSERT_NE(proven.parent()->parent(), nullptr);
    EXPECT_EQ(proven.parent()->parent()->path(), full);
    EXPECT_EQ(proven.parent()->parent()->parent(), nullptr);
    EXPECT_EQ(proven.damage(), std::vector<std::string>{});
    const auto files = proven.backing_of(0);
    ASSERT_EQ(files.size(), 2u);
    EXPECT_EQ(files[0].path, (first / "root.vda.qcow2").string());
    EXPECT_EQ(files[1].name, "../" + full.filename().string() + "/root.vda.qcow2");
    const auto chain = proven.digests_of(0);
    for (std::uint64_t piece = 0; piece < 6; ++piece) {
      const auto known = chain->at(piece);
      std::string bytes(kPiece, piece == 2 ? 0x32 : piece == 1 ? 0x31 : 'c');
      EXPECT_TRUE(known.digester->matches(piece, std::as_bytes(std::span(bytes)), known.digest)) << piece;
      bytes[9] = 0;
      EXPECT_FALSE(known.digester->matches(piece, std::as_bytes(std::span(bytes)), known.digest)) << piece;
    }
    EXPECT_EQ(proven.own_digests_of(0)->at(0).kind, digests::PieceKind::parent);
  }
}

TEST_F(ProvenChain, ThatIsBrokenAnywhereIsDamaged) {
  const fs::path full = take("full", "c.raw", ""), first = take("first", "1", full), second = take("second", "2", first);
  fs::rename(full, base_ / "away");
  EXPECT_NE(damage(second, {}).find("its parent full is missing"), std::string::npos);
  take("full", "c.raw", "");  // which holds the same, and is not the one
  EXPECT_NE(damage(second, {}).find("its parent full is not the one that it was made from"), std::string::npos);
  fs::remove_all(full);
  fs::rename(base_ / "away", full);
  EXPECT_EQ(damage(second, {}), "");
  fs::create_directory_symlink(full, full.parent_path() / "link");
  std::string manifest = read(first / "manifest.json");
  write(first / "manifest.json", manifest.replace(manifest.find("\"full\",\n    \"sha"), 6, "\"link\""));
  EXPECT_NE(damage(second, {}), "");
}

/// Its digests cannot say what is behind the parent's end.
TEST_F(ProvenChain, OnADiskOfAnotherSizeHasNoDigests) {
  write(base_ / "larger.raw", std::string(7 * kPiece, 'c'));
  const fs::path full = take("full", "larger.raw", ""), first = take("first", "1", full);
  const ProvenSet proven = open(first);
  EXPECT_THROW(proven.digests_of(0), Fault);
}

TEST_F(ProvenChain, IsAtMost64SetsLong) {
  fs::path set = take("set1", "c.raw", "");
  for (int number = 2; number <= 64; ++number) set = take("set" + std::to_string(number), "1", set);
  EXPECT_EQ(damage(set, {}), "");
  EXPECT_NE(damage(take("set65", "1", set), {}).find("stands on more than 64 sets"), std::string::npos);
}

/// Opened by one derivation; never by a weaker one than was asked for, nor by that of another passphrase.
TEST_F(ProvenChain, SharesTheKeySlotOfTheParentWhereItMay) {
  unsigned derived = 0;
  const auto counting = [&](const luks::SlotKdf& kdf, std::span<const std::byte> passphrase, std::size_t bytes,
                            std::stop_token stop) {
    ++derived;
    return luks::derive_slot_key(kdf, passphrase, bytes, stop);
  };
  const fs::path full = take("full", "c.raw", "", "right");
  luks::KeyRing ring({pass("wrong")->secret(), pass("right")->secret()}, {}, counting);
  const ProvenSet proven(full.string(), ring, control_);
  const auto slot = proven.slot_for(with_key("right"), ring);
  ASSERT_TRUE(slot);
  EXPECT_EQ(derived, 2u);
  EXPECT_FALSE(proven.slot_for(with_key("wrong"), ring));
  EXPECT_FALSE(proven.slot_for(with_key(""), ring));
  BackupOptions stronger = with_key("right");
  stronger.pbkdf_iterations = 1001;
  EXPECT_FALSE(proven.slot_for(stronger, ring));

  const fs::path first = take("first", "1", full, "right", slot), second = take("second", "2", first, "right", slot);
  luks::KeyRing again({pass("right")->secret()}, {}, counting);
  derived = 0;
  EXPECT_EQ(ProvenSet(second.string(), again, control_).damage(), std::vector<std::string>{});
  EXPECT_EQ(derived, 1u);
}

}  // namespace
}  // namespace nasbackup
