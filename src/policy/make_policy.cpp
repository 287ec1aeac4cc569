#include "cxlspeckv/tier.hpp"

#include "policy/lru.hpp"

namespace speckv {

std::unique_ptr<Policy> make_policy(std::string_view name) {
  if (name == "lru") return make_lru();
  return nullptr;
}

}  // namespace speckv
