// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The command with which stock QEMU opens an image that is encrypted, or stands on others that may be. QEMU's own probing cannot
// find a qcow2 inside a LUKS container, so the layers are named; the names of what an image stands on are left to the headers.
// Pure; safe everywhere.
#pragma once

#include <string>
#include <vector>

namespace nasbackup {

/// What lies in what in one file.
enum class FileLayers { qcow2, luks_in_qcow2, qcow2_in_luks, raw_in_luks };

/// For a shell, in one line. `chain`: the layers of `image`, then those of each file below it. `passphrase_file` empty: a word
/// stands there in its place.
std::string qemu_command(const std::vector<FileLayers>& chain, const std::string& image, const std::string& passphrase_file);

}  // namespace nasbackup
