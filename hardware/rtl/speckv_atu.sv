// speckv_atu -- regions of pages: before a job, the pages of its source and target are looked for,
// and read from the region's list where they are not known; during it, the addresses of both pass
// through here (docs/queue-protocol.md, "Regions and tenants").
//
// A TLB for either side, so that a job that reads and writes pages finds both, and no list is read
// while data is on the same bus: a write that waited for its page behind data that waits for that
// write would stand for ever.
// Ports: `walk_`, a side of the descriptor, until `walk_done_o`; the sides, which stay from the
// walk to the end of the job, `*_paged_i` while the job runs; reads of lists as jobs of the mover;
// the addresses and the write data of the mover and of the bus, where data waits for its address.
// `flush_i` empties the TLBs, `busy_o` until it is done. Latency: those of speckv_page_walk and
// speckv_translate.
// Trusts the region table's check of both ranges, and the list: who writes one names any page.
module speckv_atu #(
  parameter int Lines = 1024  // of each TLB, 8 pages each; a power of two
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         flush_i,
  output logic         busy_o,
  input  logic         walk_valid_i,
  input  logic         walk_target_i,
  output logic         walk_done_o,
  output logic         walk_failed_o,
  input  logic         source_paged_i,
  input  logic [11:0]  source_region_i,
  input  logic [63:0]  source_list_i,
  input  logic [5:0]   source_shift_i,
  input  logic [63:0]  source_offset_i,
  input  logic [31:0]  source_bytes_i,
  input  logic         target_paged_i,
  input  logic [11:0]  target_region_i,
  input  logic [63:0]  target_list_i,
  input  logic [5:0]   target_shift_i,
  input  logic [63:0]  target_offset_i,
  input  logic [31:0]  target_bytes_i,
  output logic         read_start_o,     // a list, from host memory
  output logic         reading_o,
  output logic [63:0]  read_address_o,
  output logic [31:0]  read_bytes_o,
  input  logic         read_beat_i,
  input  logic [511:0] read_data_i,
  input  logic         read_done_i,
  input  logic         read_error_i,
  input  logic         ar_valid_i,
  output logic         ar_ready_o,
  input  logic [63:0]  ar_addr_i,
  input  logic [7:0]   ar_len_i,
  output logic         h_ar_valid_o,
  input  logic         h_ar_ready_i,
  output logic [63:0]  h_ar_addr_o,
  output logic [7:0]   h_ar_len_o,
  input  logic         aw_valid_i,
  output logic         aw_ready_o,
  input  logic [63:0]  aw_addr_i,
  input  logic [7:0]   aw_len_i,
  output logic         h_aw_valid_o,
  input  logic         h_aw_ready_i,
  output logic [63:0]  h_aw_addr_o,
  output logic [7:0]   h_aw_len_o,
  input  logic         w_valid_i,
  output logic         w_ready_o,
  input  logic         w_last_i,
  output logic         h_w_valid_o,
  input  logic         h_w_ready_i
);
  // ---- before a job: one walk at a time, of either side -----------------------------------------
  logic        walk_flush, here, source_here, target_here, tlb_busy, source_busy, target_busy, fill;
  logic [11:0] region;
  logic [57:0] query_line, fill_line;
  assign region   = walk_target_i ? target_region_i : source_region_i;
  assign here     = walk_target_i ? target_here : source_here;
  assign tlb_busy = walk_target_i ? target_busy : source_busy;
  assign busy_o   = source_busy || target_busy;
  assign fill     = reading_o && read_beat_i;
  speckv_page_walk u_walk (
    .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(walk_valid_i),
    .list_i(walk_target_i ? target_list_i : source_list_i),
    .shift_i(walk_target_i ? target_shift_i : source_shift_i),
    .offset_i(walk_target_i ? target_offset_i : source_offset_i),
    .bytes_i(walk_target_i ? target_bytes_i : source_bytes_i),
    .done_o(walk_done_o), .failed_o(walk_failed_o), .tlb_busy_i(tlb_busy),
    .query_line_o(query_line), .here_i(here), .fill_line_o(fill_line), .flush_o(walk_flush),
    .reading_o(reading_o), .read_start_o(read_start_o), .read_address_o(read_address_o),
    .read_bytes_o(read_bytes_o), .read_beat_i(read_beat_i), .read_done_i(read_done_i),
    .read_error_i(read_error_i));

  // ---- during it --------------------------------------------------------------------------------
  logic [15:0] source_entry, target_entry;
  logic [51:0] source_page, target_page;
  speckv_tlb #(.Lines(Lines)) u_source (
    .clk_i(clk_i), .rst_ni(rst_ni), .flush_i(flush_i || (walk_flush && !walk_target_i)),
    .busy_o(source_busy), .query_region_i(region), .query_line_i(query_line),
    .here_o(source_here), .fill_i(fill && !walk_target_i), .fill_region_i(region),
    .fill_line_i(fill_line), .fill_data_i(read_data_i), .entry_i(source_entry),
    .page_o(source_page));
  speckv_tlb #(.Lines(Lines)) u_target (
    .clk_i(clk_i), .rst_ni(rst_ni), .flush_i(flush_i || (walk_flush && walk_target_i)),
    .busy_o(target_busy), .query_region_i(region), .query_line_i(query_line),
    .here_o(target_here), .fill_i(fill && walk_target_i), .fill_region_i(region),
    .fill_line_i(fill_line), .fill_data_i(read_data_i), .entry_i(target_entry),
    .page_o(target_page));
  speckv_translate u_reads (
    .clk_i(clk_i), .rst_ni(rst_ni), .paged_i(source_paged_i), .list_i(source_list_i[18:3]),
    .shift_i(source_shift_i), .in_valid_i(ar_valid_i), .in_ready_o(ar_ready_o),
    .in_address_i(ar_addr_i), .in_length_i(ar_len_i), .entry_o(source_entry),
    .page_i(source_page), .out_valid_o(h_ar_valid_o), .out_ready_i(h_ar_ready_i),
    .out_address_o(h_ar_addr_o), .out_length_o(h_ar_len_o));
  speckv_translate u_writes (
    .clk_i(clk_i), .rst_ni(rst_ni), .paged_i(target_paged_i), .list_i(target_list_i[18:3]),
    .shift_i(target_shift_i), .in_valid_i(aw_valid_i), .in_ready_o(aw_ready_o),
    .in_address_i(aw_addr_i), .in_length_i(aw_len_i), .entry_o(target_entry),
    .page_i(target_page), .out_valid_o(h_aw_valid_o), .out_ready_i(h_aw_ready_i),
    .out_address_o(h_aw_addr_o), .out_length_o(h_aw_len_o));

  // Bursts whose address the bus has taken, and whose data it has not.
  logic [5:0] open_d, open_q;
  logic       opens, closes;
  assign opens       = h_aw_valid_o && h_aw_ready_i;
  assign closes      = h_w_valid_o && h_w_ready_i && w_last_i;
  assign open_d      = open_q + {5'd0, opens} - {5'd0, closes};
  assign h_w_valid_o = w_valid_i && open_q != 6'd0;
  assign w_ready_o   = h_w_ready_i && open_q != 6'd0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) open_q <= 6'd0;
    else         open_q <= open_d;
  end
endmodule
