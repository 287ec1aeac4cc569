// speckv_msix -- the card's interrupt vectors as PCI defines them: the table, the pending bits, and
// a message for each vector that was raised and is not masked.
//
// Ports: the register bus (window msix_table at address 0, msix_pba at 0x1000); a vector raised a
// cycle; the function's enable and mask from PCI's configuration space; messages, which the shell
// writes to the host. What is raised again before its message leaves is one message; what is raised
// while it cannot leave stays pending. An access of the host waits until no message is under way,
// so that a vector is silent from the moment in which its mask is written.
// `quiet_o`: nothing is under way, and nothing is pending that could leave.
// Latency: at most Vectors + 3 cycles from a raise to its message, if no other wants one. Trusts
// the shell to take messages; nothing of the host.
module speckv_msix #(
  parameter int Vectors = 65  // at most 96
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        enable_i,
  input  logic        mask_i,
  input  logic        request_i,
  input  logic        write_i,
  input  logic [12:0] address_i,
  input  logic [31:0] write_data_i,
  output logic        done_o,
  output logic [31:0] read_data_o,
  input  logic        raise_i,
  input  logic [6:0]  vector_i,
  output logic        message_valid_o,
  input  logic        message_ready_i,
  output logic [63:0] message_address_o,
  output logic [31:0] message_data_o,
  output logic        quiet_o
);
  localparam logic [6:0] Last = Vectors[6:0] - 7'd1;

  // ---- the host's access waits for a moment without a message ----------------------------------
  logic        busy_d, busy_q, write_q, act, still, done_d;
  logic [12:0] address_q;
  logic [31:0] data_q;
  logic        fetch_q, at_table, at_pending;
  logic [6:0]  entry;
  assign still      = !fetch_q && !message_valid_o;
  assign act        = busy_q && still && !done_o;
  assign busy_d     = request_i || (busy_q && !act);
  assign done_d     = act;
  assign entry      = address_q[10:4];
  assign at_table   = !address_q[12] && !address_q[11] && entry <= Last && address_q[1:0] == 2'd0;
  assign at_pending = address_q[12] && address_q[11:4] == 8'd0 && address_q[1:0] == 2'd0;

  // ---- raised, masked, and whose turn it is ----------------------------------------------------
  logic [127:0] pending, masks;
  logic [Vectors-1:0] pending_d, pending_q, mask_d, mask_q;
  logic [6:0]   turn_d, turn_q;
  logic         send;
  assign pending = {{(128-Vectors){1'b0}}, pending_q};
  assign masks   = {{(128-Vectors){1'b1}}, mask_q};
  assign send    = still && !busy_q && !request_i && enable_i && !mask_i && pending[turn_q]
                   && !masks[turn_q];
  assign quiet_o = still && !busy_q && !raise_i
                   && (!enable_i || mask_i || (pending_q & ~mask_q) == '0);
  assign turn_d  = turn_q == Last ? 7'd0 : turn_q + 7'd1;
  for (genvar i = 0; i < Vectors; i++) begin : gen_vector
    localparam logic [6:0] Number = i;
    assign pending_d[i] = (raise_i && vector_i == Number)
                          || (pending_q[i] && !(send && turn_q == Number));
    assign mask_d[i] = act && write_q && at_table && entry == Number && address_q[3:2] == 2'd3
                       ? data_q[0] : mask_q[i];
  end

  // ---- addresses and data ----------------------------------------------------------------------
  logic [6:0]  place;
  logic [95:0] words_q;
  assign place = send ? turn_q : busy_q ? entry : address_i[10:4];
  for (genvar i = 0; i < 3; i++) begin : gen_word
    localparam logic [1:0] Word = i;
    logic [31:0] mem [0:127];
    always_ff @(posedge clk_i) begin
      if (act && write_q && at_table && address_q[3:2] == Word) mem[entry] <= data_q;
      words_q[32*i +: 32] <= mem[place];
    end
  end

  logic         valid_d;
  logic [63:0]  message_address_d;
  logic [31:0]  message_data_d, read_d;
  logic [127:0] entry_words;
  assign valid_d           = fetch_q || (message_valid_o && !message_ready_i);
  assign message_address_d = fetch_q ? words_q[63:0] : message_address_o;
  assign message_data_d    = fetch_q ? words_q[95:64] : message_data_o;
  assign entry_words       = {31'd0, masks[entry], words_q};
  assign read_d = at_table ? entry_words[{address_q[3:2], 5'd0} +: 32]
                           : at_pending ? pending[{address_q[3:2], 5'd0} +: 32] : 32'd0;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      busy_q          <= 1'b0;
      done_o          <= 1'b0;
      fetch_q         <= 1'b0;
      message_valid_o <= 1'b0;
      pending_q       <= '0;
      mask_q          <= '1;
      turn_q          <= 7'd0;
    end else begin
      busy_q          <= busy_d;
      done_o          <= done_d;
      fetch_q         <= send;
      message_valid_o <= valid_d;
      pending_q       <= pending_d;
      mask_q          <= mask_d;
      turn_q          <= turn_d;
    end
  end
  always_ff @(posedge clk_i) begin
    if (request_i) begin
      write_q   <= write_i;
      address_q <= address_i;
      data_q    <= write_data_i;
    end
    read_data_o       <= read_d;
    message_address_o <= message_address_d;
    message_data_o    <= message_data_d;
  end
endmodule
