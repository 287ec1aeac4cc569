#include "predict/return_network.hpp"

#include <utility>

namespace speckv::predict {
namespace {

constexpr std::size_t kMailbox = 4096;        // lessons
constexpr std::uint64_t kLessonsABatch = 16;  // for what one costs (docs/performance.md)
constexpr std::uint64_t kBatchesAJudgement = 64;
constexpr double kRate = 1.5e-3;
constexpr double kGain = 2e-3;  // of the loss: what new weights have to bring

Status invalid(const char* what) {
  return {Code::invalid_argument, what};
}

}  // namespace

Result<std::unique_ptr<ReturnNetwork>> ReturnNetwork::make(
    const ReturnNetworkOptions& options) {
  if (options.windows < 64 || options.windows > 1U << 20)
    return invalid("return network: 64 to 2^20 windows");
  LstmWeights start = random_weights(kReturnShape, options.seed);
  if (!options.weights.empty()) {
    Result<LstmWeights> read = read_weights(options.weights);
    if (!read.ok()) return read.error();
    if (read->shape != kReturnShape)
      return invalid("return network: the weights are those of another network");
    start = *std::move(read);
  }
  Result<Int8Weights> whole = quantise(start);
  if (!whole.ok()) return whole.error();
  auto first = std::make_shared<const Published>(Published{start, *std::move(whole), 1});
  return std::unique_ptr<ReturnNetwork>(
      new ReturnNetwork(options, std::move(start), std::move(first)));
}

ReturnNetwork::ReturnNetwork(const ReturnNetworkOptions& options, LstmWeights start,
                             std::shared_ptr<const Published> first)
    : learn_(options.learn),
      threaded_(options.thread),
      published_(std::move(first)),
      fitter_(std::move(start), options.seed, options.windows) {
  if (!learn_) return;
  mailbox_.reserve(kMailbox);
  if (threaded_) {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
}

ReturnNetwork::~ReturnNetwork() = default;

ReturnDistribution ReturnNetwork::step(ReturnMemory& memory,
                                       const ReturnFeatures& features) noexcept {
  const std::shared_ptr<const Published> current = published();
  const Int8Lstm net(current->whole);
  memory.window.append(features);
  std::size_t from = memory.window.steps - 1;
  if (memory.version != current->version) {  // made by other weights: from scratch
    memory.state = {};
    memory.version = current->version;
    from = 0;
  }
  for (std::size_t t = from; t < memory.window.steps; ++t)
    net.step(memory.state, memory.window.input[t]);
  std::array<std::uint32_t, kReturnClasses> all;
  net.distribution(memory.state, all);
  ReturnDistribution to;
  float sum = 0;
  for (const std::uint32_t one : all)
    sum += static_cast<float>(one + 1);  // nothing is impossible
  for (std::size_t k = 0; k < kReturnClasses; ++k)
    to.probability[k] = static_cast<float>(all[k] + 1) / sum;
  return to;
}

void ReturnNetwork::teach(SessionId session, const ReturnWindow& window) noexcept {
  if (!learn_) return;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || mailbox_.size() == kMailbox) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  mailbox_.push_back({session, window});
  if (threaded_ && mailbox_.size() >= kLessonsABatch) filled_.notify_one();
}

bool ReturnNetwork::work() {
  if (!learn_ || threaded_) return false;
  std::vector<Lesson> lessons;
  lessons.reserve(kMailbox);
  {
    const std::lock_guard lock(mutex_);
    if (mailbox_.size() < kLessonsABatch) return false;
    lessons.swap(mailbox_);
  }
  return learn_from(lessons);
}

void ReturnNetwork::run(const std::stop_token& stop) {
  std::vector<Lesson> lessons;
  lessons.reserve(kMailbox);
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      if (!filled_.wait(lock, stop, [&] { return mailbox_.size() >= kLessonsABatch; }))
        return;
      lessons.swap(mailbox_);
    }
    learn_from(lessons);
    lessons.clear();
  }
}

bool ReturnNetwork::learn_from(std::vector<Lesson>& lessons) {
  bool swapped = false;
  for (const Lesson& lesson : lessons) {
    fitter_.add(lesson.session, lesson.window);
    if (++taught_ % kLessonsABatch != 0 || !fitter_.step(kRate)) continue;
    if (++batches_ % kBatchesAJudgement == 0 && judge()) swapped = true;
  }
  return swapped;
}

bool ReturnNetwork::judge() {
  const std::shared_ptr<const Published> old = published();
  LstmTrainer before(old->floats);
  const double now = fitter_.held_back_loss(fitter_.trainer());
  if (!(now < fitter_.held_back_loss(before) * (1 - kGain))) return false;
  Result<Int8Weights> whole = quantise(fitter_.trainer().weights());
  if (!whole.ok()) return false;
  std::atomic_store(&published_, std::make_shared<const Published>(
                                     Published{fitter_.trainer().weights(),
                                               *std::move(whole), old->version + 1}));
  version_.store(old->version + 1);
  return true;
}

std::vector<std::byte> ReturnNetwork::save() const {
  return write_weights(published()->floats);
}

}  // namespace speckv::predict
