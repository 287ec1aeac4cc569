// speckv_valid -- the valid bit of a pipeline that cannot stall: a delay with a reset.
module speckv_valid #(
  parameter int Cycles = 2  // at least 2
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic in_i,
  output logic out_o
);
  logic [Cycles-1:0] line_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) line_q <= '0;
    else         line_q <= {line_q[Cycles-2:0], in_i};
  end
  assign out_o = line_q[Cycles-1];
endmodule
