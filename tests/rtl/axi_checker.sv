// axi_checker -- the rules of one AXI4 port of 512 bits with one ID, and ours: whole beats, at most
// 64 of them, at most `Most` bursts each way, data after its address.
//
// `broken_o` has a bit for each rule, which stays; axi_checker_test.cpp names them and breaks each.
module axi_checker #(
  parameter int Most = 32
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         ar_valid,
  input  logic         ar_ready,
  input  logic [63:0]  ar_addr,
  input  logic [7:0]   ar_len,
  input  logic         r_valid,
  input  logic         r_ready,
  input  logic [511:0] r_data,
  input  logic [1:0]   r_resp,
  input  logic         r_last,
  input  logic         aw_valid,
  input  logic         aw_ready,
  input  logic [63:0]  aw_addr,
  input  logic [7:0]   aw_len,
  input  logic         w_valid,
  input  logic         w_ready,
  input  logic [511:0] w_data,
  input  logic [63:0]  w_strb,
  input  logic         w_last,
  input  logic         b_valid,
  input  logic         b_ready,
  input  logic [1:0]   b_resp,
  output logic [34:0]  broken_o
);
  // What was offered in the last cycle and not taken.
  logic ar_wait_q, r_wait_q, aw_wait_q, w_wait_q, b_wait_q, reset_q;
  logic [71:0]  ar_q, aw_q;
  logic [514:0] r_q;
  logic [576:0] w_q;
  logic [1:0]   b_q;
  always_ff @(posedge clk_i) begin
    ar_wait_q <= rst_ni && ar_valid && !ar_ready;
    r_wait_q  <= rst_ni && r_valid && !r_ready;
    aw_wait_q <= rst_ni && aw_valid && !aw_ready;
    w_wait_q  <= rst_ni && w_valid && !w_ready;
    b_wait_q  <= rst_ni && b_valid && !b_ready;
    reset_q   <= !rst_ni;
    ar_q      <= {ar_len, ar_addr};
    aw_q      <= {aw_len, aw_addr};
    r_q       <= {r_last, r_resp, r_data};
    w_q       <= {w_last, w_strb, w_data};
    b_q       <= b_resp;
  end

  // Bursts that have begun, in order; which beat of the oldest is next.
  logic [7:0] reads [0:63];
  logic [7:0] writes [0:63];
  logic [6:0] read_head_q, read_tail_q, write_head_q, write_tail_q, answer_q;
  logic [7:0] read_beat_q, write_beat_q;
  logic [6:0] reading, writing, answering;
  logic       ar, r, aw, w, b;
  assign ar        = ar_valid && ar_ready;
  assign r         = r_valid && r_ready;
  assign aw        = aw_valid && aw_ready;
  assign w         = w_valid && w_ready;
  assign b         = b_valid && b_ready;
  assign reading   = read_tail_q - read_head_q;    // without their last beat
  assign writing   = write_tail_q - write_head_q;  // without their last beat
  assign answering = write_head_q - answer_q;      // written and not answered
  always_ff @(posedge clk_i) begin
    if (ar) reads[read_tail_q[5:0]] <= ar_len;
    if (aw) writes[write_tail_q[5:0]] <= aw_len;
    if (!rst_ni) begin
      read_head_q  <= 7'd0;
      read_tail_q  <= 7'd0;
      read_beat_q  <= 8'd0;
      write_head_q <= 7'd0;
      write_tail_q <= 7'd0;
      write_beat_q <= 8'd0;
      answer_q     <= 7'd0;
    end else begin
      read_tail_q  <= read_tail_q + {6'd0, ar};
      read_head_q  <= read_head_q + {6'd0, r && r_last};
      read_beat_q  <= !r ? read_beat_q : r_last ? 8'd0 : read_beat_q + 8'd1;
      write_tail_q <= write_tail_q + {6'd0, aw};
      write_head_q <= write_head_q + {6'd0, w && w_last};
      write_beat_q <= !w ? write_beat_q : w_last ? 8'd0 : write_beat_q + 8'd1;
      answer_q     <= answer_q + {6'd0, b};
    end
  end

  logic [13:0] ar_end, aw_end;  // of the burst, from the start of its 4 KB
  assign ar_end = {2'd0, ar_addr[11:0]} + {6'd0, ar_len} * 14'd64 + 14'd64;
  assign aw_end = {2'd0, aw_addr[11:0]} + {6'd0, aw_len} * 14'd64 + 14'd64;

  logic [34:0] now;
  always_comb begin
    now = '0;
    // Valid stays, with what it says, until ready; and is low after a reset.
    now[0]  = ar_wait_q && !ar_valid;
    now[1]  = ar_wait_q && ar_valid && ar_addr != ar_q[63:0];
    now[2]  = ar_wait_q && ar_valid && ar_len != ar_q[71:64];
    now[3]  = reset_q && ar_valid;
    now[4]  = r_wait_q && !r_valid;
    now[5]  = r_wait_q && r_valid && r_data != r_q[511:0];
    now[6]  = r_wait_q && r_valid && r_resp != r_q[513:512];
    now[7]  = r_wait_q && r_valid && r_last != r_q[514];
    now[8]  = reset_q && r_valid;
    now[9]  = aw_wait_q && !aw_valid;
    now[10] = aw_wait_q && aw_valid && aw_addr != aw_q[63:0];
    now[11] = aw_wait_q && aw_valid && aw_len != aw_q[71:64];
    now[12] = reset_q && aw_valid;
    now[13] = w_wait_q && !w_valid;
    now[14] = w_wait_q && w_valid && w_data != w_q[511:0];
    now[15] = w_wait_q && w_valid && w_strb != w_q[575:512];
    now[16] = w_wait_q && w_valid && w_last != w_q[576];
    now[17] = reset_q && w_valid;
    now[18] = b_wait_q && !b_valid;
    now[19] = b_wait_q && b_valid && b_resp != b_q;
    now[20] = reset_q && b_valid;
    // Addresses.
    now[21] = ar_valid && ar_end > 14'd4096;
    now[22] = ar_valid && ar_addr[5:0] != 6'd0;
    now[23] = ar_valid && ar_len > 8'd63;
    now[24] = aw_valid && aw_end > 14'd4096;
    now[25] = aw_valid && aw_addr[5:0] != 6'd0;
    now[26] = aw_valid && aw_len > 8'd63;
    now[27] = ar && reading >= Most[6:0];
    now[28] = aw && writing + answering >= Most[6:0];
    // Answers: to something, of the right length, of a kind that was asked for.
    now[29] = r_valid && reading == 7'd0;
    now[30] = r_valid && reading != 7'd0 && r_last != (read_beat_q == reads[read_head_q[5:0]]);
    now[31] = w_valid && writing == 7'd0;
    now[32] = w_valid && writing != 7'd0 && w_last != (write_beat_q == writes[write_head_q[5:0]]);
    now[33] = b_valid && answering == 7'd0;
    now[34] = (r_valid && r_resp == 2'b01) || (b_valid && b_resp == 2'b01);
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) broken_o <= '0;
    else         broken_o <= broken_o | now;
  end
endmodule
