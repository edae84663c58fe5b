// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The persistent bitmaps of a qcow2: their directory, their tables and the clusters of their data. Sections "Bitmaps extension",
// "Bitmap directory", "Bitmap table". Holds the directory (kMaxBitmapDirectoryBytes at most) and a piece of a table. No state.
#pragma once

#include "formats/qcow2_checked_image.h"

namespace nasbackup::qcow2 {

/// Counts their clusters and reports what is wrong with them; nothing when the image has no valid bitmaps.
void check_bitmaps(CheckedImage& image);

}  // namespace nasbackup::qcow2
