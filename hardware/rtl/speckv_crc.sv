// speckv_crc -- CRC-32C of messages that stream by, 64 bytes a clock (docs/block-format.md).
//
// A beat's own remainder needs no state: eight stages of eight bytes. The state moves on by 64
// bytes a beat, which is one multiplication by a constant; behind the last beat, by as many bytes
// as that has, one bit of their number a stage.
//
// Ports: beats with their number of bytes (64 but for a message's last); each message's checksum,
// which has to be taken at once. Latency: 17 cycles after the last beat. A beat a cycle, never
// stalls. Trusts that counts are in range.
module speckv_crc (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         in_valid_i,
  input  logic [511:0] in_data_i,
  input  logic [6:0]   in_bytes_i,   // 1 to 64
  input  logic         in_last_i,
  output logic         out_valid_o,
  output logic [31:0]  out_crc_o
);
  localparam logic [31:0] Polynomial = 32'h82f63b78;  // 0x1edc6f41, bit 31 being x^0
  // x^(8 * 2^i) modulo the polynomial, the last for 64 bytes.
  localparam logic [223:0] Powers = {32'hb82be955, 32'h510ac59a, 32'h18b8ea18, 32'h6ea2d55c,
                                     32'h82f63b78, 32'h00008000, 32'h00800000};

  function automatic logic [31:0] eight_bytes(input logic [31:0] crc, input logic [63:0] data);
    eight_bytes = crc ^ data[31:0];
    for (int i = 0; i < 64; i++) begin
      if (i == 32) eight_bytes = eight_bytes ^ data[63:32];
      eight_bytes = {1'b0, eight_bytes[31:1]} ^ (eight_bytes[0] ? Polynomial : 32'd0);
    end
  endfunction

  // a times b modulo the polynomial; b is a constant where this is used.
  function automatic logic [31:0] times(input logic [31:0] a, input logic [31:0] b);
    logic [31:0] power;
    times = 32'd0;
    power = b;
    for (int i = 31; i >= 0; i--) begin
      if (a[i]) times = times ^ power;
      power = {1'b0, power[31:1]} ^ (power[0] ? Polynomial : 32'd0);
    end
  endfunction

  // 1: the last beat's bytes to its end; zeros before them change no remainder.
  logic [511:0] data_q;
  logic [9:0]   by;
  assign by = {7'd64 - in_bytes_i, 3'd0};
  always_ff @(posedge clk_i) data_q <= in_data_i << by;

  // 2 to 9: the beat's own remainder.
  logic [255:0] crc_q, start;  // after each stage, and before
  assign start = {crc_q[223:0], 32'd0};
  for (genvar i = 0; i < 8; i++) begin : gen_stage
    logic [63:0] piece;
    logic [31:0] crc_d;
    if (i == 0) begin : gen_now
      assign piece = data_q[63:0];
    end else if (i == 1) begin : gen_next
      logic [63:0] piece_q;
      always_ff @(posedge clk_i) piece_q <= data_q[127:64];
      assign piece = piece_q;
    end else begin : gen_later
      speckv_delay #(.Width(64), .Cycles(i)) u_piece (.clk_i(clk_i), .in_i(data_q[64*i +: 64]),
                                                      .out_o(piece));
    end
    assign crc_d = eight_bytes(start[32*i +: 32], piece);
    always_ff @(posedge clk_i) crc_q[32*i +: 32] <= crc_d;
  end

  logic       valid, last, ends;
  logic [6:0] bytes;
  speckv_valid #(.Cycles(9)) u_valid (.clk_i(clk_i), .rst_ni(rst_ni), .in_i(in_valid_i),
                                      .out_o(valid));
  speckv_delay #(.Width(8), .Cycles(9)) u_tag (.clk_i(clk_i), .in_i({in_last_i, in_bytes_i}),
                                               .out_o({last, bytes}));
  assign ends = valid && last;

  // 10: the state before this beat, for the next one, or for the end.
  logic [31:0] state_d, state_q, beat;
  assign beat    = crc_q[255:224];
  assign state_d = !valid ? state_q : last ? 32'hffffffff : times(state_q, Powers[223:192]) ^ beat;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) state_q <= 32'hffffffff;
    else         state_q <= state_d;
  end

  // 10 to 16: moved on by the last beat's bytes, a bit of their number a stage.
  logic [223:0] moved_q, still;
  logic [48:0]  bytes_q, counts;
  assign still  = {moved_q[191:0], state_q};
  assign counts = {bytes_q[41:0], bytes};
  for (genvar i = 0; i < 7; i++) begin : gen_move
    logic [31:0] moved_d;
    assign moved_d = counts[7*i + i] ? times(still[32*i +: 32], Powers[32*i +: 32])
                                     : still[32*i +: 32];
    always_ff @(posedge clk_i) moved_q[32*i +: 32] <= moved_d;
    always_ff @(posedge clk_i) bytes_q[7*i +: 7] <= counts[7*i +: 7];
  end
  logic [31:0] beat_late;
  speckv_delay #(.Width(32), .Cycles(7)) u_beat (.clk_i(clk_i), .in_i(beat), .out_o(beat_late));
  always_ff @(posedge clk_i) out_crc_o <= ~(moved_q[223:192] ^ beat_late);
  speckv_valid #(.Cycles(8)) u_ends (.clk_i(clk_i), .rst_ni(rst_ni), .in_i(ends),
                                     .out_o(out_valid_o));
  logic unused;
  assign unused = &{1'b0, bytes_q[48:42], counts};
endmodule
