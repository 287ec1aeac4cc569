#include "trace/node.hpp"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "cxlspeckv/devices.hpp"

namespace speckv::trace {
namespace {

// Reads one table; the first fault is kept.
class Reader {
 public:
  Reader(const toml::table& table, const std::string& file)
      : table_(table), file_(file) {}

  void number(const char* key, double least, double& value) {
    known_.emplace_back(key);
    const toml::node* const node = table_.get(key);
    if (node == nullptr) return;
    const auto read = node->value<double>();
    if (!read || !(*read >= least && *read <= 1e12)) {
      wrong(*node, std::string(key) + ": not a number in range");
    } else {
      value = *read;
    }
  }
  void text(const char* key, std::string& value) {
    known_.emplace_back(key);
    const toml::node* const node = table_.get(key);
    if (node == nullptr) return;
    if (!node->is_string()) return wrong(*node, std::string(key) + ": not a text");
    value = node->as_string()->get();
  }
  void skip(const char* key) { known_.emplace_back(key); }
  bool has(const char* key) const { return table_.contains(key); }
  void need(const char* key) {
    if (!has(key)) wrong(table_, std::string("there is no ") + key);
  }
  // What is wrong with a value that was read.
  void wrong(const char* key, const std::string& why) {
    const toml::node* const node = table_.get(key);
    wrong(node == nullptr ? static_cast<const toml::node&>(table_) : *node, why);
  }
  Status finish() {
    for (const auto& [key, node] : table_) {
      if (std::find(known_.begin(), known_.end(), key.str()) == known_.end())
        wrong(node, "not known: " + std::string(key.str()));
    }
    return status_;
  }

 private:
  void wrong(const toml::node& node, const std::string& why) {
    if (status_.ok())
      status_ =
          Status(Code::invalid_argument,
                 file_ + ":" + std::to_string(node.source().begin.line) + ": " + why);
  }

  const toml::table& table_;
  const std::string& file_;
  std::vector<std::string> known_;
  Status status_;
};

// Bytes of a size such as 100G, more than 0.
std::uint64_t read_size(Reader& reader, const char* key) {
  std::string size;
  reader.text(key, size);
  const auto bytes = parse_size(size);
  if (bytes.ok() && *bytes > 0) return *bytes;
  reader.wrong(key, std::string(key) + ": a size such as 100G");
  return 0;
}

// `link` is a preset of the throttling device; bandwidth and latency beside it win.
Result<TierModel> read_tier(const toml::table& table, const std::string& file) {
  Reader reader(table, file);
  TierModel tier;
  std::string link;
  double gigabytes = 0, micros = 0;
  reader.text("name", tier.name);
  reader.text("link", link);
  reader.need("name");
  reader.need("capacity");
  if (!link.empty()) {
    if (const auto preset = find_link_model(link); preset.ok()) {
      gigabytes = preset->bytes_per_second / 1e9;
      micros = static_cast<double>(preset->latency.count()) / 1e3;
    } else {
      reader.wrong("link", preset.error().message());
    }
  }
  reader.number("gigabytes_per_second", 1e-3, gigabytes);
  reader.number("latency_us", 0, micros);
  if (gigabytes <= 0)
    reader.wrong("gigabytes_per_second", "neither a link nor gigabytes_per_second");
  tier.bytes = read_size(reader, "capacity");
  tier.bytes_per_second = gigabytes * 1e9;
  tier.latency = micros / 1e6;
  if (Status status = reader.finish(); !status.ok()) return status;
  return tier;
}

}  // namespace

Result<Node> read_node(std::string_view text, const std::string& name) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return Status(Code::invalid_argument,
                  name + ":" + std::to_string(parsed.error().source().begin.line) + ": " +
                      std::string(parsed.error().description()));
  }
  const toml::table& top = parsed.table();
  Node node;
  Reader reader(top, name);
  reader.text("name", node.name);
  reader.skip("engine");
  reader.skip("prefetch");
  reader.skip("tier");
  if (const toml::node* const engine = top.get("engine"); engine != nullptr) {
    if (!engine->is_table()) {
      reader.wrong("engine", "engine: not a table");
    } else {
      Reader values(*engine->as_table(), name);
      values.number("prefill_tokens_per_second", 1, node.prefill_tokens_per_second);
      values.number("output_tokens_per_second", 1e-3, node.output_tokens_per_second);
      values.number("request_seconds", 0, node.request_seconds);
      if (Status status = values.finish(); !status.ok()) return status;
    }
  }
  if (const toml::node* const prefetch = top.get("prefetch"); prefetch != nullptr) {
    if (!prefetch->is_table()) {
      reader.wrong("prefetch", "prefetch: not a table");
    } else {
      Reader values(*prefetch->as_table(), name);
      node.chunk_bytes = read_size(values, "chunk");
      if (Status status = values.finish(); !status.ok()) return status;
    }
  }
  if (Status status = reader.finish(); !status.ok()) return status;
  const toml::array* const tiers = top["tier"].as_array();
  for (std::size_t i = 0; tiers != nullptr && i < tiers->size(); ++i) {
    const toml::table* const table = tiers->get(i)->as_table();
    if (table == nullptr)
      return Status(Code::invalid_argument, name + ": tier: not an array of tables");
    auto tier = read_tier(*table, name);
    if (!tier.ok()) return tier.error();
    node.tiers.push_back(*std::move(tier));
  }
  if (node.tiers.size() < 2 || node.tiers.size() > prefetch::kMostTiers)
    return Status(Code::invalid_argument, name + ": a node has 2 to 8 tiers");
  return node;
}

}  // namespace speckv::trace
