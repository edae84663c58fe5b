// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// What the suites of sources and targets share: a temporary folder, a patchy disk, an nbdkit that serves a file, and a loop to
// run coroutines on. For tests; one thread.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include "engine/io/stop_signal.h"

namespace nasbackup {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "nodes-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Runs of random data and of zeroes, of many lengths; the same for the same seed.
inline std::vector<std::byte> patchy_disk(std::uint64_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> disk(size);
  for (std::uint64_t at = 0; at < size;) {
    const std::uint64_t run = std::min<std::uint64_t>(1 + random() % 300000, size - at);
    if (random() % 2 != 0)
      for (std::uint64_t i = 0; i < run; ++i) disk[at + i] = static_cast<std::byte>(random());
    at += run;
  }
  return disk;
}

/// A file with this content, sparse where it is zero.
inline void write_sparse(const std::string& path, const std::vector<std::byte>& disk) {
  std::ofstream(path).close();
  std::filesystem::resize_file(path, disk.size());
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  constexpr std::size_t kBlock = 4096;
  for (std::size_t at = 0; at < disk.size(); at += kBlock) {
    const auto end = std::min(disk.size(), at + kBlock);
    bool zero = true;
    for (std::size_t i = at; i < end && zero; ++i) zero = disk[i] == std::byte{0};
    if (zero) continue;
    file.seekp(static_cast<std::streamoff>(at));
    file.write(reinterpret_cast<const char*>(disk.data() + at), static_cast<std::streamsize>(end - at));
  }
}

inline std::vector<std::byte> read_file(const std::string& path) {
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

/// A real nbdkit that serves `path`, and listens (it writes its pid file then); gone with this object.
class Nbdkit {
 public:
  Nbdkit(const Folder& folder, const std::string& path) : socket_(folder.file("socket")) {
    const std::string served = "file=" + path, ready = folder.file("nbdkit.pid");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::execlp("nbdkit", "nbdkit", "-f", "--exit-with-parent", "-P", ready.c_str(), "-U", socket_.c_str(), "file", served.c_str(),
               nullptr);
      ::_exit(127);
    }
    for (int i = 0; i < 1000 && !std::filesystem::exists(ready); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ~Nbdkit() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }
  std::string uri() const { return "nbd+unix:///?socket=" + socket_; }

 private:
  std::string socket_;
  pid_t pid_;
};

/// A loop with its pool and its stop; run() rethrows what the coroutine threw.
struct Loop {
  asio::io_context context{1};
  asio::thread_pool pool{2};
  std::stop_source source;
  StopSignal stop{context.get_executor(), source.get_token()};

  void run(const std::function<asio::awaitable<void>()>& main) {
    std::exception_ptr failure;
    auto keep = [&](std::exception_ptr error) { failure = error; };
    asio::co_spawn(context, main(), keep);
    context.run();
    context.restart();
    if (failure) std::rethrow_exception(failure);
  }
};

}  // namespace nasbackup
