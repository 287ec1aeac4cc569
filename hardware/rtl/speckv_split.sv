// speckv_split -- cuts a dense stream of 64-byte beats into chunks that start at byte 0.
//
// Ports: beats; cuts (how many bytes the next chunk has, whether it ends its part, a side word);
// chunks with the side word of their cut. What follows a last cut in its beat is padding: it is
// dropped, and `out_padding_o` tells that it was not zero. Bytes of a chunk beyond its cut are
// unspecified. Latency: 2 cycles. One chunk a cycle as long as a chunk does not reach over two
// beats, else one a beat. Trusts that cuts have 1 to OutBytes bytes.
module speckv_split #(
  parameter int OutBytes = 64,
  parameter int Side = 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  in_valid_i,
  output logic                  in_ready_o,
  input  logic [511:0]          in_data_i,
  input  logic                  cut_valid_i,
  output logic                  cut_ready_o,
  input  logic [6:0]            cut_bytes_i,
  input  logic                  cut_last_i,
  input  logic [Side-1:0]       cut_side_i,
  output logic                  out_valid_o,
  input  logic                  out_ready_i,
  output logic [8*OutBytes-1:0] out_data_o,
  output logic                  out_padding_o,
  output logic [Side-1:0]       out_side_o
);
  // The beat that the next chunk starts in, and where.
  logic         have_d, have_q;
  logic [511:0] hold_d, hold_q;
  logic [5:0]   offset_d, offset_q;

  logic         room, fire, crosses, beat_done, enough;
  logic [7:0]   sum;

  assign sum       = {2'd0, offset_q} + {1'b0, cut_bytes_i};
  assign crosses   = sum > 8'd64;
  assign beat_done = sum >= 8'd64 || cut_last_i;
  assign room      = !out_valid_o || out_ready_i;
  assign enough    = have_q && (!crosses || in_valid_i);
  assign fire      = cut_valid_i && room && enough;

  assign cut_ready_o = room && enough;
  assign in_ready_o  = !have_q || (cut_valid_i && room && beat_done);

  // A beat is taken while the one in hand ends: it is the next one in hand, unless the cut ends
  // its part in the middle of it.
  always_comb begin
    have_d   = have_q;
    hold_d   = hold_q;
    offset_d = offset_q;
    if (!have_q) begin
      have_d   = in_valid_i;
      hold_d   = in_data_i;
      offset_d = 6'd0;
    end else if (fire) begin
      offset_d = cut_last_i ? 6'd0 : sum[5:0];
      if (beat_done) begin
        have_d = in_valid_i && !(crosses && cut_last_i);
        hold_d = in_data_i;
      end
    end
  end

  logic [1023:0] window;
  logic [511:0]  tail_beat;
  logic [63:0]   used;  // bytes of that beat that are not zero
  assign window    = {in_data_i, hold_q} >> {offset_q, 3'd0};
  assign tail_beat = crosses ? in_data_i : hold_q;
  for (genvar i = 0; i < 64; i++) begin : gen_used
    assign used[i] = tail_beat[8*i +: 8] != 8'd0;
  end

  logic                  out_valid_d, padding_d, padding_q;
  logic [8*OutBytes-1:0] data_d, data_q;
  logic [Side-1:0]       side_d, side_q;
  assign out_valid_d = fire || (out_valid_o && !out_ready_i);
  assign data_d      = room ? window[8*OutBytes-1:0] : data_q;
  assign padding_d   = !room ? padding_q
                             : cut_last_i && sum[5:0] != 6'd0 && used >> sum[5:0] != 64'd0;
  assign side_d      = room ? cut_side_i : side_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      have_q      <= 1'b0;
      offset_q    <= 6'd0;
      out_valid_o <= 1'b0;
    end else begin
      have_q      <= have_d;
      offset_q    <= offset_d;
      out_valid_o <= out_valid_d;
    end
  end
  always_ff @(posedge clk_i) begin
    hold_q    <= hold_d;
    data_q    <= data_d;
    padding_q <= padding_d;
    side_q    <= side_d;
  end
  assign out_data_o    = data_q;
  assign out_padding_o = padding_q;
  assign out_side_o    = side_q;

  logic unused;
  assign unused = ^window[1023:8*OutBytes];
endmodule
