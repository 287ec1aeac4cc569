// speckv_quantise -- one value to a whole number of steps: -127 to 127 (int8), or 0 to 15 from
// the group's zero (kvq4, in the low four bits).
//
// Latency: 5 cycles, a value a cycle, never stalls. Trusts that the value belongs to the group
// that its parameters were made from; else the result is some number of the range.
module speckv_quantise (
  input  logic        clk_i,
  input  logic        int8_i,
  input  logic        bf16_i,
  input  logic [15:0] value_i,
  input  logic [15:0] zero_i,
  input  logic [8:0]  base_i,
  input  logic [12:0] inverse_i,
  output logic [7:0]  level_o
);
  logic [13:0] steps;
  logic [15:0] zero;
  logic        minus, int8;
  speckv_times u_times (.clk_i(clk_i), .bf16_i(bf16_i), .magnitude_i(value_i[14:0]),
                        .inverse_i(inverse_i), .base_i(base_i), .quotient_o(steps));
  speckv_delay #(.Width(18), .Cycles(4)) u_rest (.clk_i(clk_i),
    .in_i({int8_i, value_i[15], zero_i}), .out_o({int8, minus, zero}));

  logic [15:0] level;
  logic [7:0]  level_d;
  assign level = (minus ? 16'd0 - {2'd0, steps} : {2'd0, steps}) + zero;
  always_comb begin
    level_d = level[7:0];
    if (int8) begin
      if ($signed(level) > 16'sd127) level_d = 8'd127;
      if ($signed(level) < -16'sd127) level_d = 8'h81;
    end else begin
      if ($signed(level) > 16'sd15) level_d = 8'd15;
      if (level[15]) level_d = 8'd0;
    end
  end
  always_ff @(posedge clk_i) level_o <= level_d;
endmodule
