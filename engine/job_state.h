// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What a watcher of a job sees of it, or null when nobody watches. No state of its own.
#pragma once

#include "engine/nasbackup.h"

namespace nasbackup {

inline LifelineState* state_of(const JobControl& control) noexcept {
  return control.lifeline == nullptr ? nullptr : &control.lifeline->state();
}

}  // namespace nasbackup
