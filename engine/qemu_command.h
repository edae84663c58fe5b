// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The command with which stock QEMU opens an encrypted image. QEMU's own probing cannot find a qcow2 inside a LUKS container, so
// the layers are named. Pure; safe everywhere.
#pragma once

#include <string>

namespace nasbackup {

enum class EncryptedLayers { luks_in_qcow2, qcow2_in_luks, raw_in_luks };

/// For a shell, in one line. `passphrase_file` empty: a word stands there in its place.
std::string qemu_command(EncryptedLayers layers, const std::string& image, const std::string& passphrase_file);

}  // namespace nasbackup
