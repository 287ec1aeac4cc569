// speckv_error_log -- the oldest errors, in order. When it is full the newest are dropped.
//
// Ports: an entry a cycle; the oldest entry (0 if there is none), how many there are, `pop_i`
// forgets the oldest. `clear_i` forgets all. Latency: 1 cycle. Trusts nothing.
module speckv_error_log (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        clear_i,
  input  logic        push_i,
  input  logic [63:0] entry_i,
  input  logic        pop_i,
  output logic [4:0]  pending_o,
  output logic [63:0] oldest_o
);
  logic        room, some, take, drop;
  logic [4:0]  pending_d, pending_q;
  logic [63:0] head;
  assign take      = push_i && room;
  assign drop      = pop_i && some;
  assign pending_d = pending_q + {4'd0, take} - {4'd0, drop};
  assign pending_o = pending_q;
  assign oldest_o  = some ? head : 64'd0;

  logic live;  // a reset of the card is one of the log
  assign live = rst_ni && !clear_i;
  always_ff @(posedge clk_i) begin
    if (!live) pending_q <= 5'd0;
    else       pending_q <= pending_d;
  end
  speckv_fifo #(.Width(64), .Depth(16)) u_entries (
    .clk_i(clk_i), .rst_ni(live),
    .in_valid_i(push_i), .in_ready_o(room), .in_data_i(entry_i),
    .out_valid_o(some), .out_ready_i(pop_i), .out_data_o(head));
endmodule
