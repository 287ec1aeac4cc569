// predict/matrix_product.hpp -- the one loop that training needs, and its transpose.
//
// Sums run in the same order on every instruction set, and products are rounded before
// they are added, so a seed gives the same weights on every machine.
#pragma once

#include <cstddef>
#include <vector>

namespace speckv::predict {

// c += a b, row by row: a is [rows][inner], b [inner][columns], c [rows][columns].
void add_product(std::size_t rows, std::size_t columns, std::size_t inner, const float* a,
                 const float* b, float* c) noexcept;

// The transpose of a [rows][columns].
std::vector<float> transposed(const float* a, std::size_t rows, std::size_t columns);

}  // namespace speckv::predict
