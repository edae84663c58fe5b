// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The parser's rules, also those that no option of today's table needs.
#include "tools/command_line.h"

#include <gtest/gtest.h>

#include "tools/printable.h"
#include "tools/quantities.h"

namespace nasbackup::tools {
namespace {

constexpr Option kTable[] = {
    {"compress", 'c', Value::optional, "CODEC", kConvert, "", ""},
    {"flag", 'x', Value::none, "", kConvert, "", ""},
    {"number", 'n', Value::required, "N", kConvert, "", ""},
    {"many", 'm', Value::required, "M", kConvert, "", "", true},
};

CommandLine parse(std::vector<std::string> words) {
  words.insert(words.begin(), "convert");
  words.insert(words.end(), {"SRC", "DST"});
  return parse_command_line(words, kTable);
}

std::vector<std::string> values(const std::vector<std::string>& words, const char* option) { return parse(words).all(option); }

using Strings = std::vector<std::string>;

TEST(AnOptionalValue, IsAttachedAndNeverTheNextWord) {
  EXPECT_EQ(values({"-c=zstd"}, "compress"), Strings{"zstd"});
  EXPECT_EQ(values({"--compress=zstd:3"}, "compress"), Strings{"zstd:3"});
  EXPECT_EQ(values({"-c"}, "compress"), Strings{""});
  EXPECT_EQ(values({"--compress"}, "compress"), Strings{""});
  EXPECT_EQ(parse({"-c"}).operands, (Strings{"SRC", "DST"}));
}

TEST(AnOptionalValue, LetsMoreLettersFollowItsOwn) {
  EXPECT_TRUE(parse({"-cx"}).has("flag"));
  EXPECT_EQ(values({"-cx"}, "compress"), Strings{""});
  EXPECT_EQ(values({"-xc=zlib"}, "compress"), Strings{"zlib"});
}

TEST(ARequiredValue, IsTheRestOfTheWordOrTheNextWord) {
  for (const Strings& words : {Strings{"-n5"}, {"-n", "5"}, {"-n=5"}, {"--number=5"}, {"--number", "5"}, {"-xn5"}, {"-xn", "5"}})
    EXPECT_EQ(values(words, "number"), Strings{"5"}) << words[0];
  EXPECT_EQ(values({"--number=a=b"}, "number"), Strings{"a=b"});
  EXPECT_EQ(values({"--number=--flag"}, "number"), Strings{"--flag"});
}

TEST(ARepeatableOption, KeepsItsOrder) { EXPECT_EQ(values({"-m1", "--many=2", "-m", "1"}, "many"), (Strings{"1", "2", "1"})); }

TEST(AName, IsNotAbbreviated) { EXPECT_THROW(parse({"--num", "5"}), UsageError); }

TEST(TheNearest, IsOneOrTwoLettersAwayOrWhatItBegins) {
  const Strings names{"--rate", "--threads", "--quiesce", "--quiesce-timeout"};
  EXPECT_EQ(nearest("--rte", names), "--rate");
  EXPECT_EQ(nearest("--thraeds", names), "--threads");
  EXPECT_EQ(nearest("--thr", names), "--threads");
  EXPECT_EQ(nearest("--quie", names), "");  // two begin so
  EXPECT_EQ(nearest("--something", names), "");
}

TEST(ASize, IsAPowerOf1024) {
  EXPECT_EQ(parse_size("o", "0"), 0u);
  EXPECT_EQ(parse_size("o", "65536"), 65536u);
  EXPECT_EQ(parse_size("o", "64k"), 65536u);
  EXPECT_EQ(parse_size("o", "50MiB"), 50u << 20);
  EXPECT_EQ(parse_size("o", "7E"), 7ull << 60);
}

TEST(ASize, ThatIsJunkOrDoesNotFitIsRefused) {
  for (const char* text :
       {"", "G", "-1", "+1", "1.5G", "1GB", "1KB", "1Gi", "0x10", "1G ", " 1", "8E", "18446744073709551616", "1Mbit", "M50"})
    EXPECT_THROW(parse_size("o", text), UsageError) << text;
}

TEST(ARate, IsInMiBUnlessItSaysOtherwise) {
  EXPECT_EQ(parse_rate("o", "50"), 50u << 20);
  EXPECT_EQ(parse_rate("o", "50M"), 50u << 20);
  EXPECT_EQ(parse_rate("o", "50MiB/s"), 50u << 20);
  EXPECT_EQ(parse_rate("o", "512k"), 512u << 10);
  EXPECT_EQ(parse_rate("o", "1G"), 1u << 30);
  EXPECT_EQ(parse_rate("o", "400Mbit"), 50'000'000u);
  EXPECT_EQ(parse_rate("o", "10gbit/s"), 1'250'000'000u);
  EXPECT_EQ(parse_rate("o", "0"), 0u);
}

TEST(ARate, ThatIsJunkOrDoesNotFitIsRefused) {
  for (const char* text : {"", "/s", "fast", "50MB", "400Mbits", "9999999999999", "-1", "8E"})
    EXPECT_THROW(parse_rate("o", text), UsageError) << text;
}

TEST(ANumber, IsWholeAndInItsRange) {
  EXPECT_EQ(parse_count("o", "64", 64), 64u);
  EXPECT_EQ(parse_seconds("o", "60").count(), 60);
  for (const char* text : {"0", "65", "4294967297", "1k", "", "a", "1.0"})
    EXPECT_THROW(parse_count("o", text, 64), UsageError) << text;
  for (const char* text : {"0", "1h", "9999999999", "18446744073709551615"})
    EXPECT_THROW(parse_seconds("o", text), UsageError) << text;
}

TEST(PrintableText, KeepsNamesReadableAndTerminalsSafe) {
  EXPECT_EQ(printable("plain 'quoted\" \u65e5\u672c"), "plain 'quoted\" \u65e5\u672c");
  EXPECT_EQ(printable("a\nb\x1b[2J\x7f"), "a\\x0ab\\x1b[2J\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");           // a control of one byte, in UTF-8
  EXPECT_EQ(printable("\xe2\x80\xae"), "\\xe2\\x80\\xae");  // right to left from here
  EXPECT_EQ(printable("\xff\xc0\xaf\xed\xa0\x80"), "\\xff\\xc0\\xaf\\xed\\xa0\\x80");
  EXPECT_EQ(printable("\xe6\x97"), "\\xe6\\x97");  // cut off in the middle
  EXPECT_EQ(printable("a\tb\n", "\t"), "a\tb\\x0a");
  EXPECT_EQ(printable(printable("\x01")), "\\x01");
}

TEST(HumanNumbers, HaveThreeDigits) {
  EXPECT_EQ(human_size(0), "0 B");
  EXPECT_EQ(human_size(999), "999 B");
  EXPECT_EQ(human_size(1000), "0.98 KiB");
  EXPECT_EQ(human_size(1u << 20), "1.00 MiB");
  EXPECT_EQ(human_size(10.0 * (1u << 20)), "10.0 MiB");
  EXPECT_EQ(human_size(907.0 * (1u << 20)), "907 MiB");
  EXPECT_EQ(human_size(16.0 * (1ull << 40)), "16.0 TiB");
  EXPECT_EQ(human_time(0.123), "0.12 s");
  EXPECT_EQ(human_time(41.2), "41 s");
  EXPECT_EQ(human_time(185), "3:05");
  EXPECT_EQ(human_time(7385), "2:03:05");
}

}  // namespace
}  // namespace nasbackup::tools
