#include "device/uri.hpp"

#include <string>

#include <gtest/gtest.h>

namespace speckv {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

TEST(ParseSize, takes_digits_and_one_unit) {
  const std::pair<const char*, std::uint64_t> good[] = {
      {"0", 0},
      {"1", 1},
      {"4096", 4096},
      {"4K", 4096},
      {"1M", 1U << 20},
      {"4G", 4ULL << 30},
      {"2T", 2ULL << 40},
      {"007", 7},
      {"8388607T", 8388607ULL << 40},
      {"9223372036854775807", 9223372036854775807ULL}};
  for (const auto& [text, bytes] : good) {
    const auto size = parse_size(text);
    ASSERT_TRUE(size.ok()) << text;
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(ParseSize, refuses_everything_else_with_a_sentence) {
  for (const std::string& text : {""s,          "G"s,
                                  "4g"s,        "4GB"s,
                                  "4GG"s,       "4 G"s,
                                  " 4"s,        "4 "s,
                                  "-1"s,        "+1"s,
                                  "1.5G"s,      "0x10"s,
                                  "4P"s,        "9223372036854775808"s,
                                  "8388608T"s,  "18446744073709551616"s,
                                  "16777216T"s, "99999999999999999999999"s,
                                  "4\0G"s,      "4G\0"s,
                                  "1e3"s}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.error().code(), Code::invalid_argument) << text;
    EXPECT_NE(size.error().message().find("is not a size"), std::string::npos) << text;
  }
}

TEST(DeviceUri, every_scheme_reads_as_documented) {
  auto uri = parse_uri("dram:4G");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->scheme, Scheme::dram);
  EXPECT_EQ(uri->size, 4ULL << 30);
  EXPECT_EQ(uri->timeout, 30s);
  EXPECT_FALSE(uri->throttle.has_value());

  uri = parse_uri("numa:1?size=4G");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->scheme, Scheme::numa);
  EXPECT_EQ(uri->node, 1);

  uri = parse_uri("cxl:/dev/speckv0?size=8G&timeout=2");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->scheme, Scheme::cxl);
  EXPECT_EQ(uri->path, "/dev/speckv0");
  EXPECT_EQ(uri->size, 8ULL << 30);

  uri = parse_uri("dax:/dev/dax0.0");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->scheme, Scheme::dax);
  EXPECT_EQ(uri->path, "/dev/dax0.0");
  EXPECT_EQ(uri->size, 0U);

  uri = parse_uri("file:some where/a=b&c?size=8G&direct=0&engine=pread&timeout=0.5");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->scheme, Scheme::file);
  EXPECT_EQ(uri->path, "some where/a=b&c");
  EXPECT_EQ(uri->size, 8ULL << 30);
  EXPECT_EQ(uri->direct, false);
  EXPECT_EQ(uri->engine, FileEngine::pread);
  EXPECT_EQ(uri->timeout, 500ms);

  uri = parse_uri("shm:/kv?size=1&throttle=cxl-far");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->path, "/kv");
  ASSERT_TRUE(uri->throttle.has_value());
  EXPECT_EQ(uri->throttle->latency, 640ns);

  uri = parse_uri("soft:?size=1G");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->scheme, Scheme::soft);
  EXPECT_EQ(uri->text, "soft:?size=1G");
}

TEST(DeviceUri, refuses_what_it_does_not_know_and_says_what_would_be_right) {
  const std::pair<std::string, const char*> bad[] = {
      {"", "the schemes are"},
      {"dram", "the schemes are"},
      {":4G", "the schemes are"},
      {"DRAM:4G", "the schemes are"},
      {"dram:", "the size is missing"},
      {"dram:?", "is not name=value"},
      {"dram:0", "a size is"},
      {"dram:4G?size=4G", "given twice"},
      {"dram:?size=4G&size=4G", "given twice"},
      {"dram:99999999T", "a size is"},
      {"dram:lots", "a size is"},
      {"dram:4G?", "is not name=value"},
      {"dram:4G?throttle", "is not name=value"},
      {"dram:4G?throttle=", "no link is called"},
      {"dram:4G?throttle=warp", "dram, cxl, cxl-far, nvme"},
      {"dram:4G?timeout=0", "timeout is"},
      {"dram:4G?timeout=-1", "timeout is"},
      {"dram:4G?timeout=nan", "timeout is"},
      {"dram:4G?timeout=inf", "timeout is"},
      {"dram:4G?timeout=1e9", "timeout is"},
      {"dram:4G?timeout=1s", "timeout is"},
      {"dram:4G?colour=red", "no parameter"},
      {"dram:4G?Size=4G", "no parameter"},
      {"dram:4G?=4G", "no parameter"},
      {"dram:4G?direct=1", "no parameter"},
      {"dram:4G?timeout=1&", "is not name=value"},
      {"numa:?size=4G", "a node is"},
      {"numa:-1?size=4G", "a node is"},
      {"numa:1x?size=4G", "a node is"},
      {"numa:4096?size=4G", "a node is"},
      {"numa:99999999999?size=4G", "a node is"},
      {"numa:0", "the size is missing"},
      {"dax:", "the path is missing"},
      {"file:?size=4G", "the path is missing"},
      {"file:/a?size=0", "a size is"},
      {"file:/a?direct=yes", "direct is 0 or 1"},
      {"file:/a?engine=magic", "engine is"},
      {"file:/a\0b?size=4G"s, "NUL"},
      {"shm:kv?size=4G", "a name is"},
      {"shm:/?size=4G", "a name is"},
      {"shm:/..?size=4G", "a name is"},
      {"shm:/a/b?size=4G", "a name is"},
      {"shm:/" + std::string(255, 'x') + "?size=4G", "a name is"},
      {"soft:", "the size is missing"},
      {"sim:", "the size is missing"},
      {"sim:1M?direct=1", "has no parameter"},
      {"cxl:", "the path is missing"},
      {"cxl:/dev/speckv0?direct=1", "has no parameter"},
      {"file:/" + std::string(10000, 'x'), "too long"},
  };
  for (const auto& [text, sentence] : bad) {
    const auto uri = parse_uri(text);
    ASSERT_FALSE(uri.ok()) << text;
    EXPECT_EQ(uri.error().code(), Code::invalid_argument) << text;
    EXPECT_NE(uri.error().message().find(sentence), std::string::npos)
        << text << ": " << uri.error().message();
    const auto device = open_device(text);
    ASSERT_FALSE(device.ok());
    EXPECT_EQ(device.error().code(), Code::invalid_argument);
  }
}

}  // namespace
}  // namespace speckv
