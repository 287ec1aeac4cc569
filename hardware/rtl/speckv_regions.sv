// speckv_regions -- the region table: what descriptors may name, and the check of every range that
// one does name (docs/queue-protocol.md, "Regions and tenants").
//
// Five words an entry, in block RAM; entry 0 is never valid. The register bus (window region)
// writes and reads words and is answered in 3 cycles. A check takes 4 cycles, one a cycle, but for
// the cycle of a register's read; its answer has to be taken at once. `clear_i` empties the table,
// one entry a cycle, as power-on does; `busy_o` until then, and no check begins.
// Trusts that the tenant is that of the queue; nothing of a descriptor.
module speckv_regions #(
  parameter int Entries = 4096  // a power of two, at most 4096
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        clear_i,
  output logic        busy_o,
  input  logic        request_i,
  input  logic        write_i,
  input  logic [16:0] address_i,
  input  logic [31:0] write_data_i,
  output logic        done_o,
  output logic [31:0] read_data_o,
  input  logic        check_valid_i,
  output logic        check_ready_o,
  input  logic [31:0] check_region_i,
  input  logic [15:0] check_tenant_i,
  input  logic [63:0] check_offset_i,
  input  logic [31:0] check_length_i,
  input  logic        check_writing_i,
  output logic        answer_valid_o,
  output logic        answer_ok_o,
  output logic [63:0] answer_base_o,
  output logic [31:0] answer_control_o
);
  localparam int Bits = $clog2(Entries);

  // ---- writing: a word of the host's, or zeros into all words -----------------------------------
  logic            sweep_d, sweep_q, host_write, host_read, there;
  logic [Bits-1:0] place_d, place_q, entry, write_place;
  logic [2:0]      word;
  logic [31:0]     write_word;
  assign entry       = address_i[Bits+4:5];
  assign word        = address_i[4:2];
  assign there       = {15'd0, address_i} < 32'd32 * Entries && address_i[1:0] == 2'd0
                       && word <= 3'd4;
  assign host_write  = request_i && write_i && there && entry != '0 && !sweep_q;
  assign host_read   = request_i && !write_i;
  assign busy_o      = sweep_q || clear_i;
  assign sweep_d     = clear_i || (sweep_q && place_q != '1);
  assign place_d     = clear_i || !sweep_q ? '0 : place_q + {{(Bits-1){1'b0}}, 1'b1};
  assign write_place = sweep_q ? place_q : entry;
  assign write_word  = sweep_q ? 32'd0 : write_data_i;

  // ---- 1: the entry -----------------------------------------------------------------------------
  logic            take;
  logic [Bits-1:0] read_place;
  logic [159:0]    entry_q;
  assign check_ready_o = !busy_o && !host_read;
  assign take          = check_valid_i && check_ready_o;
  assign read_place    = host_read ? entry : check_region_i[Bits-1:0];
  for (genvar i = 0; i < 5; i++) begin : gen_word
    localparam logic [2:0] Word = i;
    logic [31:0] mem [0:Entries-1];
    always_ff @(posedge clk_i) begin
      if (sweep_q || (host_write && word == Word)) mem[write_place] <= write_word;
      entry_q[32*i +: 32] <= mem[read_place];
    end
  end

  // ---- the host's read, and the answer to either ------------------------------------------------
  logic        asked1_d, asked1_q, asked2_q;
  logic [2:0]  word_q;
  logic        there_q;
  logic [31:0] read_d;
  assign asked1_d = request_i;
  always_comb begin
    read_d = 32'd0;
    case (word_q)
      3'd0:    read_d = entry_q[31:0];
      3'd1:    read_d = entry_q[63:32];
      3'd2:    read_d = entry_q[95:64];
      3'd3:    read_d = entry_q[127:96];
      3'd4:    read_d = entry_q[159:128];
      default: read_d = 32'd0;
    endcase
    if (!there_q) read_d = 32'd0;
  end
  always_ff @(posedge clk_i) begin
    word_q      <= word;
    there_q     <= there;
    read_data_o <= read_d;
  end
  assign done_o = asked2_q;

  // ---- 2: whether the entry may be used at all, and how much room is behind the range -----------
  logic        in_table_q, writing_q, take1_q, take2_q, take3_q;
  logic [15:0] tenant_q;
  logic [63:0] offset1_q, offset2_q, room_q;
  logic [31:0] length_q, control, control2_q, control3_q;
  logic [63:0] base2_q, base3_q;
  logic        allowed, allowed_q, fits, ok_q;
  logic [64:0] room;
  assign control = entry_q[159:128];
  assign room    = {1'b0, entry_q[127:64]} - {33'd0, length_q};
  // valid, the tenant's, readable or writable, and of a list of pages, its place and their size
  assign allowed = in_table_q && control[0] && control[31:16] == tenant_q
                   && (writing_q ? control[3] : control[2]) && !room[64]
                   && (!control[4] || (control[13:8] >= 6'd12 && control[13:8] <= 6'd30
                                       && entry_q[2:0] == 3'd0));
  // ---- 3: whether the range begins within that room ---------------------------------------------
  assign fits = offset2_q <= room_q;
  always_ff @(posedge clk_i) begin
    in_table_q <= check_region_i != 32'd0 && check_region_i < Entries;
    writing_q  <= check_writing_i;
    tenant_q   <= check_tenant_i;
    offset1_q  <= check_offset_i;
    length_q   <= check_length_i;
    allowed_q  <= allowed;
    room_q     <= room[63:0];
    offset2_q  <= offset1_q;
    base2_q    <= entry_q[63:0];
    control2_q <= control;
    ok_q       <= allowed_q && fits;
    base3_q    <= base2_q;
    control3_q <= control2_q;
  end
  assign answer_valid_o   = take3_q;
  assign answer_ok_o      = ok_q;
  assign answer_base_o    = base3_q;
  assign answer_control_o = control3_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      sweep_q  <= 1'b1;
      place_q  <= '0;
      asked1_q <= 1'b0;
      asked2_q <= 1'b0;
      take1_q  <= 1'b0;
      take2_q  <= 1'b0;
      take3_q  <= 1'b0;
    end else begin
      sweep_q  <= sweep_d;
      place_q  <= place_d;
      asked1_q <= asked1_d;
      asked2_q <= asked1_q;
      take1_q  <= take;
      take2_q  <= take1_q;
      take3_q  <= take2_q;
    end
  end
endmodule
