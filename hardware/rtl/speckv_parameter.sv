// speckv_parameter -- what one group's values are quantised by: its scale and zero as they are
// stored, and the scale's inverse.
//
// Ports: the group's extremes as ranks (speckv_extent). Latency: 16 cycles, a group a cycle,
// never stalls. `bad_o`: a NaN or an infinity is in the group. Trusts nothing.
module speckv_parameter (
  input  logic        clk_i,
  input  logic        int8_i,
  input  logic        bf16_i,
  input  logic [15:0] low_i,
  input  logic [15:0] high_i,
  output logic [15:0] scale_o,
  output logic [15:0] zero_o,     // 0 for int8
  output logic [12:0] inverse_o,  // speckv_inverse
  output logic [8:0]  base_o,
  output logic        bad_o
);
  // Cycles 1 to 9: the scale. 10 and 11: its inverse.
  logic [14:0] scale;
  logic        bad, bf16_9, bf16_11;
  logic [12:0] inverse;
  logic [8:0]  base;
  speckv_group_scale u_scale (.clk_i(clk_i), .int8_i(int8_i), .bf16_i(bf16_i), .low_i(low_i),
                              .high_i(high_i), .scale_o(scale), .bad_o(bad));
  speckv_inverse u_inverse (.clk_i(clk_i), .bf16_i(bf16_9), .scale_i(scale), .inverse_o(inverse),
                            .base_o(base));
  speckv_delay #(.Width(1), .Cycles(9)) u_bf16_9 (.clk_i(clk_i), .in_i(bf16_i), .out_o(bf16_9));
  speckv_delay #(.Width(1), .Cycles(2)) u_bf16_11 (.clk_i(clk_i), .in_i(bf16_9), .out_o(bf16_11));

  // 12 to 15: the least value in steps. 16: its sign.
  logic [15:0] low_11;
  logic [14:0] size;
  logic [15:0] minus;
  logic [13:0] steps;
  logic        below, whole;
  speckv_delay #(.Width(16), .Cycles(11)) u_low (.clk_i(clk_i), .in_i(low_i), .out_o(low_11));
  assign minus = 16'd0 - low_11;
  assign size  = low_11[15] ? minus[14:0] : low_11[14:0];
  speckv_times u_times (.clk_i(clk_i), .bf16_i(bf16_11), .magnitude_i(size), .inverse_i(inverse),
                        .base_i(base), .quotient_o(steps));
  speckv_delay #(.Width(1), .Cycles(4)) u_below (.clk_i(clk_i), .in_i(low_11[15]), .out_o(below));
  speckv_delay #(.Width(1), .Cycles(15)) u_whole (.clk_i(clk_i), .in_i(int8_i), .out_o(whole));
  always_ff @(posedge clk_i)
    zero_o <= whole ? 16'd0 : below ? {2'd0, steps} : 16'd0 - {2'd0, steps};

  assign scale_o[15] = 1'b0;
  speckv_delay #(.Width(16), .Cycles(7)) u_stored (.clk_i(clk_i), .in_i({bad, scale}),
                                                   .out_o({bad_o, scale_o[14:0]}));
  speckv_delay #(.Width(22), .Cycles(5)) u_by (.clk_i(clk_i), .in_i({base, inverse}),
                                               .out_o({base_o, inverse_o}));
  logic unused;
  assign unused = minus[15];
endmodule
