// speckv_channels -- four tables of quantiser parameters by channel: one is read while the next
// units of keys write others. Two would be held a little too long for units of 16 tokens.
//
// Ports: pairs of channels in order, `in_last_i` with a unit's last; 32 channels at `place_i`,
// in the same cycle, from the oldest table that is written; `done_i` gives that one back.
// Trusts that at most 1,024 channels are written, and that reading begins when one is written.
module speckv_channels (
  input  logic          clk_i,
  input  logic          rst_ni,
  input  logic          in_valid_i,
  output logic          in_ready_o,
  input  logic [75:0]   in_data_i,
  input  logic          in_last_i,
  input  logic [4:0]    place_i,
  input  logic          done_i,
  output logic [1215:0] out_data_o
);
  logic       take, filled;
  logic [1:0] write_bank_d, write_bank_q, read_bank_d, read_bank_q;
  logic [2:0] full_d, full_q;  // tables written and not yet given back
  logic [8:0] pair_d, pair_q;
  assign in_ready_o   = !full_q[2];
  assign take         = in_valid_i && in_ready_o;
  assign filled       = take && in_last_i;
  assign full_d       = full_q + {2'd0, filled} - {2'd0, done_i};
  assign pair_d       = !take ? pair_q : in_last_i ? 9'd0 : pair_q + 9'd1;
  assign write_bank_d = write_bank_q + {1'b0, filled};
  assign read_bank_d  = read_bank_q + {1'b0, done_i};
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      full_q       <= 3'd0;
      pair_q       <= 9'd0;
      write_bank_q <= 2'd0;
      read_bank_q  <= 2'd0;
    end else begin
      full_q       <= full_d;
      pair_q       <= pair_d;
      write_bank_q <= write_bank_d;
      read_bank_q  <= read_bank_d;
    end
  end

  for (genvar i = 0; i < 16; i++) begin : gen_pair
    localparam logic [3:0] Slot = i;
    logic [75:0] mem [0:127];
    always_ff @(posedge clk_i)
      if (take && pair_q[3:0] == Slot) mem[{write_bank_q, pair_q[8:4]}] <= in_data_i;
    assign out_data_o[76*i +: 76] = mem[{read_bank_q, place_i}];
  end

`ifdef SPECKV_ASSERT
  always @(posedge clk_i) if (rst_ni) a_given_back_once: assert (full_q != 3'd0 || !done_i);
`endif
endmodule
