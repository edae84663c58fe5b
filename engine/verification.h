// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// Reads stored disks back and tells all that is wrong with them: what the verb verify does at any time, and backup and convert
// with
// --verify before they publish (of an increment its own part alone). Each image's data is read past the page cache, decoded and
// compared with its digests; then its tables are checked. Blocking; used by one thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/nasbackup.h"
#include "engine/stored_disks.h"
#include "engine/transfer.h"

namespace nasbackup {

/// What a disk's content must be, whatever its digests say.
struct Against {
  SourcePlace source;
  std::string name;  ///< as people know it
};

struct VerificationScope {
  VerifyLevel level = VerifyLevel::data;
  double sample = 1;
  std::map<std::size_t, Against> against;  ///< by the disk's index
  /// By this very run: the lifeline's total counts the disks already, and a leaked cluster is not what was written.
  bool just_written = false;
};

/// Where digests lie that nobody keeps, when there is no better place: to be hidden there.
std::string temporary_file();

/// Lets every file of a set go, before anything of it is read. How each will be read.
std::vector<FileRead> let_set_go(const std::string& path, LifelineState* lifeline);

/// How a file was read; empty when it was not.
std::string how_read(const VerifyReport& report, const std::string& path);

/// A line on what was read from memory; empty when nothing was.
std::string cached_line(const VerifyReport& report);

/// Runs `work` on what this run wrote: that it is not there, or does not open, is damage too.
template <class Work>
auto as_damage(Work&& work) {
  try {
    return work();
  } catch (const Fault& fault) {
    if (fault.kind() != FaultKind::wrong_key && fault.kind() != FaultKind::not_found) throw;
    throw Fault(FaultKind::damaged, fault.what());
  }
}

/// Tells what was found, but for the first, which is thrown: Fault(damaged). Nothing when there is no damage.
void throw_damage(const VerifyReport& report, const JobControl& control);

class Verification {
 public:
  /// All references outlive it; the control has a lifeline. `files`: those that have been let go.
  Verification(const TransferOptions& options, const JobControl& control, const StoredDisks& stored, VerificationScope scope,
               std::vector<FileRead> files = {});

  /// Throws Fault for what keeps it from looking. To be called once.
  VerifyReport run();

 private:
  class Findings;
  struct Digests;
  void let_parents_go();
  void announce();
  void verify_disk(std::size_t index);
  void read_back(std::size_t index);
  void compare_with(std::size_t index, SourcePlace& source, Findings& findings);
  std::unique_ptr<DigestChain> digests_of(std::size_t index);
  std::unique_ptr<DigestChain> digests_of(const Against& against);
  std::vector<GuestRange> take_sample(SourcePlace& source, std::uint64_t grid);
  void let_go(std::size_t index);
  void record(const std::string& path, bool dropped);
  void check_tables(std::size_t index);
  void check_tables(const StoredDisk& disk, const std::string& path);
  void add_damage(Damage damage);
  void locate(std::size_t index, std::vector<Damage>& damages) const;
  LifelineState& state() const noexcept { return control_.lifeline->state(); }

  TransferOptions options_;
  const JobControl& control_;
  const StoredDisks& stored_;
  VerificationScope scope_;
  bool announced_ = false;
  VerifyReport report_;
};

}  // namespace nasbackup
