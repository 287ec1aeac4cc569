// speckv_least -- the least of 32 signed numbers. Latency: 3 cycles, one set a cycle, never
// stalls.
module speckv_least (
  input  logic         clk_i,
  input  logic [511:0] in_i,
  output logic [15:0]  least_o
);
  logic [127:0] of8, of8_q;
  logic [31:0]  of2, of2_q;
  logic [15:0]  of1;
  for (genvar i = 0; i < 8; i++) begin : gen_8
    speckv_least4 u_least (.in_i(in_i[64*i +: 64]), .least_o(of8[16*i +: 16]));
  end
  for (genvar i = 0; i < 2; i++) begin : gen_2
    speckv_least4 u_least (.in_i(of8_q[64*i +: 64]), .least_o(of2[16*i +: 16]));
  end
  speckv_least4 u_least (.in_i({of2_q, of2_q}), .least_o(of1));
  always_ff @(posedge clk_i) begin
    of8_q   <= of8;
    of2_q   <= of2;
    least_o <= of1;
  end
endmodule
