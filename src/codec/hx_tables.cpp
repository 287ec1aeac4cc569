// The code tables of hx, by the lengths that docs/block-format.md lists.
#include "codec/hx.hpp"
#include "codec/prefix_code.hpp"

namespace speckv::hx {
namespace {

struct Definition {
  std::uint32_t raw;
  std::string_view lengths;  // of symbols 0 to 31
};
constexpr Definition kDefinitions[16] = {
    {0, "00000000000000312000000000000003"}, {0, "00000000000005312400000000000005"},
    {0, "00000000000005312400000000000005"}, {0, "00000000000005312400000000000005"},
    {0, "00000000000064222350000000000006"}, {0, "00000000000764222366000000000007"},
    {0, "00000000007543323344600000000007"}, {1, "00000000000753222460000000000007"},
    {1, "00000000007743223357000000000007"}, {1, "00000000075543323345770000000007"},
    {2, "00000000000753222477000000000007"}, {2, "00000000076543223456600000000007"},
    {3, "00000000000753222460000000000007"}, {3, "00000000007643223366000000000007"},
    {3, "00000000076443323346770000000007"}, {4, "00000000007643223366000000000007"}};

Table made_from(const Definition& definition) noexcept {
  Table table{.raw = definition.raw};
  for (std::size_t s = 0; s < table.code_length.size(); ++s)
    table.code_length[s] = static_cast<std::uint8_t>(definition.lengths[s] - '0');
  std::array<prefix::Code, 32> codes;
  prefix::assign_codes(table.code_length, 7, codes);
  std::array<std::uint16_t, Table::kWindow> window{};
  prefix::fill_table(table.code_length, 7, window);
  for (std::size_t i = 0; i < window.size(); ++i) {
    table.symbol[i] = static_cast<std::uint8_t>(window[i]);
    table.length[i] = static_cast<std::uint8_t>(window[i] >> 8);
  }
  const std::uint32_t escape = table.code_length[Table::kEscape] + table.raw;
  for (std::size_t s = 0; s < codes.size(); ++s) {
    const std::uint32_t bits = codes[s].length + table.raw;
    const bool known = codes[s].length != 0 && s != Table::kEscape;
    table.code[s] = static_cast<std::uint8_t>(codes[s].bits);
    table.cost[s] = static_cast<std::uint8_t>(known ? bits : escape + 16);
    table.most = std::max(table.most, codes[s].length == 0 ? 0 : bits);
  }
  return table;
}

}  // namespace

const std::array<Table, 16>& tables() noexcept {
  static const std::array<Table, 16> made = [] {
    std::array<Table, 16> all;
    for (std::size_t j = 0; j < all.size(); ++j)
      all[j] = made_from(kDefinitions[j]);
    return all;
  }();
  return made;
}

}  // namespace speckv::hx
