// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/manifest.h"

#include <nlohmann/json.hpp>

#include "crypto/hmac.h"
#include "engine/set/hex.h"

#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

using Json = nlohmann::json;

crypto::Secret set_key(unsigned seed = 1) {
  crypto::Secret key(kSetKeyBytes);
  std::fill(key.bytes().begin(), key.bytes().end(), static_cast<std::byte>(seed));
  return key;
}

crypto::Wrapping wrapping(unsigned value) {
  crypto::Wrapping bytes;
  bytes.fill(static_cast<std::byte>(value));
  return bytes;
}

Manifest example() {
  Manifest manifest;
  manifest.set = "2026.03.09.07.05.01";
  manifest.time = "2026-03-09T07:05:01Z";
  manifest.run = "0123456789abcdef";
  manifest.vm_name = "my vm, the \"second\"";
  manifest.vm_uuid = "6d2a3c7e-0000-4000-8000-000000000001";
  manifest.consistency = "filesystem";
  manifest.tool_version = "0.1.0";
  manifest.compression = "zstd:best";
  manifest.encryption = "luks";
  manifest.disks = {{"vda",
                     "8f2c",
                     "root.8f2c.qcow2",
                     "/images/8f2c",
                     "file",
                     "S1",
                     "virtio",
                     0,
                     1 << 30,
                     7,
                     5,
                     3,
                     0,
                     "",
                     "",
                     true,
                     "6d2a3c7e-0000-4000-8000-000000000002",
                     {"root.8f2c.qcow2.digests", 160, kDigestsGmac, 65536, std::string(64, 'a')}},
                    {"vdb",
                     "9a11",
                     "datadisk.9a11.qcow2",
                     "nbd://host/9a11",
                     "network",
                     "",
                     "scsi",
                     1,
                     512,
                     8,
                     0,
                     512,
                     0,
                     "",
                     "raw cannot hold a bitmap",
                     false,
                     "6d2a3c7e-0000-4000-8000-000000000003",
                     {"datadisk.9a11.qcow2.digests", 200, kDigestsGmac, 1 << 20, std::string(64, 'b')}}};
  manifest.checkpoint = "nasbackup-0011223344556677-0123456789abcdef";
  manifest.files = {{"domain-config.xml", 4000, std::string(64, 'c')}};
  manifest.warnings = {"the agent did not answer"};
  manifest.seal.keys = {wrapping(1), wrapping(2)};
  return manifest;
}

Manifest plain_example() {
  Manifest manifest = example();
  manifest.encryption = "none";
  for (auto& disk : manifest.disks) {
    disk.luks_uuid.clear();
    disk.digests.kind = kDigestsXxh3;
  }
  manifest.seal = {};
  return manifest;
}

std::string text_of(const Manifest& manifest) {
  const crypto::Secret key = set_key();
  return write_manifest(manifest, manifest.encryption == "luks" ? &key : nullptr);
}

Json parent_of(const std::string& name) {
  return {{"set", name}, {"sha256", std::string(64, 'a')}, {"hmac_sha256", std::string(64, 'b')}};
}

Json example_json() { return Json::parse(text_of(example())); }

/// Sealed again, so that it is not the seal that shows what is wrong.
std::string resealed(Json json) {
  const crypto::Secret key = set_key();
  json.erase("seal");
  return seal_text(json.dump(2), {wrapping(1), wrapping(2)}, &key);
}

Manifest parse(const Json& json) { return read_manifest(resealed(json), "manifest.json"); }

Manifest without_seal(Manifest manifest) {
  manifest.seal.sha256.clear();
  manifest.seal.hmac.clear();
  return manifest;
}

TEST(Manifest, OfAnIncrementNamesAnotherSetAsItsParent) {
  Manifest increment = plain_example();
  increment.kind = kIncrement;
  increment.parent = ManifestParent{"2026.03.08.07.05.01", std::string(64, 'a'), ""};
  EXPECT_EQ(increment, without_seal(read_manifest(text_of(increment), "manifest.json")));
  for (const Json& parent : {parent_of(increment.set), parent_of("../2026.03.08.07.05.01"), Json(nullptr),
                             Json{{"set", "2026.03.08.07.05.01"}}, Json("2026.03.08.07.05.01")}) {
    auto json = example_json();
    json["kind"] = "increment";
    json["parent"] = parent;
    EXPECT_FAULT(FaultKind::damaged, parse(json)) << parent;
  }
}

TEST(Manifest, OfAMergedSetNamesThoseThatItWasMergedFrom) {
  Manifest merged = plain_example();
  merged.merged_from = {{"2026.03.08.07.05.01", std::string(64, 'a')}, {"2026.03.09.07.05.00", std::string(64, 'b')}};
  EXPECT_EQ(merged, without_seal(read_manifest(text_of(merged), "manifest.json")));
  const Json one{{"set", "2026.03.08.07.05.01"}, {"sha256", std::string(64, 'a')}};
  for (const Json& wrong : {Json(nullptr), Json("2026.03.08.07.05.01"), Json(one), Json::array({"2026.03.08.07.05.01"}),
                            Json::array({{{"set", "../x"}, {"sha256", std::string(64, 'a')}}}), Json::array({{{"set", "x"}}}),
                            Json(std::vector<Json>(65, one))}) {
    auto json = example_json();
    json["merged_from"] = wrong;
    EXPECT_FAULT(FaultKind::damaged, parse(json)) << wrong;
  }
  auto json = example_json();
  json["merged_from"] = Json::array({one});
  EXPECT_EQ(parse(json).merged_from.size(), 1u);
  json["kind"] = "increment";
  json["parent"] = parent_of("2026.03.08.07.05.01");
  EXPECT_FAULT(FaultKind::damaged, parse(json));
}

TEST(Manifest, ReadsBackWhatItWrote) {
  for (const Manifest& manifest : {example(), plain_example()})
    EXPECT_EQ(manifest, without_seal(read_manifest(text_of(manifest), "manifest.json")));
}

TEST(Manifest, SkipsKeysItDoesNotKnow) {
  auto json = example_json();
  json["later"] = {{"a", 1}};
  json["disks"][0]["later"] = "b";
  EXPECT_EQ(example(), without_seal(parse(json)));
}

TEST(Manifest, WritesPlainTextWhateverItIsGiven) {
  auto manifest = example();
  manifest.disks[0].source = "/images/\x1b[31m\xff\n";
  manifest.warnings = {std::string(5000, 'w')};
  const auto again = read_manifest(text_of(manifest), "manifest.json");
  EXPECT_EQ("/images/?[31m??", again.disks[0].source);
  EXPECT_EQ(kMaxManifestText, again.warnings[0].size());
}

TEST(Manifest, NamesWhatIsWrongAndWhere) {
  auto json = example_json();
  json["disks"][1]["virtual_size"] = -1;
  const auto [seen, fault] = outcome_of([&] { parse(json); });
  EXPECT_EQ(Seen::fault, seen);
  EXPECT_STREQ("manifest.json: disks[1].virtual_size is not a whole number", fault.what());
}

TEST(Manifest, OfALaterVersionIsNotCalledDamaged) {
  auto json = example_json();
  json["version"] = kManifestVersion + 1;
  EXPECT_FAULT(FaultKind::failed, parse(json));
}

TEST(Manifest, OfVersionTwoHasNeitherIncrementsNorCheckpoints) {
  auto json = example_json();
  json["version"] = 2;
  json.erase("checkpoint");
  json.erase("merged_from");
  for (auto& disk : json["disks"])
    for (const char* key : {"parent_bytes", "parent_file", "full_because", "has_bitmap"}) disk.erase(key);
  Manifest expected = example();
  expected.checkpoint.clear();
  for (ManifestDisk& disk : expected.disks) {
    disk.full_because.clear();
    disk.has_bitmap = false;
  }
  EXPECT_EQ(without_seal(parse(json)), expected);
}

TEST(Manifest, WithAnImageOnAParentThatTheSetDoesNotHaveIsDamaged) {
  auto json = example_json();
  json["disks"][0]["parent_file"] = "root.8f2c.qcow2";
  EXPECT_FAULT(FaultKind::damaged, parse(json));
  json["kind"] = "increment";
  json["parent"] = parent_of("2026.03.08.07.05.01");
  EXPECT_EQ(parse(json).disks[0].parent_file, "root.8f2c.qcow2");
  json["disks"][0]["parent_file"] = "../root.8f2c.qcow2";
  EXPECT_FAULT(FaultKind::damaged, parse(json));
}

TEST(Manifest, OfAnEarlierVersionIsNotCalledDamaged) {
  auto json = example_json();
  json["version"] = 1;
  EXPECT_FAULT(FaultKind::failed, parse(json));
}

TEST(Manifest, WithoutAnyOfItsKeysIsDamaged) {
  auto json = example_json();
  json.erase("seal");
  for (const auto& [key, value] : json.items()) {
    auto without = json;
    without.erase(key);
    EXPECT_FAULT(FaultKind::damaged, parse(without)) << key;
  }
  for (const auto& [key, value] : json["disks"][0].items()) {
    auto without = json;
    without["disks"][0].erase(key);
    EXPECT_FAULT(FaultKind::damaged, parse(without)) << key;
  }
}

TEST(Manifest, WithAnyValueOfAnotherTypeIsDamaged) {
  auto json = example_json();
  json.erase("seal");
  for (const Json& other : {Json(true), Json(1.5), Json(Json::array({1, "x"}))}) {
    for (const auto& [key, value] : json.items()) {
      auto changed = json;
      changed[key] = other;
      EXPECT_FAULT(FaultKind::damaged, parse(changed)) << key << other;
    }
    for (const auto& [key, value] : json["disks"][0].items()) {
      if (value.is_boolean() && other.is_boolean()) continue;
      auto changed = json;
      changed["disks"][0][key] = other;
      EXPECT_FAULT(FaultKind::damaged, parse(changed)) << key << other;
    }
  }
}

TEST(Manifest, WithAHostileValueIsDamaged) {
  struct Case {
    const char* pointer;
    Json value;
  };
  const std::vector<Case> cases = {
      {"/set", "../../etc"},
      {"/set", ".hidden"},
      {"/time", "2026-03-09T07:05:01+00:00"},
      {"/run", "../x"},
      {"/consistency", "perfect"},
      {"/vm/name", "a\x1b[2J"},
      {"/vm/name", std::string(kMaxManifestText + 1, 'x')},
      {"/options/cluster_size", 0},
      {"/options/cluster_size", 65537},
      {"/options/cluster_size", 4 << 20},
      {"/options/compression", 7},
      {"/options/compression", "zlib\x1b"},
      {"/options/encryption", "rot13"},
      {"/disks/0/file", "../root.qcow2"},
      {"/disks/0/file", "/etc/passwd"},
      {"/disks/0/file", ".."},
      {"/disks/0/file", ".hidden"},
      {"/disks/0/file", ""},
      {"/disks/0/file", "manifest.json"},
      {"/disks/0/file", std::string(256, 'x')},
      {"/disks/0/file", "datadisk.9a11.qcow2"},
      {"/files/0/name", "root.8f2c.qcow2"},
      {"/files/0/name", "a/b"},
      {"/files/0/size", 1ull << 63},
      {"/files/0/sha256", std::string(63, 'a')},
      {"/files/0/sha256", std::string(64, 'A')},
      {"/parent", "2026.03.08.07.05.01"},
      {"/parent", parent_of("2026.03.08.07.05.01")},  // of a full set
      {"/kind", "increment"},
      {"/disks/0/luks_uuid", "6d2a3c7e"},
      {"/disks/0/luks_uuid", std::string(36, 'x')},
      {"/disks/0/luks_uuid", ""},
      {"/disks/0/digests", nullptr},
      {"/disks/0/digests/file", "../x"},
      {"/disks/0/digests/file", "root.8f2c.qcow2"},
      {"/disks/0/digests/size", 1ull << 63},
      {"/disks/0/digests/kind", "crc32"},
      {"/disks/0/digests/kind", kDigestsXxh3},
      {"/disks/0/digests/piece_size", 0},
      {"/disks/0/digests/piece_size", 65537},
      {"/disks/0/digests/piece_size", 4 << 20},
      {"/disks/0/digests/root", std::string(64, 'g')},
      {"/options/encryption", "none"},
      {"/disks/0/virtual_size", UINT64_MAX},
      {"/disks/0/order", 1u << 20},
      {"/warnings/0", "\n"},
      {"/warnings/0", 7},
      {"/disks", Json::array({1})},
      {"/files", Json::array({Json::array()})},
  };
  for (const auto& [pointer, value] : cases) {
    auto json = example_json();
    json[Json::json_pointer(pointer)] = value;
    EXPECT_FAULT(FaultKind::damaged, parse(json)) << pointer << ' ' << value.dump().substr(0, 60);
  }
}

TEST(Manifest, WhoseSizesOverflowTogetherIsDamaged) {
  auto json = example_json();
  for (int i = 0; i < 5; ++i) json["files"].push_back({{"name", "f" + std::to_string(i)}, {"size", 1ull << 62}});
  EXPECT_FAULT(FaultKind::damaged, parse(json));
}

TEST(Manifest, WithTooManyMembersIsDamaged) {
  auto json = example_json();
  json["warnings"] = std::vector<std::string>(kMaxManifestWarnings + 1, "w");
  EXPECT_FAULT(FaultKind::damaged, parse(json));
}

TEST(Manifest, ThatIsNoJsonIsDamaged) {
  const std::string good = text_of(example());
  for (const std::string& text : {std::string(), std::string("null"), std::string("[]"), good.substr(0, good.size() / 2),
                                  good + good, "\xff" + good, std::string(kMaxManifestSize + 1, ' '), std::string(100000, '['),
                                  std::string(R"({"format":"nasbackup set","format":"x"})")}) {
    EXPECT_FAULT(FaultKind::damaged, read_manifest(text, "manifest.json")) << text.substr(0, 40);
  }
}

TEST(Manifest, WithAKeyTwiceIsDamaged) {
  std::string text = text_of(example());
  text.insert(text.find("\"vda\""), "\"vdz\", \"name\": ");
  EXPECT_FAULT(FaultKind::damaged, read_manifest(text, "manifest.json"));
}

TEST(Manifest, CutAnywhereIsNeverTakenForWhole) {
  const std::string text = text_of(example());
  for (std::size_t length = 0; length + 1 < text.size(); ++length) {
    EXPECT_FAULT(FaultKind::damaged, read_manifest(text.substr(0, length), "manifest.json")) << length;
  }
}

TEST(Manifest, WithAnyByteChangedIsDamagedForWhoeverHasTheKey) {
  const crypto::Secret key = set_key();
  for (const Manifest& manifest : {example(), plain_example()}) {
    const std::string text = text_of(manifest);
    const auto keys = text.find("\"keys\"");  // another wrapped key does not unwrap: see key_wrap
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (manifest.encryption == "luks" && at > keys && at + 5 < text.size()) continue;
      std::string changed = text;
      changed[at] = static_cast<char>(changed[at] ^ 1);
      EXPECT_FAULT(FaultKind::damaged,
                   {
                     const Manifest read = read_manifest(changed, "manifest.json");
                     if (!read.seal.hmac.empty()) check_seal(changed, read, key, "manifest.json");
                   })
          << at << ' ' << text.substr(at, 20);
    }
  }
}

TEST(Manifest, SealedUnderAnotherKeyIsDamaged) {
  const std::string text = text_of(example());
  const Manifest manifest = read_manifest(text, "manifest.json");
  check_seal(text, manifest, set_key(), "manifest.json");
  EXPECT_FAULT(FaultKind::damaged, check_seal(text, manifest, set_key(2), "manifest.json"));
}

/// Somebody without the key can seal what he forged with a right SHA-256, and no more.
TEST(Manifest, ThatSomebodyForgedIsDamaged) {
  const crypto::Secret key = set_key(), other = set_key(2);
  auto json = example_json();
  json.erase("seal");
  json["disks"][0]["serial"] = "forged";
  const std::string forged = seal_text(json.dump(2), {wrapping(1), wrapping(2)}, &other);
  const Manifest manifest = read_manifest(forged, "manifest.json");
  EXPECT_FAULT(FaultKind::damaged, check_seal(forged, manifest, key, "manifest.json"));
  EXPECT_FAULT(FaultKind::damaged, read_manifest(seal_text(json.dump(2), {}, nullptr), "manifest.json")) << "no HMAC";
  EXPECT_FAULT(FaultKind::damaged, read_manifest(seal_text(json.dump(2), {wrapping(1)}, &key), "manifest.json"))
      << "a key is missing";
}

TEST(Manifest, WithAnythingBehindTheSealIsDamaged) {
  for (const Manifest& manifest : {example(), plain_example()}) {
    const std::string text = text_of(manifest);
    for (const char* more : {" ", "\n", "  \n"}) EXPECT_FAULT(FaultKind::damaged, read_manifest(text + more, "manifest.json"));
    std::string inside = text;
    inside.insert(inside.size() - 3, ", \"kind\": \"x\"");
    EXPECT_FAULT(FaultKind::damaged, read_manifest(inside, "manifest.json"));
    inside = text;
    inside.insert(inside.size() - 2, ",\n  \"later\": 1");
    EXPECT_FAULT(FaultKind::damaged, read_manifest(inside, "manifest.json"));
  }
}

/// The value in the words of the document, and not by the code that wrote it.
TEST(Manifest, IsSealedByWhatIsDocumented) {
  const std::string text = text_of(example());
  const std::string covered = text.substr(0, text.find("\n  \"seal\": ") + 1);
  EXPECT_EQ(covered.front(), '{');
  EXPECT_EQ(covered.substr(covered.size() - 2), ",\n");
  const crypto::Secret key = set_key();
  const Manifest manifest = read_manifest(text, "manifest.json");
  EXPECT_EQ(manifest.seal.hmac, to_hex(crypto::hmac_sha256(key.bytes(), std::as_bytes(std::span(covered)))));
}

}  // namespace
}  // namespace nasbackup::set
