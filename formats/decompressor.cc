// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Picks the decoder; see decompressor.h.
#include "formats/decompressor.h"

#include "formats/decoders.h"
#include "formats/format_error.h"

namespace nasbackup {

std::unique_ptr<Decompressor> make_decompressor(Codec codec) {
  if (!is_built_in(codec)) throw FormatError("compressed cluster: not built in: " + std::string(name_of(codec)));
#ifdef NASBACKUP_HAVE_ZSTD
  if (codec == Codec::zstd) return make_zstd_decoder();
#endif
#ifdef NASBACKUP_HAVE_LIBDEFLATE
  return make_libdeflate_decoder();
#else
  return make_zlib_decoder();
#endif
}

}  // namespace nasbackup
