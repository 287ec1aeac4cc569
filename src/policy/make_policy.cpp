#include <array>

#include "cxlspeckv/tier.hpp"

#include "policy/policies.hpp"
#include "policy/semantic.hpp"

namespace speckv {
namespace {

struct Named {
  std::string_view name;
  std::unique_ptr<Policy> (*make)();
};
constexpr std::array kPolicies = {
    Named{"lru", make_lru}, Named{"lfu", make_lfu}, Named{"s3fifo", make_s3fifo},
    Named{"arc", make_arc},
    Named{"semantic", []() -> std::unique_ptr<Policy> { return make_semantic(); }}};

constexpr auto kNames = [] {
  std::array<std::string_view, kPolicies.size()> names{};
  for (std::size_t i = 0; i < names.size(); ++i)
    names[i] = kPolicies[i].name;
  return names;
}();

}  // namespace

std::span<const std::string_view> policy_names() noexcept {
  return kNames;
}

std::unique_ptr<Policy> make_policy(std::string_view name) {
  for (const Named& policy : kPolicies) {
    if (policy.name == name) return policy.make();
  }
  return nullptr;
}

}  // namespace speckv
