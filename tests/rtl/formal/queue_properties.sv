// queue_properties -- what every queue keeps: words leave in the order in which they entered, none
// is lost, doubled or changed, and what is offered stays until it is taken.
//
// The solver picks the number of one word; what holds for that one holds for each.
module queue_properties #(
  parameter int unsigned Width = 4,
  parameter int unsigned Most = 4  // words inside
) (
  input logic             clk_i,
  input logic             rst_ni,
  input logic             in_i,         // a word enters
  input logic [Width-1:0] in_data_i,
  input logic             out_valid_i,
  input logic             out_ready_i,
  input logic [Width-1:0] out_data_i
);
  (* anyconst *) logic [3:0] number;
  logic [3:0]       entered_q, left_q, held;
  logic [Width-1:0] word_q, offer_q;
  logic             offered_q, out;
  assign out  = out_valid_i && out_ready_i;
  assign held = entered_q - left_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      entered_q <= 4'd0;
      left_q    <= 4'd0;
      offered_q <= 1'b0;
    end else begin
      entered_q <= entered_q + {3'd0, in_i};
      left_q    <= left_q + {3'd0, out};
      offered_q <= out_valid_i && !out_ready_i;
    end
    offer_q <= out_data_i;
    if (in_i && entered_q == number) word_q <= in_data_i;
  end
  always @(posedge clk_i) if (rst_ni) begin
    bounded:  assert (held <= Most);
    nothing:  assert (!(out_valid_i && held == 4'd0));
    in_order: assert (!(out && left_q == number) || out_data_i == word_q);
    stays:    assert (!offered_q || (out_valid_i && out_data_i == offer_q));
    full:     cover (held == Most);
    drained:  cover (left_q == 4'd3 && held == 4'd0);
  end
endmodule
