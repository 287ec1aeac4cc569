// speckv_deep_fifo -- a queue in block RAM or UltraRAM.
//
// Ports: valid/ready on both sides. Latency: 3 cycles from in to out when empty. One word in
// and one out every cycle. Trusts nothing.
module speckv_deep_fifo #(
  parameter int Width = 64,
  parameter int Depth = 512  // a power of two, at least 4
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
  logic [Width-1:0] read_q;
  logic [Bits:0] head_d, head_q, tail_d, tail_q;
  logic push, fetch, fetched_q, can_fetch;

  assign in_ready_o = !(head_q[Bits-1:0] == tail_q[Bits-1:0] && head_q[Bits] != tail_q[Bits]);
  assign push       = in_valid_i && in_ready_o;
  assign fetch      = head_q != tail_q && can_fetch;
  assign head_d     = head_q + {{Bits{1'b0}}, fetch};
  assign tail_d     = tail_q + {{Bits{1'b0}}, push};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      head_q    <= '0;
      tail_q    <= '0;
      fetched_q <= 1'b0;
    end else begin
      head_q    <= head_d;
      tail_q    <= tail_d;
      fetched_q <= fetch;
    end
  end
  always_ff @(posedge clk_i) begin
    if (push) mem[tail_q[Bits-1:0]] <= in_data_i;
    read_q <= mem[head_q[Bits-1:0]];
  end

  // What was read ahead; four places cover the read and the way back of the credit.
  speckv_credit_fifo #(.Width(Width), .Depth(4)) u_ahead (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .reserve_i(fetch), .can_reserve_o(can_fetch),
    .in_valid_i(fetched_q), .in_data_i(read_q),
    .out_valid_o(out_valid_o), .out_ready_i(out_ready_i), .out_data_o(out_data_o));
endmodule
