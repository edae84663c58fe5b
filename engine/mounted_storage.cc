// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// nasbackup::MountedStorage. The namespace makes a leak impossible: the kernel unmounts with its last process, however that ends.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/io/child_process.h"
#include "engine/io/file_descriptor.h"
#include "engine/io/lifeline_state.h"
#include "engine/mount_point.h"
#include "engine/nasbackup.h"
#include "engine/set/text.h"
#include "engine/translate_faults.h"

namespace nasbackup {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTick = 20;  // ms
constexpr std::size_t kMostWords = 4096;
constexpr int kUnmountTries = 4;
constexpr std::chrono::milliseconds kFirstPause{100};

/// The mounts of everybody else still arrive here, ours go nowhere.
void enter_own_namespace() {
  if (::unshare(CLONE_NEWNS) != 0) throw Fault(FaultKind::failed, std::string("mount namespace: ") + std::strerror(errno));
  if (::mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    throw Fault(FaultKind::failed, std::string("mount namespace: make it private: ") + std::strerror(errno));
}

std::vector<std::string> split(const std::string& options) {
  std::vector<std::string> words;
  for (std::size_t start = 0; start <= options.size();) {
    const std::size_t end = std::min(options.find(',', start), options.size());
    if (end > start) words.push_back(options.substr(start, end - start));
    start = end + 1;
  }
  return words;
}

/// The value of an option that nobody may see, or empty.
std::string secret_in(const std::string& option) {
  for (const std::string_view name : {"password=", "pass=", "password2=", "secret=", "key="})
    if (option.starts_with(name)) return option.substr(name.size());
  return {};
}

/// What mount(8) is started with.
struct MountWords {
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<std::string> secrets;
};

/// A share as Windows writes it, too.
std::string address_of(const StorageOptions& storage) {
  std::string address = storage.address;
  if (storage.type == "cifs") std::replace(address.begin(), address.end(), '\\', '/');
  return address;
}

/// mount.cifs takes the password from its environment (mount.cifs(8), PASSWD), where other users do not see it.
void hide_password(MountWords& words, std::vector<std::string>& options) {
  const auto is_password = [](const std::string& option) {
    return option.starts_with("password=") || option.starts_with("pass=");
  };
  const auto found = std::find_if(options.begin(), options.end(), is_password);
  if (found == options.end()) return;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!std::string_view(*entry).starts_with("PASSWD=")) words.environment.emplace_back(*entry);
  words.environment.push_back("PASSWD=" + secret_in(*found));
  options.erase(std::remove_if(options.begin(), options.end(), is_password), options.end());
}

MountWords words_of(const StorageOptions& storage, const std::string& point) {
  MountWords words{{"mount", "-t", storage.type, address_of(storage), point}, {}, {}};
  std::vector<std::string> options = split(storage.options);
  for (const std::string& option : options)
    if (const std::string secret = secret_in(option); !secret.empty()) words.secrets.push_back(secret);
  if (storage.type == "cifs") {
    hide_password(words, options);
    options.emplace_back("nobrl");  // our locks are files (cloudstack-contract.md, 3.1)
  }
  std::string joined;
  for (const std::string& option : options) joined += (joined.empty() ? "" : ",") + option;
  if (!joined.empty()) words.arguments.insert(words.arguments.end(), {"-o", joined});
  return words;
}

std::string without_secrets(std::string text, const std::vector<std::string>& secrets) {
  for (const std::string& secret : secrets)
    for (std::size_t at; (at = text.find(secret)) != std::string::npos;) text.replace(at, secret.size(), "***");
  return text;
}

/// What a program writes to its stderr, as one line.
class Complaints {
 public:
  Complaints() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw Fault(FaultKind::failed, std::string("pipe: ") + std::strerror(errno));
    read_end_ = FileDescriptor(ends[0]);
    write_end_ = FileDescriptor(ends[1]);
  }
  int write_end() const noexcept { return write_end_.get(); }

  void read_available() {
    char buffer[512];
    for (ssize_t got; (got = ::read(read_end_.get(), buffer, sizeof buffer)) > 0;)
      if (text_.size() < kMostWords) text_.append(buffer, static_cast<std::size_t>(got));
  }

  std::string line() const {
    std::string line;
    for (const char c : text_) line += c == '\n' || c == '\t' ? ' ' : c;
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return line;
  }

 private:
  FileDescriptor read_end_, write_end_;
  std::string text_;
};

/// Runs one program to its end. What is wrong, in one line; empty: nothing. One that is not done in time is killed and left.
std::string run(const ChildOptions& what, std::chrono::milliseconds timeout, const std::stop_token& stop) {
  Complaints complaints;
  ChildOptions options = what;
  options.output = options.errors = complaints.write_end();
  ChildProcess child(options, options.arguments.front());
  const auto end = Clock::now() + timeout;
  while (!child.has_ended()) {
    complaints.read_available();
    if (Clock::now() < end && !stop.stop_requested()) {
      ::poll(nullptr, 0, kTick);
      continue;
    }
    child.give_up();
    if (stop.stop_requested()) throw Fault(FaultKind::interrupted, "stopped");
    return "no answer for " + std::to_string(std::chrono::duration_cast<std::chrono::seconds>(timeout).count()) + " s, given up";
  }
  complaints.read_available();
  const std::string how = child.complaint();
  if (how.empty()) return {};
  return complaints.line().empty() ? how : complaints.line();
}

}  // namespace

MountedStorage::MountedStorage(const StorageOptions& options, const JobControl& control)
    : timeout_(options.timeout), lifeline_(control.lifeline ? control.lifeline : std::make_shared<Lifeline>()) {
  translate_faults([&] {
    sweep_mount_points();
    enter_own_namespace();
    path_ = make_mount_point(lifeline_->run_id());
    lifeline_->state().phase = "mounting";
    const MountWords words = words_of(options, path_);
    const std::string complaint = run({words.arguments, words.environment}, timeout_, control.stop);
    if (complaint.empty()) {
      mounted_ = true;
      return;
    }
    remove_mount_point(lifeline_->run_id());
    throw Fault(FaultKind::failed, "Failed to mount " + options.type + " store: " + without_secrets(complaint, words.secrets));
  });
}

MountedStorage::~MountedStorage() {
  unmount();
  remove_mount_point(lifeline_->run_id());
}

StorageUse MountedStorage::use() const {
  return translate_faults([&] {
    const TargetCall mark(&lifeline_->state());
    struct statvfs room {};
    if (::statvfs(path_.c_str(), &room) != 0) throw Fault(FaultKind::failed, path_ + ": " + std::strerror(errno));
    const std::uint64_t unit = room.f_frsize != 0 ? room.f_frsize : room.f_bsize;
    return StorageUse{room.f_blocks * unit, (room.f_blocks - std::min(room.f_bfree, room.f_blocks)) * unit};
  });
}

std::string MountedStorage::unmount() noexcept {
  if (!mounted_) return {};
  mounted_ = false;
  std::string complaint;
  try {
    auto pause = kFirstPause;
    for (int i = 0; i < kUnmountTries; ++i, pause *= 2) {
      if ((complaint = run({{"umount", path_}, {}}, timeout_ / kUnmountTries, {})).empty()) return {};
      std::this_thread::sleep_for(pause);
    }
  } catch (const std::exception& error) {
    complaint = error.what();
  }
  // What is on it was flushed; the kernel lets go of it when it can.
  ::umount2(path_.c_str(), MNT_DETACH);
  return complaint;
}

}  // namespace nasbackup
