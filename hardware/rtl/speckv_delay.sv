// speckv_delay -- a word, some cycles later. Not reset: what accompanies a valid bit need not be.
module speckv_delay #(
  parameter int Width = 1,
  parameter int Cycles = 2  // at least 2
) (
  input  logic             clk_i,
  input  logic [Width-1:0] in_i,
  output logic [Width-1:0] out_o
);
  logic [Width*Cycles-1:0] line_q;
  always_ff @(posedge clk_i) line_q <= {line_q[Width*(Cycles-1)-1:0], in_i};
  assign out_o = line_q[Width*Cycles-1 -: Width];
endmodule
