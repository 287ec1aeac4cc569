// speckv_tlb -- pages that were read from lists: entries of a region's list, eight together as they
// lie in 64 bytes of host memory, found again by the region and where they lie.
//
// One place for each line, by its address, so that lines of a list that follow each other are here
// together. Ports: `query_`, and in the next cycle whether the line is here; `fill_i` puts a line
// in its place; `entry_i`, the number of an 8-byte word of host memory as far as places need it,
// and in the next cycle the page that this word names. `flush_i` empties it, one place a cycle, as
// power-on does: `busy_o` until then, and nothing is asked or filled.
// Trusts who looks a page up to know that its line is here; of an entry, nothing but its bits.
module speckv_tlb #(
  parameter int Lines = 1024  // a power of two, 2 to 8192
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         flush_i,
  output logic         busy_o,
  input  logic [11:0]  query_region_i,
  input  logic [57:0]  query_line_i,   // address / 64
  output logic         here_o,
  input  logic         fill_i,
  input  logic [11:0]  fill_region_i,
  input  logic [57:0]  fill_line_i,
  input  logic [511:0] fill_data_i,
  input  logic [15:0]  entry_i,        // low bits of address / 8
  output logic [51:0]  page_o          // address / 4096
);
  localparam int Bits = $clog2(Lines);
  localparam int TagBits = 71 - Bits;  // valid, region, the rest of the line

  // ---- forgetting -------------------------------------------------------------------------------
  logic            sweep_d, sweep_q;
  logic [Bits-1:0] place_d, place_q;
  assign busy_o  = sweep_q || flush_i;
  assign sweep_d = flush_i || (sweep_q && place_q != '1);
  assign place_d = flush_i || !sweep_q ? '0 : place_q + {{(Bits-1){1'b0}}, 1'b1};
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      sweep_q <= 1'b1;
      place_q <= '0;
    end else begin
      sweep_q <= sweep_d;
      place_q <= place_d;
    end
  end

  // ---- which lines are here ---------------------------------------------------------------------
  logic [TagBits-1:0] tags [0:Lines-1];
  logic [TagBits-1:0] tag_q, wanted_q, tag;
  logic [Bits-1:0]    write_place;
  assign write_place = sweep_q ? place_q : fill_line_i[Bits-1:0];
  assign tag         = sweep_q ? '0 : {1'b1, fill_region_i, fill_line_i[57:Bits]};
  assign here_o      = tag_q == wanted_q;
  always_ff @(posedge clk_i) begin
    if (sweep_q || fill_i) tags[write_place] <= tag;
    tag_q    <= tags[query_line_i[Bits-1:0]];
    wanted_q <= {1'b1, query_region_i, query_line_i[57:Bits]};
  end

  // ---- their pages ------------------------------------------------------------------------------
  logic [415:0] mem [0:Lines-1];
  logic [415:0] line_q, line;
  logic [2:0]   word_q;
  for (genvar i = 0; i < 8; i++) begin : gen_word
    assign line[52*i +: 52] = fill_data_i[64*i+12 +: 52];
  end
  always_ff @(posedge clk_i) begin
    if (fill_i) mem[fill_line_i[Bits-1:0]] <= line;
    line_q <= mem[entry_i[Bits+2:3]];
    word_q <= entry_i[2:0];
  end
  always_comb begin
    case (word_q)
      3'd0:    page_o = line_q[51:0];
      3'd1:    page_o = line_q[103:52];
      3'd2:    page_o = line_q[155:104];
      3'd3:    page_o = line_q[207:156];
      3'd4:    page_o = line_q[259:208];
      3'd5:    page_o = line_q[311:260];
      3'd6:    page_o = line_q[363:312];
      default: page_o = line_q[415:364];
    endcase
  end
  logic unused;
  assign unused = &{1'b0, entry_i, fill_data_i};
endmodule
