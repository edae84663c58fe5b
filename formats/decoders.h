// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The decoders behind make_decompressor, each in the one file that knows its library.
#pragma once

#include "formats/decompressor.h"

namespace nasbackup {

/// zlib's: takes every stream that qemu takes.
std::unique_ptr<Decompressor> make_zlib_decoder();
/// libdeflate's, twice as fast: what it refuses is left to zlib's to judge. Not there without the library.
std::unique_ptr<Decompressor> make_libdeflate_decoder();
/// Not there without the library.
std::unique_ptr<Decompressor> make_zstd_decoder();

}  // namespace nasbackup
