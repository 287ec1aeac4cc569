// speckv_skid -- cuts every path of a valid/ready port: valid, data and ready come from registers.
//
// Latency: 1 cycle; a word a cycle. A word that arrives in the cycle in which the way out is seen
// to be closed waits in a second register. Trusts nothing.
module speckv_skid #(
  parameter int Width = 8
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
  logic             out_valid_d, spare_d, spare_q, take, move;
  logic [Width-1:0] out_data_d, spare_data_d, spare_data_q;

  assign in_ready_o   = !spare_q;
  assign take         = in_valid_i && in_ready_o;
  assign move         = !out_valid_o || out_ready_i;
  assign out_valid_d  = !move || spare_q || take;
  assign out_data_d   = !move ? out_data_o : spare_q ? spare_data_q : in_data_i;
  assign spare_d      = !move && (spare_q || take);
  assign spare_data_d = take ? in_data_i : spare_data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      out_valid_o <= 1'b0;
      spare_q     <= 1'b0;
    end else begin
      out_valid_o <= out_valid_d;
      spare_q     <= spare_d;
    end
  end
  always_ff @(posedge clk_i) begin
    out_data_o   <= out_data_d;
    spare_data_q <= spare_data_d;
  end
endmodule
