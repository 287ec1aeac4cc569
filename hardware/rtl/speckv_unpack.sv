// speckv_unpack -- the magnitude of an f16 or bf16 number as a whole number of units.
//
// magnitude = significand * 2^(exponent - G) units, a unit being the spacing at 0 and G = 3 for
// bf16, whose 8 bits lie at the top of the 11, else 0. Combinational. Trusts nothing: infinities
// and NaNs give some number.
module speckv_unpack (
  input  logic        bf16_i,
  input  logic [14:0] magnitude_i,
  output logic [10:0] significand_o,
  output logic [7:0]  exponent_o
);
  logic [7:0] biased;
  logic       normal;
  assign biased        = bf16_i ? magnitude_i[14:7] : {3'd0, magnitude_i[14:10]};
  assign normal        = biased != 8'd0;
  assign significand_o = bf16_i ? {normal, magnitude_i[6:0], 3'd0} : {normal, magnitude_i[9:0]};
  assign exponent_o    = normal ? biased - 8'd1 : 8'd0;
endmodule
