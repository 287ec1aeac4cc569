// prove_credit_fifo -- speckv_credit_fifo at the end of a pipeline of three stages: there is always
// room for what was reserved, and all of it arrives.
module prove_credit_fifo (
  input logic       clk_i,
  input logic       rst_ni,
  input logic       want,
  input logic [1:0] in_data,
  input logic       out_ready
);
  logic        can_reserve, reserve, out_valid;
  logic [1:0]  out_data;
  logic [2:0]  valid_q;
  logic [5:0] data_q;
  assign reserve = want && can_reserve;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 3'd0;
    else         valid_q <= {valid_q[1:0], reserve};
    data_q <= {data_q[3:0], in_data};
  end
  speckv_credit_fifo #(.Width(2), .Depth(2)) dut (
    .clk_i(clk_i), .rst_ni(rst_ni), .reserve_i(reserve), .can_reserve_o(can_reserve),
    .in_valid_i(valid_q[2]), .in_data_i(data_q[5:4]),
    .out_valid_o(out_valid), .out_ready_i(out_ready), .out_data_o(out_data));
  reset_first u_reset (.clk_i(clk_i), .rst_ni(rst_ni));
  queue_properties #(.Width(2), .Most(2)) u_properties (
    .clk_i(clk_i), .rst_ni(rst_ni), .in_i(reserve), .in_data_i(in_data),
    .out_valid_i(out_valid), .out_ready_i(out_ready), .out_data_i(out_data));
endmodule
