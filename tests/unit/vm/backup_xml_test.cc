// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The request for a pull job, and what libvirt says of one that runs.
#include "engine/vm/backup_xml.h"

#include <gtest/gtest.h>

namespace nasbackup::vm {
namespace {

TEST(BackupXml, AsksForAPullJobOverAUnixSocket) {
  const std::string xml = pull_job_xml("/run/s.sock", {{"vda", "/scratch/vda", ""}});
  EXPECT_NE(xml.find("<domainbackup mode=\"pull\">"), std::string::npos) << xml;
  EXPECT_NE(xml.find("<server transport=\"unix\" socket=\"/run/s.sock\" />"), std::string::npos) << xml;
  EXPECT_NE(xml.find("<disk name=\"vda\" backup=\"yes\" type=\"file\" backupmode=\"full\">"), std::string::npos) << xml;
  EXPECT_NE(xml.find("<scratch file=\"/scratch/vda\" />"), std::string::npos) << xml;
}

TEST(BackupXml, AsksForTheChangesOfADiskSinceACheckpoint) {
  const std::string xml = pull_job_xml("/run/s.sock", {{"vda", "/scratch/vda", "", "cp 1", ""}, {"vdb", "/scratch/vdb", ""}});
  EXPECT_NE(xml.find("<disk name=\"vda\" backup=\"yes\" type=\"file\" backupmode=\"incremental\" incremental=\"cp 1\">"),
            std::string::npos)
      << xml;
  EXPECT_NE(xml.find("<disk name=\"vdb\" backup=\"yes\" type=\"file\" backupmode=\"full\">"), std::string::npos) << xml;
  const BackupDescription job = parse_backup(
      "<domainbackup mode='pull'><server transport='unix' socket='/s'/><disks>"
      "<disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='cp' exportbitmap='backup-vda'/>"
      "</disks></domainbackup>");
  EXPECT_EQ(job.disks.at(0).since, "cp");
  EXPECT_EQ(job.disks.at(0).bitmap, "backup-vda");
}

TEST(BackupXml, SurvivesEveryCharacterInAPath) {
  const std::string socket = "/var/a & 'b' \"c\" <d>, é";
  const BackupDescription job = parse_backup(pull_job_xml(socket, {{"vda", socket + "1", ""}, {"vdb", socket + "2", ""}}));
  EXPECT_TRUE(job.pull);
  EXPECT_EQ(job.socket, socket);
  ASSERT_EQ(job.disks.size(), 2u);
  EXPECT_EQ(job.disks[1].scratch, socket + "2");
}

TEST(BackupXml, ReadsARunningJob) {
  const BackupDescription job = parse_backup(
      "<domainbackup mode='pull'><server transport='unix' socket='/s'/><disks>"
      "<disk name='vda' backup='yes' type='file' backupmode='full' exportname='other' index='7'><driver type='qcow2'/>"
      "<scratch file='/vda.scratch'/></disk><disk name='hda' backup='no'/></disks></domainbackup>");
  ASSERT_EQ(job.disks.size(), 1u);
  EXPECT_EQ(job.disks[0].target, "vda");
  EXPECT_EQ(job.disks[0].export_name, "other");
  EXPECT_EQ(job.disks[0].scratch, "/vda.scratch");
}

TEST(BackupXml, KnowsAJobThatIsNotOursByItsMissingSocket) {
  EXPECT_EQ(parse_backup("<domainbackup mode='push'><disks/></domainbackup>").socket, "");
  EXPECT_EQ(
      parse_backup("<domainbackup mode='pull'><server transport='tcp' name='localhost' port='10809'/></domainbackup>").socket,
      "");
  EXPECT_FALSE(parse_backup("no XML").pull);
}

TEST(NbdUri, EscapesWhatAUriDoesNotAllow) {
  EXPECT_EQ(nbd_uri("/run/nasbackup-0.sock", "vda"), "nbd+unix:///vda?socket=/run/nasbackup-0.sock");
  EXPECT_EQ(nbd_uri("/a b&c#?%/é", "x y"), "nbd+unix:///x%20y?socket=/a%20b%26c%23%3F%25/%C3%A9");
}

}  // namespace
}  // namespace nasbackup::vm
