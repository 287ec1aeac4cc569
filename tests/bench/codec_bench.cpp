// The fused copy against memcpy, and each codec, in bytes of plain data a second.
//
//   codec_bench --benchmark_filter=copy
//
// Copies walk two regions of 1 GiB in an order that no prefetcher guesses, block by
// block, so that caches hold nothing of what comes next. Compare lines of the same block
// size and thread count within one run only: the machine's memory is shared.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "cxlspeckv/codec.hpp"

#include "base/checksum.hpp"
#include "support/blocks.hpp"

namespace {

using namespace speckv;

constexpr std::size_t kRegion = std::size_t{1} << 30;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Region {
  Region() : memory(new (std::align_val_t{kHugePage}) std::byte[kRegion]) {
    std::memset(memory, 1, kRegion);
  }
  std::byte* memory;  // lives as long as the process
};

const Region& source() {
  static const Region region;
  return region;
}
const Region& target() {
  static const Region region;
  return region;
}

// Calls copy(to, from, size) for one block after another, each thread in its own part.
template <class Copy>
void walk(benchmark::State& state, Copy copy) {
  const auto size = static_cast<std::size_t>(state.range(0));
  const auto threads = static_cast<std::size_t>(state.threads());
  const std::size_t blocks = kRegion / size / threads;
  const std::size_t first = blocks * static_cast<std::size_t>(state.thread_index());
  std::byte* to = target().memory;
  const std::byte* from = source().memory;
  std::size_t turn = 0;
  for (auto _ : state) {
    const std::size_t at = (first + turn++ * 7919 % blocks) * size;
    copy(to + at, from + at, size);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(size) * state.iterations());
}

void copy_memcpy(benchmark::State& state) {
  walk(state, [](std::byte* to, const std::byte* from, std::size_t size) {
    std::memcpy(to, from, size);
    benchmark::ClobberMemory();
  });
}

void copy_crc(benchmark::State& state, const ChecksumKernel& kernel, bool stream) {
  walk(state, [&](std::byte* to, const std::byte* from, std::size_t size) {
    benchmark::DoNotOptimize(kernel.copy(0, to, from, size, stream));
  });
}

void crc(benchmark::State& state, const ChecksumKernel& kernel) {
  const std::vector<std::byte> data(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state)
    benchmark::DoNotOptimize(kernel.crc(0, data.data(), data.size()));
  state.SetBytesProcessed(static_cast<std::int64_t>(data.size()) * state.iterations());
}

constexpr BlockLayout layout_of(DType dtype) {
  return {.layers = 1, .kv_heads = 8, .head_dim = 128, .tokens = 64, .dtype = dtype};
}

void encode(benchmark::State& state, const Codec* codec, DType dtype) {
  const BlockLayout layout = layout_of(dtype);
  const auto plain = test::make_block(layout, test::Fill::normal, 1);
  std::vector<std::byte> out(codec->max_layer_bytes(layout));
  for (auto _ : state)
    benchmark::DoNotOptimize(codec->encode({layout}, plain, out));
  state.SetBytesProcessed(static_cast<std::int64_t>(plain.size()) * state.iterations());
}

void decode(benchmark::State& state, const Codec* codec, DType dtype) {
  const BlockLayout layout = layout_of(dtype);
  auto plain = test::make_block(layout, test::Fill::normal, 1);
  std::vector<std::byte> out(codec->max_layer_bytes(layout));
  out.resize(*codec->encode({layout}, plain, out));
  for (auto _ : state)
    benchmark::DoNotOptimize(codec->decode({layout}, out, plain));
  state.SetBytesProcessed(static_cast<std::int64_t>(plain.size()) * state.iterations());
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  for (const std::int64_t size : {16 << 10, 256 << 10, 1 << 20, 2 << 20})
    benchmark->Arg(size);
  benchmark->Threads(1)->Threads(2)->UseRealTime();
}

void register_all() {
  benchmark::RegisterBenchmark("copy/memcpy", copy_memcpy)->Apply(sizes);
  for (const ChecksumKernel& kernel : checksum_kernels()) {
    if (!kernel.usable()) continue;
    const std::string name(kernel.name);
    for (const bool stream : {true, false}) {
      const std::string kind = "copy/" + name + (stream ? "_stream" : "_cached");
      benchmark::RegisterBenchmark(kind.c_str(), copy_crc, kernel, stream)->Apply(sizes);
    }
    benchmark::RegisterBenchmark(("crc/" + name).c_str(), crc, kernel)->Arg(64 << 10);
  }
  for (const Codec* codec : builtin_codecs()) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      const std::string name =
          std::string(codec->name()) + (dtype == DType::f16 ? "/f16" : "/bf16");
      benchmark::RegisterBenchmark(("encode/" + name).c_str(), encode, codec, dtype);
      benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, codec, dtype);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
