// speckv_parameters -- the parameters of all groups of a unit, in order, two at a time for keys
// and one at a time for rows.
//
// Ports: items of speckv_extent; pairs out, the second of a pair being there for keys only.
// Latency: 18 cycles. A pair a cycle, so that 16 tokens of keys keep up with 64 bytes a clock.
// Trusts that the lanes of a keys item are an even number.
module speckv_parameters (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         in_valid_i,
  output logic         in_ready_o,
  input  logic [511:0] in_low_i,
  input  logic [511:0] in_high_i,
  input  logic [5:0]   in_count_i,
  input  logic         in_last_i,
  input  logic [2:0]   in_mode_i,    // {int8, keys, bf16}
  output logic         out_valid_o,
  input  logic         out_ready_i,
  output logic [63:0]  out_stored_o,  // {zero, scale} twice
  output logic [75:0]  out_by_o,      // {zero, base, inverse} twice
  output logic [2:0]   out_mode_o,
  output logic         out_last_o,    // the unit's last
  output logic         out_bad_o      // a NaN or an infinity
);
  localparam int Latency = 16;

  logic       can_reserve, step, end_of_item;
  logic [3:0] pair_d, pair_q;
  logic [4:0] pairs;
  assign pairs       = in_count_i[5:1];
  assign end_of_item = !in_mode_i[1] || {1'b0, pair_q} + 5'd1 == pairs;
  assign step        = in_valid_i && can_reserve;
  assign in_ready_o  = can_reserve && end_of_item;
  assign pair_d      = !step ? pair_q : end_of_item ? 4'd0 : pair_q + 4'd1;

  logic [31:0] low_d, low_q, high_d, high_q;
  logic [2:0]  mode_q, mode;
  logic        last_q, last, valid;
  assign low_d  = in_low_i[{pair_q, 5'd0} +: 32];
  assign high_d = in_high_i[{pair_q, 5'd0} +: 32];
  always_ff @(posedge clk_i) begin
    low_q  <= low_d;
    high_q <= high_d;
    mode_q <= in_mode_i;
    last_q <= in_last_i && end_of_item;
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) pair_q <= 4'd0;
    else         pair_q <= pair_d;
  end

  logic [63:0] stored;
  logic [75:0] by;
  logic [1:0]  bad;
  for (genvar i = 0; i < 2; i++) begin : gen_lane
    logic [15:0] zero;
    speckv_parameter u_lane (
      .clk_i(clk_i), .int8_i(mode_q[2]), .bf16_i(mode_q[0]),
      .low_i(low_q[16*i +: 16]), .high_i(high_q[16*i +: 16]),
      .scale_o(stored[32*i +: 16]), .zero_o(zero),
      .inverse_o(by[38*i +: 13]), .base_o(by[38*i + 13 +: 9]), .bad_o(bad[i]));
    assign stored[32*i + 16 +: 16] = zero;
    assign by[38*i + 22 +: 16]     = zero;
  end
  speckv_delay #(.Width(4), .Cycles(Latency)) u_tag (.clk_i(clk_i), .in_i({mode_q, last_q}),
                                                     .out_o({mode, last}));
  speckv_valid #(.Cycles(Latency + 1)) u_valid (.clk_i(clk_i), .rst_ni(rst_ni), .in_i(step),
                                                .out_o(valid));

  speckv_credit_fifo #(.Width(145), .Depth(32)) u_out (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .reserve_i(step), .can_reserve_o(can_reserve),
    .in_valid_i(valid), .in_data_i({mode, last, bad[0] || (bad[1] && mode[1]), by, stored}),
    .out_valid_o(out_valid_o), .out_ready_i(out_ready_i),
    .out_data_o({out_mode_o, out_last_o, out_bad_o, out_by_o, out_stored_o}));
  logic unused;
  assign unused = in_count_i[0];
endmodule
