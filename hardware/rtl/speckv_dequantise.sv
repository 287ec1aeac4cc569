// speckv_dequantise -- nearest(n * scale), half to even, saturating at the largest finite number:
// one multiplier of 13 by 11 bits and one rounding. docs/block-format.md, "Arithmetic".
//
// Ports: n as a sign and a magnitude; the scale's significand and exponent (speckv_unpack).
// Latency: 4 cycles, a value a cycle, never stalls. Trusts nothing.
module speckv_dequantise (
  input  logic        clk_i,
  input  logic        bf16_i,
  input  logic        minus_i,
  input  logic [12:0] size_i,
  input  logic [10:0] significand_i,
  input  logic [7:0]  exponent_i,
  output logic [15:0] value_o
);
  // 1: the product.
  logic [23:0] product_q;
  logic [7:0]  exponent1_q;
  logic [2:0]  minus_q, bf16_q;
  always_ff @(posedge clk_i) begin
    product_q   <= size_i * significand_i;
    exponent1_q <= exponent_i;
    minus_q     <= {minus_q[1:0], minus_i};
    bf16_q      <= {bf16_q[1:0], bf16_i};
  end

  // 2: how many bits have to go: all but 11 (8), but none above the unit. 11 are added to the
  // number, so that it is never negative, and taken from the product in stage 3.
  logic [5:0]  width;
  logic [23:0] product2_q;
  logic signed [9:0] excess, below, drop;
  logic [9:0]  shift, rise;
  logic [4:0]  shift2_q;
  logic [8:0]  rise2_q, rise3_q;
  logic        nothing2_q;
  speckv_width #(.Bits(24)) u_width (.in_i(product_q), .width_o(width));
  assign excess = $signed({4'd0, width}) - (bf16_q[0] ? 10'sd8 : 10'sd11);
  assign below  = (bf16_q[0] ? 10'sd3 : 10'sd0) - $signed({2'd0, exponent1_q});
  assign drop   = excess > below ? excess : below;
  assign shift  = drop + 10'sd11;
  assign rise   = drop - below;
  always_ff @(posedge clk_i) begin
    product2_q  <= product_q;
    nothing2_q  <= product_q == 24'd0;
    shift2_q    <= shift[4:0];
    rise2_q     <= rise[8:0];
  end

  // 3: the significand, the bit below it, and whether there is more.
  logic [66:0] shifted;
  logic [10:0] kept_q;
  logic        half_q, rest_q, nothing3_q;
  assign shifted = {product2_q, 43'd0} >> shift2_q;
  always_ff @(posedge clk_i) begin
    kept_q     <= shifted[42:32];
    half_q     <= shifted[31];
    rest_q     <= shifted[30:0] != 31'd0;
    rise3_q    <= rise2_q;
    nothing3_q <= nothing2_q;
  end

  // 4: the rounding.
  logic [11:0] rounded;
  logic [19:0] magnitude;
  logic [14:0] largest, kept;
  assign rounded   = {1'b0, kept_q} + {11'd0, half_q && (rest_q || kept_q[0])};
  assign magnitude = (bf16_q[2] ? {4'd0, rise3_q, 7'd0} : {1'b0, rise3_q, 10'd0})
                     + {8'd0, rounded};
  assign largest   = bf16_q[2] ? 15'h7f7f : 15'h7bff;
  assign kept      = nothing3_q ? 15'd0 : magnitude > {5'd0, largest} ? largest : magnitude[14:0];
  always_ff @(posedge clk_i) value_o <= {minus_q[2] && kept != 15'd0, kept};

  logic unused;
  assign unused = &{1'b0, shift[9:5], rise[9], shifted[66:43]};
endmodule
