// speckv_buffer -- the fast buffer: lines of 4 KB of device memory, one place for each, between the
// mover's reading half and the memory's read port.
//
// A burst lies within a line (speckv_bursts): it is answered from the buffer or goes on to memory,
// and answers keep the order of the addresses. A burst of writes takes its line out of the buffer;
// so does `snoop_i`, for a write by somebody else that reads of memory see from then on.
// Ports: the AXI4 read port of either side; the address of each burst of writes; `query_line_i`,
// and whether it is here, in the same cycle; filling: `fill_begin_i` with a line, its 64 beats,
// `fill_end_i`, from when on it is here, unless it was snooped meanwhile, as its beats may be older
// than that; `drop_i` takes a line out. One-cycle counts of beats.
// Latency: 3 cycles for a beat of the buffer, none for memory's. Trusts that nobody reads a line
// while it is filled, and of the memory what speckv_reader trusts.
module speckv_buffer #(
  parameter int Lines = 256  // a power of two, at least 2
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         clear_i,
  input  logic [51:0]  query_line_i,
  output logic         query_here_o,
  input  logic         fill_begin_i,
  input  logic         fill_valid_i,
  input  logic [511:0] fill_data_i,
  input  logic         fill_end_i,
  input  logic         drop_i,
  input  logic [51:0]  drop_line_i,
  input  logic         snoop_i,
  input  logic [51:0]  snoop_line_i,
  input  logic         ar_valid_i,
  output logic         ar_ready_o,
  input  logic [63:0]  ar_addr_i,
  input  logic [7:0]   ar_len_i,
  output logic         r_valid_o,
  input  logic         r_ready_i,
  output logic [511:0] r_data_o,
  output logic [1:0]   r_resp_o,
  output logic         r_last_o,
  output logic         m_ar_valid_o,
  input  logic         m_ar_ready_i,
  output logic [63:0]  m_ar_addr_o,
  output logic [7:0]   m_ar_len_o,
  input  logic         m_r_valid_i,
  output logic         m_r_ready_o,
  input  logic [511:0] m_r_data_i,
  input  logic [1:0]   m_r_resp_i,
  input  logic         m_r_last_i,
  input  logic         write_i,
  input  logic [51:0]  write_line_i,
  output logic         hit_o,
  output logic         miss_o
);
  localparam int Bits = $clog2(Lines);
  localparam int TagBits = 52 - Bits;
  localparam logic [Lines-1:0] One = {{(Lines-1){1'b0}}, 1'b1};

  // ---- which lines are here ---------------------------------------------------------------------
  logic [TagBits-1:0] tags [0:Lines-1];
  logic [Lines-1:0]   here_d, here_q, gone, come;
  logic [51:0]        line_d, line_q, ar_line;  // line_q: the one that is filled
  logic               hit, live, write_here, drop_here, snoop_here, spoils, spoilt_d, spoilt_q;
  assign ar_line      = ar_addr_i[63:12];
  assign hit          = here_q[ar_line[Bits-1:0]] && tags[ar_line[Bits-1:0]] == ar_line[51:Bits];
  assign query_here_o = here_q[query_line_i[Bits-1:0]]
                        && tags[query_line_i[Bits-1:0]] == query_line_i[51:Bits];
  assign write_here   = write_i && tags[write_line_i[Bits-1:0]] == write_line_i[51:Bits];
  assign drop_here    = drop_i && tags[drop_line_i[Bits-1:0]] == drop_line_i[51:Bits];
  assign snoop_here   = snoop_i && tags[snoop_line_i[Bits-1:0]] == snoop_line_i[51:Bits];
  assign gone   = (write_here ? One << write_line_i[Bits-1:0] : '0)
                  | (drop_here ? One << drop_line_i[Bits-1:0] : '0)
                  | (snoop_here ? One << snoop_line_i[Bits-1:0] : '0)
                  | (fill_begin_i ? One << query_line_i[Bits-1:0] : '0);
  // What was read before its line was written does not come, also if that is in the last cycle.
  assign spoils   = snoop_i && snoop_line_i == line_q;
  assign spoilt_d = !fill_begin_i && (spoilt_q || spoils);
  assign come     = fill_end_i && !spoilt_d ? One << line_q[Bits-1:0] : '0;
  assign here_d = (here_q | come) & ~gone;
  assign line_d = fill_begin_i ? query_line_i : line_q;
  assign live   = rst_ni && !clear_i;
  always_ff @(posedge clk_i) begin
    if (!live) here_q <= '0;
    else       here_q <= here_d;
  end
  always_ff @(posedge clk_i) begin
    line_q   <= line_d;
    spoilt_q <= spoilt_d;
    if (fill_end_i) tags[line_q[Bits-1:0]] <= line_q[51:Bits];
  end

  // ---- bursts, in order: from here, or from memory ----------------------------------------------
  logic            order_ready, first_valid, first_hit, taken, done;
  logic [Bits+5:0] first_place;
  logic [6:0]      first_beats;
  assign m_ar_valid_o = ar_valid_i && order_ready && !hit;
  assign m_ar_addr_o  = ar_addr_i;
  assign m_ar_len_o   = ar_len_i;
  assign ar_ready_o   = order_ready && (hit || m_ar_ready_i);
  assign taken        = ar_valid_i && ar_ready_o;
  speckv_fifo #(.Width(Bits+14), .Depth(32)) u_order (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(taken), .in_ready_o(order_ready),
    .in_data_i({hit, ar_addr_i[Bits+11:6], ar_len_i[6:0] + 7'd1}),
    .out_valid_o(first_valid), .out_ready_i(done),
    .out_data_o({first_hit, first_place, first_beats}));

  // ---- the buffer's own memory ------------------------------------------------------------------
  logic [511:0]    mem [0:64*Lines-1];
  logic [511:0]    read_q, kept;
  logic [Bits+5:0] fill_place;
  logic [5:0]      filled_d, filled_q;
  logic [6:0]      asked_d, asked_q, given_d, given_q;
  logic            can_reserve, fetch, fetched_q, kept_valid, kept_take, last, moved;
  assign filled_d   = fill_begin_i ? 6'd0 : filled_q + {5'd0, fill_valid_i};
  assign fill_place = {line_q[Bits-1:0], filled_q};
  assign fetch      = first_valid && first_hit && asked_q != first_beats && can_reserve;
  assign asked_d    = done ? 7'd0 : asked_q + {6'd0, fetch};
  assign given_d    = done ? 7'd0 : given_q + {6'd0, moved};
  logic [Bits+5:0] read_place;
  assign read_place = first_place + {{(Bits-1){1'b0}}, asked_q};
  always_ff @(posedge clk_i) begin
    if (fill_valid_i) mem[fill_place] <= fill_data_i;
    read_q <= mem[read_place];
  end
  speckv_credit_fifo #(.Width(512), .Depth(4)) u_kept (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .reserve_i(fetch), .can_reserve_o(can_reserve),
    .in_valid_i(fetched_q), .in_data_i(read_q),
    .out_valid_o(kept_valid), .out_ready_i(kept_take), .out_data_o(kept));

  // ---- answers ----------------------------------------------------------------------------------
  assign last        = given_q + 7'd1 == first_beats;
  assign kept_take   = first_valid && first_hit && r_ready_i;
  assign m_r_ready_o = first_valid && !first_hit && r_ready_i;
  assign r_valid_o   = first_valid && (first_hit ? kept_valid : m_r_valid_i);
  assign r_data_o    = first_hit ? kept : m_r_data_i;
  assign r_resp_o    = first_hit ? 2'b00 : m_r_resp_i;
  assign r_last_o    = first_hit ? last : m_r_last_i;
  assign moved       = r_valid_o && r_ready_i;
  assign done        = moved && r_last_o;
  assign hit_o       = moved && first_hit;
  assign miss_o      = moved && !first_hit;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      asked_q   <= 7'd0;
      given_q   <= 7'd0;
      fetched_q <= 1'b0;
    end else begin
      asked_q   <= asked_d;
      given_q   <= given_d;
      fetched_q <= fetch;
    end
  end
  always_ff @(posedge clk_i) filled_q <= filled_d;
  logic unused;
  assign unused = ar_len_i[7];
endmodule
