// prove_tlb -- speckv_tlb of two places: it tells that a line is here if, and only if, that line of
// that region was filled and neither its place nor everything was given up since, and then it names
// the pages that were filled.
//
// The solver picks one line of one region and one of its eight entries; what holds for that one
// holds for each, also for two regions whose lists share a line.
module prove_tlb (
  input logic         clk_i,
  input logic         rst_ni,
  input logic         flush,
  input logic [11:0]  query_region,
  input logic [57:0]  query_line,
  input logic         fill,
  input logic [11:0]  fill_region,
  input logic [57:0]  fill_line,
  input logic [511:0] fill_data,
  input logic [15:0]  entry
);
  (* anyconst *) logic [11:0] region;
  (* anyconst *) logic [57:0] line;
  (* anyconst *) logic [2:0]  word;
  logic        busy, here, known_q, asked_q, was_known_q, named_q, said_q;
  logic [51:0] page, page_q, was_page_q;
  speckv_tlb #(.Lines(2)) dut (
    .clk_i(clk_i), .rst_ni(rst_ni), .flush_i(flush), .busy_o(busy),
    .query_region_i(query_region), .query_line_i(query_line), .here_o(here),
    .fill_i(fill), .fill_region_i(fill_region), .fill_line_i(fill_line), .fill_data_i(fill_data),
    .entry_i(entry), .page_o(page));
  reset_first u_reset (.clk_i(clk_i), .rst_ni(rst_ni));
  always @* assume (!(busy && fill));

  logic         same;
  logic [511:0] shifted;
  assign same    = fill_region == region && fill_line == line;
  assign shifted = fill_data >> {word, 6'd12};
  always_ff @(posedge clk_i) begin
    if (!rst_ni || flush)                       known_q <= 1'b0;
    else if (fill && fill_line[0] == line[0])   known_q <= same;
    if (fill && same)                           page_q  <= shifted[51:0];
    // A question of this cycle is answered in the next one, by what was known in this one.
    asked_q     <= rst_ni && !busy && query_region == region && query_line == line;
    was_known_q <= known_q;
    named_q     <= rst_ni && !busy && known_q && entry == {line[12:0], word};
    was_page_q  <= page_q;
    said_q      <= rst_ni && busy;
  end
  always @(posedge clk_i) if (rst_ni) begin
    known:   assert (!asked_q || here == was_known_q);
    pages:   assert (!named_q || page == was_page_q);
    flushed: assert (!flush || busy);
    found:   cover (asked_q && here && named_q);
    rid:     cover (said_q && !busy);
  end
endmodule
