// cxlspeckv/hint_sink.hpp -- told of requests and of hints.
#pragma once

#include "cxlspeckv/prefetcher.hpp"

namespace speckv {

// Where PrefetchOptions::requests is one, it is told of each hint, too, as it was given:
// sound or not, heeded or not. Any thread.
class HintSink : public RequestSink {
 public:
  virtual void hinted(std::uint64_t session, double eta, double confidence) noexcept = 0;
};

}  // namespace speckv
