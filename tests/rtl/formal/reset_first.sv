// reset_first -- the first cycle of a proof is a reset; later ones come when the solver likes.
module reset_first (
  input logic clk_i,
  input logic rst_ni
);
  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;
  always @* assume (started_q || !rst_ni);
endmodule
