// speckv_translate -- the addresses of one AXI4 channel: while `paged_i`, offsets in a region of
// pages become bus addresses, else they pass as they are.
//
// A burst lies within 4 KB, so within a page. Ports: bursts in and out, in order; the list's place
// and the pages' size; a lookup of the TLB, which answers in the next cycle (speckv_tlb).
// Latency: 3 cycles, a burst a cycle; none while not paged. Trusts that `paged_i` and what belongs
// to it change only while no burst is here, and that the TLB has the page.
module speckv_translate (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        paged_i,
  input  logic [15:0] list_i,        // low bits of address / 8
  input  logic [5:0]  shift_i,       // 12 to 30
  input  logic        in_valid_i,
  output logic        in_ready_o,
  input  logic [63:0] in_address_i,
  input  logic [7:0]  in_length_i,
  output logic [15:0] entry_o,
  input  logic [51:0] page_i,
  output logic        out_valid_o,
  input  logic        out_ready_i,
  output logic [63:0] out_address_o,
  output logic [7:0]  out_length_o
);
  // ---- 1: where the page's entry is; 2: the page, from the TLB ----------------------------------
  logic        can_reserve, take, take1_q, take2_q;
  logic [63:0] index, address1_q, address2_q;
  logic [15:0] entry_d;
  logic [7:0]  length1_q, length2_q;
  assign take    = in_valid_i && paged_i && can_reserve;
  assign index   = in_address_i >> shift_i;
  assign entry_d = list_i + index[15:0];
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      take1_q <= 1'b0;
      take2_q <= 1'b0;
    end else begin
      take1_q <= take;
      take2_q <= take1_q;
    end
  end
  always_ff @(posedge clk_i) begin
    entry_o    <= entry_d;
    address1_q <= in_address_i;
    length1_q  <= in_length_i;
    address2_q <= address1_q;
    length2_q  <= length1_q;
  end

  // ---- 3: bits below the page's size are the offset's -------------------------------------------
  logic [17:0] inner;
  logic [63:0] address, kept_address;
  logic [7:0]  kept_length;
  logic        kept_valid;
  for (genvar i = 0; i < 18; i++) begin : gen_inner
    localparam logic [5:0] Bit = 12 + i;
    assign inner[i] = Bit < shift_i;
  end
  assign address = {page_i[51:18], (page_i[17:0] & ~inner) | (address2_q[29:12] & inner),
                    address2_q[11:0]};
  speckv_credit_fifo #(.Width(72), .Depth(4)) u_kept (
    .clk_i(clk_i), .rst_ni(rst_ni), .reserve_i(take), .can_reserve_o(can_reserve),
    .in_valid_i(take2_q), .in_data_i({address, length2_q}), .out_valid_o(kept_valid),
    .out_ready_i(out_ready_i && paged_i), .out_data_o({kept_address, kept_length}));

  assign in_ready_o    = paged_i ? can_reserve : out_ready_i;
  assign out_valid_o   = paged_i ? kept_valid : in_valid_i;
  assign out_address_o = paged_i ? kept_address : in_address_i;
  assign out_length_o  = paged_i ? kept_length : in_length_i;
`ifdef SPECKV_ASSERT
  always @(posedge clk_i)
    if (rst_ni) a_empty: assert (paged_i || !(take1_q || take2_q || kept_valid));
`endif
  logic unused;
  assign unused = &{1'b0, index, address2_q[63:30]};
endmodule
