// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The one place where the engine's exceptions become the public one. No state.
#pragma once

#include <exception>
#include <new>

#include "engine/io/fault.h"
#include "engine/nasbackup.h"
#include "formats/format_error.h"

namespace nasbackup {

inline Outcome outcome_of(FaultKind kind) noexcept {
  switch (kind) {
    case FaultKind::failed:
      return Outcome::failed;
    case FaultKind::not_found:
      return Outcome::not_found;
    case FaultKind::locked:
      return Outcome::locked;
    case FaultKind::wrong_key:
      return Outcome::wrong_key;
    case FaultKind::damaged:
      return Outcome::damaged;
    case FaultKind::target_full:
      return Outcome::target_full;
    case FaultKind::source:
      return Outcome::source_problem;
    case FaultKind::timed_out:
      return Outcome::timed_out;
    case FaultKind::usage:
      return Outcome::usage;
    case FaultKind::interrupted:
      return Outcome::failed;
  }
  return Outcome::failed;
}

/// Runs `work`; whatever it throws leaves as nasbackup::Error.
template <class Work>
auto translate_faults(Work&& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const Fault& fault) {
    throw Error(outcome_of(fault.kind()), fault.what());
  } catch (const FormatError& error) {
    throw Error(Outcome::failed, error.what());
  } catch (const std::bad_alloc&) {
    throw Error(Outcome::failed, "memory: there is not enough");
  } catch (const std::exception& error) {
    throw Error(Outcome::failed, error.what());
  }
}

}  // namespace nasbackup
