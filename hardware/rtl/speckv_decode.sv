// speckv_decode -- decodes units of a layer, int8 or kvq4, value for value as the library does
// (docs/block-format.md), and finds what no encoder writes.
//
//     in -+-> stored (parameters) ----------+
//         +-> queue -> split (values) -> level -> pack -> out
//
// Ports: a command a unit; its encoded bytes; its plain values, dense, from the start of a beat,
// padded with zeros; `out_last_o` with the last beat, then `out_bad_o` for a unit with parameters,
// values or padding that no encoder writes (its values are then worth nothing, their number is
// right).
// Rate: 64 plain bytes a clock if rows are multiples of 32 values. Latency: 20 cycles from the
// first beat of values to the first beat out.
// Trusts the command: both extents at least 1; for kvq4 what Codec::supports says; parameters
// within Words beats. Trusts no encoded byte.
module speckv_decode #(
  parameter int Words = 4096
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
  // ---- the command: how many beats of parameters and of values --------------------------------
  logic        cmd_fifo_ready, cmd_valid, cmd_take;
  logic        cmd_int8, cmd_keys, cmd_bf16;
  logic [15:0] cmd_tokens, cmd_channels;
  speckv_fifo #(.Width(35), .Depth(4)) u_commands (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(cmd_valid_i), .in_ready_o(cmd_fifo_ready),
    .in_data_i({cmd_int8_i, cmd_keys_i, cmd_bf16_i, cmd_tokens_i, cmd_channels_i}),
    .out_valid_o(cmd_valid), .out_ready_i(cmd_take),
    .out_data_o({cmd_int8, cmd_keys, cmd_bf16, cmd_tokens, cmd_channels}));
  assign cmd_ready_o = cmd_fifo_ready;

  logic        long_rows;
  logic [15:0] rows, length;
  logic [17:0] parameter_bytes;
  logic [31:0] value_count, value_bytes;
  assign long_rows       = !cmd_int8 && !cmd_keys && cmd_channels > 16'd256;
  assign rows            = long_rows ? {7'd0, cmd_tokens[8:0]} * {11'd0, cmd_channels[10:6]}
                                     : cmd_tokens;
  assign length          = long_rows ? 16'd64 : cmd_channels;
  assign parameter_bytes = cmd_int8 ? {1'b0, rows, 1'b0} : {cmd_keys ? cmd_channels : rows, 2'b0};
  assign value_count     = cmd_tokens * cmd_channels;
  assign value_bytes     = cmd_int8 ? value_count : {1'b0, value_count[31:1]};

  // ---- the router: parameters, then values ----------------------------------------------------
  logic        busy_d, busy_q, first_d, first_q;  // first: parameters
  logic [11:0] parameters_d, parameters_q;        // beats to come
  logic [25:0] values_d, values_q;
  logic [5:0]  odd_bytes_d, odd_bytes_q;          // bytes in the last beat of parameters
  logic        stored_ready, queue_ready, walk_ready, last_parameters, last_values, moved;
  assign last_parameters = first_q && parameters_q == 12'd1;
  assign last_values     = !first_q && values_q == 26'd1;
  assign in_ready_o      = busy_q && (first_q ? stored_ready && (!last_parameters || walk_ready)
                                              : queue_ready);
  assign moved           = in_valid_i && in_ready_o;
  assign cmd_take        = !busy_q || (moved && last_values);

  logic [63:0] used;  // bytes of the beat that are not zero
  logic        parameters_bad;
  for (genvar i = 0; i < 64; i++) begin : gen_used
    assign used[i] = in_data_i[8*i +: 8] != 8'd0;
  end
  assign parameters_bad = odd_bytes_q != 6'd0 && used >> odd_bytes_q != 64'd0;

  logic        int8_d, int8_q, keys_d, keys_q, bf16_d, bf16_q;
  logic [15:0] rows_d, rows_q, length_d, length_q;
  logic [11:0] words_d, words_q;
  always_comb begin
    busy_d       = busy_q;
    first_d      = first_q;
    parameters_d = parameters_q;
    values_d     = values_q;
    if (moved && first_q) begin
      parameters_d = parameters_q - 12'd1;
      first_d      = !last_parameters;
    end
    if (moved && !first_q) values_d = values_q - 26'd1;
    int8_d       = int8_q;
    keys_d       = keys_q;
    bf16_d       = bf16_q;
    rows_d       = rows_q;
    length_d     = length_q;
    words_d      = words_q;
    odd_bytes_d  = odd_bytes_q;
    if (cmd_take) begin
      busy_d       = cmd_valid;
      first_d      = 1'b1;
      parameters_d = parameter_bytes[17:6] + {11'd0, parameter_bytes[5:0] != 6'd0};
      values_d     = value_bytes[31:6] + {25'd0, value_bytes[5:0] != 6'd0};
      int8_d       = cmd_int8;
      keys_d       = cmd_keys;
      bf16_d       = cmd_bf16;
      rows_d       = rows;
      length_d     = length;
      words_d      = parameters_d;
      odd_bytes_d  = parameter_bytes[5:0];
    end
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else         busy_q <= busy_d;
  end
  always_ff @(posedge clk_i) begin
    first_q      <= first_d;
    parameters_q <= parameters_d;
    values_q     <= values_d;
    int8_q       <= int8_d;
    keys_q       <= keys_d;
    bf16_q       <= bf16_d;
    rows_q       <= rows_d;
    length_q     <= length_d;
    words_q      <= words_d;
    odd_bytes_q  <= odd_bytes_d;
  end

  // ---- values: a unit's chunks, once its parameters are there ---------------------------------
  logic         queue_valid, queue_take;
  logic [511:0] queue_data;
  speckv_fifo #(.Width(512), .Depth(64)) u_queue (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(in_valid_i && busy_q && !first_q), .in_ready_o(queue_ready),
    .in_data_i(in_data_i),
    .out_valid_o(queue_valid), .out_ready_i(queue_take), .out_data_o(queue_data));

  // {bad padding, int8, keys, bf16, words, rows, length}
  logic        unit_valid, unit_take, unit_bad, unit_int8, unit_keys, unit_bf16;
  logic [11:0] unit_words;
  logic [15:0] unit_rows, unit_length;
  speckv_fifo #(.Width(48), .Depth(4)) u_units (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(moved && last_parameters), .in_ready_o(walk_ready),
    .in_data_i({parameters_bad, int8_q, keys_q, bf16_q, words_q, rows_q, length_q}),
    .out_valid_o(unit_valid), .out_ready_i(unit_take),
    .out_data_o({unit_bad, unit_int8, unit_keys, unit_bf16, unit_words, unit_rows,
                 unit_length}));

  logic        walk_valid, cut_ready, walk_row_last, walk_first_row, walk_last_row;
  logic [5:0]  walk_count;
  logic [6:0]  cut_bytes;
  logic [10:0] walk_index;
  logic [15:0] walk_side;
  speckv_walk #(.Side(16)) u_walk (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(unit_valid), .cmd_ready_o(unit_take),
    .cmd_rows_i(unit_rows), .cmd_length_i(unit_length),
    .cmd_side_i({unit_bad, unit_int8, unit_keys, unit_bf16, unit_words}),
    .out_valid_o(walk_valid), .out_ready_i(cut_ready), .out_count_o(walk_count),
    .out_index_o(walk_index), .out_row_last_o(walk_row_last),
    .out_first_row_o(walk_first_row), .out_last_row_o(walk_last_row), .out_side_o(walk_side));
  assign cut_bytes = walk_side[14] ? {1'b0, walk_count} : {2'b0, walk_count[5:1]};

  logic         chunk_valid, chunk_ready, chunk_padding, row_last, last;
  logic [255:0] chunk;
  logic [5:0]   count;
  logic [4:0]   index;
  logic [15:0]  side;
  speckv_split #(.OutBytes(32), .Side(29)) u_split (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(queue_valid), .in_ready_o(queue_take), .in_data_i(queue_data),
    .cut_valid_i(walk_valid), .cut_ready_o(cut_ready), .cut_bytes_i(cut_bytes),
    .cut_last_i(walk_row_last && walk_last_row),
    .cut_side_i({walk_side, walk_count, walk_index[4:0], walk_row_last,
                 walk_row_last && walk_last_row}),
    .out_valid_o(chunk_valid), .out_ready_i(chunk_ready), .out_data_o(chunk),
    .out_padding_o(chunk_padding), .out_side_o({side, count, index, row_last, last}));

  logic        chunk_bad, int8, keys, bf16, take;
  logic [11:0] words;
  logic [15:0] row_d, row_q;
  assign {chunk_bad, int8, keys, bf16, words} = side;
  assign take  = chunk_valid && chunk_ready;
  assign row_d = !take || !row_last ? row_q : last ? 16'd0 : row_q + 16'd1;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) row_q <= 16'd0;
    else         row_q <= row_d;
  end

  // Cycles 1 to 3: the parameters. 4 to 9: the values.
  logic [1023:0] stored;
  speckv_stored #(.Words(Words)) u_stored (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(in_valid_i && busy_q && first_q && (!last_parameters || walk_ready)),
    .in_ready_o(stored_ready), .in_data_i(in_data_i), .in_last_i(last_parameters),
    .int8_i(int8), .keys_i(keys), .row_i(row_q), .index_i(index),
    .release_i(take && last), .release_words_i({4'd0, words} + {15'd0, words[0]}),
    .out_data_o(stored));

  logic [255:0] chunk3;
  logic [7:0]   tag3;
  logic         int8_3, bf16_3;
  logic [5:0]   count3;
  speckv_delay #(.Width(256), .Cycles(3)) u_chunk (.clk_i(clk_i), .in_i(chunk), .out_o(chunk3));
  speckv_delay #(.Width(8), .Cycles(3)) u_tag (.clk_i(clk_i), .in_i({int8, bf16, count}),
                                               .out_o(tag3));
  assign {int8_3, bf16_3, count3} = tag3;

  logic [511:0] values;
  logic [31:0]  bad;
  logic         leave, last9, bad9;
  logic [5:0]   count9;
  for (genvar i = 0; i < 32; i++) begin : gen_lane
    localparam logic [5:0] Lane = i;
    logic [3:0] nibble;
    logic       bad_lane, counts;
    assign nibble = chunk3[4*i +: 4];
    speckv_level u_level (
      .clk_i(clk_i), .int8_i(int8_3), .bf16_i(bf16_3),
      .level_i(int8_3 ? chunk3[8*i +: 8] : {4'd0, nibble}),
      .scale_i(stored[32*i +: 16]), .zero_i(stored[32*i + 16 +: 16]),
      .value_o(values[16*i +: 16]), .bad_o(bad_lane));
    assign counts = Lane < count9;
    assign bad[i] = bad_lane && counts;
  end

  speckv_valid #(.Cycles(9)) u_valid (.clk_i(clk_i), .rst_ni(rst_ni), .in_i(take), .out_o(leave));
  speckv_delay #(.Width(6), .Cycles(6)) u_count (.clk_i(clk_i), .in_i(count3), .out_o(count9));
  speckv_delay #(.Width(2), .Cycles(9)) u_end (
    .clk_i(clk_i), .in_i({last, chunk_bad || chunk_padding}), .out_o({last9, bad9}));

  logic         done_valid, done_ready, done_last, done_bad;
  logic [511:0] done_values;
  logic [5:0]   done_count;
  speckv_credit_fifo #(.Width(520), .Depth(16)) u_values (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .reserve_i(take), .can_reserve_o(chunk_ready),
    .in_valid_i(leave), .in_data_i({bad9 || bad != 32'd0, last9, count9, values}),
    .out_valid_o(done_valid), .out_ready_i(done_ready),
    .out_data_o({done_bad, done_last, done_count, done_values}));

  // ---- out ------------------------------------------------------------------------------------
  logic flag, bad_d, bad_q, sent;
  speckv_pack #(.InBytes(64)) u_pack (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(done_valid), .in_ready_o(done_ready), .in_data_i(done_values),
    .in_bytes_i({done_count, 1'b0}), .in_last_i(done_last), .in_flag_i(done_bad),
    .out_valid_o(out_valid_o), .out_ready_i(out_ready_i), .out_data_o(out_data_o),
    .out_last_o(out_last_o), .out_flag_o(flag));
  assign sent      = out_valid_o && out_ready_i;
  assign out_bad_o = bad_q || flag;
  assign bad_d     = !sent ? bad_q : !out_last_o && out_bad_o;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) bad_q <= 1'b0;
    else         bad_q <= bad_d;
  end

  logic unused;
  assign unused = &{1'b0, walk_first_row, walk_index[10:5], value_count[0]};
endmodule
