// speckv_level -- one stored value back to a number, with its group's stored parameters.
//
// Latency: 6 cycles, a value a cycle, never stalls. `bad_o`: no encoder writes such parameters
// or such a value. Trusts nothing.
module speckv_level (
  input  logic        clk_i,
  input  logic        int8_i,
  input  logic        bf16_i,
  input  logic [7:0]  level_i,   // kvq4: the low four bits
  input  logic [15:0] scale_i,
  input  logic [15:0] zero_i,
  output logic [15:0] value_o,
  output logic        bad_o
);
  // 1: steps from zero, and what may not be.
  logic        int8_q, bf16_q, bad_d, bad_q, infinite, far;
  logic [15:0] steps_d, steps_q;
  logic [14:0] scale_q;
  assign steps_d  = int8_i ? {{8{level_i[7]}}, level_i} : {12'd0, level_i[3:0]} - zero_i;
  assign infinite = scale_i >= (bf16_i ? 16'h7f80 : 16'h7c00);
  assign far      = $signed(zero_i) < -16'sd8176 || $signed(zero_i) > 16'sd8176;
  assign bad_d    = infinite || (int8_i ? level_i == 8'h80 : far || scale_i == 16'd0);
  always_ff @(posedge clk_i) begin
    int8_q  <= int8_i;
    bf16_q  <= bf16_i;
    bad_q   <= bad_d;
    steps_q <= steps_d;
    scale_q <= scale_i[14:0];
  end

  // 2: both factors. 3 to 6: the product.
  logic [10:0] significand, significand_q;
  logic [7:0]  exponent, exponent_q;
  logic [15:0] minus_steps;
  logic [12:0] size_q;
  logic        minus_q, bf16_2_q;
  speckv_unpack u_unpack (.bf16_i(bf16_q), .magnitude_i(scale_q), .significand_o(significand),
                          .exponent_o(exponent));
  assign minus_steps = 16'd0 - steps_q;
  always_ff @(posedge clk_i) begin
    significand_q <= significand;
    exponent_q    <= exponent;
    size_q        <= steps_q[15] ? minus_steps[12:0] : steps_q[12:0];
    minus_q       <= steps_q[15];
    bf16_2_q      <= bf16_q;
  end
  speckv_dequantise u_product (
    .clk_i(clk_i), .bf16_i(bf16_2_q), .minus_i(minus_q), .size_i(size_q),
    .significand_i(significand_q), .exponent_i(exponent_q), .value_o(value_o));
  speckv_delay #(.Width(1), .Cycles(5)) u_bad (.clk_i(clk_i), .in_i(bad_q), .out_o(bad_o));

  logic unused;
  assign unused = &{1'b0, minus_steps[15:13], int8_q};
endmodule
