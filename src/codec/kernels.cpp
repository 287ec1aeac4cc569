// Which kernel runs. Constants all of them, hence nothing to publish between threads.
#include "codec/kernels.hpp"

#include <atomic>

namespace speckv {
namespace {

const CodecKernel& best() noexcept {
  static const CodecKernel& kernel = []() -> const CodecKernel& {
    for (const CodecKernel& candidate : codec_kernels()) {
      if (candidate.usable()) return candidate;
    }
    return codec_detail::kScalar;
  }();
  return kernel;
}

std::atomic<const CodecKernel*> chosen{nullptr};

}  // namespace

std::span<const CodecKernel> codec_kernels() noexcept {
  using namespace codec_detail;
#if defined(__x86_64__)
  static const CodecKernel kernels[] = {kAvx512, kAvx2, kScalar};
#elif defined(__aarch64__)
  static const CodecKernel kernels[] = {kNeon, kScalar};
#else
  static const CodecKernel kernels[] = {kScalar};
#endif
  return kernels;
}

const CodecKernel& codec_kernel() noexcept {
  const CodecKernel* kernel = chosen.load(std::memory_order_relaxed);
  return kernel != nullptr ? *kernel : best();
}

bool set_codec_kernel(std::string_view name) noexcept {
  if (name.empty()) {
    chosen.store(nullptr, std::memory_order_relaxed);
    return true;
  }
  for (const CodecKernel& kernel : codec_kernels()) {
    if (kernel.name != name || !kernel.usable()) continue;
    chosen.store(&kernel, std::memory_order_relaxed);
    return true;
  }
  return false;
}

}  // namespace speckv
