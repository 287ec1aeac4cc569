// speckvctl on a card: /speckvctl, as guest.py puts it there, against /dev/speckv0.
#include <array>
#include <cstdio>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "cxlspeckv/engine.hpp"

namespace speckv::test {
namespace {

using Json = nlohmann::json;

constexpr const char* kCard = "/dev/speckv0";
constexpr const char* kSysfs = "/sys/class/speckv/speckv0/";

struct Told {
  int status = -1;
  std::string text;
};

Told call(const std::string& words) {
  Told told;
  FILE* pipe = ::popen(("/speckvctl " + words + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return told;
  std::array<char, 4096> piece{};
  for (std::size_t n = 0; (n = std::fread(piece.data(), 1, piece.size(), pipe)) != 0;)
    told.text.append(piece.data(), n);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) told.status = WEXITSTATUS(status);
  return told;
}

Json ask(const std::string& words, int status = 0) {
  const Told told = call(words + " --json");
  EXPECT_EQ(told.status, status) << words << ": " << told.text;
  Json document = Json::parse(told.text, nullptr, false);
  EXPECT_FALSE(document.is_discarded()) << words << ": " << told.text;
  std::printf("DOCUMENT %s\n", document.dump().c_str());  // which documents.py looks at
  return document.is_object() ? document : Json::object();
}

std::string attribute(const std::string& name) {
  std::ifstream file(kSysfs + name);
  std::string text;
  file >> text;
  return text;
}

TEST(Speckvctl, ACardIsListedAndDescribed) {
  const Json list = ask("list");
  const auto has = [&](const std::string& uri) {
    for (const Json& device : list["devices"]) {
      if (device["uri"] == uri) return device["bytes"] == 64 << 20;
    }
    return false;
  };
  EXPECT_TRUE(has("cxl:/dev/speckv0") && has("cxl:/dev/speckv1")) << list;
  const Json info = ask("info cxl:/dev/speckv0?size=1M");
  EXPECT_EQ(info["capacity"], 1 << 20);
  EXPECT_EQ(info["simulated"], true);
  EXPECT_EQ(call("info cxl:/dev/null").status, 1);
}

TEST(Speckvctl, HealthIsGradedAndResetHeals) {
  ASSERT_EQ(call(std::string("reset ") + kCard).status, 0);
  EXPECT_EQ(ask(std::string("health ") + kCard)["state"], "good");
  std::ofstream("/sys/kernel/debug/speckv/speckv0/inject") << "1 0" << std::flush;
  const Json failed = ask(std::string("health ") + kCard, 4);
  EXPECT_EQ(failed["state"], "failed");
  EXPECT_FALSE(failed["reasons"].empty());
  EXPECT_EQ(ask(std::string("stats ") + kCard)["values"]["fatal"], 1);
  ASSERT_EQ(call(std::string("reset ") + kCard).status, 0);
  EXPECT_EQ(ask(std::string("health ") + kCard)["state"], "good");
}

TEST(Speckvctl, StatsAreTheCards) {
  const Json before = ask(std::string("stats ") + kCard)["values"];
  EXPECT_EQ(before["memory_bytes"], 64 << 20);
  EXPECT_EQ(before["memory_free"], 64 << 20);
  const Json bench = ask("bench cxl:/dev/speckv0?size=4M --seconds 0.2 --bytes 64K");
  EXPECT_GT(bench["read_bytes_per_second"], 0);
  const Json after = ask(std::string("stats ") + kCard)["values"];
  EXPECT_GT(after["bytes_read"], before["bytes_read"]);
  const Told prom = call(std::string("stats ") + kCard + " --prom");
  EXPECT_NE(prom.text.find("cxlspeckv_card_descriptors_total{name=\"/dev/speckv0\"} "),
            std::string::npos);
}

TEST(Speckvctl, ConfigurationIsTheDrivers) {
  const std::string before = attribute("w_r");
  EXPECT_EQ(call("config set /dev/speckv0 w_r 99").status, 0);
  EXPECT_EQ(attribute("w_r"), "99");
  EXPECT_EQ(ask("config get /dev/speckv0")["values"]["w_r"], 99);
  EXPECT_EQ(call("config get /dev/speckv0 w_r").text, "99\n");
  EXPECT_EQ(ask("weights /dev/speckv0")["recency"], 99) << "of a new tenant";
  EXPECT_EQ(call("config set /dev/speckv0 w_r 256").status, 2);
  EXPECT_EQ(call("config set /dev/speckv0 quota_queues 1000").status, 2);
  EXPECT_EQ(call("config set /dev/speckv0 w_r").status, 2);
  EXPECT_EQ(attribute("w_r"), "99");
  EXPECT_EQ(call("config set /dev/speckv0 w_r " + before).status, 0);
}

// Each tenant has blocks of its own; who passes its open card on lends them.
TEST(Speckvctl, HintsReachTheTenantThatIsNamed) {
  const int card = ::open(kCard, O_RDWR);  // inherited by the programs
  ASSERT_GE(card, 0);
  const std::string fd = "fd:" + std::to_string(card);
  const std::string pid = "pid:" + std::to_string(::getpid());
  auto engine = Engine::open(fd);
  ASSERT_TRUE(engine.ok()) << engine.error().message();
  const std::uint32_t tokens = (*engine)->info().block_tokens;
  for (std::uint32_t block = 0; block < 3; ++block) {
    const TokenRange range{{.request = 7, .position = block * tokens}, tokens};
    ASSERT_TRUE((*engine)->hold(range).ok());
  }
  const std::string range = " --request 7 --tokens " + std::to_string(2 * tokens);
  EXPECT_EQ(call("hot /dev/speckv0" + range).status, 1) << "a tenant of its own";
  EXPECT_EQ(ask("hot " + fd + range)["blocks"], 2);
  EXPECT_EQ(ask("share " + pid + range)["blocks"], 2);
  EXPECT_EQ(ask("telemetry " + fd)["shared"], 2);
  EXPECT_EQ(call("evict " + fd + range + " --forget").status, 1) << "busy";
  EXPECT_EQ(ask("share " + fd + range + " --undo")["blocks"], 2);
  EXPECT_EQ(ask("evict " + fd + range)["blocks"], 2);
  EXPECT_EQ(ask("step " + fd + " 5")["candidates"], 2);
  EXPECT_EQ(attribute("current_step"), "5");
  const Json victims = ask("telemetry " + fd + " --victims")["victims"];
  ASSERT_EQ(victims.size(), 2U);
  EXPECT_EQ(victims[0]["request"], 7);
  EXPECT_EQ(victims[1]["position"], tokens);
  EXPECT_EQ(ask("prefetch " + fd + range + " --step 6")["blocks"], 2);
  EXPECT_EQ(ask("weights " + fd + " --recency 1")["recency"], 1);
  EXPECT_EQ((*engine)->telemetry()->weights.recency, 1);
  EXPECT_EQ(ask("evict " + fd + range + " --forget")["blocks"], 2);
  EXPECT_EQ((*engine)->telemetry()->blocks, 1U);
  ::close(card);
}

TEST(Speckvctl, AnotherUsersProcessKeepsItsCard) {
  auto engine = Engine::open(kCard);
  ASSERT_TRUE(engine.ok());
  const std::string mine = "pid:" + std::to_string(::getpid());
  EXPECT_EQ(call("telemetry " + mine).status, 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(1000) != 0 || ::setuid(1000) != 0) ::_exit(9);
    ::_exit(call("telemetry " + mine).status);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(call("telemetry pid:1").status, 1) << "init has no card open";
}

TEST(Speckvctl, SelftestAndMonitorRunOnACard) {
  EXPECT_EQ(ask("selftest cxl:/dev/speckv0?size=4M")["passed"], true);
  const Told lines = call("monitor /dev/speckv0 --count 2 --interval 0.05");
  EXPECT_EQ(lines.status, 0);
  EXPECT_EQ(std::count(lines.text.begin(), lines.text.end(), '\n'), 2);
  std::printf("DOCUMENT %s", lines.text.substr(0, lines.text.find('\n') + 1).c_str());
  const Told screen = call("top /dev/speckv0 --count 2 --interval 0.05");
  EXPECT_EQ(screen.status, 0);
  for (const char* row : {"descriptors ", "memory_free ", "/s"})
    EXPECT_NE(screen.text.find(row), std::string::npos) << row << screen.text;
  EXPECT_EQ(ask("stats /dev/speckv0 --watch 0.05 --count 1")["kind"], "card");
}

}  // namespace
}  // namespace speckv::test
