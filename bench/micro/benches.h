// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What main.cc registers, by the floor that is measured. A floor adds its file, its line here and its call there.
#pragma once

namespace nasbackup::bench {

void add_cipher();
void add_codecs();
void add_cluster_tests();
void add_token_bucket();

}  // namespace nasbackup::bench
