// speckv_credit_fifo -- the end of a pipeline that cannot stall: a place is reserved when a
// word enters the pipeline, and the word finds it when it leaves.
//
// Ports: `reserve_i` while `can_reserve_o`; `in_valid_i` once for each reservation, any number
// of cycles later; valid/ready out. Latency: 1 cycle. Trusts the pipeline to deliver what it
// reserved and no more (asserted).
module speckv_credit_fifo #(
  parameter int Width = 8,
  parameter int Depth = 8  // a power of two; at least the pipeline's length for full rate
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             reserve_i,
  output logic             can_reserve_o,
  input  logic             in_valid_i,
  input  logic [Width-1:0] in_data_i,
  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [Width-1:0] out_data_o
);
  localparam int Bits = $clog2(Depth);

  logic [Bits:0] taken_d, taken_q;
  logic pop, room;

  assign pop           = out_valid_o && out_ready_i;
  assign can_reserve_o = !taken_q[Bits];
  assign taken_d       = taken_q + {{Bits{1'b0}}, reserve_i} - {{Bits{1'b0}}, pop};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) taken_q <= '0;
    else         taken_q <= taken_d;
  end

  speckv_fifo #(.Width(Width), .Depth(Depth)) u_fifo (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(in_valid_i), .in_ready_o(room), .in_data_i(in_data_i),
    .out_valid_o(out_valid_o), .out_ready_i(out_ready_i), .out_data_o(out_data_o));

`ifdef SPECKV_ASSERT
  always @(posedge clk_i) if (rst_ni) begin
    a_room:     assert (room || !in_valid_i);
    a_reserved: assert (can_reserve_o || !reserve_i);
  end
`else
  logic unused_room;
  assign unused_room = room;
`endif
endmodule
