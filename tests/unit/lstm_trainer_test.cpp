// Training: its gradients against differences, and that a network learns what can only be
// known from the history.
#include "predict/lstm_trainer.hpp"

#include <cmath>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "predict/lstm.hpp"
#include "predict/matrix_product.hpp"

namespace speckv::predict {
namespace {

TEST(MatrixProduct, equals_its_definition_for_all_sizes) {
  std::mt19937 random(1);
  for (const std::size_t rows : {1U, 3U, 4U, 9U}) {
    for (const std::size_t columns : {1U, 15U, 32U, 70U}) {
      for (const std::size_t inner : {1U, 5U, 64U}) {
        std::vector<float> a(rows * inner), b(inner * columns), c(rows * columns, 1.0F);
        for (auto* v : {&a, &b}) {
          for (float& x : *v)
            x = static_cast<float>(random() % 2001) / 1000 - 1;
        }
        add_product(rows, columns, inner, a.data(), b.data(), c.data());
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t k = 0; k < columns; ++k) {
            float sum = 0;
            for (std::size_t i = 0; i < inner; ++i)
              sum += a[r * inner + i] * b[i * columns + k];
            ASSERT_EQ(c[r * columns + k],
                      1 + sum);  // the same order, hence the same bits
          }
        }
      }
    }
  }
}

TrainingBatch some_batch(const LstmShape& shape, std::size_t steps, std::size_t sequences,
                         std::uint32_t seed) {
  std::mt19937 random(seed);
  TrainingBatch batch{.steps = steps, .sequences = sequences};
  for (std::size_t i = 0; i < steps * sequences; ++i) {
    Target target{.output = static_cast<std::uint32_t>(random() % shape.outputs())};
    if (shape.vocabulary == 0) {
      for (std::uint32_t k = 0; k < shape.inputs; ++k)
        batch.inputs.push_back(static_cast<float>(random() % 1800) / 1000 - 0.9F);
      target.or_later = i % 3 == 0;
    } else {
      batch.classes.push_back(static_cast<std::uint32_t>(random() % shape.vocabulary));
      if (target.output >= shape.shortlist)
        target.tail = (target.output - shape.shortlist) * shape.cluster;
    }
    if (i % 7 == 6) target = {};
    batch.targets.push_back(target);
  }
  return batch;
}

// Adam's first step moves each parameter by the rate against its gradient's sign, so the
// step itself shows the sign; the loss has to fall as the gradients' sizes foretell.
TEST(LstmTrainer, gradients_agree_with_differences) {
  for (const LstmShape& shape :
       {LstmShape{.inputs = 8, .shortlist = 15},
        LstmShape{.inputs = 8, .vocabulary = 30, .shortlist = 12, .cluster = 9}}) {
    const LstmWeights start = random_weights(shape, 3);
    const TrainingBatch batch = some_batch(shape, 5, 3, 4);
    LstmTrainer trainer(start);
    trainer.train(batch, 1e-3);
    const LstmWeights& after = trainer.weights();
    const auto loss_at = [&](auto&& change) {
      LstmWeights w = start;
      change(w);
      return LstmTrainer(std::move(w)).loss(batch).mean();
    };
    std::mt19937 random(9);
    int checked = 0;
    const auto check = [&](auto&& array_of) {
      const std::vector<float>& a = array_of(start);
      const std::vector<float>& b = array_of(after);
      for (int round = 0; round < 8 && !a.empty(); ++round) {
        const std::size_t i = random() % a.size();
        const double moved = static_cast<double>(b[i]) - static_cast<double>(a[i]);
        const auto with = [&](float by) {
          return loss_at([&](LstmWeights& w) { array_of(w)[i] += by; });
        };
        const double slope = (with(0.01F) - with(-0.01F)) / 0.02;
        if (std::abs(slope) < 3e-5) continue;  // lost in what floats round away
        EXPECT_LT(moved * slope, 0) << "parameter " << i;
        ++checked;
      }
    };
    check([](auto& w) -> auto& { return w.embedding; });
    for (std::size_t l = 0; l < kLstmLayers; ++l) {
      check([l](auto& w) -> auto& { return w.layers[l].weight; });
      check([l](auto& w) -> auto& { return w.layers[l].bias; });
    }
    check([](auto& w) -> auto& { return w.head.weight; });
    check([](auto& w) -> auto& { return w.head.bias; });
    check([](auto& w) -> auto& { return w.tail.weight; });
    EXPECT_GE(checked, 15);
  }
}

TEST(LstmTrainer, the_same_seed_gives_the_same_weights) {
  const LstmShape shape{.inputs = 16, .shortlist = 15};
  LstmTrainer a(random_weights(shape, 1)), b(random_weights(shape, 1));
  for (std::uint32_t i = 0; i < 5; ++i) {
    a.train(some_batch(shape, 6, 5, i), 1e-3);
    b.train(some_batch(shape, 6, 5, i), 1e-3);
  }
  EXPECT_EQ(write_weights(a.weights()), write_weights(b.weights()));
  EXPECT_NE(write_weights(a.weights()), write_weights(random_weights(shape, 1)));
}

// A symbol says what comes four steps later: only a state can know.
TEST(LstmTrainer, learns_what_was_said_four_steps_ago) {
  const LstmShape shape{.inputs = 8, .vocabulary = 9, .shortlist = 9};
  LstmTrainer trainer(random_weights(shape, 5));
  std::mt19937 random(6);
  const auto batch_of = [&](std::size_t n) {
    constexpr std::size_t kSteps = 12, kBack = 4;
    TrainingBatch batch{.steps = kSteps, .sequences = n};
    for (std::size_t i = 0; i < kSteps * n; ++i) {
      batch.classes.push_back(1 + static_cast<std::uint32_t>(random() % 8));
      batch.targets.push_back(
          i < kBack * n ? Target{} : Target{.output = batch.classes[i - kBack * n]});
    }
    return batch;
  };
  double last = 0;
  for (int i = 0; i < 450; ++i)
    last = trainer.train(batch_of(16), 6e-3).mean();
  EXPECT_LT(last, 0.7) << "chance is " << std::log(8.0);
  // The same network in whole numbers makes the same decisions.
  const auto whole = quantise(trainer.weights());
  ASSERT_TRUE(whole.ok());
  const Int8Lstm net(*whole);
  const TrainingBatch test = batch_of(100);
  int right = 0, same = 0, all = 0;
  for (std::size_t s = 0; s < test.sequences; ++s) {
    Int8State state;
    FloatState exact;
    for (std::size_t t = 0; t < test.steps; ++t) {
      const std::size_t at = t * test.sequences + s;
      const std::uint32_t c = test.classes[at];
      net.step(state, c);
      float_step(trainer.weights(), exact,
                 std::span(trainer.weights().embedding).subspan(c * 8, 8));
      if (test.targets[at].output == Target::kNone) continue;
      ClassAnswer best[1];
      ASSERT_EQ(net.best(state, best), 1U);
      std::array<float, 9> logits;
      float_head(trainer.weights(), exact, logits);
      const auto float_best = std::max_element(logits.begin() + 1, logits.end());
      right += best[0].class_index == test.targets[at].output ? 1 : 0;
      same += float_best - logits.begin() == best[0].class_index ? 1 : 0;
      ++all;
    }
  }
  EXPECT_GE(right, all * 8 / 10);
  EXPECT_GE(same, all * 98 / 100);
}

}  // namespace
}  // namespace speckv::predict
