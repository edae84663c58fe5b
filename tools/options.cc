// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The table itself; options.h says what the columns mean.
#include "tools/options.h"

namespace nasbackup::tools {

namespace {

constexpr Verb kVerbTable[] = {
    {kBackup, "backup", "VM --to DIR", 0, 1, "back up a libvirt VM, running or shut off, into a new set under DIR/VM/",
     "--disk SRC ... --name NAME --to DIR"},
    {kConvert, "convert", "SRC DST", 2, 2,
     "write one image from another: raw files, devices, NBD exports and Ceph images to qcow2 or raw", ""},
    {kRestore, "restore", "SET|IMAGE --to DIR", 1, 1,
     "put the disks of a set, or an image, back: compared with their digests on the way", "SET --disk NAME=TARGET ..."},
    {kVerify, "verify", "SET|IMAGE", 1, 1,
     "read everything back, past this host's memory, and compare it with what was backed up", ""},
    {kInfo, "info", "SET|IMAGE", 1, 1, "what an image or a set is: format, sizes, compression, encryption, backing file, chain",
     ""},
    {kCheck, "check", "IMAGE", 1, 1,
     "whether an image is sound: tables, refcounts, compressed clusters; exit statuses of qemu-img check", ""},
    {kList, "list", "DIR", 1, 1, "the whole sets under a target directory, from the files alone", ""},
    {kDelete, "delete", "SET", 1, 1, "take a set, named as DIR/VM/TIME, from a target; refused while another set stands on it",
     ""},
    {kMerge, "merge", "SET", 1, 1, "make one full set of an increment and all that it stands on, beside them; the VM is not read",
     ""},
    {kKey, "key", "add|remove|list SET|IMAGE", 2, 2, "the passphrases of encrypted images: one more, one less, or what there is",
     ""},
    {kServe, "serve", "SET|IMAGE --socket PATH|--port N", 1, 1,
     "an NBD server from which an image, or each disk of a set, can be read, until it is stopped", ""},
    {kDetails, "details", "--zone ZONE", 0, 0,
     "the configuration of a CloudStack zone as the details map (JSON) that travels with a backup command", ""},
    {kTune, "tune", "SRC [--to DIR]", 1, 1,
     "measure this host: the settings that go fastest from SRC to DIR, and what the limit is", ""},
};

// In the order of the help: what, where, how fast, how, and what is shown.
constexpr Option kOptionTable[] = {
    {"to", 0, Value::required, "DIR", kBackup | kTune | kRestore,
     "directory of the sets, or of what is restored, or in which tune writes a hidden file for a moment; null: keeps nothing"},
    {"disk", 0, Value::required, "NAME|SRC|NAME=TARGET", kBackup | kRestore,
     "of a VM: only this disk (vda); without a VM: an image to back up (path, NBD URI or rbd: location); restore: puts this disk "
     "there",
     "all disks", true, "", true},
    {"exclude", 0, Value::required, "NAME", kBackup, "all disks of the VM but this one", "", true, "", true},
    {"name", 0, Value::required, "NAME", kBackup, "without a VM: the name that the set gets in place of the VM's", "", false, "",
     true},
    {"source-format", 'f', Value::required, "FORMAT", kReading & ~kMerge,
     "format of SRC or IMAGE; luks is a raw disk in a LUKS container. A probed qcow2 that names another file is refused",
     "probed", false, "raw|qcow2|luks", true},
    {"source-key", 0, Value::required, "FILE", kTransfers | kVerify,
     "file with the passphrase that opens an encrypted SRC, SET, or disk of a VM that is shut off; each is tried", "", true},
    {"verify", 0, Value::optional, "WHAT", kTransfers,
     "before it is published: metadata checks the tables of what was written, data also reads all of it back and compares",
     "data", false, "metadata|data"},
    {"against", 0, Value::required, "[NAME=]SRC", kVerify,
     "compare with SRC too (path, NBD URI or rbd: location); with NAME= that disk of a set of several", "", true, "", true},
    {"sample", 0, Value::required, "N%", kVerify, "read only a part of the data, chosen at random: proves no more than that",
     "100%", false, "", true},
    {"target-format", 'O', Value::required, "FORMAT", kConvert | kRestore,
     "format of DST; luks is a raw disk in a LUKS container", "qcow2", false, "qcow2|raw|luks", true},
    {"force-share", 'U', Value::none, "", kConvert | kTune | kCheck | kServe,
     "read an image although another program has it open for writing", "", false, "", true},
    {"socket", 0, Value::required, "PATH", kServe,
     "UNIX socket to listen on; it goes when the server ends, and that of a dead server is replaced", "", false, "", true},
    {"port", 0, Value::required, "N", kServe, "port of 127.0.0.1 to listen on", "", false, "", true},
    {"force", 0, Value::none, "", kConvert | kRestore | kDelete,
     "replace what exists, but never what is in use; delete: although a manifest cannot be read", "", false, "", true},
    {"with-children", 0, Value::none, "", kDelete, "also the sets that stand on it", "", false, "", true},
    {"dry-run", 0, Value::none, "", kRestore | kDelete, "only say what would be done", "", false, "", true},
    {"define", 0, Value::none, "", kRestore, "make the VM known to libvirt once all is written", "", false, "", true},
    {"new-name", 0, Value::required, "NAME", kRestore, "of the VM, in the domain XML that is written", "as it was", false, "",
     true},
    {"new-uuid", 0, Value::none, "", kRestore, "the domain XML gets no UUID, so that libvirt draws one", "", false, "", true},
    {"new-macs", 0, Value::none, "", kRestore, "the same for the addresses of its network cards", "", false, "", true},
    {"compress", 'c', Value::optional, "CODEC[:LEVEL]", kMoving,
     "compress with zlib or zstd; LEVEL is fast, default, best, a number, or auto: as strong as the other stages leave time for",
     "zlib:default"},
    {"rate", 'b', Value::required, "RATE", kReading,
     "bytes read per second, all disks together: 50 and 50M are MiB/s; 1G, 400Mbit; 0 is no limit", "0"},
    {"rate-per-disk", 0, Value::none, "", kBackup, "the rate is that of each disk, and not of all together"},
    {"burst", 0, Value::required, "SIZE", kReading, "what may be read at once above the rate", "0.1 s of RATE"},
    {"rate-schedule", 0, Value::required, "TIMES", kReading,
     "in place of a rate: rates by local time of day, such as 08:00-18:00=50M,*=0 (* is the rest)"},
    {"rate-group", 0, Value::required, "NAME", kReading,
     "shares one limit with all jobs of this host that name it: the rate that one of them named last, at its start, by SIGHUP or "
     "by its schedule"},
    {"priority", 0, Value::required, "LEVEL", kReading,
     "of the run's reading, writing and computing; auto is low with a limit and normal without one", "auto", false,
     "auto|normal|low|idle"},
    {"incremental", 0, Value::optional, "PARENT", kBackup,
     "only what changed since PARENT, a set of the VM; without a name since the newest that can be told from. A disk of which "
     "that "
     "is not known is stored as a whole"},
    {"full", 0, Value::none, "", kBackup, "all of it, with the checkpoint on which increments can stand"},
    {"quiesce", 'q', Value::none, "", kBackup, "freeze the guest's file systems through its agent while the job begins"},
    {"quiesce-timeout", 0, Value::required, "SECONDS", kBackup, "how long the agent may take to answer", "10"},
    {"scratch", 0, Value::required, "DIR", kBackup, "directory of the job's scratch files", "the VM's own"},
    {"allow-plaintext", 0, Value::none, "", kBackup | kMerge, "what is encrypted in the source may be written unencrypted"},
    {"exec-in-job", 0, Value::required, "CMD", kBackup,
     "run CMD once the job has begun, the exports' URIs in its environment; the job ends after both", "", false, "", true},
    {"connect", 0, Value::required, "URI", kBackup | kRestore | kDelete, "libvirt to talk to", "qemu:///system"},
    {"min-free", 0, Value::required, "SIZE", kBackup | kMerge, "room that must be left on the target", "1G"},
    {"cluster-size", 0, Value::required, "SIZE", kMoving | kRestore, "of the qcow2 that is written, 512 to 2M", "64K"},
    {"encrypt", 'e', Value::required, "FILE", kReading | kInfo | kKey | kCheck,
     "the passphrase file: encrypts what is written, opens what is read; every byte of it counts", "", true},
    {"encrypt-fd", 0, Value::required, "N", kReading | kInfo | kKey | kCheck, "the same from an open descriptor, to its end", "",
     true, "", true},
    {"encrypt-command", 0, Value::required, "CMD", kReading | kInfo | kKey | kCheck, "the same from what CMD prints", "", true},
    {"new", 0, Value::required, "FILE", kKey, "add: file with the new passphrase", "", false, "", true},
    {"new-fd", 0, Value::required, "N", kKey, "add: the same from an open descriptor", "", false, "", true},
    {"new-command", 0, Value::required, "CMD", kKey, "add: the same from what CMD prints", "", false, "", true},
    {"slot", 0, Value::required, "N", kKey, "remove: the key slot, 0 to 7", "those that the passphrase opens", false, "", true},
    {"pbkdf-iterations", 0, Value::required, "N", kTransfers | kKey, "key stretching of a new key slot, at least 1000000",
     "2000000"},
    {"insecure-pbkdf", 0, Value::none, "", kTransfers | kKey, "for tests: fewer iterations are allowed", "", false, "", true},
    {"threads", 'j', Value::required, "N", kReading | kCheck, "CPU threads", "one for each CPU"},
    {"memory", 0, Value::required, "SIZE", kReading, "what the whole run may use", "256M"},
    {"connections", 0, Value::required, "N", kReading & ~kMerge, "NBD connections for each disk", "what suits the server"},
    {"item-size", 0, Value::required, "SIZE", kMoving | kStored, "of one read, at most: 64K to 8M, a power of two", "512K"},
    {"budget", 0, Value::required, "SECONDS", kTune, "about how long it measures", "10"},
    {"repair", 0, Value::required, "WHAT", kCheck,
     "change the image: leaks frees clusters that nobody uses; all also mends refcounts and COPIED flags", "", false, "leaks|all",
     true},
    {"io-timeout", 0, Value::required, "SECONDS", kAllVerbs, "give up a target that does not answer for so long", "60"},
    {"deadline", 0, Value::required, "SECONDS", kAllVerbs, "give up the whole job after so long", "none"},
    {"json", 0, Value::none, "", kAllVerbs, "one JSON object on stdout when done, errors too", "", false, "", true},
    {"progress", 0, Value::required, "STYLE", kTransfers | kReading, "on stderr; auto is tty on a terminal and none elsewhere",
     "auto", false, "auto|tty|json|none"},
    {"zone", 0, Value::required, "NAME", kBackup | kDetails, "the settings of this CloudStack zone in the configuration file", "",
     false, "", true},
    {"details", 0, Value::required, "FILE", kBackup, "the settings of a CloudStack details map (JSON); a pipe is read once", "",
     false, "", true},
    {"with-secrets", 0, Value::none, "", kDetails, "show the passphrase", "", false, "", true},
    {"config", 0, Value::required, "FILE", kAllVerbs, "options from FILE, by their long names (TOML)",
     "/etc/nasbackup/nasbackup.toml", false, "", true},
    {"log-file", 0, Value::required, "FILE", kAllVerbs,
     "append every message to FILE, with its time, and now and then how far the run is"},
    {"verbose", 'v', Value::none, "", kAllVerbs, "also tell the phases of the run and where its time went"},
    {"help", 'h', Value::none, "", kAllVerbs, "this help; after a verb the verb's own", "", false, "", true},
};

constexpr Example kExampleTable[] = {
    {"nasbackup backup web1 --to /mnt/nas -q -b 50", "the VM web1, its file systems frozen for a moment, at 50 MiB/s"},
    {"nasbackup verify /mnt/nas/web1", "is the newest set of web1 what was backed up?"},
    {"nasbackup restore /mnt/nas/web1 --to /var/lib/libvirt/images", "its disks and its domain XML, for this host"},
    {"nasbackup list --json /mnt/nas", "every whole set there is, for a program"},
};

constexpr ExitStatus kExitTable[] = {
    {"0", "done"},
    {"1", "failed"},
    {"2", "check: corrupt"},
    {"3", "done, with warnings; check: only leaks"},
    {"10", "set or image not found"},
    {"11", "locked by another run"},
    {"12", "wrong key"},
    {"13", "damage found"},
    {"14", "target full"},
    {"15", "source or guest problem"},
    {"16", "timed out"},
    {"63", "check: the format has none"},
    {"64", "wrong usage"},
    {"128+N", "ended by signal N"},
};

}  // namespace

std::span<const Verb> verbs() noexcept { return kVerbTable; }
std::span<const Option> options() noexcept { return kOptionTable; }
std::span<const Example> examples() noexcept { return kExampleTable; }
std::span<const ExitStatus> exit_statuses() noexcept { return kExitTable; }

const Verb* find_verb(std::string_view name) noexcept {
  for (const Verb& verb : kVerbTable)
    if (verb.name == name) return &verb;
  return nullptr;
}

}  // namespace nasbackup::tools
