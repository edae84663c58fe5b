// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
#include "engine/set/manifest.h"

#include <nlohmann/json.hpp>

#include "tests/unit/set/set_fixture.h"

namespace nasbackup::set {
namespace {

using Json = nlohmann::json;

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
  manifest.disks = {{"vda", "8f2c", "root.8f2c.qcow2", "/images/8f2c", "file", "S1", "virtio", 0, 1 << 30, 7, 5, 3},
                    {"vdb", "9a11", "datadisk.9a11.qcow2", "nbd://host/9a11", "network", "", "scsi", 1, 512, 8, 0, 512}};
  manifest.files = {{"domain-config.xml", 4000}};
  manifest.warnings = {"the agent did not answer"};
  return manifest;
}

Json example_json() { return Json::parse(write_manifest(example())); }

Manifest parse(const Json& json) { return read_manifest(json.dump(), "manifest.json"); }

TEST(Manifest, ReadsBackWhatItWrote) { EXPECT_EQ(example(), read_manifest(write_manifest(example()), "manifest.json")); }

TEST(Manifest, SkipsKeysItDoesNotKnow) {
  auto json = example_json();
  json["later"] = {{"a", 1}};
  json["disks"][0]["later"] = "b";
  EXPECT_EQ(example(), parse(json));
}

TEST(Manifest, WritesPlainTextWhateverItIsGiven) {
  auto manifest = example();
  manifest.disks[0].source = "/images/\x1b[31m\xff\n";
  manifest.warnings = {std::string(5000, 'w')};
  const auto again = read_manifest(write_manifest(manifest), "manifest.json");
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
  json["version"] = 2;
  EXPECT_FAULT(FaultKind::failed, parse(json));
}

TEST(Manifest, WithoutAnyOfItsKeysIsDamaged) {
  const auto json = example_json();
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
  const auto json = example_json();
  for (const Json& other : {Json(nullptr), Json(true), Json(1.5), Json(Json::array({1, "x"}))}) {
    for (const auto& [key, value] : json.items()) {
      auto changed = json;
      changed[key] = other;
      EXPECT_FAULT(FaultKind::damaged, parse(changed)) << key << other;
    }
    for (const auto& [key, value] : json["disks"][0].items()) {
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
      {"/set", "2026.03.09.07.05.02"},
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
  const std::string good = write_manifest(example());
  for (const std::string& text : {std::string(), std::string("null"), std::string("[]"), good.substr(0, good.size() / 2),
                                  good + good, "\xff" + good, std::string(kMaxManifestSize + 1, ' '), std::string(100000, '['),
                                  std::string(R"({"format":"nasbackup set","format":"x"})")}) {
    EXPECT_FAULT(FaultKind::damaged, read_manifest(text, "manifest.json")) << text.substr(0, 40);
  }
}

TEST(Manifest, WithAKeyTwiceIsDamaged) {
  std::string text = write_manifest(example());
  text.insert(text.find("\"vda\""), "\"vdz\", \"name\": ");
  EXPECT_FAULT(FaultKind::damaged, read_manifest(text, "manifest.json"));
}

TEST(Manifest, CutAnywhereIsNeverTakenForWhole) {
  const std::string text = write_manifest(example());
  for (std::size_t length = 0; length + 1 < text.size(); ++length) {
    EXPECT_FAULT(FaultKind::damaged, read_manifest(text.substr(0, length), "manifest.json")) << length;
  }
}

}  // namespace
}  // namespace nasbackup::set
