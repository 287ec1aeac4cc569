// speckv_group_scale -- the scale of a group from its extremes, exactly as
// docs/block-format.md says: a 127th of the largest magnitude (int8), or the larger of a
// fifteenth of the range, rounded up, and the spacing of numbers at the largest (kvq4).
//
// Ports: the group's least and largest value as ranks (a sign and a magnitude, as a whole
// number). `bad_o`: a NaN or an infinity is among them. Latency: 9 cycles, a group a cycle,
// never stalls. Trusts nothing.
module speckv_group_scale (
  input  logic        clk_i,
  input  logic        int8_i,
  input  logic        bf16_i,
  input  logic [15:0] low_i,
  input  logic [15:0] high_i,
  output logic [14:0] scale_o,
  output logic        bad_o
);
  // 1: the larger and the smaller magnitude, and whether the range is their sum.
  logic [15:0] minus_low, minus_high;
  logic [14:0] of_low, of_high, larger_q, lesser_q;
  logic        apart1_q, apart2_q, apart3_q;
  logic [7:0]  int8_q, bf16_q, bad_q;
  assign minus_low  = 16'd0 - low_i;
  assign minus_high = 16'd0 - high_i;
  assign of_low     = low_i[15] ? minus_low[14:0] : low_i[14:0];
  assign of_high    = high_i[15] ? minus_high[14:0] : high_i[14:0];
  always_ff @(posedge clk_i) begin
    larger_q    <= of_low > of_high ? of_low : of_high;
    lesser_q  <= int8_i ? 15'd0 : of_low > of_high ? of_high : of_low;
    apart1_q <= low_i[15] != high_i[15];
    int8_q   <= {int8_q[6:0], int8_i};
    bf16_q   <= {bf16_q[6:0], bf16_i};
  end

  // 2: both as whole numbers.
  logic [10:0] larger, lesser, larger2_q, lesser2_q;
  logic [7:0]  larger_exponent, lesser_exponent, apart_by_q;
  logic        bad;
  speckv_unpack u_larger (.bf16_i(bf16_q[0]), .magnitude_i(larger_q), .significand_o(larger),
                       .exponent_o(larger_exponent));
  speckv_unpack u_lesser (.bf16_i(bf16_q[0]), .magnitude_i(lesser_q), .significand_o(lesser),
                         .exponent_o(lesser_exponent));
  assign bad = larger_q >= (bf16_q[0] ? 15'h7f80 : 15'h7c00);
  logic [39:0] exponent_q;  // of the larger one, for the stages 3 to 7
  always_ff @(posedge clk_i) begin
    larger2_q     <= larger;
    lesser2_q   <= lesser;
    apart_by_q <= larger_exponent - lesser_exponent;
    apart2_q   <= apart1_q;
    exponent_q <= {exponent_q[31:0], larger_exponent};
    bad_q      <= {bad_q[6:0], bad};
  end

  // 3: the smaller one, at the larger one's exponent and with 12 bits below its unit; what is
  // lost on the way only has to be remembered.
  logic [45:0] moved;
  logic [4:0]  shift3;
  logic [22:0] lesser3_q;
  logic [10:0] larger3_q;
  logic        rest3_q;
  assign shift3 = apart_by_q > 8'd23 ? 5'd23 : apart_by_q[4:0];
  assign moved  = {lesser2_q, 35'd0} >> shift3;
  always_ff @(posedge clk_i) begin
    lesser3_q <= moved[45:23];
    rest3_q  <= moved[22:0] != 23'd0;
    larger3_q   <= larger2_q;
    apart3_q <= apart2_q;
  end

  // 4: the range, rounded up to a whole number (which rounding up later makes harmless).
  logic [23:0] range_q;
  always_ff @(posedge clk_i)
    range_q <= apart3_q ? {1'b0, larger3_q, 12'd0} + {1'b0, lesser3_q} + {23'd0, rest3_q}
                        : {1'b0, larger3_q, 12'd0} - {1'b0, lesser3_q};

  // 5: times 2^27 / 15 or 2^30 / 127, both rounded up: exact below 2^24 and 2^23.
  logic [23:0] factor;
  logic [47:0] product_q;
  logic [7:0]  range5_q;
  assign factor = int8_q[3] ? 24'd8454661 : 24'd8947849;
  always_ff @(posedge clk_i) begin
    product_q <= range_q * factor;
    range5_q  <= range_q[7:0];
  end

  // 6: the quotient and whether something was left; not less than the spacing.
  logic [20:0] quotient, least, quotient_q;
  logic [7:0]  back;
  logic        rest6_q;
  assign quotient = int8_q[4] ? {3'd0, product_q[47:30]} : product_q[47:27];
  assign least    = bf16_q[4] ? 21'd32768 : 21'd4096;
  assign back     = int8_q[4] ? {quotient[0], 7'd0} - quotient[7:0]
                              : {quotient[3:0], 4'd0} - quotient[7:0];
  always_ff @(posedge clk_i) begin
    if (!int8_q[4] && quotient < least) begin
      quotient_q <= least;
      rest6_q    <= 1'b0;
    end else begin
      quotient_q <= quotient;
      rest6_q    <= back != range5_q;
    end
  end

  // 7: how many bits have to go: all but 11 (8), and all below the unit.
  logic [5:0]  width;
  logic [7:0]  exponent6;
  logic signed [9:0] excess, below, shift7, rise7;
  logic [3:0]  shift7_q;
  logic [7:0]  rise7_q, rise8_q;
  logic [20:0] quotient7_q;
  logic        rest7_q;
  speckv_width #(.Bits(21)) u_width (.in_i(quotient_q), .width_o(width));
  assign exponent6 = exponent_q[39:32];
  assign excess    = $signed({4'd0, width}) - (bf16_q[5] ? 10'sd8 : 10'sd11);
  assign below     = (bf16_q[5] ? 10'sd15 : 10'sd12) - $signed({2'd0, exponent6});
  assign shift7    = excess > below ? excess : below;
  assign rise7     = shift7 - below;
  always_ff @(posedge clk_i) begin
    quotient7_q <= quotient_q;
    rest7_q     <= rest6_q;
    shift7_q    <= shift7[3:0];
    rise7_q     <= rise7[7:0];
  end

  // 8: the significand, the bit below it, and whether there is more.
  logic [35:0] shifted;
  logic [10:0] kept_q;
  logic        half_q, rest8_q;
  assign shifted = {quotient7_q, 15'd0} >> shift7_q;
  always_ff @(posedge clk_i) begin
    kept_q  <= shifted[25:15];
    half_q  <= shifted[14];
    rest8_q <= rest7_q || shifted[13:0] != 14'd0;
    rise8_q <= rise7_q;
  end

  // 9: the rounding; to nearest only where the result is a normal number.
  logic [11:0] nearest, upper, chosen;
  logic        subnormal;
  assign nearest   = {1'b0, kept_q} + {11'd0, half_q && (rest8_q || kept_q[0])};
  assign upper     = {1'b0, kept_q} + {11'd0, half_q || rest8_q};
  assign subnormal = rise8_q == 8'd0 && nearest < (bf16_q[7] ? 12'd128 : 12'd1024);
  assign chosen    = int8_q[7] && !subnormal ? nearest : upper;
  always_ff @(posedge clk_i)
    scale_o <= (bf16_q[7] ? {rise8_q, 7'd0} : {rise8_q[4:0], 10'd0}) + {3'd0, chosen};
  assign bad_o = bad_q[7];

  logic unused;
  assign unused = &{1'b0, minus_low[15], minus_high[15], shift7[9:4], rise7[9:8], shifted[35:26],
                    product_q[26:0]};
endmodule
