// A user's program: one block into a DRAM tier and back.
#include <cstdio>
#include <vector>

#include <cxlspeckv/cxlspeckv.hpp>
#include <cxlspeckv/devices.hpp>

namespace {

int fail(const char* what, const speckv::Status& status) {
  std::fprintf(stderr, "%s: %s\n", what, status.message().c_str());
  return 1;
}

}  // namespace

int main() {
  auto device = speckv::open_device("dram:64M");
  if (!device) return fail("open_device", device.error());

  speckv::StoreOptions options;
  options.layouts = {{.layers = 4, .kv_heads = 2, .head_dim = 64, .tokens = 16}};
  options.tiers.push_back({.name = "dram", .device = *std::move(device)});
  const speckv::BlockLayout layout = options.layouts[0];
  auto store = speckv::BlockStore::open(std::move(options));
  if (!store) return fail("open", store.error());

  std::vector<std::byte> memory(2 * layout.bytes());
  for (std::size_t i = 0; i < layout.bytes(); ++i)
    memory[i] = static_cast<std::byte>(i * 7);
  const auto region = (*store)->attach(memory);
  if (!region) return fail("attach", region.error());

  const std::vector<std::uint32_t> tokens(layout.tokens, 42);
  speckv::KeyChain chain("a model", layout, "a tenant");
  const speckv::BlockKey key = chain.append(tokens);
  const speckv::Segment from{*region, 0, layout.bytes()};
  const speckv::Segment to{*region, layout.bytes(), layout.bytes()};

  const speckv::BlockTransfer saved{.key = key, .memory = {&from, 1}};
  if (const auto status = (*store)->save({&saved, 1}).wait(); !status.ok())
    return fail("save", status);
  const speckv::BlockTransfer loaded{.key = key, .memory = {&to, 1}};
  if (const auto status = (*store)->load({&loaded, 1}).wait(); !status.ok())
    return fail("load", status);

  const auto half = memory.begin() + static_cast<std::ptrdiff_t>(layout.bytes());
  if (!std::equal(memory.begin(), half, half)) return 1;
  if (const auto status = (*store)->detach(*region); !status.ok())
    return fail("detach", status);
  std::puts("the block came back");
  return 0;
}
