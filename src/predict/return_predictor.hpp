// predict/return_predictor.hpp -- the return-time predictor: counted tables and, where it
// is given one, the LSTM; mixed by how well each did lately. It learns as it is told.
#pragma once

#include <cstdint>
#include <memory>

#include "cxlspeckv/status.hpp"

#include "predict/predictor.hpp"

namespace speckv::predict {

class ReturnNetwork;

struct ReturnOptions {
  std::uint32_t sessions = 1U << 14;    // remembered at once; 1..2^24
  std::uint32_t table_rows = 1U << 14;  // a power of two, 64..2^24
  // Optional; has to stay. May be shared by predictors of several threads.
  ReturnNetwork* network = nullptr;
};

// invalid_argument: an option out of its bounds. No memory is taken later.
Result<std::unique_ptr<ReturnPredictor>> make_return_predictor(
    const ReturnOptions& options);

}  // namespace speckv::predict
