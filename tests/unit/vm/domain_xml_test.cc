// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The live XML of a domain, in the shapes that libvirt writes.
#include "engine/vm/domain_xml.h"

#include <gtest/gtest.h>

#include <string>

#include "engine/io/fault.h"

namespace nasbackup::vm {
namespace {

std::string domain_with(const std::string& devices, const std::string& rest = "") {
  return "<domain type='kvm' id='7'><name>i-2-10-VM</name><uuid>2f835f27-7b19-4691-b9a2-10f84f67d267</uuid>" + rest +
         "<devices>" + devices + "</devices></domain>";
}

std::string file_disk(const std::string& target, const std::string& more = "") {
  return "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/mnt/pool/" + target +
         "-volume' index='1'/><target dev='" + target + "' bus='virtio'/>" + more + "</disk>";
}

std::vector<std::string> targets(const std::vector<DomainDisk>& disks) {
  std::vector<std::string> names;
  for (const DomainDisk& disk : disks) names.push_back(disk.target);
  return names;
}

std::string message_of(const DomainDescription& domain, const std::vector<std::string>& only,
                       const std::vector<std::string>& except, FaultKind kind) {
  try {
    select_disks(domain, only, except);
  } catch (const Fault& fault) {
    EXPECT_EQ(fault.kind(), kind);
    return fault.what();
  }
  ADD_FAILURE() << "no fault";
  return {};
}

TEST(DomainXml, TakesEveryPropertyOfADisk) {
  const DomainDescription domain =
      parse_domain(domain_with(file_disk("vda", "<serial>abc&amp;1</serial>") +
                               "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg/data'/>"
                               "<target dev='sda' bus='scsi'/><readonly/><transient/></disk>"));
  EXPECT_EQ(domain.name, "i-2-10-VM");
  EXPECT_EQ(domain.id, 7);
  ASSERT_EQ(domain.disks.size(), 2u);
  const DomainDisk& root = domain.disks[0];
  EXPECT_EQ(root.target, "vda");
  EXPECT_EQ(root.bus, "virtio");
  EXPECT_EQ(root.type, "file");
  EXPECT_EQ(root.source, "/mnt/pool/vda-volume");
  EXPECT_EQ(root.id, "vda-volume");
  EXPECT_EQ(root.format, "qcow2");
  EXPECT_EQ(root.serial, "abc&1");
  EXPECT_FALSE(root.read_only || root.transient || root.encrypted);
  EXPECT_EQ(domain.disks[1].position, 1u);
  EXPECT_EQ(domain.disks[1].source, "/dev/vg/data");
  EXPECT_TRUE(domain.disks[1].read_only && domain.disks[1].transient);
}

TEST(DomainXml, NeverListsCdromAndFloppy) {
  const DomainDescription domain = parse_domain(
      domain_with("<disk type='file' device='cdrom'><source file='/iso'/><target dev='hda' bus='ide'/><readonly/></disk>"
                  "<disk type='file' device='floppy'><source file='/img'/><target dev='fda' bus='fdc'/></disk>" +
                  file_disk("vda")));
  EXPECT_EQ(targets(domain.disks), std::vector<std::string>{"vda"});
  EXPECT_EQ(domain.disks[0].position, 0u);
}

TEST(DomainXml, SeesEncryptionWhereverItStands) {
  const std::string secret = "<encryption format='luks'><secret type='passphrase' uuid='x'/></encryption>";
  const std::string inside =
      "<disk type='file' device='disk'><source file='/a'>" + secret + "</source><target dev='vdb'/></disk>";
  const std::string backing = "<disk type='file' device='disk'><source file='/a'/><backingStore type='file'><source file='/b'>" +
                              secret + "</source></backingStore><target dev='vdc'/></disk>";
  const DomainDescription domain = parse_domain(domain_with(file_disk("vda", secret) + inside + backing + file_disk("vdd")));
  EXPECT_TRUE(domain.disks[0].encrypted);
  EXPECT_TRUE(domain.disks[1].encrypted);
  EXPECT_TRUE(domain.disks[2].encrypted);
  EXPECT_FALSE(domain.disks[3].encrypted);
}

DiskAtRest at_rest(const std::string& disk) { return parse_domain(domain_with(disk)).disks.at(0).at_rest; }

std::string shut_off_disk(const std::string& type, const std::string& source, const std::string& format = "raw",
                          const std::string& more = "") {
  return "<disk type='" + type + "' device='disk'><driver name='qemu' type='" + format + "'/>" + source + "<target dev='vda'/>" +
         more + "</disk>";
}

TEST(DiskAtRestXml, IsAFileOrADeviceOfTheFormatThatTheXmlNames) {
  const DiskAtRest file = at_rest(shut_off_disk("file", "<source file='/a &amp; b'/>", "qcow2"));
  EXPECT_EQ(file.location, "/a & b");
  EXPECT_EQ(file.format, "qcow2");
  EXPECT_EQ(file.obstacle, "");
  EXPECT_TRUE(file.backing.files.empty());
  EXPECT_FALSE(file.backing.ends);
  const DiskAtRest device = at_rest("<disk type='block' device='disk'><source dev='/dev/vg/x'/><target dev='vda'/></disk>");
  EXPECT_EQ(device.location, "/dev/vg/x");
  EXPECT_EQ(device.format, "raw");
}

TEST(DiskAtRestXml, OfALunNeedsNoQemu) {
  const DomainDescription domain = parse_domain(
      domain_with("<disk type='block' device='lun'><driver type='raw'/><source dev='/dev/sdx'/><target dev='sda'/></disk>"));
  EXPECT_THROW(select_disks(domain, {}, {}), Fault);
  EXPECT_EQ(select_disks(domain, {}, {}, true).at(0).at_rest.location, "/dev/sdx");
}

TEST(DiskAtRestXml, KnowsLuksByTheEncryptionOfEachLayer) {
  const std::string luks = "<encryption format='luks'><secret type='passphrase' uuid='x'/></encryption>";
  EXPECT_EQ(at_rest(shut_off_disk("file", "<source file='/a'>" + luks + "</source>")).format, "luks");
  EXPECT_EQ(at_rest(shut_off_disk("file", "<source file='/a'/>", "raw", luks)).format, "luks");
  EXPECT_EQ(at_rest(shut_off_disk("file", "<source file='/a'/>", "qcow2", luks)).format, "qcow2");
  const DiskAtRest over = at_rest(
      shut_off_disk("file", "<source file='/a'/>", "qcow2",
                    "<backingStore type='file'><format type='raw'/><source file='/b'>" + luks + "</source></backingStore>"));
  EXPECT_EQ(over.format, "qcow2");
  EXPECT_EQ(over.backing.files.at(0).format, "luks");
}

TEST(DiskAtRestXml, NamesWhatAnImageStandsOn) {
  const std::string base = "<backingStore type='block'><format type='raw'/><source dev='/dev/base'/>";
  const std::string chain = "<backingStore type='file'><format type='qcow2'/><source file='/middle'/>" + base;
  const std::string close = "</backingStore></backingStore>";
  for (const bool ends : {false, true}) {
    const DiskAtRest disk =
        at_rest(shut_off_disk("file", "<source file='/top'/>", "qcow2", chain + (ends ? "<backingStore/>" : "") + close));
    ASSERT_EQ(disk.backing.files.size(), 2u);
    EXPECT_EQ(disk.backing.files[0].path, "/middle");
    EXPECT_EQ(disk.backing.files[0].format, "qcow2");
    EXPECT_EQ(disk.backing.files[1].path, "/dev/base");
    EXPECT_EQ(disk.backing.files[1].format, "raw");
    EXPECT_EQ(disk.backing.ends, ends);
  }
  EXPECT_TRUE(at_rest(shut_off_disk("file", "<source file='/top'/>", "qcow2", "<backingStore/>")).backing.ends);
}

TEST(DiskAtRestXml, IsAnNbdExport) {
  const auto nbd = [](const std::string& host, const std::string& format = "raw") {
    return at_rest(shut_off_disk("network", "<source protocol='nbd' name='a b'>" + host + "</source>", format));
  };
  EXPECT_EQ(nbd("<host name='nas' port='10810'/>").location, "nbd://nas:10810/a%20b");
  EXPECT_EQ(nbd("<host name='fe80::1'/>").location, "nbd://[fe80::1]:10809/a%20b");
  EXPECT_EQ(nbd("<host transport='unix' socket='/run/a b'/>").location, "nbd+unix:///a%20b?socket=/run/a%20b");
  EXPECT_NE(nbd("<host name='nas'/>", "qcow2").obstacle, "");
  EXPECT_NE(nbd("<host transport='rdma' name='nas'/>").obstacle, "");
}

TEST(DiskAtRestXml, IsAnImageOfACephCluster) {
  const std::string hosts = "<host name='10.0.0.1' port='6789'/><host name='fd00::2' port='6790'/><host name='mon'/>";
  const std::string auth = "<auth username='libvirt'><secret type='ceph' uuid='u'/></auth>";
  for (const bool inside : {true, false}) {  // old libvirt: <auth> beside <source>
    const std::string source = "<source protocol='rbd' name='p/i'>" + hosts + "<snapshot name='s'/><config file='/c'/>";
    const DiskAtRest disk =
        at_rest(shut_off_disk("network", source + (inside ? auth : "") + "</source>", "raw", inside ? "" : auth));
    ASSERT_TRUE(disk.rbd && disk.obstacle.empty()) << disk.obstacle;
    EXPECT_EQ(disk.rbd->monitors, (std::vector<std::string>{"10.0.0.1:6789", "[fd00::2]:6790", "mon"}));
    EXPECT_EQ(disk.rbd->name + "@" + disk.rbd->snapshot + " " + disk.rbd->conf, "p/i@s /c");
    EXPECT_EQ(disk.rbd->user + " " + disk.rbd->key.uuid, "libvirt u");
  }
  const DiskAtRest open = at_rest(shut_off_disk("network", "<source protocol='rbd' name='p/i'/>"));
  EXPECT_TRUE(open.rbd && open.rbd->user.empty() && open.rbd->monitors.empty());
}

TEST(DiskAtRestXml, SaysWhatItCannotRead) {
  for (const std::string& disk :
       {shut_off_disk("network", "<source protocol='gluster' name='p/i'/>"),
        shut_off_disk("network", "<source protocol='rbd' name='p/i'/>", "qcow2"),
        shut_off_disk("network", "<source protocol='nbd' tls='yes'/>"), shut_off_disk("volume", "<source pool='p' volume='v'/>"),
        shut_off_disk("nvme", "<source type='pci' namespace='1'/>"), shut_off_disk("file", "<source file='/a'/>", "vmdk"),
        shut_off_disk("file", ""), shut_off_disk("file", "<source/>"),
        shut_off_disk("file", "<source file='/a'><slices><slice type='storage' offset='1' size='2'/></slices></source>"),
        shut_off_disk("file", "<source file='/a'/>", "qcow2",
                      "<backingStore type='network'><format type='raw'/><source protocol='rbd'/></backingStore>"),
        shut_off_disk("file", "<source file='/a'/>", "qcow2",
                      "<backingStore type='file'><format type='vdi'/><source file='/b'/></backingStore>")}) {
    EXPECT_NE(at_rest(disk).obstacle, "") << disk;
    EXPECT_THROW(select_disks(parse_domain(domain_with(disk)), {"vda"}, {}, true), Fault) << disk;
  }
}

TEST(DomainXml, ListsEveryFileThatItUses) {
  const auto files = parse_used_files(domain_with(
      "<disk type='file' device='disk'><source file='/top'/><backingStore type='file'><source file='/base'/></backingStore>"
      "<mirror type='file'><source file='/copy'/></mirror><target dev='vda'/></disk>"
      "<disk type='file' device='cdrom'><source file='/iso'/><target dev='sda'/><readonly/></disk>"
      "<disk type='block' device='disk'><source dev='/dev/x'/><target dev='vdb'/></disk>",
      "<os><nvram>/vars.fd</nvram></os>"));
  std::vector<std::string> written, read;
  for (const UsedFile& file : files) (file.writes ? written : read).push_back(file.path);
  EXPECT_EQ(written, (std::vector<std::string>{"/top", "/copy", "/dev/x", "/vars.fd"}));
  EXPECT_EQ(read, (std::vector<std::string>{"/base", "/iso"}));
}

TEST(DomainXml, NamesVolumesAsCloudStackDoes) {
  EXPECT_EQ(volume_id("file", "/mnt/x/3e1f.qcow2"), "3e1f.qcow2");
  EXPECT_EQ(volume_id("network", "cloudstack/3e1f"), "3e1f");
  EXPECT_EQ(volume_id("network", "pool/namespace/3e1f"), "3e1f");
  EXPECT_EQ(volume_id("network", "3e1f"), "3e1f");
  EXPECT_EQ(volume_id("block", "/dev/drbd/by-res/cs-3e1f/0"), "3e1f");
  EXPECT_EQ(volume_id("block", "/dev/vg/root disk"), "root disk");
}

TEST(DomainXml, FallsBackToTheTargetWhenTheVolumeHasNoUsableName) {
  const DomainDescription domain = parse_domain(
      domain_with("<disk type='network' device='disk'><source protocol='rbd' name='pool/..'/><target dev='vda'/></disk>"));
  EXPECT_EQ(domain.disks[0].id, "vda");
  EXPECT_EQ(domain.disks[0].protocol, "rbd");
}

TEST(DomainXml, FindsTheFirmwareVariables) {
  EXPECT_EQ(parse_domain(domain_with("", "<os><nvram template='/t'>/var/lib/libvirt/qemu/nvram/a_VARS.fd</nvram></os>")).nvram,
            "/var/lib/libvirt/qemu/nvram/a_VARS.fd");
  EXPECT_EQ(parse_domain(domain_with("", "<os><nvram type='file'><source file='/v.fd'/></nvram></os>")).nvram, "/v.fd");
  EXPECT_EQ(parse_domain(domain_with("")).nvram, "");
}

TEST(DomainXml, FindsTheEmulatedTpmsState) {
  const std::string uuid = "2f835f27-7b19-4691-b9a2-10f84f67d267";
  EXPECT_EQ(parse_domain(domain_with("<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>")).tpm_state,
            "/var/lib/libvirt/swtpm/" + uuid + "/tpm2");
  EXPECT_EQ(parse_domain(domain_with("<tpm><backend type='emulator' version='1.2'/></tpm>")).tpm_state,
            "/var/lib/libvirt/swtpm/" + uuid + "/tpm1.2");
  EXPECT_EQ(parse_domain(domain_with("<tpm><backend type='passthrough'/></tpm>")).tpm_state, "");
}

TEST(DomainXml, TakesQemusOwnerFromTheDacLabelAlone) {
  const std::string labels =
      "<seclabel type='dynamic' model='apparmor'><label>libvirt-2f835f27</label></seclabel>"
      "<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+108</label></seclabel>";
  const DomainDescription domain = parse_domain(domain_with("", labels));
  EXPECT_EQ(domain.uid, 64055u);
  EXPECT_EQ(domain.gid, 108u);
  const DomainDescription named =
      parse_domain(domain_with("", "<seclabel type='static' model='dac'><label>root:root</label></seclabel>"));
  EXPECT_EQ(named.uid, 0u);
}

TEST(DomainXml, TellsWhetherTheAgentIsThere) {
  const auto channel = [](const std::string& name, const std::string& state) {
    return "<channel type='unix'><target type='virtio' name='" + name + "'" + state + "/></channel>";
  };
  const std::string agent = "org.qemu.guest_agent.0";
  EXPECT_EQ(parse_domain(domain_with(channel("com.redhat.spice.0", " state='connected'"))).agent, AgentChannel::absent);
  EXPECT_EQ(parse_domain(domain_with(channel(agent, " state='disconnected'"))).agent, AgentChannel::disconnected);
  EXPECT_EQ(parse_domain(domain_with(channel(agent, " state='connected'"))).agent, AgentChannel::connected);
}

TEST(DomainXml, RefusesWhatIsNoDomain) {
  EXPECT_THROW(parse_domain("<network/>"), Fault);
  EXPECT_THROW(parse_domain("<domain><name>"), Fault);
  EXPECT_THROW(parse_domain(""), Fault);
}

TEST(DiskSelection, KeepsTheDomainsOrder) {
  const DomainDescription domain = parse_domain(domain_with(file_disk("vda") + file_disk("vdb") + file_disk("vdc")));
  EXPECT_EQ(targets(select_disks(domain, {}, {})), (std::vector<std::string>{"vda", "vdb", "vdc"}));
  EXPECT_EQ(targets(select_disks(domain, {"vdc", "vda"}, {})), (std::vector<std::string>{"vda", "vdc"}));
  EXPECT_EQ(targets(select_disks(domain, {}, {"vda"})), (std::vector<std::string>{"vdb", "vdc"}));
}

TEST(DiskSelection, NamesTheDisksThereAreWhenANameIsUnknown) {
  const DomainDescription domain = parse_domain(domain_with(file_disk("vda") + file_disk("vdb")));
  EXPECT_NE(message_of(domain, {"sda"}, {}, FaultKind::usage).find("sda (it has vda, vdb)"), std::string::npos);
  EXPECT_NE(message_of(domain, {}, {"sda"}, FaultKind::usage).find("--exclude"), std::string::npos);
}

TEST(DiskSelection, SaysWhyADiskCannotBeBackedUpUnlessItIsLeftOut) {
  const DomainDescription domain = parse_domain(domain_with(
      file_disk("vda") + "<disk type='block' device='lun'><source dev='/dev/sdb'/><target dev='sda' bus='scsi'/></disk>"));
  EXPECT_NE(message_of(domain, {}, {}, FaultKind::source).find("sda cannot be backed up: the guest talks to it directly"),
            std::string::npos);
  EXPECT_EQ(targets(select_disks(domain, {}, {"sda"})), std::vector<std::string>{"vda"});
}

TEST(DiskSelection, PassesOverADriveWithoutMediumUnlessItIsNamed) {
  const DomainDescription domain =
      parse_domain(domain_with(file_disk("vda") + "<disk type='file' device='disk'><target dev='sdb' bus='usb'/></disk>"));
  EXPECT_EQ(targets(select_disks(domain, {}, {})), std::vector<std::string>{"vda"});
  EXPECT_NE(message_of(domain, {"sdb"}, {}, FaultKind::source).find("no medium"), std::string::npos);
}

TEST(DiskSelection, RefusesToBackUpNothing) {
  const DomainDescription domain = parse_domain(domain_with(file_disk("vda")));
  EXPECT_NE(message_of(domain, {}, {"vda"}, FaultKind::source).find("no disk is left"), std::string::npos);
}

}  // namespace
}  // namespace nasbackup::vm
