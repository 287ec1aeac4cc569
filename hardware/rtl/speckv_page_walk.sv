// speckv_page_walk -- sees to it that the TLB knows all pages of a range before the range is used:
// looks for the lines of the list that name them, and has those read that are not there.
//
// Ports: `valid_i` with a range of a paged region, which stays until `done_o`; `failed_o` with it
// if the list could not be read, and then nothing of it is kept. To the TLB: queries, lines that
// come, `flush_o`. To the mover: `read_start_o` and a range of host memory, which stays while
// `reading_o`. From the first line that is missing, all are read up to the last one.
// Latency: 5 cycles for a line that is here, 1 for each further one. Trusts that the range lies
// inside its region, and has no more lines than the TLB has places.
module speckv_page_walk (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        valid_i,
  input  logic [63:0] list_i,        // bus address, a multiple of 8
  input  logic [5:0]  shift_i,       // of pages: 12 to 30
  input  logic [63:0] offset_i,
  input  logic [31:0] bytes_i,       // not 0
  output logic        done_o,
  output logic        failed_o,
  input  logic        tlb_busy_i,
  output logic [57:0] query_line_o,
  input  logic        here_i,
  output logic [57:0] fill_line_o,
  output logic        flush_o,
  output logic        reading_o,
  output logic        read_start_o,
  output logic [63:0] read_address_o,
  output logic [31:0] read_bytes_o,
  input  logic        read_beat_i,
  input  logic        read_done_i,
  input  logic        read_error_i
);
  localparam logic [2:0] Idle = 3'd0, Shift = 3'd1, Sum = 3'd2, Ask = 3'd3, Look = 3'd4,
                         Read = 3'd5, Tell = 3'd6;
  logic [2:0] state_d, state_q;

  // ---- the lines of the range, from its offsets -------------------------------------------------
  logic [63:0] end_q, first, last;
  logic [60:0] page_q, last_page_q, word, last_word;
  logic [57:0] line_d, line_q, last_line_q, next_line, fill_d, fill_q;
  assign first     = offset_i >> shift_i;
  assign last      = end_q >> shift_i;
  assign word      = list_i[63:3] + page_q;
  assign last_word = list_i[63:3] + last_page_q;
  assign next_line = line_q + 58'd1;
  always_ff @(posedge clk_i) begin
    end_q       <= offset_i + {32'd0, bytes_i} - 64'd1;
    page_q      <= first[60:0];
    last_page_q <= last[60:0];
    last_line_q <= last_word[60:3];
    line_q      <= line_d;
    fill_q      <= fill_d;
  end

  logic found, start_d, fails;
  assign found   = state_q == Look && here_i;
  assign start_d = state_q == Look && !here_i;
  assign fails   = state_q == Read && read_done_i && read_error_i;
  assign line_d  = state_q == Sum ? word[60:3] : found ? next_line : line_q;
  assign fill_d  = state_q == Read ? fill_q + {57'd0, read_beat_i} : line_q;
  always_comb begin
    state_d = state_q;
    case (state_q)
      Idle:    if (valid_i) state_d = Shift;
      Shift:   state_d = Sum;
      Sum:     state_d = Ask;
      Ask:     if (!tlb_busy_i) state_d = Look;
      Look:    state_d = !here_i ? Read : line_q == last_line_q ? Tell : Look;
      Read:    if (read_done_i) state_d = Tell;
      default: state_d = Idle;
    endcase
  end

  logic [57:0] more;
  assign more           = last_line_q - line_q;
  assign query_line_o   = state_q == Look ? next_line : line_q;
  assign fill_line_o    = fill_q;
  assign flush_o        = fails;
  assign reading_o      = state_q == Read;
  assign read_address_o = {line_q, 6'd0};
  assign read_bytes_o   = {more[25:0] + 26'd1, 6'd0};
  assign done_o         = state_q == Tell;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q      <= Idle;
      read_start_o <= 1'b0;
    end else begin
      state_q      <= state_d;
      read_start_o <= start_d;
    end
  end
  always_ff @(posedge clk_i) failed_o <= fails;
  logic unused;
  assign unused = &{1'b0, list_i[2:0], first, last, word[2:0], last_word[2:0], more};
endmodule
