// speckv_fifo -- a queue in distributed RAM whose head is visible at once.
//
// Ports: valid/ready on both sides. Latency: 1 cycle. One word in and one out every cycle.
// Trusts nothing: a word is taken only while `in_ready_o` is 1.
module speckv_fifo #(
  parameter int Width = 8,
  parameter int Depth = 4  // a power of two, at least 2
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             in_valid_i,
  output logic             in_ready_o,
  input  logic [Width-1:0] in_data_i,
  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [Width-1:0] out_data_o
);
  localparam int Bits = $clog2(Depth);

  logic [Width-1:0] mem [0:Depth-1];
  // One bit more than an address: equal counters are empty, unequal ones at one address full.
  logic [Bits:0] head_d, head_q, tail_d, tail_q;
  logic push, pop, same_place;

  assign same_place  = head_q[Bits-1:0] == tail_q[Bits-1:0];
  assign out_valid_o = head_q != tail_q;
  assign in_ready_o  = !(same_place && out_valid_o);
  assign out_data_o  = mem[head_q[Bits-1:0]];
  assign push        = in_valid_i && in_ready_o;
  assign pop         = out_valid_o && out_ready_i;
  assign head_d      = head_q + {{Bits{1'b0}}, pop};
  assign tail_d      = tail_q + {{Bits{1'b0}}, push};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      head_q <= '0;
      tail_q <= '0;
    end else begin
      head_q <= head_d;
      tail_q <= tail_d;
    end
  end
  always_ff @(posedge clk_i) if (push) mem[tail_q[Bits-1:0]] <= in_data_i;

`ifdef SPECKV_ASSERT
  logic [Bits:0] used;
  assign used = tail_q - head_q;
  always @(posedge clk_i) if (rst_ni) a_bounded: assert (!used[Bits] || used[Bits-1:0] == '0);
`endif
endmodule
