// speckv_inverse -- 1 / scale, rounded to 13 significant bits, from a table of 1,024 words.
//
// Ports: `inverse_o` in 4096..8191; `base_o` such that value * inverse has to be shifted right
// by base - exponent(value) (speckv_unpack, speckv_times). Latency: 2 cycles, one a cycle, never
// stalls. Trusts nothing: what is no finite positive scale gives some number.
module speckv_inverse (
  input  logic        clk_i,
  input  logic        bf16_i,
  input  logic [14:0] scale_i,
  output logic [12:0] inverse_o,
  output logic [8:0]  base_o
);
  // 2^23 / s for s = 1024 + address; the leading one is left out. 2^13 itself, at address 0,
  // becomes 2^12 and one bit less to shift.
  logic [11:0] table_mem [0:1023];
  initial begin : fill
    int i;
    for (i = 0; i < 1024; i = i + 1)
      table_mem[i] = (i == 0) ? 12'd0 : 12'((32'd8388608 + ((1024 + i) >> 1)) / (1024 + i));
  end

  // 1: the scale with its leading one in place.
  logic [10:0] significand, scaled;
  logic [7:0]  exponent;
  logic [5:0]  width;
  logic [3:0]  lift;
  logic [9:0]  place_q;
  logic [8:0]  base_q;
  speckv_unpack u_unpack (.bf16_i(bf16_i), .magnitude_i(scale_i), .significand_o(significand),
                          .exponent_o(exponent));
  speckv_width #(.Bits(11)) u_width (.in_i(significand), .width_o(width));
  assign lift   = 4'd11 - width[3:0];
  assign scaled = significand << lift;
  always_ff @(posedge clk_i) begin
    place_q <= scaled[9:0];
    base_q  <= {1'b0, exponent} + 9'd23 - {5'd0, lift} - {8'd0, scaled[9:0] == 10'd0};
  end

  // 2: the table.
  logic [11:0] word_q;
  always_ff @(posedge clk_i) word_q <= table_mem[place_q];
  always_ff @(posedge clk_i) base_o <= base_q;
  assign inverse_o = {1'b1, word_q};

  logic unused;
  assign unused = &{1'b0, scaled[10], width[5:4]};
endmodule
