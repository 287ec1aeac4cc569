// prove_translate -- speckv_translate, with any bursts and any pages: each burst of a region of
// pages leaves in its order, with its length, at its page and its offset in that, and the entry
// that is looked up is the page's; without pages addresses pass as they are.
//
// The solver picks the number of one burst and one bit of its address; what holds for that one
// holds for each. Whether there are pages, where the list is and how large they are stays, as it does during a job.
module prove_translate (
  input logic        clk_i,
  input logic        rst_ni,
  input logic        in_valid,
  input logic [63:0] in_address,
  input logic [7:0]  in_length,
  input logic [51:0] page,
  input logic        out_ready
);
  (* anyconst *) logic        paged;
  (* anyconst *) logic [15:0] list;
  (* anyconst *) logic [5:0]  shift;
  (* anyconst *) logic [3:0]  number;
  (* anyconst *) logic [5:0]  place;
  logic        in_ready, out_valid, in, out;
  logic [15:0] entry;
  logic [63:0] out_address;
  logic [7:0]  out_length;
  speckv_translate dut (
    .clk_i(clk_i), .rst_ni(rst_ni), .paged_i(paged), .list_i(list), .shift_i(shift),
    .in_valid_i(in_valid), .in_ready_o(in_ready), .in_address_i(in_address),
    .in_length_i(in_length), .entry_o(entry), .page_i(page), .out_valid_o(out_valid),
    .out_ready_i(out_ready), .out_address_o(out_address), .out_length_o(out_length));
  reset_first u_reset (.clk_i(clk_i), .rst_ni(rst_ni));
  always @* assume (shift >= 6'd12 && shift <= 6'd30);
  assign in  = in_valid && in_ready;
  assign out = out_valid && out_ready;

  logic [3:0]  entered_q, left_q, held;
  logic        first_q, second_q, offered_q;
  logic [63:0] address_q, index, base, offered, of_page, of_offset;
  logic        want_q;
  logic [7:0]  length_q;
  logic [71:0] offer_q;
  assign held      = entered_q - left_q;
  assign base      = {page, 12'd0};
  assign offered   = out_address >> place;
  assign of_page   = base >> place;
  assign of_offset = address_q >> place;
  assign index     = address_q >> shift;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      entered_q <= 4'd0;
      left_q    <= 4'd0;
      first_q   <= 1'b0;
      second_q  <= 1'b0;
      offered_q <= 1'b0;
    end else begin
      entered_q <= entered_q + {3'd0, in};
      left_q    <= left_q + {3'd0, out};
      first_q   <= in && entered_q == number;
      second_q  <= first_q;
      offered_q <= out_valid && !out_ready;
    end
    offer_q <= {out_address, out_length};
    if (in && entered_q == number) begin
      address_q <= in_address;
      length_q  <= in_length;
    end
    // The TLB answers in the cycle behind the one in which it was asked.
    if (second_q) want_q <= place < shift ? of_offset[0] : of_page[0];
  end
  always @(posedge clk_i) if (rst_ni) begin
    looked_up: assert (!(paged && first_q) || entry == list + index[15:0]);
    bounded:   assert (!paged || held <= 4'd4);
    nothing:   assert (!(paged && out_valid && held == 4'd0));
    address:   assert (!(paged && out && left_q == number) || offered[0] == want_q);
    length:    assert (!(paged && out && left_q == number) || out_length == length_q);
    stays:     assert (!(paged && offered_q) || (out_valid && {out_address, out_length} == offer_q));
    passes:    assert (paged || (out_valid == in_valid && in_ready == out_ready
                                 && out_address == in_address && out_length == in_length));
    full:      cover (paged && held == 4'd4);
    drained:   cover (paged && left_q == 4'd2 && held == 4'd0);
  end
endmodule
