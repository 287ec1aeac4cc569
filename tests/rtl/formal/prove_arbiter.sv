// prove_arbiter -- speckv_arbiter: at most one grant, only to who asks, kept until it is taken, and
// nobody is passed over twice by the same other.
module prove_arbiter (
  input logic       clk_i,
  input logic       rst_ni,
  input logic [3:0] request,
  input logic       ready
);
  logic [3:0] grant, taken, waiting_q, grant_q;
  logic       kept_q;
  speckv_arbiter #(.Count(4)) dut (
    .clk_i(clk_i), .rst_ni(rst_ni), .request_i(request), .ready_i(ready), .grant_o(grant));
  reset_first u_reset (.clk_i(clk_i), .rst_ni(rst_ni));
  assign taken = ready ? grant : 4'd0;

  // Two places, and how often the second was served while the first waited.
  (* anyconst *) logic [1:0] one;
  (* anyconst *) logic [1:0] other;
  logic [1:0] passed_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      waiting_q <= 4'd0;
      kept_q    <= 1'b0;
      passed_q  <= 2'd0;
    end else begin
      waiting_q <= request & ~taken;
      kept_q    <= grant != 4'd0 && !ready;
      passed_q  <= !request[one] || taken[one] ? 2'd0 : passed_q + {1'b0, taken[other]};
    end
    grant_q <= grant;
  end
  // A request is not taken back.
  always @* if (rst_ni) assume ((waiting_q & ~request) == 4'd0);
  always @(posedge clk_i) if (rst_ni) begin
    one_grant:  assert ((grant & (grant - 4'd1)) == 4'd0);
    of_asked:   assert ((grant & ~request) == 4'd0);
    some_grant: assert ((grant != 4'd0) == (request != 4'd0));
    stays:      assert (!kept_q || grant == grant_q);
    fair:       assert (passed_q <= 2'd1);
    all:        cover (taken == 4'd8 && waiting_q == 4'd15);
  end
endmodule
