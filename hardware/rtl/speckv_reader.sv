// speckv_reader -- the mover's reading half: a range of bytes comes as dense 64-byte beats from
// byte 0 on, whatever its alignment.
//
// Ports: commands; an AXI4 read port of 512 bits (one ID, so answers come in order), with up to 32
// bursts outstanding; beats, the last one padded with zeros, `out_last_o` with it, and then
// `out_error_o` if a beat of the command was answered with SLVERR or DECERR (what it carried is
// passed on all the same, so that lengths are always right).
// Rate: 64 bytes a clock, less a beat or two for each command. Latency: 1 cycle from a command to
// its first address, 2 from data to data. Trusts that lengths are not 0; of the bus, that it gives
// the beats that were asked for, in order.
module speckv_reader (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         cmd_valid_i,
  output logic         cmd_ready_o,
  input  logic [63:0]  cmd_address_i,
  input  logic [31:0]  cmd_bytes_i,
  output logic         ar_valid_o,
  input  logic         ar_ready_i,
  output logic [63:0]  ar_addr_o,
  output logic [7:0]   ar_len_o,
  input  logic         r_valid_i,
  output logic         r_ready_o,
  input  logic [511:0] r_data_i,
  input  logic [1:0]   r_resp_i,
  input  logic         r_last_i,
  output logic         out_valid_o,
  input  logic         out_ready_i,
  output logic [511:0] out_data_o,
  output logic         out_last_o,
  output logic         out_error_o,
  output logic         idle_o          // nothing is outstanding on the bus
);
  // ---- addresses: a command goes to the bursts, and to the queue that awaits its data ----------
  logic        bursts_ready, queue_ready, burst_valid, burst_ready, unused_last;
  logic [6:0]  burst_beats;
  assign cmd_ready_o = bursts_ready && queue_ready;
  speckv_bursts u_bursts (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(cmd_valid_i && queue_ready), .cmd_ready_o(bursts_ready),
    .cmd_address_i(cmd_address_i), .cmd_bytes_i(cmd_bytes_i),
    .out_valid_o(burst_valid), .out_ready_i(burst_ready), .out_address_o(ar_addr_o),
    .out_beats_o(burst_beats), .last_o(unused_last));

  // An address that was offered stays offered: the limit only falls behind a burst that began.
  logic [5:0] flying_d, flying_q;
  logic       free, began, ended;
  assign free        = flying_q != 6'd32;
  assign ar_valid_o  = burst_valid && free;
  assign burst_ready = ar_ready_i && free;
  assign ar_len_o    = {1'b0, burst_beats} - 8'd1;
  assign began       = ar_valid_o && ar_ready_i;
  assign ended       = r_valid_i && r_ready_o && r_last_i;
  assign flying_d    = flying_q + {5'd0, began} - {5'd0, ended};
  assign idle_o      = flying_q == 6'd0 && !burst_valid;

  // ---- data: where the range lies in the beats, and how many there are -------------------------
  logic        next_valid, next_take;
  logic [31:0] next_bytes;
  logic [5:0]  next_offset;
  speckv_fifo #(.Width(38), .Depth(32)) u_queue (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(cmd_valid_i && bursts_ready), .in_ready_o(queue_ready),
    .in_data_i({cmd_address_i[5:0], cmd_bytes_i}),
    .out_valid_o(next_valid), .out_ready_i(next_take), .out_data_o({next_offset, next_bytes}));

  // A command's data: beats to come on the bus, and to give.
  logic         busy_d, busy_q, have_d, have_q, error_d, error_q;
  logic [26:0]  in_d, in_q, out_d, out_q;
  logic [5:0]   offset_d, offset_q, tail_d, tail_q;
  logic [511:0] hold_d, hold_q;
  logic         give, last, needs, room, taken, drop;
  logic [32:0]  in_span, out_span;
  assign in_span  = {1'b0, next_bytes} + {27'd0, next_offset} + 33'd63;
  assign out_span = {1'b0, next_bytes} + 33'd63;

  // The beat in hand holds the first byte of what is given next; the one on the bus, the rest.
  assign last      = out_q == 27'd1;
  assign needs     = offset_q != 6'd0 && in_q != 27'd0;
  assign room      = !out_valid_o || out_ready_i;
  assign give      = busy_q && have_q && room && (!needs || r_valid_i);
  assign drop      = give && last;
  assign r_ready_o = busy_q && in_q != 27'd0 && (!have_q || room);
  assign taken     = r_valid_i && r_ready_o;
  assign next_take = !busy_q || drop;
  always_comb begin
    busy_d   = busy_q;
    have_d   = have_q;
    hold_d   = hold_q;
    in_d     = in_q;
    out_d    = out_q;
    offset_d = offset_q;
    tail_d   = tail_q;
    error_d  = error_q || (taken && r_resp_i[1]);
    if (taken) in_d = in_q - 27'd1;
    if (give) out_d = out_q - 27'd1;
    if (taken) begin
      have_d = !drop;
      hold_d = r_data_i;
    end else if (give) begin
      have_d = 1'b0;
    end
    if (drop) busy_d = 1'b0;
    if (!busy_q || drop) begin
      busy_d   = next_valid;
      have_d   = 1'b0;
      in_d     = in_span[32:6];
      out_d    = out_span[32:6];
      offset_d = next_offset;
      tail_d   = next_bytes[5:0];
      error_d  = 1'b0;
    end
  end

  logic [1023:0] window;
  logic [511:0]  masked;
  logic [63:0]   keep;
  assign window = {r_data_i, hold_q} >> {offset_q, 3'd0};
  assign keep   = last && tail_q != 6'd0 ? ~(~64'd0 << tail_q) : ~64'd0;
  for (genvar i = 0; i < 64; i++) begin : gen_mask
    assign masked[8*i +: 8] = keep[i] ? window[8*i +: 8] : 8'd0;
  end

  logic         out_valid_d, out_last_d, out_error_d;
  logic [511:0] out_data_d;
  assign out_valid_d = give || (out_valid_o && !out_ready_i);
  assign out_data_d  = room ? masked : out_data_o;
  assign out_last_d  = room ? last : out_last_o;
  assign out_error_d = room ? error_q || (taken && r_resp_i[1]) : out_error_o;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      flying_q    <= 6'd0;
      busy_q      <= 1'b0;
      have_q      <= 1'b0;
      out_valid_o <= 1'b0;
    end else begin
      flying_q    <= flying_d;
      busy_q      <= busy_d;
      have_q      <= have_d;
      out_valid_o <= out_valid_d;
    end
  end
  always_ff @(posedge clk_i) begin
    error_q     <= error_d;
    in_q        <= in_d;
    out_q       <= out_d;
    offset_q    <= offset_d;
    tail_q      <= tail_d;
    hold_q      <= hold_d;
    out_data_o  <= out_data_d;
    out_last_o  <= out_last_d;
    out_error_o <= out_error_d;
  end
  logic unused;
  assign unused = &{1'b0, unused_last, in_span[5:0], out_span[5:0], r_resp_i[0], window[1023:512]};
endmodule
