// trace/live_side.hpp -- a Prefetcher, the same that works before a live store, at work
// in a replay: before a model of a store, on the replay's time.
#pragma once

#include <memory>

#include "prefetch/prefetcher_impl.hpp"
#include "trace/store_model.hpp"

namespace speckv::trace {

// Not thread-safe; times do not go backwards.
class LiveSide {
 public:
  // The options have been checked. `journal`: what the scheduler is told and answers; or
  // none.
  LiveSide(const Trace& trace, std::shared_ptr<StoreModel> store,
           std::uint64_t block_bytes, PrefetchOptions options,
           predict::ReturnPredictor* predictor, prefetch::Journal* journal);

  void arrived(const Request& request, double now);
  void finished(const Request& request, double now);
  void hint(std::uint32_t session, double now, double eta, double confidence);
  void ended(std::uint32_t session, double now);
  // What is due by then; as an engine does it after each of the above.
  void advance(double now);
  double next() const noexcept;  // when there is something to do
  bool moving() const noexcept { return store_->moving(); }

  PrefetchStats stats() const { return prefetcher_.stats(); }

 private:
  class VirtualClock final : public Clock {
   public:
    time_point now() noexcept override { return at_; }
    void set(double seconds) noexcept;

   private:
    time_point at_{};
  };
  void at(double now);

  const Trace& trace_;
  const std::shared_ptr<StoreModel> store_;
  VirtualClock clock_{};
  Prefetcher::Impl prefetcher_;
  double due_ = 0;
  std::vector<BlockKey> keys_;
};

}  // namespace speckv::trace
