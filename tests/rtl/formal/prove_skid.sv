// prove_skid -- speckv_skid, with any traffic.
module prove_skid (
  input logic       clk_i,
  input logic       rst_ni,
  input logic       in_valid,
  input logic [1:0] in_data,
  input logic       out_ready
);
  logic       in_ready, out_valid;
  logic [1:0] out_data;
  speckv_skid #(.Width(2)) dut (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(in_valid), .in_ready_o(in_ready), .in_data_i(in_data),
    .out_valid_o(out_valid), .out_ready_i(out_ready), .out_data_o(out_data));
  reset_first u_reset (.clk_i(clk_i), .rst_ni(rst_ni));
  queue_properties #(.Width(2), .Most(2)) u_properties (
    .clk_i(clk_i), .rst_ni(rst_ni), .in_i(in_valid && in_ready), .in_data_i(in_data),
    .out_valid_i(out_valid), .out_ready_i(out_ready), .out_data_i(out_data));
endmodule
