// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// QEMU's image locks (qemu block/file-posix.c): open-file-description locks on single bytes of the image, one byte for each
// permission that is used and one for each that is not shared with others, then a look whether anybody holds the opposite. So
// qemu-img, qemu-nbd and a VM see us, and we them. Blocking calls; one object is used by one thread at a time.
//
// We take what `qemu-img convert` takes. A source: CONSISTENT_READ used, WRITE and RESIZE not shared. A target: CONSISTENT_READ,
// WRITE and RESIZE used, WRITE and RESIZE not shared. What follows from that, tried with qemu 7.2:
//  * a program that has the source open for writing: we are refused ("in use");
//  * readers, other backups, `qemu-img info`: nobody is in anybody's way;
//  * a VM (or qemu-io, `qemu-img resize` …) started while we read: QEMU itself refuses ("Failed to get \"write\" lock"), just as
//  it
//    does beside `qemu-img convert`. Sharing WRITE would let it start and spoil what we have read so far.
//  * a writer that starts all the same (`locking=off`, not QEMU at all, another device node, a server that lost the locks): no
//  lock
//    stops it, so confirm_undisturbed() finds it after the last read and the run fails. A backup is never quietly wrong.
// Beyond QEMU's locks, on file systems that can tell, any program that has the file open for writing counts as a writer.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>

namespace nasbackup {

class ImageLock {
 public:
  /// Locks the source behind `fd` (any mode of opening). Throws Fault(source) when another process has it open for writing.
  static ImageLock for_reading(int fd, const std::string& path);
  /// Locks the target behind `fd` (open for reading and writing). Throws Fault(locked) when another process uses it.
  static ImageLock for_writing(int fd, const std::string& path);
  /// The same for who holds `reading` on the same file, by another descriptor: at no time in between is the file unlocked.
  static ImageLock for_writing_after(ImageLock reading, int fd, const std::string& path);
  /// Gives the locks up; `fd` must still be open. (They also end with the last descriptor of the same open file.)
  ~ImageLock();
  ImageLock(ImageLock&& other) noexcept;
  ImageLock& operator=(ImageLock&& other) noexcept;

  /// After the last read of a source: the locks are still ours, and nobody has written to it, or has it open to do so. Throws
  /// Fault(source) otherwise.
  void confirm_undisturbed();
  /// Why there are no locks; empty when there are. A file system without them is not an error, as in QEMU, but worth a line.
  const std::string& note() const noexcept { return note_; }

 private:
  enum class Use { reading, writing };
  /// What changes when somebody writes: the time of the last change of a file, or the sectors ever written to a device.
  struct Traces {
    std::uint64_t size = 0;
    timespec modified{};
    std::uint64_t sectors_written = 0;
  };

  ImageLock(int fd, const std::string& path, Use use, ImageLock* before = nullptr);
  void lock_or_note(ImageLock* before = nullptr);
  bool lock_byte(std::int64_t byte);
  void refuse_opposite(std::int64_t byte) const;
  void refuse_open_writer() const;
  [[noreturn]] void refuse(const std::string& how) const;
  Traces look_for_traces() const;
  void release() noexcept;

  int fd_;  // not owned
  std::string path_;
  Use use_;
  bool reading_is_over_ = false;
  std::string note_;
  Traces at_first_;
};

}  // namespace nasbackup
