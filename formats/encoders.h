// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The encoders behind make_compressor, each in the one file that knows its library. Those whose library was not found are
// not there.
#pragma once

#include "formats/compressor.h"

namespace nasbackup {

std::unique_ptr<Compressor> make_igzip_encoder(int level, int history_bits, std::size_t cluster_size);
std::unique_ptr<Compressor> make_libdeflate_encoder(int level);
std::unique_ptr<Compressor> make_zlib_encoder(int level, int history_bits);
std::unique_ptr<Compressor> make_zstd_encoder(const Compression& compression, std::size_t cluster_size);
std::size_t zstd_encoder_bytes(const Compression& compression, std::size_t cluster_size);

}  // namespace nasbackup
