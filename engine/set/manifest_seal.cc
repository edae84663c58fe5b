// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// See manifest_seal.h.
#include "engine/set/manifest_seal.h"

#include <array>
#include <cassert>
#include <optional>

#include "crypto/digest.h"
#include "crypto/hmac.h"
#include "engine/set/hex.h"

namespace nasbackup::set {

namespace {

/// How the line of the seal begins. In a string of the manifest a newline is written as \n, so this is nowhere else.
constexpr std::string_view kLine = "  \"seal\": {\"sha256\": \"";

/// Every byte before that line; nothing when there is none.
std::optional<std::string_view> covered_by_seal(std::string_view text) {
  const auto newline = text.find(std::string("\n").append(kLine));
  if (newline == std::string_view::npos) return std::nullopt;
  return text.substr(0, newline + 1);
}

std::array<std::byte, 32> sha256(std::string_view covered) {
  std::array<std::byte, 32> value;
  crypto::Digest digest(crypto::Hash::sha256);
  digest.update(std::as_bytes(std::span(covered)));
  digest.finish(value);
  return value;
}

crypto::Hmac hmac(std::string_view covered, const crypto::Secret& set_key) {
  return crypto::hmac_sha256(set_key.bytes(), std::as_bytes(std::span(covered)));
}

/// From the line's beginning to the end of the text.
std::string ending(const ManifestSeal& seal) {
  std::string text = std::string(kLine) + seal.sha256 + R"(", "hmac_sha256": ")" + seal.hmac + R"(", "keys": [)";
  for (const crypto::Wrapping& key : seal.keys) text += (&key == seal.keys.data() ? "\"" : ", \"") + to_hex(key) + '"';
  return text + "]}\n}\n";
}

}  // namespace

std::string seal_text(std::string body, const std::vector<crypto::Wrapping>& keys, const crypto::Secret* set_key) {
  assert(body.ends_with("\n}"));
  body.resize(body.size() - 2);
  body += ",\n";
  const ManifestSeal seal{to_hex(sha256(body)), set_key == nullptr ? "" : to_hex(hmac(body, *set_key)), keys};
  return body + ending(seal);
}

bool is_undamaged(std::string_view text) {
  const auto covered = covered_by_seal(text);
  if (!covered) return false;
  const auto told = from_hex<32>(text.substr(covered->size() + kLine.size(), 64));
  return told && *told == sha256(*covered);
}

bool ends_with_seal(std::string_view text, const ManifestSeal& seal) {
  const auto covered = covered_by_seal(text);
  return covered && text.substr(covered->size()) == ending(seal);
}

bool is_authentic(std::string_view text, const ManifestSeal& seal, const crypto::Secret& set_key) {
  const auto covered = covered_by_seal(text);
  const auto told = from_hex<32>(seal.hmac);
  return covered && told && crypto::same_bytes(*told, hmac(*covered, set_key));
}

}  // namespace nasbackup::set
