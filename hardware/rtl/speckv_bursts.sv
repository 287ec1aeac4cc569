// speckv_bursts -- cuts a range of bytes into AXI4 bursts of whole 64-byte beats: none crosses a
// 4 KB boundary, none has more than 64 beats.
//
// Ports: a range (at least one byte, not beyond 2^64); a burst a cycle, `last_o` with the range's
// last. Latency: 1 cycle, none between ranges. Trusts that the length is not 0.
module speckv_bursts (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        cmd_valid_i,
  output logic        cmd_ready_o,
  input  logic [63:0] cmd_address_i,
  input  logic [31:0] cmd_bytes_i,
  output logic        out_valid_o,
  input  logic        out_ready_i,
  output logic [63:0] out_address_o,  // a multiple of 64
  output logic [6:0]  out_beats_o,    // 1 to 64
  output logic        last_o
);
  logic        busy_d, busy_q, step, take;
  logic [57:0] line_d, line_q;  // the address, in beats
  logic [26:0] left_d, left_q, all;
  logic [32:0] span;
  logic [6:0]  room;            // beats to the next boundary

  assign room          = 7'd64 - {1'b0, line_q[5:0]};
  assign last_o        = left_q <= {20'd0, room};
  assign out_beats_o   = last_o ? left_q[6:0] : room;
  assign out_address_o = {line_q, 6'd0};
  assign out_valid_o   = busy_q;
  assign step          = busy_q && out_ready_i;
  assign cmd_ready_o   = !busy_q || (out_ready_i && last_o);
  assign take          = cmd_valid_i && cmd_ready_o;

  // Beats that the range touches.
  assign span   = {1'b0, cmd_bytes_i} + {27'd0, cmd_address_i[5:0]} + 33'd63;
  assign all    = span[32:6];
  assign busy_d = take || (busy_q && !(step && last_o));
  assign line_d = take ? cmd_address_i[63:6] : step ? line_q + {51'd0, room} : line_q;
  assign left_d = take ? all : step ? left_q - {20'd0, out_beats_o} : left_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else         busy_q <= busy_d;
  end
  always_ff @(posedge clk_i) begin
    line_q <= line_d;
    left_q <= left_d;
  end
  logic unused;
  assign unused = &{1'b0, span[5:0]};
endmodule
