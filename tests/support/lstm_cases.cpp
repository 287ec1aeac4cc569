#include "support/lstm_cases.hpp"

#include <fstream>
#include <numeric>
#include <sstream>

namespace speckv::test {

predict::LstmWeights random_lstm(const predict::LstmShape& shape, double scale,
                                 Lcg& lcg) {
  predict::LstmWeights w = predict::LstmWeights::zero(shape);
  std::iota(w.symbols.begin(), w.symbols.end(), 1000U);
  lcg.fill(w.embedding, 1.0);
  for (predict::FloatMatrix* m : {&w.layers[0], &w.layers[1], &w.head, &w.tail}) {
    lcg.fill(m->weight, scale);
    lcg.fill(m->bias, scale);
  }
  return w;
}

std::vector<LstmCase> lstm_cases() {
  std::ifstream file(SPECKV_TEST_VECTORS "/lstm.txt");
  std::vector<LstmCase> cases;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "case") words >> cases.emplace_back().name;
    if (cases.empty()) continue;
    LstmCase& c = cases.back();
    if (what == "shape") {
      words >> c.shape.inputs >> c.shape.vocabulary >> c.shape.shortlist >>
          c.shape.cluster;
    } else if (what == "scale") {
      words >> c.scale;
    } else if (what == "run") {
      words >> c.seed >> c.steps >> c.best;
    } else if (what == "states") {
      words >> c.states;
    } else if (what == "h") {
      words >> c.h;
    } else if (what == "answer") {
      for (std::uint32_t value = 0; words >> value;)
        c.answer.push_back(value);
    } else if (what == "float") {
      for (double value = 0; words >> value;)
        c.logits.push_back(value);
    }
  }
  return cases;
}

}  // namespace speckv::test
