// speckv_watchdog -- tells when there is work and nothing has moved for a long time.
//
// Ports: whether there is work, and whether any of it moves, in this cycle; `expired_o` behind
// `Cycles` cycles of work in a row that moved nothing. Latency: 1 cycle.
// Trusts that work which goes on moves something within `Cycles`.
module speckv_watchdog #(
  parameter int Cycles = 40000000
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic working_i,
  input  logic moves_i,
  output logic expired_o
);
  localparam int Bits = $clog2(Cycles + 1);
  logic [Bits-1:0] still_d, still_q;
  assign expired_o = still_q == Cycles[Bits-1:0];
  assign still_d   = !working_i || moves_i ? '0 : still_q + {{(Bits-1){1'b0}}, 1'b1};
  always_ff @(posedge clk_i) begin
    if (!rst_ni) still_q <= '0;
    else         still_q <= still_d;
  end
endmodule
