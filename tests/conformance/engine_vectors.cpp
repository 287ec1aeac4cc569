// Every engine gives the answers and the bytes of tests/vectors/engine.txt.
#include <fstream>
#include <map>
#include <sstream>

#include "base/checksum.hpp"
#include "support/engine_fixture.hpp"

namespace speckv::test {
namespace {

using namespace engine;

const std::map<std::string, Answer> kAnswers{
    {"ok", Answer::ok},
    {"bad_desc", Answer::bad_desc},
    {"bad_region", Answer::bad_region},
    {"corrupted", Answer::corrupted},
    {"unsupported", Answer::unsupported},
    {"no_space", Answer::no_space},
    {"not_found", Answer::not_found},
    {"busy", Answer::busy},
    {"unencodable", Answer::unencodable},
};

struct Step {
  int line = 0;
  std::vector<std::string> words, expected;
};
struct Case {
  std::string name;
  std::vector<Step> steps;
};

std::vector<Case> read_cases() {
  std::vector<Case> cases;
  std::ifstream file(std::string(SPECKV_TEST_VECTORS) + "/engine.txt");
  std::string text;
  for (int line = 1; std::getline(file, text); ++line) {
    std::istringstream in(text);
    std::vector<std::string> words;
    for (std::string word; in >> word;)
      words.push_back(word);
    if (words.empty() || words[0] == "#") continue;
    if (words[0] == "case") {
      cases.push_back({words[1], {}});
    } else if (words[0] == "=") {
      cases.back().steps.back().expected = {words.begin() + 1, words.end()};
    } else {
      cases.back().steps.push_back({line, words, {}});
    }
  }
  return cases;
}

Descriptor parse(const std::string& hex) {
  std::byte bytes[Descriptor::kBytes];
  for (std::size_t i = 0; i < sizeof bytes; ++i)
    bytes[i] = static_cast<std::byte>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  return Descriptor::load(bytes);
}

class EngineVectors : public EngineFixture {
 protected:
  struct Region {
    std::uint32_t id = 0;
    MutableBytes memory{};  // of host memory
    // Of the card's: whose, and where.
    std::uint32_t tenant = 0;
    std::uint64_t begin = 0, length = 0;
  };

  // Bytes of a region, by its number in the file.
  struct Range {
    std::uint32_t region = 0;
    std::uint64_t offset = 0, length = 0;
    bool overlaps(const Range& o) const {
      return region == o.region && offset < o.offset + o.length &&
             o.offset < offset + length;
    }
    bool covers(const Range& o) const {
      return region == o.region && offset <= o.offset &&
             o.offset + o.length <= offset + length;
    }
  };
  bool misses(const Range& range) const {
    return std::ranges::any_of(missing_,
                               [&](const Range& r) { return r.overlaps(range); });
  }

  static std::uint32_t number(const std::string& word) {
    return static_cast<std::uint32_t>(std::stoul(word));
  }

  // Whether the registers offer what the descriptor asks for, so far as it exists.
  bool offers(const Descriptor& d) const {
    const bool exists = d.opcode < kMasks.size() && kMasks[d.opcode] != Mask{};
    if (!exists) return true;
    const bool coding =
        Opcode{d.opcode} == Opcode::encode || Opcode{d.opcode} == Opcode::decode;
    return facts_.can(Opcode{d.opcode}) &&
           (!coding || d.codec > 63 || (facts_.codecs >> d.codec & 1) != 0) &&
           ((d.flags & flag::kNamed) == 0 || facts_.has(feature::kDirectory)) &&
           ((d.flags & flag::kCheck) == 0 || Opcode{d.opcode} != Opcode::decode ||
            facts_.has(feature::kCrc));
  }

  // The file's numbers of regions become the engine's; one that it does not have stays
  // so.
  std::uint32_t mapped(std::uint32_t in_file) const {
    const auto where = regions_.find(in_file);
    return in_file == 0 ? 0 : where == regions_.end() ? 4000 : where->second.id;
  }

  // A driver gives each region of the card a place of its own. One that the file lays
  // into an earlier one is named as a part of that.
  void place(std::uint32_t& region, std::uint64_t& offset) const {
    const auto part = regions_.find(region);
    region = mapped(region);
    if (engine_->bar0() != nullptr || part == regions_.end()) return;
    const Region& mine = part->second;
    for (const auto& [in_file, whole] : regions_) {
      if (in_file >= part->first || whole.length == 0 || whole.tenant != mine.tenant ||
          mine.begin < whole.begin || mine.length == 0 ||
          mine.begin + mine.length > whole.begin + whole.length) {
        continue;
      }
      region = whole.id;
      offset += mine.begin - whole.begin;
      return;
    }
  }

  void fill(const Step& step) {
    const MutableBytes memory = regions_.at(number(step.words[1])).memory;
    const std::uint32_t at = number(step.words[2]), size = number(step.words[3]);
    std::uint32_t state = number(step.words[4]);
    for (std::uint32_t i = 0; i < size; ++i) {
      state = state * 1664525 + 1013904223;
      const std::uint32_t mask = step.words[0] == "halves" && i % 2 == 1 ? 0xBF : 0xFF;
      memory[at + i] = static_cast<std::byte>(state >> 24 & mask);
    }
  }

  void perform(const Step& step) {
    Descriptor d = parse(step.expected.at(0));
    const Range from{d.src_region, d.src_offset, d.length};
    const Range to{d.dst_region, d.dst_offset, number(step.expected[2])};
    if (step.expected[1] == "ok") {
      place(d.src_region, d.src_offset);
      place(d.dst_region, d.dst_offset);
    } else {  // its bounds may be what it is about
      d.src_region = mapped(d.src_region);
      d.dst_region = mapped(d.dst_region);
    }
    if (Opcode{d.opcode} == Opcode::predict) d.state_region = mapped(d.state_region);
    const std::uint16_t tag = d.tag;
    QueueUnderTest& queue = *queues_.at(number(step.words[1]));
    ASSERT_EQ(queue.submit({&d, 1}), 1U);
    const auto found = queue.wait();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].tag, tag);
    EXPECT_EQ(found[0].reserved12, 0U);
    const Told told = told_by(found[0]);
    const bool writes = kAnswers.at(step.expected[1]) == Answer::ok && to.region != 0;
    if (!offers(d) &&
        step.expected[1] != "unsupported") {  // what it would have written is not there
      EXPECT_EQ(told.answer, Answer::unsupported) << "line " << step.line;
      EXPECT_EQ(told.result | told.crc, 0U) << "line " << step.line;
      if (writes) missing_.push_back(to);
      ++refused_;
      return;
    }
    if (misses(from)) {
      if (writes) missing_.push_back(to);
      return;
    }
    if (writes) std::erase_if(missing_, [&](const Range& r) { return to.covers(r); });
    EXPECT_EQ(told.answer, kAnswers.at(step.expected[1])) << "line " << step.line;
    EXPECT_EQ(told.result, number(step.expected[2])) << "line " << step.line;
    const auto crc =
        static_cast<std::uint32_t>(std::stoul(step.expected[3], nullptr, 16));
    EXPECT_EQ(told.crc, facts_.has(feature::kCrc) ? crc : 0) << "line " << step.line;
    ++done_;
  }

  void replay(const Case& c) {
    for (const Step& step : c.steps) {
      const auto& w = step.words;
      if (w[0] == "host") {
        const MutableBytes memory = engine_->allocate(number(w[3]));
        regions_[number(w[1])] = {.id = engine_->host_region(number(w[2]), memory),
                                  .memory = memory};
      } else if (w[0] == "card") {
        regions_[number(w[1])] = {
            .id = engine_->card_region(number(w[2]), number(w[3]), number(w[4])),
            .tenant = number(w[2]),
            .begin = number(w[3]),
            .length = number(w[4])};
      } else if (w[0] == "queue") {
        queues_[number(w[1])] = engine_->open_queue(number(w[2]), 4);
      } else if (w[0] == "bytes" || w[0] == "halves") {
        fill(step);
      } else if (w[0] == "do") {
        perform(step);
      } else {
        ASSERT_EQ(w[0], "see");
        if (misses({number(w[1]), number(w[2]), number(w[3])})) continue;
        const MutableBytes memory = regions_.at(number(w[1])).memory;
        const auto crc =
            static_cast<std::uint32_t>(std::stoul(step.expected.at(0), nullptr, 16));
        ASSERT_EQ(crc32c(0, memory.subspan(number(w[2]), number(w[3]))), crc)
            << "line " << step.line;
      }
      if (HasFatalFailure()) return;
    }
  }

  std::size_t done_ = 0, refused_ = 0;  // descriptors
  std::vector<Range> missing_;          // of what others have there
  std::map<std::uint32_t, Region> regions_;
  std::map<std::uint32_t, std::unique_ptr<QueueUnderTest>> queues_;
};

TEST_P(EngineVectors, are_answered_to_the_bit) {
  for (const Case& c : read_cases()) {
    regions_.clear();
    queues_.clear();
    SetUp();  // each case begins with a new engine
    missing_.clear();
    replay(c);
    queues_.clear();
  }
  EXPECT_GE(done_, 30U);
  RecordProperty("refused", static_cast<int>(refused_));
  if (facts_.has(feature::kDirectory) && facts_.has(feature::kCrc) &&
      facts_.has(feature::kPredict)) {
    EXPECT_EQ(refused_, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, EngineVectors, testing::ValuesIn(kEngines),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace speckv::test
