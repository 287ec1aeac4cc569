// speckv_extent -- the least and the largest value of each group of a unit, as ranks: a value's
// place in the order of numbers, both zeros being 0.
//
// Ports: chunks of a unit, row by row; items out: one for each row, in lane 0, or (keys, whose
// groups are channels) one for each chunk of the last row, lane i being channel i of that chunk.
// Latency: 6 cycles from the last chunk that an item depends on. A chunk a cycle; at most 1,024
// channels in a row of keys. Trusts the tags of chunks to be those of speckv_walk.
module speckv_extent (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         in_valid_i,
  output logic         in_ready_o,
  input  logic [511:0] in_data_i,
  input  logic [5:0]   in_count_i,
  input  logic [4:0]   in_index_i,
  input  logic         in_row_first_i,
  input  logic         in_row_last_i,
  input  logic         in_first_row_i,
  input  logic         in_last_row_i,
  input  logic [2:0]   in_mode_i,      // {int8, keys, bf16}
  output logic         out_valid_o,
  input  logic         out_ready_i,
  output logic [511:0] out_low_o,
  output logic [511:0] out_high_o,
  output logic [5:0]   out_count_o,    // lanes that hold groups
  output logic         out_last_o,     // the unit's last item
  output logic [2:0]   out_mode_o
);
  logic take, item, can_reserve;
  assign in_ready_o = can_reserve;
  assign take       = in_valid_i && in_ready_o;
  assign item       = take && (in_mode_i[1] ? in_last_row_i : in_row_last_i);

  // 1: ranks; what is no value of the chunk is larger (smaller) than all.
  logic [511:0] low, above, low1_q, above1_q;  // `above` is the complement of the rank
  for (genvar i = 0; i < 32; i++) begin : gen_rank
    localparam logic [5:0] Lane = i;
    logic [15:0] magnitude, rank;
    assign magnitude = {1'b0, in_data_i[16*i +: 15]};
    assign rank      = in_data_i[16*i + 15] ? 16'd0 - magnitude : magnitude;
    assign low[16*i +: 16]   = Lane < in_count_i ? rank : 16'h7fff;
    assign above[16*i +: 16] = Lane < in_count_i ? ~rank : 16'h7fff;
  end
  always_ff @(posedge clk_i) begin
    low1_q   <= low;
    above1_q <= above;
  end

  // 2 to 4: the extremes of the chunk, for rows; the ranks themselves, for keys.
  logic [15:0]  row_low, row_above;
  logic [511:0] rank4;
  speckv_least u_low (.clk_i(clk_i), .in_i(low1_q), .least_o(row_low));
  speckv_least u_high (.clk_i(clk_i), .in_i(above1_q), .least_o(row_above));
  speckv_delay #(.Width(512), .Cycles(3)) u_rank (.clk_i(clk_i), .in_i(low1_q), .out_o(rank4));

  logic [13:0] tag4;
  logic        valid4, item4, last4, row_first4, first_row4;
  logic [5:0]  count4;
  logic [4:0]  index4;
  logic [2:0]  mode4;
  speckv_valid #(.Cycles(4)) u_valid (.clk_i(clk_i), .rst_ni(rst_ni), .in_i(take), .out_o(valid4));
  speckv_valid #(.Cycles(4)) u_item (.clk_i(clk_i), .rst_ni(rst_ni), .in_i(item), .out_o(item4));
  speckv_delay #(.Width(14), .Cycles(4)) u_tag (
    .clk_i(clk_i),
    .in_i({in_mode_i, in_count_i, in_index_i}),
    .out_o(tag4));
  speckv_delay #(.Width(3), .Cycles(4)) u_place (
    .clk_i(clk_i),
    .in_i({in_last_row_i && in_row_last_i, in_row_first_i, in_first_row_i}),
    .out_o({last4, row_first4, first_row4}));
  assign {mode4, count4, index4} = tag4;

  // 5: together with the chunks before: of this row, or of this place in all rows.
  logic [15:0]   row_low_d, row_low_q, row_above_d, row_above_q;
  logic [1023:0] seen_mem [0:31];
  logic [1023:0] seen, seen_d;
  logic [511:0]  low_d, low_q, high_d, high_q;
  assign row_low_d   = !row_first4 && $signed(row_low_q) < $signed(row_low) ? row_low_q : row_low;
  assign row_above_d = !row_first4 && $signed(row_above_q) < $signed(row_above) ? row_above_q
                                                                                : row_above;
  assign seen = seen_mem[index4];
  for (genvar i = 0; i < 32; i++) begin : gen_channel
    logic [15:0] rank, least, most;
    assign rank  = rank4[16*i +: 16];
    assign least = seen[16*i +: 16];
    assign most  = seen[512 + 16*i +: 16];
    assign seen_d[16*i +: 16] = !first_row4 && $signed(least) < $signed(rank) ? least : rank;
    assign seen_d[512 + 16*i +: 16] = !first_row4 && $signed(most) > $signed(rank) ? most : rank;
  end
  assign low_d  = mode4[1] ? seen_d[511:0] : {496'd0, row_low_d};
  assign high_d = mode4[1] ? seen_d[1023:512] : {496'd0, ~row_above_d};

  logic       item_q, last_q;
  logic [5:0] count_q;
  logic [2:0] mode_q;
  always_ff @(posedge clk_i) if (valid4 && mode4[1]) seen_mem[index4] <= seen_d;
  always_ff @(posedge clk_i) begin
    if (valid4) row_low_q <= row_low_d;
    if (valid4) row_above_q <= row_above_d;
    low_q   <= low_d;
    high_q  <= high_d;
    count_q <= mode4[1] ? count4 : 6'd1;
    last_q  <= last4;
    mode_q  <= mode4;
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) item_q <= 1'b0;
    else         item_q <= item4;
  end

  speckv_credit_fifo #(.Width(1034), .Depth(32)) u_items (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .reserve_i(item), .can_reserve_o(can_reserve),
    .in_valid_i(item_q), .in_data_i({mode_q, last_q, count_q, high_q, low_q}),
    .out_valid_o(out_valid_o), .out_ready_i(out_ready_i),
    .out_data_o({out_mode_o, out_last_o, out_count_o, out_high_o, out_low_o}));
endmodule
