// speckv_times -- round(value / scale), half to even, by the scale's inverse: one multiplier of
// 11 by 13 bits, one shift, one rounding. docs/block-format.md, "Arithmetic".
//
// Ports: a value's magnitude, the inverse as speckv_inverse gives it. Latency: 4 cycles, one
// value a cycle, never stalls. Trusts that the quotient is below 2^14, as it is for every value
// of the group that the scale was made from; else the result is some number.
module speckv_times (
  input  logic        clk_i,
  input  logic        bf16_i,
  input  logic [14:0] magnitude_i,
  input  logic [12:0] inverse_i,
  input  logic [8:0]  base_i,
  output logic [13:0] quotient_o
);
  // 1: how far the product has to go right: 25 and more leave nothing.
  logic [10:0] x, x_q;
  logic [7:0]  exponent;
  logic [9:0]  right;
  logic [3:0]  left, left1_q, left2_q;
  logic        tiny;
  logic [12:0] inverse_q;
  speckv_unpack u_unpack (.bf16_i(bf16_i), .magnitude_i(magnitude_i), .significand_o(x),
                          .exponent_o(exponent));
  assign right = {1'b0, base_i} - {2'd0, exponent};
  assign tiny = !right[9] && right > 10'd25;
  assign left  = tiny ? 4'd0 : 4'd9 - right[3:0];  // 25 - right
  always_ff @(posedge clk_i) begin
    x_q       <= tiny ? 11'd0 : x;
    inverse_q <= inverse_i;
    left1_q   <= left;
  end

  // 2: the product.
  logic [23:0] product_q;
  always_ff @(posedge clk_i) begin
    product_q <= x_q * inverse_q;
    left2_q   <= left1_q;
  end

  // 3: the binary point to bit 25.
  logic [38:0] aligned_q;
  always_ff @(posedge clk_i) aligned_q <= {15'd0, product_q} << left2_q;

  // 4: the rounding.
  logic up;
  assign up = aligned_q[24] && (aligned_q[25] || aligned_q[23:0] != 24'd0);
  always_ff @(posedge clk_i) quotient_o <= aligned_q[38:25] + {13'd0, up};
endmodule
