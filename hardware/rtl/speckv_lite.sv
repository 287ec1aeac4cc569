// speckv_lite -- the host's reads and writes of BAR0: an AXI4-Lite slave in front of a bus of
// registers that carries one access at a time.
//
// Ports: AXI4-Lite, 32 bits. On the bus: `request_o` for one cycle with address and data, answered
// by `done_i` in any later cycle, with `read_data_i` for a read. Latency: 3 cycles to the response
// of a register that answers in the next one. Every response is OKAY: what is not there reads as
// 0 and ignores writes, as the contract says; a write of less than a word does nothing. A write
// goes before a read that came in the same cycle. Trusts that the bus answers.
module speckv_lite #(
  parameter int AddressBits = 19
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   aw_valid_i,
  output logic                   aw_ready_o,
  input  logic [AddressBits-1:0] aw_addr_i,
  input  logic                   w_valid_i,
  output logic                   w_ready_o,
  input  logic [31:0]            w_data_i,
  input  logic [3:0]             w_strb_i,
  output logic                   b_valid_o,
  input  logic                   b_ready_i,
  output logic [1:0]             b_resp_o,
  input  logic                   ar_valid_i,
  output logic                   ar_ready_o,
  input  logic [AddressBits-1:0] ar_addr_i,
  output logic                   r_valid_o,
  input  logic                   r_ready_i,
  output logic [31:0]            r_data_o,
  output logic [1:0]             r_resp_o,
  output logic                   request_o,
  output logic                   write_o,
  output logic [AddressBits-1:0] address_o,
  output logic [31:0]            write_data_o,
  input  logic                   done_i,
  input  logic [31:0]            read_data_i
);
  // What has arrived and waits for its turn.
  logic aw_d, aw_q, w_d, w_q, ar_d, ar_q;
  logic [AddressBits-1:0] aw_addr_d, aw_addr_q, ar_addr_d, ar_addr_q;
  logic [31:0] w_data_d, w_data_q;
  logic        whole_d, whole_q;
  assign aw_ready_o = !aw_q;
  assign w_ready_o  = !w_q;
  assign ar_ready_o = !ar_q;

  // One access at a time: issued, then answered. A response waits until the host takes it.
  logic busy_d, busy_q, writing_d, writing_q, idle, start_write, start_read, skip;
  logic b_valid_d, r_valid_d;
  logic [31:0] r_data_d;
  assign idle        = !busy_q;
  assign start_write = idle && aw_q && w_q && !b_valid_o;
  assign start_read  = idle && ar_q && !r_valid_o && !start_write;
  assign skip        = start_write && !whole_q;

  assign request_o    = (start_write && whole_q) || start_read;
  assign write_o      = start_write;
  assign address_o    = start_write ? aw_addr_q : ar_addr_q;
  assign write_data_o = w_data_q;
  assign b_resp_o     = 2'b00;
  assign r_resp_o     = 2'b00;

  assign aw_d      = start_write ? 1'b0 : aw_q || aw_valid_i;
  assign w_d       = start_write ? 1'b0 : w_q || w_valid_i;
  assign ar_d      = start_read ? 1'b0 : ar_q || ar_valid_i;
  assign aw_addr_d = aw_q ? aw_addr_q : aw_addr_i;
  assign ar_addr_d = ar_q ? ar_addr_q : ar_addr_i;
  assign w_data_d  = w_q ? w_data_q : w_data_i;
  assign whole_d   = w_q ? whole_q : w_strb_i == 4'hf;
  assign busy_d    = request_o || (busy_q && !done_i);
  assign writing_d = request_o ? write_o : writing_q;
  assign b_valid_d = skip || (busy_q && writing_q && done_i) || (b_valid_o && !b_ready_i);
  assign r_valid_d = (busy_q && !writing_q && done_i) || (r_valid_o && !r_ready_i);
  assign r_data_d  = r_valid_o ? r_data_o : read_data_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      aw_q      <= 1'b0;
      w_q       <= 1'b0;
      ar_q      <= 1'b0;
      busy_q    <= 1'b0;
      b_valid_o <= 1'b0;
      r_valid_o <= 1'b0;
    end else begin
      aw_q      <= aw_d;
      w_q       <= w_d;
      ar_q      <= ar_d;
      busy_q    <= busy_d;
      b_valid_o <= b_valid_d;
      r_valid_o <= r_valid_d;
    end
  end
  always_ff @(posedge clk_i) begin
    aw_addr_q <= aw_addr_d;
    ar_addr_q <= ar_addr_d;
    w_data_q  <= w_data_d;
    whole_q   <= whole_d;
    writing_q <= writing_d;
    r_data_o  <= r_data_d;
  end
endmodule
