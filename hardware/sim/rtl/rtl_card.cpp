#include "sim/rtl/rtl_card.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <verilated.h>

#include "Vrtl_card.h"
#include "engine/contract.hpp"
#include "sim/rtl/axi_slave.hpp"
#include "sim/rtl/coverage.hpp"
#include "sim/rtl/wave.hpp"

namespace speckv::sim {
namespace {

using namespace engine;

// References to the signals of one port of the top.
struct Port {
  CData &ar_valid, &ar_ready;
  QData& ar_addr;
  CData &ar_len, &r_valid, &r_ready;
  WData* r_data;
  CData &r_resp, &r_last, &aw_valid, &aw_ready;
  QData& aw_addr;
  CData &aw_len, &w_valid, &w_ready;
  WData* w_data;
  QData& w_strb;
  CData &w_last, &b_valid, &b_ready, &b_resp;
};
Port host_port(Vrtl_card& t) {
  return {t.h_ar_valid_o, t.h_ar_ready_i, t.h_ar_addr_o,          t.h_ar_len_o,
          t.h_r_valid_i,  t.h_r_ready_o,  t.h_r_data_i.m_storage, t.h_r_resp_i,
          t.h_r_last_i,   t.h_aw_valid_o, t.h_aw_ready_i,         t.h_aw_addr_o,
          t.h_aw_len_o,   t.h_w_valid_o,  t.h_w_ready_i,          t.h_w_data_o.m_storage,
          t.h_w_strb_o,   t.h_w_last_o,   t.h_b_valid_i,          t.h_b_ready_o,
          t.h_b_resp_i};
}
Port memory_port(Vrtl_card& t) {
  return {t.m_ar_valid_o, t.m_ar_ready_i, t.m_ar_addr_o,          t.m_ar_len_o,
          t.m_r_valid_i,  t.m_r_ready_o,  t.m_r_data_i.m_storage, t.m_r_resp_i,
          t.m_r_last_i,   t.m_aw_valid_o, t.m_aw_ready_i,         t.m_aw_addr_o,
          t.m_aw_len_o,   t.m_w_valid_o,  t.m_w_ready_i,          t.m_w_data_o.m_storage,
          t.m_w_strb_o,   t.m_w_last_o,   t.m_b_valid_i,          t.m_b_ready_o,
          t.m_b_resp_i};
}

constexpr std::uint64_t kPage = 4096;

struct HostMemory {
  HostPort* port;
  MutableBytes view(std::uint64_t address, std::uint64_t bytes, bool writing) {
    return port->view(address, bytes, writing);
  }
};
struct DeviceMemory {
  MutableBytes memory;
  std::vector<std::uint64_t>* pages_read;  // or null
  MutableBytes view(std::uint64_t address, std::uint64_t bytes, bool writing) {
    if (address >= memory.size()) return {};
    const std::uint64_t page = address / kPage;
    if (pages_read != nullptr && !writing &&
        (pages_read->empty() || pages_read->back() != page))
      pages_read->push_back(page);
    return memory.subspan(address,
                          std::min<std::uint64_t>(bytes, memory.size() - address));
  }
};

constexpr std::uint32_t kTableAddress = 0, kTableData = 8, kTableControl = 12;
constexpr std::uint32_t kSettling = 100;         // cycles between accesses of a host
constexpr std::uint32_t kLongest = 100'000'000;  // cycles for one access

class VerilatedCard final : public RtlCard {
 public:
  VerilatedCard(const RtlOptions& options, MutableBytes memory, HostPort& port)
      : options_(options),
        port_(port),
        top_(make(options, context_)),
        wave_(context_, *top_),
        host_(HostMemory{&port}, host_port(*top_), options.latency, options.stalls,
              options.seed + 1),
        device_(DeviceMemory{memory, options.mapped ? &pages_read_ : nullptr},
                memory_port(*top_), options.latency, options.stalls, options.seed + 2) {
    Vrtl_card& t = *top_;
    t.memory_bytes_i = memory.size();
    t.l_b_ready_i = t.l_r_ready_i = 1;
    t.l_w_strb_i = 0xf;
    t.msix_enable_i = t.message_ready_i = 1;
    t.msix_mask_i = t.snoop_valid_i = 0;
    start();
  }
  ~VerilatedCard() override {
    // A model leaves the context that the thread names, which is that of the newest one.
    Verilated::threadContextp(&context_);
    top_->final();
    write_coverage(context_);
    wave_.close();
    top_.reset();
  }

  std::uint32_t read32(std::uint32_t offset) override { return access(offset, false, 0); }
  void write32(std::uint32_t offset, std::uint32_t value) override {
    tell_of_pages_read();
    access(offset, true, value);
    // The host of a real card is far away: before its next access of a register comes,
    // what this one caused has happened. Doorbells follow each other as stores do.
    if (offset < kDoorbellWindow) settle(kSettling);
  }
  bool run() override {
    settle(options_.budget);
    return !quiet();
  }
  void reset() override { start(); }
  bool snoops() const override { return !options_.mapped; }
  void stored(std::uint64_t address, std::uint64_t length) override {
    for (std::uint64_t line = address / kPage; line <= (address + length - 1) / kPage;
         ++line) {
      top_->snoop_valid_i = 1;
      top_->snoop_address_i = line * kPage;
      cycle();
    }
    top_->snoop_valid_i = 0;
  }
  void silence(Bus bus, unsigned channels) override {
    at(bus, [&](auto& slave) { slave.silence(channels); });
  }
  void fail(Bus bus, bool writing, std::uint32_t nth, Response response) override {
    at(bus, [&](auto& slave) {
      slave.faults().fail(writing, nth, static_cast<std::uint8_t>(response));
    });
  }
  bool unfailed(Bus bus) override {
    bool still = false;
    at(bus, [&](auto& slave) {
      still = slave.faults().fails();
      slave.faults().fail(false, 0, 0);
      slave.faults().fail(true, 0, 0);
    });
    return still;
  }
  void flip(Bus bus, bool writing, const Flip& flip) override {
    at(bus, [&](auto& slave) { slave.faults().flip(writing, flip); });
  }
  bool flipped(Bus bus) override {
    bool was = false;
    at(bus, [&](auto& slave) { was = slave.faults().flipped(); });
    return was;
  }
  std::uint64_t cycles() const override { return now_; }
  std::uint64_t first_host_read() override { return std::exchange(first_read_, 0); }

 private:
  static std::unique_ptr<Vrtl_card> make(const RtlOptions& options,
                                         VerilatedContext& context) {
    context.randReset(2);
    context.randSeed(static_cast<int>(options.seed % 0x7fffffff) + 1);
    return std::make_unique<Vrtl_card>(&context);
  }

  template <class Use>
  void at(Bus bus, const Use& use) {
    if (bus == Bus::host) {
      use(host_);
    } else {
      use(device_);
    }
  }

  void start() {
    Vrtl_card& t = *top_;
    t.rst_ni = t.l_aw_valid_i = t.l_w_valid_i = t.l_ar_valid_i = 0;
    host_.reset();
    device_.reset();
    for (int i = 0; i < 4; ++i) {  // what the ports say until then means nothing
      t.clk_i = 0;
      t.eval();
      t.clk_i = 1;
      t.eval();
    }
    t.rst_ni = 1;
    // The function's own table: a message is the number of its vector.
    for (std::uint32_t v = 0; v < kVectors; ++v) {
      const std::uint32_t entry = kMsixTableWindow + v * kMsixTableStride;
      access(entry + kTableAddress, true, 0);
      access(entry + kTableAddress + 4, true, 0);
      access(entry + kTableData, true, v);
      access(entry + kTableControl, true, 0);
    }
    settle(1U << 16);
  }

  void tell_of_pages_read() {
    std::sort(pages_read_.begin(), pages_read_.end());
    const auto last = std::unique(pages_read_.begin(), pages_read_.end());
    pages_read_.erase(last, pages_read_.end());
    // While it is told, the card goes on, and reads more.
    for (const std::uint64_t page : std::exchange(pages_read_, {}))
      stored(page * kPage, kPage);
  }

  bool quiet() const { return top_->quiet_o != 0 && host_.idle() && device_.idle(); }
  void settle(std::uint32_t most) {
    for (; most > 0 && !quiet(); --most)
      cycle();
  }

  void cycle() {
    Vrtl_card& t = *top_;
    t.clk_i = 0;
    t.eval();
    wave_.dump(now_, false);
    if (first_read_ == 0 && t.h_ar_valid_o != 0) first_read_ = now_;
    host_.sample(now_);
    device_.sample(now_);
    const bool message = t.message_valid_o != 0 && t.message_ready_i != 0;
    const std::uint32_t vector = t.message_data_o;
    got_aw_ = t.l_aw_valid_i != 0 && t.l_aw_ready_o != 0;
    got_w_ = t.l_w_valid_i != 0 && t.l_w_ready_o != 0;
    got_ar_ = t.l_ar_valid_i != 0 && t.l_ar_ready_o != 0;
    answered_ = t.l_b_valid_o != 0 || t.l_r_valid_o != 0;
    data_ = t.l_r_data_o;
    t.clk_i = 1;
    t.eval();
    wave_.dump(now_, true);
    ++now_;
    host_.drive(now_);
    device_.drive(now_);
    if (message && vector < kVectors) port_.interrupt(vector);
  }

  std::uint32_t access(std::uint32_t offset, bool write, std::uint32_t value) {
    Vrtl_card& t = *top_;
    t.l_aw_addr_i = t.l_ar_addr_i = offset;
    t.l_w_data_i = value;
    t.l_aw_valid_i = t.l_w_valid_i = write;
    t.l_ar_valid_i = !write;
    for (std::uint32_t i = 0; i < kLongest; ++i) {
      cycle();
      if (got_aw_) t.l_aw_valid_i = 0;
      if (got_w_) t.l_w_valid_i = 0;
      if (got_ar_) t.l_ar_valid_i = 0;
      if (!answered_) continue;
      const std::uint32_t data = data_;
      cycle();  // so that what the access ordered is seen by quiet()
      return data;
    }
    return ~0U;  // the card is gone
  }

  const RtlOptions options_;
  HostPort& port_;
  std::vector<std::uint64_t> pages_read_{};
  VerilatedContext context_;
  std::unique_ptr<Vrtl_card> top_;
  Wave wave_;
  AxiSlave<HostMemory, Port> host_;
  AxiSlave<DeviceMemory, Port> device_;
  std::uint64_t now_ = 0, first_read_ = 0;
  bool got_aw_ = false, got_w_ = false, got_ar_ = false, answered_ = false;
  std::uint32_t data_ = 0;
};

}  // namespace

std::unique_ptr<RtlCard> rtl_card(const RtlOptions& options, MutableBytes memory,
                                  HostPort& port) {
  return std::make_unique<VerilatedCard>(options, memory, port);
}

}  // namespace speckv::sim
