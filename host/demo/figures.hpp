// host/demo/figures.hpp -- measured figures, as `./run bench` reads them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cxlspeckv/status.hpp"

namespace speckv::demo {

struct Figure {
  std::string name{};
  std::optional<double> value{};
  std::string unit{}, baseline{};
  std::optional<double> bar{};  // none: told, not judged
  std::string direction = ">=";
  std::string skipped{};  // why there is no value

  // Nothing where there is no bar, or a reason to have no value.
  std::optional<bool> holds() const noexcept;
};

// The middle one (of an even count, the mean of the two); nothing for no values.
std::optional<double> median(std::vector<double> values);
// The median of a[i] / b[i], or a reason why that would say nothing: fewer than five
// pairs.
void set_ratio(Figure& figure, const std::vector<double>& a,
               const std::vector<double>& b);

// The processor, how many of them, and how much memory.
std::string machine();

Status write_figures(const std::string& path, const std::vector<Figure>& figures);

}  // namespace speckv::demo
