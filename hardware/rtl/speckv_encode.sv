// speckv_encode -- encodes units of a layer, int8 or kvq4, byte for byte as the library does
// (docs/block-format.md): parameters, then values, each padded with zeros to 64 bytes.
//
// A unit is read once and passes twice: its beats go into a deep queue, and on the way there the
// extremes of its groups become parameters; then the queue is read and quantised. While one
// unit is quantised the next one streams in.
//
//     in -+-> split -> extent -> parameters -+-> pack --------------------------+-> out
//         |                                  +-> row queue, channel tables -+   |
//         +-> deep queue -> split ---------------------------------> quantise -> pack
//
// Ports: a command a unit; the unit's plain values, dense, from the start of a beat; its encoded
// bytes, `out_last_o` with the last beat, then `out_bad_o` for a unit that held a NaN or an
// infinity (its bytes are then worth nothing, their number is right).
// Rate: 64 plain bytes a clock if rows are multiples of 32 values. Latency: the first beat of
// parameters at most 48 cycles after the last beat that it depends on.
// Trusts the command: both extents at least 1; for kvq4 what Codec::supports says; a unit within
// Beats beats, and int8 tokens (kvq4 groups) within Rows.
module speckv_encode #(
  parameter int Beats = 16384,
  parameter int Rows = 65536
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         cmd_valid_i,
  output logic         cmd_ready_o,
  input  logic         cmd_int8_i,
  input  logic         cmd_keys_i,      // kvq4: groups are channels
  input  logic         cmd_bf16_i,
  input  logic [15:0]  cmd_tokens_i,
  input  logic [15:0]  cmd_channels_i,
  input  logic         in_valid_i,
  output logic         in_ready_o,
  input  logic [511:0] in_data_i,
  output logic         out_valid_o,
  input  logic         out_ready_i,
  output logic [511:0] out_data_o,
  output logic         out_last_o,
  output logic         out_bad_o
);
  // ---- the command: rows are tokens, or groups of 64 channels where a token is longer ---------
  logic        long_rows, walk_ready, later_ready;
  logic [15:0] rows, length;
  logic [2:0]  mode;
  assign mode        = {cmd_int8_i, cmd_keys_i, cmd_bf16_i};
  assign long_rows   = !cmd_int8_i && !cmd_keys_i && cmd_channels_i > 16'd256;
  assign rows        = long_rows ? {7'd0, cmd_tokens_i[8:0]} * {11'd0, cmd_channels_i[10:6]}
                                 : cmd_tokens_i;
  assign length      = long_rows ? 16'd64 : cmd_channels_i;
  assign cmd_ready_o = walk_ready && later_ready;

  // ---- first pass: parameters -----------------------------------------------------------------
  logic         deep_ready, split_ready;
  logic         walk_valid, cut_ready, chunk_valid, chunk_ready;
  logic [5:0]   walk_count, count;
  logic [10:0]  walk_index;
  logic         walk_row_last, walk_first_row, walk_last_row;
  logic [2:0]   walk_mode, chunk_mode;
  logic [4:0]   index;
  logic         row_first, row_last, first_row, last_row;
  logic [511:0] chunk;
  assign in_ready_o = deep_ready && split_ready;

  speckv_walk #(.Side(3)) u_walk (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(cmd_valid_i && later_ready), .cmd_ready_o(walk_ready),
    .cmd_rows_i(rows), .cmd_length_i(length), .cmd_side_i(mode),
    .out_valid_o(walk_valid), .out_ready_i(cut_ready), .out_count_o(walk_count),
    .out_index_o(walk_index), .out_row_last_o(walk_row_last),
    .out_first_row_o(walk_first_row), .out_last_row_o(walk_last_row), .out_side_o(walk_mode));

  logic unused_padding;
  speckv_split #(.OutBytes(64), .Side(18)) u_split (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(in_valid_i && deep_ready), .in_ready_o(split_ready), .in_data_i(in_data_i),
    .cut_valid_i(walk_valid), .cut_ready_o(cut_ready), .cut_bytes_i({walk_count, 1'b0}),
    .cut_last_i(walk_row_last && walk_last_row),
    .cut_side_i({walk_mode, walk_count, walk_index[4:0], walk_index == 11'd0, walk_row_last,
                 walk_first_row, walk_last_row}),
    .out_valid_o(chunk_valid), .out_ready_i(chunk_ready), .out_data_o(chunk),
    .out_padding_o(unused_padding),
    .out_side_o({chunk_mode, count, index, row_first, row_last, first_row, last_row}));

  logic         item_valid, item_ready, item_last;
  logic [511:0] item_low, item_high;
  logic [5:0]   item_count;
  logic [2:0]   item_mode;
  speckv_extent u_extent (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(chunk_valid), .in_ready_o(chunk_ready), .in_data_i(chunk), .in_count_i(count),
    .in_index_i(index), .in_row_first_i(row_first), .in_row_last_i(row_last),
    .in_first_row_i(first_row), .in_last_row_i(last_row), .in_mode_i(chunk_mode),
    .out_valid_o(item_valid), .out_ready_i(item_ready), .out_low_o(item_low),
    .out_high_o(item_high), .out_count_o(item_count), .out_last_o(item_last),
    .out_mode_o(item_mode));

  logic        pair_valid, pair_ready, pair_last, pair_bad;
  logic [63:0] stored;
  logic [75:0] by;
  logic [2:0]  pair_mode;
  speckv_parameters u_parameters (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(item_valid), .in_ready_o(item_ready), .in_low_i(item_low),
    .in_high_i(item_high), .in_count_i(item_count), .in_last_i(item_last),
    .in_mode_i(item_mode),
    .out_valid_o(pair_valid), .out_ready_i(pair_ready), .out_stored_o(stored), .out_by_o(by),
    .out_mode_o(pair_mode), .out_last_o(pair_last), .out_bad_o(pair_bad));

  // ---- parameters go out, and wait for the second pass ----------------------------------------
  logic parameters_ready, rows_ready, table_ready, keep_ready, pair_done, unit_known;
  assign keep_ready = pair_mode[1] ? table_ready : rows_ready;
  assign pair_ready = parameters_ready && keep_ready;
  assign pair_done  = pair_valid && pair_ready;
  assign unit_known = pair_done && pair_last;

  logic         packed_valid, packed_ready, packed_last, packed_bad;
  logic [511:0] packed_data;
  speckv_pack #(.InBytes(8)) u_pack_parameters (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(pair_valid && keep_ready), .in_ready_o(parameters_ready), .in_data_i(stored),
    .in_bytes_i(pair_mode[2] ? 7'd2 : pair_mode[1] ? 7'd8 : 7'd4), .in_last_i(pair_last),
    .in_flag_i(pair_bad),
    .out_valid_o(packed_valid), .out_ready_i(packed_ready), .out_data_o(packed_data),
    .out_last_o(packed_last), .out_flag_o(packed_bad));

  logic         first_valid, first_ready, first_last, first_bad;
  logic [511:0] first_data;
  speckv_fifo #(.Width(514), .Depth(64)) u_first (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(packed_valid), .in_ready_o(packed_ready),
    .in_data_i({packed_bad, packed_last, packed_data}),
    .out_valid_o(first_valid), .out_ready_i(first_ready),
    .out_data_o({first_bad, first_last, first_data}));

  logic        row_valid, row_pop;
  logic [37:0] row_by;
  speckv_deep_fifo #(.Width(38), .Depth(Rows)) u_rows (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(pair_valid && parameters_ready && !pair_mode[1]), .in_ready_o(rows_ready),
    .in_data_i(by[37:0]),
    .out_valid_o(row_valid), .out_ready_i(row_pop), .out_data_o(row_by));

  logic [4:0]    place;
  logic          table_done;
  logic [1215:0] channel_by;
  speckv_channels u_channels (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(pair_valid && parameters_ready && pair_mode[1]), .in_ready_o(table_ready),
    .in_data_i(by), .in_last_i(pair_last),
    .place_i(place), .done_i(table_done), .out_data_o(channel_by));

  // ---- second pass: values --------------------------------------------------------------------
  logic         later_valid, again_ready, deep_valid, deep_take;
  logic [15:0]  later_rows, later_length;
  logic [2:0]   later_mode;
  logic [511:0] deep_data;
  logic [3:0]   known_d, known_q;  // units whose parameters are all there
  logic         start;
  assign start   = later_valid && known_q != 4'd0 && again_ready;
  assign known_d = known_q + {3'd0, unit_known} - {3'd0, start};
  always_ff @(posedge clk_i) begin
    if (!rst_ni) known_q <= 4'd0;
    else         known_q <= known_d;
  end

  speckv_fifo #(.Width(35), .Depth(8)) u_later (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(cmd_valid_i && walk_ready), .in_ready_o(later_ready),
    .in_data_i({mode, rows, length}),
    .out_valid_o(later_valid), .out_ready_i(start),
    .out_data_o({later_mode, later_rows, later_length}));

  speckv_deep_fifo #(.Width(512), .Depth(Beats)) u_deep (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(in_valid_i && split_ready), .in_ready_o(deep_ready), .in_data_i(in_data_i),
    .out_valid_o(deep_valid), .out_ready_i(deep_take), .out_data_o(deep_data));

  logic        again_valid, again_cut, again_row_last, again_first_row, again_last_row;
  logic [5:0]  again_count;
  logic [10:0] again_index;
  logic [2:0]  again_mode;
  speckv_walk #(.Side(3)) u_walk_again (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(later_valid && known_q != 4'd0), .cmd_ready_o(again_ready),
    .cmd_rows_i(later_rows), .cmd_length_i(later_length), .cmd_side_i(later_mode),
    .out_valid_o(again_valid), .out_ready_i(again_cut), .out_count_o(again_count),
    .out_index_o(again_index), .out_row_last_o(again_row_last),
    .out_first_row_o(again_first_row), .out_last_row_o(again_last_row),
    .out_side_o(again_mode));

  logic         value_valid, value_ready, value_row_last, value_last;
  logic [5:0]   value_count;
  logic [2:0]   value_mode;
  logic [511:0] values;
  logic         unused_padding_again;
  speckv_split #(.OutBytes(64), .Side(16)) u_split_again (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(deep_valid), .in_ready_o(deep_take), .in_data_i(deep_data),
    .cut_valid_i(again_valid), .cut_ready_o(again_cut), .cut_bytes_i({again_count, 1'b0}),
    .cut_last_i(again_row_last && again_last_row),
    .cut_side_i({again_mode, again_count, again_index[4:0], again_row_last,
                 again_row_last && again_last_row}),
    .out_valid_o(value_valid), .out_ready_i(value_ready), .out_data_o(values),
    .out_padding_o(unused_padding_again),
    .out_side_o({value_mode, value_count, place, value_row_last, value_last}));

  logic can_reserve, value_take;
  assign value_ready = can_reserve && (value_mode[1] || row_valid);
  assign value_take  = value_valid && value_ready;
  assign row_pop     = value_take && !value_mode[1] && value_row_last;
  assign table_done  = value_take && value_mode[1] && value_last;

  // 1: the parameters of each lane. 2 to 6: the levels.
  logic [511:0]  value_q;
  logic [1215:0] by_q;
  logic [2:0]    mode_q;
  logic [255:0]  level, bytes;
  always_ff @(posedge clk_i) begin
    value_q <= values;
    by_q    <= value_mode[1] ? channel_by : {32{row_by}};
    mode_q  <= value_mode;
  end
  for (genvar i = 0; i < 32; i++) begin : gen_lane
    speckv_quantise u_lane (
      .clk_i(clk_i), .int8_i(mode_q[2]), .bf16_i(mode_q[0]), .value_i(value_q[16*i +: 16]),
      .inverse_i(by_q[38*i +: 13]), .base_i(by_q[38*i + 13 +: 9]),
      .zero_i(by_q[38*i + 22 +: 16]), .level_o(level[8*i +: 8]));
  end

  logic       leave, leave_int8, leave_last;
  logic [5:0] leave_count;
  speckv_valid #(.Cycles(6)) u_valid (.clk_i(clk_i), .rst_ni(rst_ni), .in_i(value_take),
                                      .out_o(leave));
  speckv_delay #(.Width(8), .Cycles(6)) u_tag (
    .clk_i(clk_i), .in_i({value_mode[2], value_count, value_last}),
    .out_o({leave_int8, leave_count, leave_last}));
  for (genvar i = 0; i < 32; i++) begin : gen_bytes
    if (i < 16) begin : gen_pair
      assign bytes[8*i +: 8] = leave_int8 ? level[8*i +: 8]
                                          : {level[16*i + 8 +: 4], level[16*i +: 4]};
    end else begin : gen_byte
      assign bytes[8*i +: 8] = level[8*i +: 8];
    end
  end

  logic         done_valid, done_ready, done_last;
  logic [5:0]   done_count;
  logic [255:0] done_bytes;
  speckv_credit_fifo #(.Width(263), .Depth(16)) u_levels (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .reserve_i(value_take), .can_reserve_o(can_reserve),
    .in_valid_i(leave),
    .in_data_i({leave_last, leave_int8 ? leave_count : {1'b0, leave_count[5:1]}, bytes}),
    .out_valid_o(done_valid), .out_ready_i(done_ready),
    .out_data_o({done_last, done_count, done_bytes}));

  logic         joined_valid, joined_ready, joined_last, unused_flag;
  logic [511:0] joined_data;
  speckv_pack #(.InBytes(32)) u_pack_values (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(done_valid), .in_ready_o(done_ready), .in_data_i(done_bytes),
    .in_bytes_i({1'b0, done_count}), .in_last_i(done_last), .in_flag_i(1'b0),
    .out_valid_o(joined_valid), .out_ready_i(joined_ready), .out_data_o(joined_data),
    .out_last_o(joined_last), .out_flag_o(unused_flag));

  // While the next unit's parameters go out, its first values wait here.
  logic         second_valid, second_ready, second_last;
  logic [511:0] second_data;
  speckv_fifo #(.Width(513), .Depth(32)) u_second (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(joined_valid), .in_ready_o(joined_ready), .in_data_i({joined_last, joined_data}),
    .out_valid_o(second_valid), .out_ready_i(second_ready),
    .out_data_o({second_last, second_data}));

  // ---- out: the parameters of a unit, then its values -----------------------------------------
  logic values_d, values_q, bad_d, bad_q, sent;
  assign out_valid_o  = values_q ? second_valid : first_valid;
  assign out_data_o   = values_q ? second_data : first_data;
  assign out_last_o   = values_q && second_last;
  assign out_bad_o    = bad_q;
  assign first_ready  = !values_q && out_ready_i;
  assign second_ready = values_q && out_ready_i;
  assign sent         = out_valid_o && out_ready_i;
  assign values_d     = !sent ? values_q : values_q ? !second_last : first_last;
  assign bad_d        = !sent ? bad_q : values_q ? bad_q && !second_last : bad_q || first_bad;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      values_q <= 1'b0;
      bad_q    <= 1'b0;
    end else begin
      values_q <= values_d;
      bad_q    <= bad_d;
    end
  end

  logic unused;
  assign unused = &{1'b0, walk_index[10:5], again_index[10:5], again_first_row, unused_padding,
                    unused_padding_again, unused_flag, leave_count[0], pair_mode[0],
                    mode_q[1]};
endmodule
