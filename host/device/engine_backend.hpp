// device/engine_backend.hpp -- who carries out an Engine's descriptors: the engine of
// this process, or the driver.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/engine.hpp"

#include "engine/contract.hpp"

namespace speckv {

// One call at a time.
struct Engine::Backend {
  // Two places of one byte each, for descriptors that only name a block.
  struct Places {
    std::uint32_t host = 0, card = 0;  // regions
    std::uint64_t host_offset = 0;
  };
  using Counters = std::vector<std::pair<std::string, std::uint64_t>>;

  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;
  // Its result. A telemetry's bytes go to `answer`.
  virtual Result<std::uint32_t> ask(const engine::Descriptor& descriptor,
                                    MutableBytes answer) = 0;
  virtual Result<Places> places() = 0;
  virtual Result<Counters> counters() = 0;
  virtual Result<bool> fatal() = 0;

  EngineInfo info{};
  std::mutex turn{};
};

using OpenedBackend = Result<std::unique_ptr<Engine::Backend>>;

OpenedBackend open_soft_backend(std::string_view name);
OpenedBackend open_driver_backend(std::string_view name);

// What an answer other than ok is to a caller, in a sentence.
Status refusal(engine::Answer answer);

}  // namespace speckv
