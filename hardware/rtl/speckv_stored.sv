// speckv_stored -- the stored parameters of units, from a beat's bytes to the 32 lanes of a
// chunk.
//
// A ring of 64-byte words in two banks of block RAM, so that the 128 bytes of 32 channels are
// read at once. Units start at even words.
//
// Ports: words in, `in_last_i` with a unit's last; for a chunk (of the oldest unit that is not
// released) {zero, scale} of each lane, by channel (keys) or by row. `release_i` gives the unit's
// `release_words_i` words back. Latency of reading: 3 cycles, a chunk a cycle, never stalls.
// Trusts that a unit has at most `Words` words, and that reading begins when all are written.
module speckv_stored #(
  parameter int Words = 4096  // a power of two, at least 64
) (
  input  logic          clk_i,
  input  logic          rst_ni,
  input  logic          in_valid_i,
  output logic          in_ready_o,
  input  logic [511:0]  in_data_i,
  input  logic          in_last_i,
  input  logic          int8_i,
  input  logic          keys_i,
  input  logic [15:0]   row_i,
  input  logic [4:0]    index_i,
  input  logic          release_i,
  input  logic [15:0]   release_words_i,  // even
  output logic [1023:0] out_data_o
);
  localparam int Bits = $clog2(Words);

  // Counters of words; `base` is where the oldest unit starts.
  logic [Bits:0] tail_d, tail_q, base_d, base_q, used;
  logic          take;
  assign used       = tail_q - base_q;
  assign in_ready_o = !used[Bits];
  assign take       = in_valid_i && in_ready_o;
  assign tail_d     = !take ? tail_q
                      : tail_q + {{Bits{1'b0}}, 1'b1} + {{Bits{1'b0}}, in_last_i && !tail_q[0]};
  assign base_d     = release_i ? base_q + release_words_i[Bits:0] : base_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      tail_q <= '0;
      base_q <= '0;
    end else begin
      tail_q <= tail_d;
      base_q <= base_d;
    end
  end

  // 1: the pair of words.
  logic [511:0]    even_mem [0:Words/2-1];
  logic [511:0]    odd_mem [0:Words/2-1];
  logic [511:0]    even_q, odd_q;
  logic [Bits-2:0] pair, offset;
  logic [15:0]     word;
  assign word   = keys_i ? {10'd0, index_i, 1'b0} : int8_i ? {5'd0, row_i[15:5]}
                                                           : {4'd0, row_i[15:4]};
  assign offset = word[Bits-1:1];
  assign pair   = base_q[Bits-1:1] + offset;
  always_ff @(posedge clk_i) begin
    if (take && !tail_q[0]) even_mem[tail_q[Bits-1:1]] <= in_data_i;
    even_q <= even_mem[pair];
  end
  always_ff @(posedge clk_i) begin
    if (take && tail_q[0]) odd_mem[tail_q[Bits-1:1]] <= in_data_i;
    odd_q <= odd_mem[pair];
  end

  // 2: the word of the row. 3: its place, for all lanes.
  logic [1:0]   int8_q, keys_q;
  logic         odd1_q;
  logic [5:0]   row1_q, row2_q;
  logic [511:0] even2_q, odd2_q;
  logic [31:0]  of_row;
  always_ff @(posedge clk_i) begin
    int8_q  <= {int8_q[0], int8_i};
    keys_q  <= {keys_q[0], keys_i};
    odd1_q  <= word[0];
    row1_q  <= row_i[5:0];
    row2_q  <= row1_q;
    even2_q <= !keys_q[0] && odd1_q ? odd_q : even_q;
    odd2_q  <= odd_q;
  end
  assign of_row = int8_q[1] ? {16'd0, even2_q[{row2_q[4:0], 4'd0} +: 16]}
                            : even2_q[{row2_q[3:0], 5'd0} +: 32];
  always_ff @(posedge clk_i) out_data_o <= keys_q[1] ? {odd2_q, even2_q} : {32{of_row}};

  logic unused;
  assign unused = &{1'b0, row2_q[5], release_words_i[15:Bits], word[15:Bits]};

`ifdef SPECKV_ASSERT
  always @(posedge clk_i) if (rst_ni) a_even: assert (!base_q[0] && !release_words_i[0]);
`endif
endmodule
