// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The library's front door: everything that other programs (and our own command) may use.
//
// Thread-safety: the functions may be called from any thread, several jobs at once; one object is used by one thread
// at a time unless its comment says more. Errors: every function that can fail throws nasbackup::Error. Sizes are in
// bytes, times in seconds, paths in the host's encoding. The jobs run inside the calling process: a target that hangs
// in the kernel hangs the caller. A program that must not hang does what the command does: it runs the job in a child
// process and watches it through a Lifeline.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

namespace nasbackup {

/// What a run comes to. The numbers are the command's exit statuses (see `nasbackup --help`).
enum class Outcome : int {
  done = 0,
  failed = 1,
  done_with_warnings = 3,
  not_found = 10,
  locked = 11,
  wrong_key = 12,
  damaged = 13,
  target_full = 14,
  source_problem = 15,
  timed_out = 16,
  usage = 64,
};

/// The one exception that leaves the library: an outcome and one line "where: what: value".
class Error : public std::runtime_error {
 public:
  Error(Outcome outcome, const std::string& message) : std::runtime_error(message), outcome_(outcome) {}
  Outcome outcome() const noexcept { return outcome_; }

 private:
  Outcome outcome_;
};

struct LifelineState;

/// A page of memory shared by a job and whoever watches over it, also across fork(): what the job holds of a guest,
/// how far it is, and since when a call on the target has not come back. It also owns the run's identity: an id and a
/// lock file under /run/nasbackup that says "alive" for as long as any process that inherited it lives.
/// Create it before fork(). Its functions may be called from any thread or process that has it.
class Lifeline {
 public:
  Lifeline();
  ~Lifeline();
  Lifeline(const Lifeline&) = delete;
  Lifeline& operator=(const Lifeline&) = delete;

  /// The random id of this run: 16 hexadecimal digits. Socket, scratch files and partial set carry it.
  std::string run_id() const;
  /// For how long the oldest call on the target that has not come back has been under way; zero when there is none.
  std::chrono::nanoseconds target_stalled_for() const noexcept;
  /// True while a guest is frozen, or has our backup job or a checkpoint of which no backup is published yet.
  bool holds_guest() const noexcept;
  /// True while there is a partial set of this run on the target, and for good when it could not be removed.
  bool has_partial_set() const noexcept;
  /// Thaws the guest and ends our backup job, as far as the job says that it holds them. For the watcher, once the
  /// job's process is dead or given up. Tries until `deadline` from now; returns what is still held, empty when nothing.
  std::string release_guest(std::chrono::seconds deadline) noexcept;
  /// For the watcher, when it knows that the job's process is gone, with all that it had open: the job need not be ended with care.
  void process_is_gone() noexcept;
  /// Gives the run's lock up although a process that hangs in the kernel still has it open, and its mount point.
  void abandon() noexcept;

  LifelineState& state() const noexcept { return *state_; }

 private:
  LifelineState* state_ = nullptr;
  int owner_pid_ = 0;
};

/// How far a job is. Bytes of guest data unless it says otherwise.
struct Progress {
  std::string phase;               ///< "starting", "copying", "flushing", "publishing", …
  std::uint64_t total_bytes = 0;   ///< virtual size of all disks of the job
  std::uint64_t done_bytes = 0;    ///< read or known to be zero
  std::uint64_t read_bytes = 0;    ///< read from the source as data
  std::uint64_t stored_bytes = 0;  ///< written to the target (file bytes)
};

/// Progress of the job that runs on this lifeline; for the watcher.
Progress progress_of(const Lifeline& lifeline);

namespace crypto {
class Secret;
}

/// A passphrase that opens or encrypts images. Every byte counts, a trailing newline too, as in qemu. The bytes lie in locked
/// memory that no core file has, and are wiped with the last reference. Immutable; threads may share one. What cannot be a
/// passphrase (nothing at all, more than 8 MiB, a directory) throws Error(usage); a stop throws Error(failed).
class Passphrase {
 public:
  /// A FIFO is waited for. On `lifeline` a watcher sees how long a call on the file has not come back.
  static std::shared_ptr<const Passphrase> from_file(const std::string& path, std::stop_token stop = {},
                                                     Lifeline* lifeline = nullptr);
  /// Reads to the end; does not close it.
  static std::shared_ptr<const Passphrase> from_descriptor(int fd, std::stop_token stop = {});
  /// What the command writes to its stdout; it runs under /bin/sh, with nothing on its stdin and our stderr.
  static std::shared_ptr<const Passphrase> from_command(const std::string& command, std::stop_token stop = {});
  /// A copy of the caller's bytes, which the caller should wipe.
  static std::shared_ptr<const Passphrase> from_bytes(const void* bytes, std::size_t size);

  /// Where it came from, for messages.
  const std::string& origin() const noexcept { return origin_; }
  const std::shared_ptr<const crypto::Secret>& secret() const noexcept { return secret_; }

 private:
  Passphrase(std::string origin, crypto::Secret secret);

  std::string origin_;
  std::shared_ptr<const crypto::Secret> secret_;
};

/// Keys of Ceph clients, by the names that rbd: locations give them (`stored_key=NAME` in place of `key=…`): a location is shown
/// and copied, a key never is.
using StorageKeys = std::map<std::string, std::shared_ptr<const Passphrase>>;

/// Moves the keys of all rbd: locations in `text`, which may stand there among other words, to `keys`. They are overwritten in
/// `text`; returned is the text with their names in their places.
std::string take_storage_keys(char* text, StorageKeys& keys);

/// How often PBKDF2 hashes for a key slot: a number and not a time, so that a busy host writes no weak slot.
inline constexpr std::uint32_t kPbkdfIterations = 2'000'000;

/// How fast a job may read.
struct RateLimit {
  std::uint64_t rate = 0;   ///< bytes per second, all disks together; 0: no limit, and in a group what holds there
  std::uint64_t burst = 0;  ///< bytes; 0: a tenth of a second of the rate
  std::string schedule;     ///< "08:00-18:00=50M,*=0": rates by local time of day, in place of `rate`; empty: none
  bool per_disk = false;    ///< each disk has a limit of its own instead; not in a group

  /// False when it says nothing.
  explicit operator bool() const noexcept { return rate != 0 || !schedule.empty(); }
};

struct RateControlState;

/// Changes the limit of a job while it runs, in a group that of all members. From any thread.
class RateControl {
 public:
  RateControl();
  ~RateControl();
  RateControl(const RateControl&) = delete;
  RateControl& operator=(const RateControl&) = delete;

  /// From now on `limit`, in place of what the job's options say. Throws Error(usage) for a schedule that cannot be read, and
  /// nothing has changed then.
  void set(const RateLimit& limit);

  RateControlState& state() const noexcept { return *state_; }

 private:
  std::unique_ptr<RateControlState> state_;
};

/// What a caller gives a job besides its options.
struct JobControl {
  std::stop_token stop;                                ///< a request ends the job cleanly with Outcome::failed
  std::shared_ptr<Lifeline> lifeline;                  ///< null: the job makes its own
  std::function<void(const std::string&)> on_message;  ///< notes for the user, one line each; may be empty
  std::shared_ptr<RateControl> rate_control;           ///< null: the limit stays what it is
  std::function<void(const std::string&)> on_detail;   ///< notes that only some want to see; may be empty
};

/// What is looked at of an image that was written, before it is published.
enum class VerifyLevel {
  none,
  metadata,  ///< its tables are checked, and that its passphrase opens it
  data,      ///< and all of it is read back, past this host's memory where the system lets it, and compared with what was read
};

/// Options shared by every verb that moves data.
struct TransferOptions {
  unsigned threads = 0;                       ///< CPU threads; 0: one for each CPU
  std::uint64_t memory = 256ull << 20;        ///< bound on what the whole run may use
  unsigned connections = 0;                   ///< NBD connections for each disk; 0: what is best for the server
  std::uint64_t item_size = 0;                ///< bytes of one read, 64 KiB … 8 MiB, a power of two; 0: 512 KiB
  std::uint64_t cluster_size = 64ull << 10;   ///< of a qcow2 that is written: 512 … 2 MiB, a power of two
  std::string compression;                    ///< "zlib", "zstd:best", "zlib:6", "auto" …; empty: none
  std::shared_ptr<const Passphrase> encrypt;  ///< what is written is encrypted with LUKS and opens with this; null: it is not
  std::vector<std::shared_ptr<const Passphrase>> source_keys;  ///< for an encrypted source: each is tried
  StorageKeys storage_keys;                                    ///< that rbd: locations name
  std::uint32_t pbkdf_iterations = kPbkdfIterations;           ///< of the key slot
  bool allow_weak_pbkdf = false;                               ///< for tests: fewer than a million of them
  RateLimit limit;                                             ///< on reading
  std::string rate_group;                  ///< shares one limit with all jobs of this host that name it; empty: none
  std::chrono::seconds io_timeout{60};     ///< an NBD server or a Ceph cluster that does not answer so long is given up
  VerifyLevel verify = VerifyLevel::none;  ///< of backup and convert
};

/// Whether later backups of a running VM may hold only what changed since this one, and whether this one does.
enum class ChainPart {
  none,       ///< no checkpoint is made: nothing is left in the VM's disks
  full,       ///< with a checkpoint, on which increments can stand
  increment,  ///< what changed since an earlier one; each disk of which that cannot be known is in it as a whole
};

/// On what an increment shall stand, by somebody who keeps account of checkpoints and files himself.
struct NamedParent {
  std::string checkpoint;          ///< with a bitmap of its name on every disk, or the backup becomes a full one
  std::vector<std::string> files;  ///< below the target, one for each disk in the domain's order
};

/// A backup of a libvirt domain (`vm`), or of `sources` under the name `vm` when there are any.
struct BackupOptions : TransferOptions {
  std::string vm;                    ///< the domain's name; with `sources` the set's name
  std::vector<std::string> sources;  ///< --disk SRC without libvirt: path, nbd URI or rbd: location
  std::string source_format;         ///< of `sources`: "raw", "qcow2", "luks" (a raw disk in a LUKS container), or empty to probe
  std::string to;                    ///< the target directory; "null:" reads everything and keeps nothing
  std::string set;                   ///< "VM/NAME", the set's directory below `to`; empty: the VM's name, and the time
  std::optional<std::vector<std::string>> stopped_disks;  ///< of `vm` when it does not run here: CloudStack's paths and rbd:
                                                          ///< strings, in order; nothing: those of the domain's XML
  ChainPart chain = ChainPart::none;
  std::string parent;                       ///< of an increment: the set on which it shall stand; empty: the newest that can be
  std::optional<NamedParent> named_parent;  ///< of an increment by CloudStack's contract, `checkpoint` being its own
  std::string checkpoint;  ///< without `chain`: created with the job, and a bitmap on every disk that can hold one; empty: none
  std::vector<std::string> source_secrets;  ///< UUIDs of libvirt secrets that open `stopped_disks`, beside source_keys
  std::string stopped_bitmap;        ///< added, empty, to the qcow2 files of `stopped_disks` when they are read; empty: none
  bool open_to_all = false;          ///< files of mode 0644 and directories of mode 0755; else 0600 and 0700
  std::vector<std::string> disks;    ///< only these (target name, e.g. vda)
  std::vector<std::string> exclude;  ///< not these
  bool quiesce = false;              ///< freeze the guest's file systems while the job begins
  std::chrono::seconds quiesce_timeout{10};  ///< for the agent's answer
  std::string scratch;                       ///< directory of the job's scratch files; empty: the domain's own
  bool allow_plaintext = false;              ///< an encrypted source may be written unencrypted
  std::string exec_in_job;                   ///< shell command run once the job has begun; the job ends after it
  std::string connect = "qemu:///system";    ///< libvirt URI
  std::uint64_t min_free = 1ull << 30;       ///< room that must be left on the target
};

/// Throws Error(usage) for what backup() would refuse before it touches anything.
void check_options(const BackupOptions& options);

/// As libvirt counts: major × 1,000,000 + minor × 1,000 + release.
struct HypervisorVersions {
  unsigned long libvirt = 0;
  unsigned long hypervisor = 0;  ///< QEMU
};
/// Throws Error(source_problem) when libvirt cannot be reached.
HypervisorVersions hypervisor_versions(const std::string& connect);

/// One image to another.
struct ConvertOptions : TransferOptions {
  std::string source;                   ///< path, nbd:// or nbd+unix:// URI, or rbd: location
  std::string source_format;            ///< "raw", "qcow2", "luks", or empty to probe
  std::string target;                   ///< path, nbd URI, rbd: location, or "null:"
  std::string target_format = "qcow2";  ///< "qcow2", "raw", or "luks" (a raw disk in a LUKS container)
  bool shared_source = false;           ///< -U: do not look at image locks of the source
  bool force = false;                   ///< replace a target file that exists, or write over a Ceph image; never what is in use
};

/// What happened to one disk.
struct DiskReport {
  std::string name;  ///< target (vda) or, without libvirt, disk0, disk1 …
  std::string source;
  std::string image;  ///< path of what was written
  std::uint64_t virtual_size = 0;
  std::uint64_t data_bytes = 0;    ///< read as data
  std::uint64_t zero_bytes = 0;    ///< not stored, because zero
  std::uint64_t parent_bytes = 0;  ///< of an increment: not stored, because as in its parent
  std::uint64_t stored_bytes = 0;  ///< size of the image file
  std::string full_because;        ///< of a backup that was to be an increment: why this disk is in it as a whole; else empty
  double seconds = 0;
  std::map<std::string, double> stages;  ///< busy seconds of each stage ("throttle", "read", "encode", "place", "write" …)
  std::map<std::string, double> cpu;     ///< CPU seconds, all threads, of the stages that use several ("encode" …)
  std::string compression;               ///< "zlib:default" …; empty: none
  std::string encryption;                ///< "none", "luks" (inside qcow2), "luks container"
  std::string chosen;                    ///< what `auto` chose: "zlib:1 20 %, zlib:5 80 %"
  std::uint64_t compressed_clusters = 0;
  std::uint64_t compressed_bytes = 0;  ///< their streams
  std::uint64_t copied_clusters = 0;   ///< of a merge, of the compressed ones: whose stream was copied and not encoded again
  std::uint64_t plain_clusters = 0;    ///< stored as they were: they did not shrink, or nothing is compressed
  std::string read_back;               ///< how the image was read to verify it, as in FileRead; empty: it was not
};

struct JobReport {
  std::string set;    ///< path of the published set, or empty
  std::string kind;   ///< of a set: "full" or "increment"
  std::string image;  ///< path of the converted image, or empty
  std::vector<DiskReport> disks;
  std::vector<std::string> warnings;  ///< not empty: Outcome::done_with_warnings
  double seconds = 0;
  double frozen_seconds = 0;          ///< how long the guest's file systems were frozen
  double stretching_cpu_seconds = 0;  ///< CPU time of the key stretching, which ran beside the data
  VerifyLevel verified = VerifyLevel::none;
  double verify_seconds = 0;  ///< of `seconds`
};

/// Backs up a VM (or images) into a new set. Throws Error; nothing is published then.
JobReport backup(const BackupOptions& options, const JobControl& control);

/// Writes one image from another. Throws Error; no target file is left then that was not there before.
JobReport convert(const ConvertOptions& options, const JobControl& control);

/// Reads back what was backed up. Its `source_keys` open it; what is about writing is not looked at.
struct VerifyOptions : TransferOptions {
  std::string path;           ///< a set, DIR/VM for its newest, or an image
  std::string source_format;  ///< of an image: "raw", "qcow2", "luks", or empty to probe; of a set: that of `against`
  /// What its content must be, besides what the digests say: a path or NBD URI, for a set of several disks NAME=SRC, once for
  /// each.
  std::vector<std::string> against;
  std::vector<std::shared_ptr<const Passphrase>> against_keys;  ///< each is tried, for those that are encrypted
  double sample = 1;  ///< the part of the data that is read, chosen at random; all else is looked at wholly
};

/// An increment and all that it stands on become one full set beside them. Its `source_keys` open them; without any `encrypt`
/// does.
struct MergeOptions : TransferOptions {
  MergeOptions() { cluster_size = 0; }

  std::string path;                     ///< of an increment: DIR/VM/TIME, or DIR/VM for its newest set
  bool allow_plaintext = false;         ///< what is encrypted may be written unencrypted
  std::uint64_t min_free = 1ull << 30;  ///< room that must be left on the target
};

struct MergeReport : JobReport {
  std::vector<std::string> merged_from;  ///< names of the sets, the full one first
};

/// A cluster size of 0, and an empty compression, are those of the set. What it holds is compared with the digests of the whole
/// chain; the sets that were there stay as they are. Throws Error: damaged when what is read is not what was backed up; nothing
/// is published then.
MergeReport merge(const MergeOptions& options, const JobControl& control);

/// One thing that is wrong.
struct Damage {
  std::string disk;  ///< its name; empty: it is about the set
  std::string file;
  std::optional<std::uint64_t> guest_offset;  ///< of the first byte of the disk that is not what it was
  std::optional<std::uint64_t> guest_length;
  std::optional<std::uint64_t> file_offset;  ///< where that is stored
  std::string what;                          ///< one line
};

/// The same in one line: disk, range of the guest's bytes, file and offset, as far as they are known.
std::string line_of(const Damage& damage);

/// How a file was read.
struct FileRead {
  std::string path;
  std::string how;  ///< "dropped": it was let go from this host's memory before; "cached": it could not be, or nobody can tell
};

struct VerifyReport {
  std::string path;
  bool proved = false;         ///< the content was compared with digests, or with another source, all of it
  double sample = 1;           ///< the part of the data that was to be read
  std::vector<Damage> damage;  ///< empty: none was found
  std::vector<FileRead> files;
  std::vector<std::string> warnings;  ///< what is no damage: leaked clusters, tables for which there is not enough memory
  std::uint64_t virtual_size = 0;
  std::uint64_t data_bytes = 0;  ///< read as data
  double seconds = 0;
};

/// Reads everything back and tells all damage, however much there is; throws Error for what keeps it from looking: wrong_key,
/// not_found, damaged when the manifest itself is not what was written.
VerifyReport verify(const VerifyOptions& options, const JobControl& control);

/// Puts disks back. Its `source_keys` open what is read; `encrypt` is not looked at: what is written is plain.
struct RestoreOptions : TransferOptions {
  std::string path;           ///< a set, DIR/VM for its newest, or an image
  std::string source_format;  ///< of an image: "raw", "qcow2", "luks", or empty to probe
  std::string to;             ///< directory for the disks that have no target of their own; empty: only those with one
  std::map<std::string, std::string>
      targets;                ///< by the disk's name, id or file: a path, a block device, an NBD URI, an rbd: location
  std::string target_format;  ///< of files: "qcow2" or "raw"; empty: qcow2. Everything else gets raw disks
  bool force = false;         ///< replace files that exist, and write over devices and Ceph images; never what is in use
  bool dry_run = false;       ///< only say what would be done
  std::string new_name;       ///< of the domain; empty: as it was
  bool new_uuid = false;      ///< libvirt draws one
  bool new_macs = false;      ///< the same
  bool define = false;        ///< make the domain known to libvirt when all is written; needs `to`
  std::string connect = "qemu:///system";  ///< libvirt URI: who is asked what is in use, and defines the domain
};

struct RestoreReport : JobReport {
  bool proved = false;             ///< the content was compared with digests while it was written
  std::vector<std::string> files;  ///< written beside the disks: domain XML, firmware variables, TPM state
  std::string domain_xml;          ///< path; empty: there is none
  std::string domain;              ///< name in that XML
  bool defined = false;            ///< libvirt knows it now
};

/// Throws Error: damaged when what is read is not what was backed up, locked when a target is in use; no target file is left then
/// that was not there before. That libvirt does not define the domain is a warning: the disks are there.
RestoreReport restore(const RestoreOptions& options, const JobControl& control);

/// What is measured, and how long. Its threads, connections and item size are where the search begins; a passphrase says that it
/// is encrypted, and is not used: trials have one of their own.
struct TuneOptions : TransferOptions {
  std::string source;          ///< path, nbd:// or nbd+unix:// URI; it is only read
  std::string source_format;   ///< "raw", "qcow2", "luks", or empty to probe
  bool shared_source = false;  ///< -U: do not look at image locks
  std::string to;              ///< a directory in which the trials write a hidden file, gone afterwards; empty: nothing is kept
  std::chrono::seconds budget{10};  ///< about how long it all takes
};

/// One run over a sample of the source.
struct TuneTrial {
  unsigned connections = 0;  ///< 0: the source has none
  std::uint64_t item_size = 0;
  unsigned threads = 0;
  std::string compression;  ///< empty: none
  bool encrypted = false;
  std::uint64_t data_bytes = 0;  ///< read
  double seconds = 0;
  double bytes_per_second = 0;           ///< of what was read as data
  double ratio = 1;                      ///< bytes to store of bytes that are not zero
  std::map<std::string, double> stages;  ///< as in DiskReport
  std::map<std::string, double> cpu;
};

struct TuneReport {
  std::string source;
  std::string target;  ///< the directory, or "null:"
  std::uint64_t virtual_size = 0;
  std::uint64_t sample_bytes = 0;
  std::string page_cache;  ///< "warm": the sample was in this host's memory; "cold": it was let go before each trial; "unknown"
  TuneTrial best;          ///< a longer run with what is recommended
  std::vector<TuneTrial> trials;  ///< of the search, in order
  std::vector<TuneTrial> codecs;  ///< the recommended settings with each codec and level, and with encryption alone
  std::string limit;              ///< the busiest of best.stages
  std::string arguments;          ///< for the command line: "--connections 4 --item-size 512K -j 2 -c=zstd"
  double seconds = 0;
};

/// Finds by trial the settings that go fastest on this host, from this source to this target. Throws Error.
TuneReport tune(const TuneOptions& options, const JobControl& control);

/// An image that others may read over NBD: on a UNIX socket, or on a port of 127.0.0.1. Of TransferOptions source
/// keys, threads, memory, limit, rate group and time-out count, and of an NBD source the connections.
struct ServeOptions : TransferOptions {
  std::string source;                          ///< a set, DIR/VM for its newest, or an image: path, nbd:// or nbd+unix:// URI
  std::string source_format;                   ///< of an image: "raw", "qcow2", "luks", or empty to probe
  bool shared_source = false;                  ///< -U: do not look at image locks
  std::string socket;                          ///< path of the UNIX socket; empty: `port`
  std::optional<std::uint16_t> port;           ///< on 127.0.0.1; 0: one that is free
  std::chrono::seconds handshake_timeout{10};  ///< for a client that connects, until it has chosen an export
};

struct ServedExport {
  std::string name;
  std::string uri;     ///< for a client
  std::string source;  ///< as it may be shown
  std::uint64_t virtual_size = 0;
};

struct ServeReport {
  std::vector<ServedExport> exports;
  std::uint64_t clients = 0;     ///< connections that were let in
  std::uint64_t data_bytes = 0;  ///< read from the source
  double seconds = 0;
};

/// Serves until it is asked to stop, which is its good end: clients have a second then to fetch what they asked for. Each export
/// is told of through on_message when clients may connect. Throws Error when it cannot begin; a read that fails is told to the
/// client and through on_message, and serving goes on.
ServeReport serve(const ServeOptions& options, const JobControl& control);

/// A key slot of a LUKS header.
struct KeySlotInfo {
  unsigned slot = 0;  ///< 0 to 7
  bool in_use = false;
  std::uint32_t iterations = 0;  ///< of PBKDF2; when it is in use
};

/// The keys of one image.
struct KeysOfImage {
  std::string image;   ///< path
  std::string format;  ///< "luks": a container; "qcow2": encrypted inside
  std::string cipher;  ///< "aes-xts-plain64"
  std::string hash;    ///< "sha256"
  std::string uuid;
  std::vector<KeySlotInfo> slots;  ///< all eight
  std::vector<unsigned> changed;   ///< the slots that were filled or emptied
};

/// A file that an image stands on.
struct BackingFile {
  std::string path;
  std::uint64_t file_size = 0;
};

/// How stock QEMU opens an image that is encrypted or stands on others.
struct QemuCommand {
  std::string content;  ///< "qcow2" or "raw": for an image whose LUKS layer holds this, or is inside it
  std::string command;  ///< for a shell; PASSPHRASE-FILE stands in it unless InfoOptions named one
};

/// What an image is.
struct ImageInfo {
  std::string path;
  std::string format;   ///< of the file: "qcow2", "luks" or "raw"; in a set empty when the image cannot be read
  std::string content;  ///< of a LUKS container that was opened: "qcow2" or "raw"; else empty
  std::optional<std::uint64_t> virtual_size;  ///< not known of a LUKS container that was not opened
  std::uint64_t file_size = 0;                ///< apparent size
  std::uint64_t disk_size = 0;                ///< blocks in use
  std::string encryption;                     ///< "none", "aes", "luks"
  std::optional<KeysOfImage> keys;            ///< when the encryption is LUKS
  std::vector<QemuCommand> open_with;  ///< the same, or when it stands on others; two, when only the passphrase could tell which
  std::vector<BackingFile> stands_on;  ///< of an increment's image in its set: from the top, by the sets' manifests

  // Of a qcow2, be it the file or what the container holds.
  unsigned version = 0;               ///< 0: no qcow2
  std::uint64_t cluster_size = 0;     ///< bytes
  std::string compression;            ///< "zlib" or "zstd": that of its compressed clusters, if there are any
  std::uint32_t deflate_history = 0;  ///< 4096 or 32768: how far the streams of a sample look back; 0: there were none
  std::string backing_file;           ///< empty: none
  std::string backing_format;
  unsigned snapshots = 0;
};

/// A set in the chain of another.
struct ChainLink {
  std::string set;   ///< name of its directory
  std::string time;  ///< RFC 3339, UTC; empty: not known
  std::string kind;
  std::uint64_t stored_bytes = 0;
  bool missing = false;
};

struct SetInfo {
  std::string path;  ///< DIR/VM/TIME
  std::string vm;
  std::string time;                   ///< RFC 3339, UTC
  std::string kind;                   ///< "full", or "increment" of a parent
  std::string parent;                 ///< name of the set that it stands on, in the same DIR/VM; empty: none
  std::vector<ChainLink> chain;       ///< of set_info: what it stands on, the full set first, and itself
  std::vector<std::string> children;  ///< of set_info: the sets that stand on it, directly or not
  std::uint64_t virtual_size = 0;
  std::uint64_t stored_bytes = 0;  ///< sizes of all files of the set
  std::vector<ImageInfo> images;
  std::string note;      ///< what is wrong with it; empty: nothing
  bool damaged = false;  ///< and it is a file that is missing, cannot be read or is not what the manifest says
};

struct InfoOptions {
  std::string path;
  std::vector<std::shared_ptr<const Passphrase>> passphrases;  ///< each is tried; none is needed
  std::string passphrase_file;                                 ///< stands in QemuCommand; empty: a word in its place
};

/// True when `path` is a set's directory (or DIR/VM, whose newest set is meant) and not an image. On the control's lifeline, here
/// and below, a watcher sees how long a call on the files has not come back.
bool is_set(const std::string& path, const JobControl& control = {});
/// Without a passphrase what the file shows to everybody is told; a passphrase that does not open it is an Error, wrong_key.
ImageInfo image_info(const InfoOptions& options, const JobControl& control = {});
SetInfo set_info(const InfoOptions& options, const JobControl& control = {});
/// The whole sets under a target directory, oldest first for each VM; from the files alone.
std::vector<SetInfo> list_sets(const std::string& dir, const JobControl& control = {});

struct DeleteOptions {
  std::string path;            ///< of the set's own directory: DIR/VM/TIME
  bool with_children = false;  ///< the sets that stand on it go too
  bool force = false;          ///< although a manifest, its own or another's, cannot be read
  bool dry_run = false;        ///< only tell what would go
  /// The libvirt that deletes the checkpoints which no set of the VM needs any more, if it has the VM; else the next backup does.
  std::string connect = "qemu:///system";
};

struct DeletedSet {
  std::string path;
  std::string time;  ///< RFC 3339, UTC
  std::string kind;
  std::uint64_t stored_bytes = 0;
};

struct DeleteReport {
  std::vector<DeletedSet> sets;       ///< in the order in which they went: what stands on another goes before it
  std::vector<std::string> warnings;  ///< what could not be removed yet
};

/// Takes a set away, under the locks of its VM. Needs no passphrase. Throws Error: failed when another set needs it, or may need
/// it; usage for the directory of a VM.
DeleteReport delete_sets(const DeleteOptions& options, const JobControl& control);

/// CloudStack's way: the directory `set` ("VM/NAME") below `dir`, whatever is in it and whoever made it, and what dead runs left
/// of it; no chain is looked at. What is not there is gone already. Throws Error: locked, failed.
void remove_backup(const std::string& dir, const std::string& set, const JobControl& control);

/// What a check changes. All of it or nothing stands in the image afterwards, also when it is killed (docs/formats/check.md).
enum class CheckRepair {
  nothing,
  leaks,  ///< clusters that nobody uses become free
  all,    ///< also refcounts that are too small, COPIED flags, and the dirty and the corrupt bit of an image that is sound then
};

struct CheckOptions {
  std::string path;
  std::vector<std::shared_ptr<const Passphrase>> passphrases;  ///< each is tried; only a LUKS container needs one
  bool shared = false;                                         ///< -U: do not look at image locks
  unsigned threads = 0;                                        ///< that decode; 0: one for each CPU
  CheckRepair repair = CheckRepair::nothing;                   ///< under the locks of a writer
};

/// What a check comes to. The numbers are those of `qemu-img check`.
enum class CheckVerdict : int { clean = 0, not_completed = 1, corrupt = 2, leaks = 3, no_check = 63 };

struct CheckFinding {
  std::string kind;               ///< "corruption", "leak", "check-error" or "note"
  std::string table;              ///< where the value stands: "L2 table", "refcount block" …
  std::uint64_t index = 0;        ///< of the entry in its table
  std::uint64_t value = 0;        ///< as it stands there
  std::uint64_t file_offset = 0;  ///< of the value; in a LUKS container counted from the payload's beginning
  std::string text;               ///< all of it in one line
};

struct CheckReport {
  CheckVerdict verdict = CheckVerdict::clean;
  std::string path;
  std::string format;  ///< "qcow2" or "raw", which has no check; of what a LUKS container holds
  std::uint64_t check_errors = 0;
  std::uint64_t corruptions = 0;
  std::uint64_t leaks = 0;
  std::uint64_t corruptions_fixed = 0;  ///< of a repair; the other numbers say what is left
  std::uint64_t leaks_fixed = 0;
  std::uint64_t image_end_offset = 0;
  std::uint64_t total_clusters = 0;  ///< this and what follows: of the guest's disk
  std::uint64_t allocated_clusters = 0;
  std::uint64_t fragmented_clusters = 0;
  std::uint64_t compressed_clusters = 0;
  std::vector<CheckFinding> findings;  ///< of each kind the first thousand
};

/// Looks whether the metadata of an image is sound and its compressed clusters decode. What is wrong with it is in the report;
/// Error is thrown for an image that cannot be checked at all: damaged when its header breaks the format's rules.
CheckReport check_image(const CheckOptions& options, const JobControl& control = {});

/// A change to the key slots of an image, or of all images of a set.
struct KeyOptions {
  std::string path;
  std::vector<std::shared_ptr<const Passphrase>> passphrases;  ///< each is tried
  std::shared_ptr<const Passphrase> new_passphrase;            ///< of key_add
  std::optional<unsigned> slot;                                ///< of key_remove: this one; else those that the passphrase opens
  std::uint32_t pbkdf_iterations = kPbkdfIterations;           ///< of the new slot
  bool allow_weak_pbkdf = false;                               ///< for tests: fewer than a million of them
};

/// What the key slots are; needs no key.
std::vector<KeysOfImage> key_list(const std::string& path, const JobControl& control = {});
/// Gives every image one more passphrase; its data stays as it is. Before the first image is changed it is made sure that all of
/// them open and have a slot free. Throws Error: wrong_key when no passphrase opens one.
std::vector<KeysOfImage> key_add(const KeyOptions& options, const JobControl& control);
/// Takes a slot from every image, or the slots that the (one) passphrase opens. Never the last one. With `slot` a passphrase is
/// not needed, but must open the image when there is one. Who kept a copy of the header can still open the image with the old
/// key.
std::vector<KeysOfImage> key_remove(const KeyOptions& options, const JobControl& control);

/// A network storage as mount(8) takes it.
struct StorageOptions {
  std::string type;                  ///< nfs, cifs, ceph …; cifs gets the option nobrl
  std::string address;               ///< host:/export, //host/share …
  std::string options;               ///< separated by commas; empty: none
  std::chrono::seconds timeout{60};  ///< for mounting, and for unmounting
};

struct StorageUse {
  std::uint64_t total = 0;  ///< bytes
  std::uint64_t used = 0;
};

/// A storage mounted for one run: on a directory /tmp/csbackup.XXXXX, in a mount namespace of its own, so that the kernel
/// unmounts it when the run ends, however it ends. The calling thread enters that namespace for good, and only it and the threads
/// and processes that it starts from then on see the storage: construct it in a process made for the purpose. The directory is
/// removed by the lifeline's owner, or by the next run.
class MountedStorage {
 public:
  /// Throws Error(failed), "Failed to mount TYPE store: …", without what is secret in the options; nothing is left then.
  MountedStorage(const StorageOptions& options, const JobControl& control);
  /// unmount().
  ~MountedStorage();
  MountedStorage(const MountedStorage&) = delete;
  MountedStorage& operator=(const MountedStorage&) = delete;

  const std::string& path() const noexcept { return path_; }
  /// Throws Error(failed).
  StorageUse use() const;
  /// Tries several times, then lets the kernel do it when it can. What went wrong, in one line; empty: nothing.
  std::string unmount() noexcept;

 private:
  std::chrono::milliseconds timeout_;
  std::shared_ptr<Lifeline> lifeline_;
  std::string path_;
  bool mounted_ = false;
};

/// Sizes and rates as people write them: "64K", "64KiB", "1G"; "50" and "50M" (MiB/s), "400Mbit", "0". Both throw Error(usage),
/// which says what to write instead.
std::uint64_t parse_size(const std::string& text);
std::uint64_t parse_rate(const std::string& text);
/// Throws Error(usage) for a schedule that cannot be read.
void check_rate_schedule(const std::string& text);

/// A path or URI as it may be shown: without a user and a secret that stand in it.
std::string location_for_people(const std::string& location);

/// The library's version, "0.1.0".
const char* version() noexcept;

}  // namespace nasbackup
