// speckv_arbiter -- grants one of several requests, in turn: after a grant is taken, the next
// higher request is looked at first, so that each waits for at most one grant of every other.
//
// Ports: requests, which stay until they are granted and taken; a grant (one bit, or none without
// a request) that stays until `ready_i` takes it. Latency: none; a grant a cycle. Trusts that a
// request is not taken back (asserted).
module speckv_arbiter #(
  parameter int Count = 4
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic [Count-1:0] request_i,
  input  logic             ready_i,
  output logic [Count-1:0] grant_o
);
  // Requests above the last one that was served; and, while a grant waits, that grant.
  logic [Count-1:0] above_d, above_q, held_d, held_q;
  logic [Count-1:0] preferred, candidates, pick;

  assign preferred  = request_i & above_q;
  assign candidates = preferred != '0 ? preferred : request_i;
  assign pick       = candidates & (~candidates + {{(Count-1){1'b0}}, 1'b1});  // the lowest
  assign grant_o    = held_q != '0 ? held_q : pick;
  assign held_d     = ready_i ? '0 : grant_o;
  assign above_d    = ready_i && grant_o != '0 ? ~(grant_o | (grant_o - {{(Count-1){1'b0}}, 1'b1}))
                                               : above_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      above_q <= '0;
      held_q  <= '0;
    end else begin
      above_q <= above_d;
      held_q  <= held_d;
    end
  end

`ifdef SPECKV_ASSERT
  always @(posedge clk_i) if (rst_ni) a_kept: assert ((held_q & ~request_i) == '0);
`endif
endmodule
