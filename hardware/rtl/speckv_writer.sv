// speckv_writer -- the mover's writing half: dense 64-byte beats go to a range of bytes, whatever
// its alignment, and to no byte beside it.
//
// Ports: commands; their bytes, dense, each command from the start of a beat; an AXI4 write port of
// 512 bits (one ID), with up to 32 bursts outstanding; `done` for each command, in order, when all
// of it was answered, with `done_error_o` if a burst was answered with SLVERR or DECERR.
// Rate: 64 bytes a clock, less a beat for a command that is not aligned. Latency: 1 cycle from a
// command to its first address; data follows its address. Trusts that lengths are not 0; of the
// bus, that it answers each burst once, in order.
module speckv_writer (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         cmd_valid_i,
  output logic         cmd_ready_o,
  input  logic [63:0]  cmd_address_i,
  input  logic [31:0]  cmd_bytes_i,
  input  logic         in_valid_i,
  output logic         in_ready_o,
  input  logic [511:0] in_data_i,
  output logic         aw_valid_o,
  input  logic         aw_ready_i,
  output logic [63:0]  aw_addr_o,
  output logic [7:0]   aw_len_o,
  output logic         w_valid_o,
  input  logic         w_ready_i,
  output logic [511:0] w_data_o,
  output logic [63:0]  w_strb_o,
  output logic         w_last_o,
  input  logic         b_valid_i,
  output logic         b_ready_o,
  input  logic [1:0]   b_resp_i,
  output logic         done_valid_o,
  input  logic         done_ready_i,
  output logic         done_error_o,
  output logic         idle_o          // nothing is outstanding on the bus
);
  // ---- addresses -------------------------------------------------------------------------------
  logic       bursts_ready, queue_ready, burst_valid, burst_ready, burst_last, began, free;
  logic [6:0] burst_beats;
  assign cmd_ready_o = bursts_ready && queue_ready;
  speckv_bursts u_bursts (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(cmd_valid_i && queue_ready), .cmd_ready_o(bursts_ready),
    .cmd_address_i(cmd_address_i), .cmd_bytes_i(cmd_bytes_i),
    .out_valid_o(burst_valid), .out_ready_i(burst_ready), .out_address_o(aw_addr_o),
    .out_beats_o(burst_beats), .last_o(burst_last));

  // Bursts whose data is to come, and bursts whose answer is: both at most 32. The second queue
  // holds the longer, so its room is the limit.
  logic       lengths_ready, answers_ready, length_valid, length_take, answer_valid, answer_last;
  logic       answer_take;
  logic [6:0] length;
  assign free        = lengths_ready && answers_ready;
  assign aw_valid_o  = burst_valid && free;
  assign burst_ready = aw_ready_i && free;
  assign aw_len_o    = {1'b0, burst_beats} - 8'd1;
  assign began       = aw_valid_o && aw_ready_i;
  assign idle_o      = !answer_valid && !burst_valid;
  speckv_fifo #(.Width(7), .Depth(32)) u_lengths (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(began), .in_ready_o(lengths_ready), .in_data_i(burst_beats),
    .out_valid_o(length_valid), .out_ready_i(length_take), .out_data_o(length));
  speckv_fifo #(.Width(1), .Depth(32)) u_answers (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(began), .in_ready_o(answers_ready), .in_data_i(burst_last),
    .out_valid_o(answer_valid), .out_ready_i(answer_take), .out_data_o(answer_last));

  // ---- data: the beats of a command, moved up to where it starts -------------------------------
  logic        next_valid, next_take;
  logic [31:0] next_bytes;
  logic [5:0]  next_offset;
  speckv_fifo #(.Width(38), .Depth(32)) u_queue (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(cmd_valid_i && bursts_ready), .in_ready_o(queue_ready),
    .in_data_i({cmd_address_i[5:0], cmd_bytes_i}),
    .out_valid_o(next_valid), .out_ready_i(next_take), .out_data_o({next_offset, next_bytes}));

  logic         busy_d, busy_q, first_d, first_q, give, last, room, burst_done;
  logic [26:0]  in_d, in_q, out_d, out_q;
  logic [6:0]   beats_d, beats_q;              // of the burst, already begun
  logic [5:0]   offset_d, offset_q, end_d, end_q;
  logic [511:0] before_d, before_q;
  logic [32:0]  in_span, out_span;
  assign in_span  = {1'b0, next_bytes} + 33'd63;
  assign out_span = {1'b0, next_bytes} + {27'd0, next_offset} + 33'd63;

  assign last        = out_q == 27'd1;
  assign room        = !w_valid_o || w_ready_i;
  assign give        = busy_q && room && length_valid && (in_q == 27'd0 || in_valid_i);
  assign in_ready_o  = busy_q && room && length_valid && in_q != 27'd0;
  assign burst_done  = beats_q + 7'd1 == length;
  assign length_take = give && burst_done;
  assign next_take   = !busy_q || (give && last);
  always_comb begin
    busy_d   = busy_q;
    first_d  = first_q;
    in_d     = in_q;
    out_d    = out_q;
    offset_d = offset_q;
    end_d    = end_q;
    beats_d  = beats_q;
    before_d = before_q;
    if (give) begin
      first_d  = 1'b0;
      out_d    = out_q - 27'd1;
      beats_d  = burst_done ? 7'd0 : beats_q + 7'd1;
      before_d = in_data_i;
      if (in_q != 27'd0) in_d = in_q - 27'd1;
    end
    if (next_take) begin
      busy_d   = next_valid;
      first_d  = 1'b1;
      in_d     = in_span[32:6];
      out_d    = out_span[32:6];
      offset_d = next_offset;
      end_d    = next_bytes[5:0] + next_offset;
    end
  end

  // The bytes that the last beat left over come before those of this one.
  logic [1023:0] window;
  logic [63:0]   after_start, before_end, strobe;
  assign window      = {in_data_i, before_q} << {offset_q, 3'd0};
  assign after_start = ~64'd0 << offset_q;
  assign before_end  = end_q == 6'd0 ? ~64'd0 : ~(~64'd0 << end_q);
  assign strobe      = (first_q ? after_start : ~64'd0) & (last ? before_end : ~64'd0);

  logic         w_valid_d, w_last_d;
  logic [511:0] w_data_d;
  logic [63:0]  w_strb_d;
  assign w_valid_d = give || (w_valid_o && !w_ready_i);
  assign w_data_d  = room ? window[1023:512] : w_data_o;
  assign w_strb_d  = room ? strobe : w_strb_o;
  assign w_last_d  = room ? burst_done : w_last_o;

  // ---- answers ---------------------------------------------------------------------------------
  logic error_d, error_q, done_valid_d, done_error_d;
  assign b_ready_o    = answer_valid && (!done_valid_o || done_ready_i);
  assign answer_take  = b_valid_i && (!done_valid_o || done_ready_i);
  assign error_d      = !(answer_take && answer_valid) ? error_q
                                                       : !answer_last && (error_q || b_resp_i[1]);
  assign done_valid_d = (answer_take && answer_valid && answer_last)
                        || (done_valid_o && !done_ready_i);
  assign done_error_d = done_valid_o && !done_ready_i ? done_error_o : error_q || b_resp_i[1];

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      busy_q       <= 1'b0;
      beats_q      <= 7'd0;
      w_valid_o    <= 1'b0;
      error_q      <= 1'b0;
      done_valid_o <= 1'b0;
    end else begin
      busy_q       <= busy_d;
      beats_q      <= beats_d;
      w_valid_o    <= w_valid_d;
      error_q      <= error_d;
      done_valid_o <= done_valid_d;
    end
  end
  always_ff @(posedge clk_i) begin
    first_q      <= first_d;
    in_q         <= in_d;
    out_q        <= out_d;
    offset_q     <= offset_d;
    end_q        <= end_d;
    before_q     <= before_d;
    w_data_o     <= w_data_d;
    w_strb_o     <= w_strb_d;
    w_last_o     <= w_last_d;
    done_error_o <= done_error_d;
  end
  logic unused;
  assign unused = &{1'b0, window[511:0], in_span[5:0], out_span[5:0], b_resp_i[0]};
endmodule
