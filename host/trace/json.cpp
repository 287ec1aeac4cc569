// Traces whose lines are JSON: Mooncake's requests, vLLM's KV events.
#include <limits>

#include <nlohmann/json.hpp>

#include "trace/lines.hpp"
#include "trace/read.hpp"

namespace speckv::trace {
namespace {

using nlohmann::json;

json parse(std::string_view text) {
  return json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::optional<double> time_in(const json& value, double most) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  return number >= 0 && number <= most ? std::optional(number) : std::nullopt;
}

std::optional<std::uint32_t> tokens_in(const json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMostTokens)
    return std::nullopt;
  return value.get<std::uint32_t>();
}

// One of vLLM's block hashes: a number, or bytes as text.
std::optional<std::uint64_t> hash_in(const json& value) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number_integer())
    return static_cast<std::uint64_t>(value.get<std::int64_t>());
  if (!value.is_string()) return std::nullopt;
  std::uint64_t hash = 1;
  for (const char c : value.get_ref<const std::string&>())
    hash = mix(hash, static_cast<unsigned char>(c));
  return hash;
}

}  // namespace

// {"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [...]},
// whose ids name chains of blocks of 512 tokens.
Result<Trace> read_mooncake(std::string_view text, const ReadOptions& options) {
  constexpr std::uint32_t kBlockTokens = 512;
  Lines lines(text, options.name);
  Builder builder(options.name, kBlockTokens);
  std::vector<BlockId> chain;
  while (const auto line = lines.next()) {
    const json row = parse(*line);
    if (!row.is_object()) return lines.wrong("not a JSON object");
    for (const char* const key :
         {"timestamp", "input_length", "output_length", "hash_ids"})
      if (!row.contains(key)) return lines.wrong(std::string("there is no ") + key);
    if (row.size() != 4) return lines.wrong("a member that is not known");
    const auto at = time_in(row["timestamp"], kLongestTrace * 1e3);
    const auto in = tokens_in(row["input_length"]), out = tokens_in(row["output_length"]);
    if (!at || !in || !out) return lines.wrong("a time or a length is not in range");
    if (!row["hash_ids"].is_array()) return lines.wrong("hash_ids is not an array");
    chain.clear();
    for (const json& id : row["hash_ids"]) {
      if (!id.is_number_unsigned()) return lines.wrong("an id that is not a number");
      chain.push_back(builder.id(id.get<std::uint64_t>()));
    }
    Request request;
    request.arrived = *at / 1e3;
    request.input_tokens = *in;
    request.output_tokens = *out;
    if (Status status = builder.add(request, chain); !status.ok())
      return lines.wrong(status.message());
  }
  return std::move(builder).finish(false);
}

// A line a KVEventBatch, as msgspec writes it: [ts, [event, ...], ...], an event being
// ["BlockStored", hashes, parent or null, token ids, tokens a block, ...],
// ["BlockRemoved", ...] or ["AllBlocksCleared"]. What is stored is a request whose chain
// is the parent's, and then the new blocks. A prefix that was found and nothing stored
// after it leaves no event, so such requests are not seen.
Result<Trace> read_vllm(std::string_view text, const ReadOptions& options) {
  Lines lines(text, options.name);
  std::optional<Builder> builder;
  struct Where {
    std::size_t request;
    std::uint32_t depth;
  };
  std::unordered_map<std::uint64_t, Where> stored;
  std::uint32_t block_tokens = 0;
  while (const auto line = lines.next()) {
    const json batch = parse(*line);
    if (!batch.is_array() || batch.size() < 2 || !batch[1].is_array())
      return lines.wrong("not a JSON array of a time and events");
    const auto at = time_in(batch[0], 1e11);
    if (!at) return lines.wrong("a time that is not in range");
    for (const json& event : batch[1]) {
      if (!event.is_array() || event.empty() || !event[0].is_string())
        return lines.wrong("an event that is not an array with a name");
      const auto& name = event[0].get_ref<const std::string&>();
      if (name == "BlockRemoved" || name == "AllBlocksCleared") continue;
      if (name != "BlockStored") return lines.wrong("an event that is not known");
      if (event.size() < 5 || !event[1].is_array() || !event[3].is_array())
        return lines.wrong("BlockStored without blocks, tokens or their number");
      const auto tokens = tokens_in(event[4]);
      if (!tokens || *tokens == 0 || (block_tokens != 0 && *tokens != block_tokens))
        return lines.wrong("blocks of no token, or not all of one size");
      if (!builder) builder.emplace(options.name, block_tokens = *tokens);
      std::uint32_t shared = 0;
      std::size_t earlier = 0;
      if (!event[2].is_null()) {
        const auto parent = hash_in(event[2]);
        if (!parent) return lines.wrong("a parent that is no hash");
        if (const auto found = stored.find(*parent); found != stored.end()) {
          earlier = found->second.request;
          shared = found->second.depth;
        }
      }
      std::vector<BlockId> rest;
      for (const json& value : event[1]) {
        const auto hash = hash_in(value);
        if (!hash) return lines.wrong("a block that is no hash");
        rest.push_back(builder->id(*hash));
        stored[*hash] = {builder->size(),
                         shared + static_cast<std::uint32_t>(rest.size())};
      }
      Request request;
      request.arrived = *at;
      const std::uint64_t input = (shared + rest.size()) * std::uint64_t{*tokens};
      request.input_tokens =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(input, kMostTokens));
      if (Status status = builder->add(request, earlier, shared, rest); !status.ok())
        return lines.wrong(status.message());
    }
  }
  if (!builder)
    return Status(Code::invalid_argument, options.name + ": nothing is stored");
  return std::move(*builder).finish(false);
}

}  // namespace speckv::trace
