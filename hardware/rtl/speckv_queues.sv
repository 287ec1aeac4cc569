// speckv_queues -- the queue pairs: their registers and doorbell pages, fetching of descriptors,
// completions, interrupts, and the errors of a queue (docs/queue-protocol.md).
//
// One queue is served at a time, one descriptor a turn: fetched, carried out by the command port,
// answered. Doorbells mark a queue; `speckv_arbiter` picks a marked one; a visit clears the mark
// when nothing is left to do. What is 32 bits wide for each queue lies in distributed RAM.
//
// Ports: the register bus with whole addresses of BAR0 (windows queue and doorbell), answered in 2
// cycles, some later while a queue is looked at; the mover's halves, 64 bytes read and 16 written;
// descriptors, and their outcome, which is taken at once; interrupts; errors as entries of the log.
// `clear_i`, one cycle while `idle_o`: as after power-on; `busy_o` until that is so.
// Latency: 4 cycles from a doorbell on the bus to the fetch. Trusts the mover and the outcome;
// nothing of the host.
module speckv_queues #(
  parameter int Queues = 64,   // a power of two, 2 to 64
  parameter int ClockMhz = 400
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         enable_i,           // queues are served
  input  logic         clear_i,
  output logic         idle_o,
  output logic         busy_o,
  output logic         quiet_o,            // nothing to do until the host speaks
  input  logic         request_i,
  input  logic         write_i,
  input  logic [18:0]  address_i,
  input  logic [31:0]  write_data_i,
  output logic         done_o,
  output logic [31:0]  read_data_o,
  input  logic         inject_i,
  input  logic [7:0]   inject_kind_i,
  input  logic [63:0]  inject_argument_i,
  output logic         fetch_valid_o,
  input  logic         fetch_ready_i,
  output logic [63:0]  fetch_address_o,
  input  logic         fetched_valid_i,
  output logic         fetched_ready_o,
  input  logic [511:0] fetched_data_i,
  input  logic         fetched_error_i,
  output logic         command_valid_o,
  input  logic         command_ready_i,
  output logic [511:0] command_o,
  output logic [15:0]  command_tenant_o,
  input  logic         outcome_valid_i,
  input  logic [14:0]  outcome_code_i,
  input  logic [31:0]  outcome_result_i,
  input  logic [31:0]  outcome_crc_i,
  output logic         complete_valid_o,   // the write of 16 bytes
  input  logic         complete_ready_i,
  output logic [63:0]  complete_address_o,
  output logic         entry_valid_o,      // its bytes
  input  logic         entry_ready_i,
  output logic [127:0] entry_o,
  input  logic         written_valid_i,
  output logic         written_ready_o,
  input  logic         written_error_i,
  output logic         raise_valid_o,
  input  logic         raise_ready_i,
  output logic [6:0]   raise_vector_o,
  output logic         error_valid_o,
  input  logic         error_ready_i,
  output logic [63:0]  error_entry_o,
  output logic         took_o,             // one-cycle counts
  output logic         answered_o,
  output logic         failed_o,
  output logic         raised_o
);
  localparam int Bits = $clog2(Queues);
  localparam logic [Queues-1:0] One = {{(Queues-1){1'b0}}, 1'b1};

  localparam logic [3:0] Idle = 4'd0, Look = 4'd1, Decide = 4'd2, Fetch = 4'd3, Data = 4'd4,
                         Taken = 4'd5, Command = 4'd6, Outcome = 4'd7, Write = 4'd8, Entry = 4'd9,
                         Ack = 4'd10, Done = 4'd11, Fail = 4'd12, Rest = 4'd13;
  logic [3:0] state_d, state_q;

  // ---- an access of the host waits for a moment in which no queue is looked at ------------------
  logic            host_d, host_q, write_q, act, told_d, told_q, sweep_d, sweep_q;
  logic [18:0]     address_q;
  logic [31:0]     data_q;
  logic [Bits-1:0] host_queue, place_d, place_q;
  logic [5:0]      word;
  logic            at_queue, at_doorbell, there, host_write, still;
  assign at_queue    = address_q[18:12] == speckv_pkg::QueueWindow[18:12];
  assign at_doorbell = address_q[18];
  assign host_queue  = at_doorbell ? address_q[Bits+11:12] : address_q[Bits+5:6];
  assign word        = at_doorbell ? 6'd0 : {address_q[5:2], 2'd0};
  if (Queues == 64) begin : gen_all
    assign there = address_q[1:0] == 2'd0 && (at_queue || at_doorbell);
  end else begin : gen_some
    assign there = address_q[1:0] == 2'd0 && ((at_queue && address_q[11:Bits+6] == '0)
                                              || (at_doorbell && address_q[17:Bits+12] == '0));
  end
  assign still      = !sweep_q && state_q != Look && state_q != Decide && state_q != Taken
                      && state_q != Done && state_q != Fail && state_q != Rest;
  assign act        = host_q && !told_q && still;
  assign host_d     = request_i || (host_q && !done_o);
  assign host_write = act && write_q && there;

  logic [Queues-1:0] ready_d, ready_q, error_d, error_q, enabled_d, enabled_q;
  logic [Queues-1:0] interrupt_d, interrupt_q, waiting_d, waiting_q, marked_d, marked_q;
  logic [Queues-1:0] bad_fetch_d, bad_fetch_q, bad_entry_d, bad_entry_q;
  logic              off, control, order_reset, order_enable, bad_setup, blame_d, blame_q;
  assign off          = !ready_q[host_queue] && !error_q[host_queue];
  assign control      = host_write && at_queue && word == speckv_pkg::QueueControl;
  assign order_reset  = control && data_q[1];
  assign order_enable = control && !order_reset && data_q[0] && off;
  assign blame_d      = (order_enable && bad_setup) || (blame_q && !error_ready_i);
  // Answered in the cycle after the act; after one that is an error, when that is logged.
  assign told_d       = act || (told_q && !done_o);
  assign done_o       = told_q && !blame_q;

  // ---- what is kept for each queue --------------------------------------------------------------
  // Of the host: setup 0 to 4, coalesce 5, tail 6, arm 7. Written while off, doorbells always.
  logic [7:0]      host_word;
  logic [Bits-1:0] queue_d, queue_q, host_place;
  logic [255:0]    host_words, words;  // of the host's queue; of the one that is served
  logic            setup, bell;
  assign setup        = host_write && at_queue && off;
  assign bell         = host_write && at_doorbell;
  assign host_word[0] = setup && word == speckv_pkg::QueueSubmissionBase;
  assign host_word[1] = setup && word == speckv_pkg::QueueSubmissionBase + 6'd4;
  assign host_word[2] = setup && word == speckv_pkg::QueueCompletionBase;
  assign host_word[3] = setup && word == speckv_pkg::QueueCompletionBase + 6'd4;
  assign host_word[4] = setup && word == speckv_pkg::QueueSetup;
  assign host_word[5] = host_write && at_queue && word == speckv_pkg::QueueCoalesce;
  assign host_word[6] = order_enable || (bell && address_q[11:0] == speckv_pkg::DoorbellTail);
  assign host_word[7] = order_enable || (bell && address_q[11:0] == speckv_pkg::DoorbellArm);
  assign host_place   = sweep_q ? place_q : host_queue;
  for (genvar i = 0; i < 8; i++) begin : gen_host
    localparam logic [31:0] Kept = i == 4 ? 32'hffff000f : i == 5 ? 32'hffff00ff : 32'hffffffff;
    logic [31:0] mem [0:Queues-1];
    logic [31:0] value;
    assign value = sweep_q || order_enable ? 32'd0 : data_q & Kept;
    always_ff @(posedge clk_i) if (sweep_q || host_word[i]) mem[host_place] <= value;
    assign host_words[32*i +: 32] = mem[host_queue];
    assign words[32*i +: 32]      = mem[queue_q];
  end

  // Of the card: fetched 0, completed 1, fired 2, and since when an interrupt waits 3.
  logic [3:0]      card_word;
  logic [127:0]    host_counts, counts, next;
  logic [Bits-1:0] card_place;
  assign card_place = sweep_q ? place_q : order_enable ? host_queue : queue_q;
  for (genvar i = 0; i < 4; i++) begin : gen_card
    logic [31:0] mem [0:Queues-1];
    logic [31:0] value;
    assign value = sweep_q || order_enable ? 32'd0 : next[32*i +: 32];
    always_ff @(posedge clk_i)
      if (sweep_q || order_enable || card_word[i]) mem[card_place] <= value;
    assign host_counts[32*i +: 32] = mem[host_queue];
    assign counts[32*i +: 32]      = mem[queue_q];
  end
  logic [7:0] causes [0:Queues-1];
  logic [7:0] cause_d, cause_q, host_cause;
  always_ff @(posedge clk_i)
    if (order_enable || state_q == Fail)
      causes[card_place] <= order_enable ? speckv_pkg::QueueCauseBadSetup : cause_q;
  assign host_cause = error_q[host_queue] ? causes[host_queue] : 8'd0;

  // Checked when a queue is enabled.
  logic [31:0] host_setup;
  assign host_setup = host_words[159:128];
  assign bad_setup  = {28'd0, host_setup[3:0]} < speckv_pkg::MaxDepthLog2Min
                      || {28'd0, host_setup[3:0]} > speckv_pkg::MaxDepthLog2Max
                      || {16'd0, host_setup[31:16]} >= speckv_pkg::MaxTenants
                      || host_words[5:0] != 6'd0 || host_words[67:64] != 4'd0;

  logic        pending_d, pending_q;  // the queue that is served is to be reset
  logic [31:0] read_d;
  always_comb begin
    read_d = 32'd0;
    case (word)
      speckv_pkg::QueueSubmissionBase:        read_d = host_words[31:0];
      speckv_pkg::QueueSubmissionBase + 6'd4: read_d = host_words[63:32];
      speckv_pkg::QueueCompletionBase:        read_d = host_words[95:64];
      speckv_pkg::QueueCompletionBase + 6'd4: read_d = host_words[127:96];
      speckv_pkg::QueueSetup:                 read_d = host_setup;
      speckv_pkg::QueueControl:   read_d = {29'd0, interrupt_q[host_queue],
                                            pending_q && queue_q == host_queue,
                                            enabled_q[host_queue]};
      speckv_pkg::QueueStatus:    read_d = {16'd0, host_cause, 6'd0, error_q[host_queue],
                                            ready_q[host_queue]};
      speckv_pkg::QueueCoalesce:  read_d = host_words[191:160];
      speckv_pkg::QueueFetched:   read_d = host_counts[31:0];
      speckv_pkg::QueueCompleted: read_d = host_counts[63:32];
      default:                    read_d = 32'd0;
    endcase
    if (!there || !at_queue) read_d = 32'd0;
  end

  // ---- a visit: what the queue that is served wants ---------------------------------------------
  logic [31:0] tail, arm, fetched, completed, fired, since, ahead, over, depth, coalesce;
  logic [3:0]  depth_log2;
  logic        reached, enough, fires, wants_wait, some;
  assign tail       = words[223:192];
  assign arm        = words[255:224];
  assign coalesce   = words[191:160];
  assign depth_log2 = words[131:128];
  assign depth      = 32'd1 << depth_log2;
  assign fetched    = counts[31:0];
  assign completed  = counts[63:32];
  assign fired      = counts[95:64];
  assign since      = counts[127:96];
  // Differences, looked at in the cycle after.
  logic [31:0] ahead_q, over_q;
  logic        none_q, armed_q, late_q;
  logic [31:0] now_d, now_q;  // microseconds
  logic [15:0] clock_d, clock_q;
  logic        tick;
  assign ahead = tail - completed;
  assign over  = completed - arm;
  always_ff @(posedge clk_i) begin
    ahead_q <= ahead;
    over_q  <= over;
    none_q  <= tail == fetched;
    armed_q <= arm != fired;
    late_q  <= now_q - since >= {16'd0, coalesce[31:16]};
  end
  assign tick       = clock_q == ClockMhz[15:0] - 16'd1;
  assign clock_d    = tick ? 16'd0 : clock_q + 16'd1;
  assign now_d      = now_q + {31'd0, tick};
  assign some       = ready_q[queue_q] && !none_q;
  assign reached    = ready_q[queue_q] && interrupt_q[queue_q] && armed_q && !over_q[31];
  assign enough     = coalesce[7:0] <= 8'd1 || over_q[30:0] >= {23'd0, coalesce[7:0]} - 31'd1
                      || coalesce[31:16] == 16'd0 || (waiting_q[queue_q] && late_q);
  assign fires      = reached && enough;
  assign wants_wait = reached && !enough && !waiting_q[queue_q];

  assign raise_valid_o  = state_q == Decide && fires;
  assign raise_vector_o = {{(7-Bits){1'b0}}, queue_q};
  assign raised_o       = raise_valid_o && raise_ready_i;

  // ---- whose turn it is -------------------------------------------------------------------------
  // The queue that is served does not ask: its mark may go.
  logic [Queues-1:0] grant, asks, chosen, host_bit, inject_bit;
  logic              live, begins;
  logic [Bits-1:0]   granted;
  assign live   = rst_ni && !clear_i;
  assign begins = state_q == Idle && enable_i && !sweep_q && !clear_i;
  speckv_arbiter #(.Count(Queues)) u_turn (
    .clk_i(clk_i), .rst_ni(live), .request_i(asks), .ready_i(begins), .grant_o(grant));
  always_comb begin
    granted = '0;
    for (int i = 0; i < Queues; i++) if (grant[i]) granted = granted | i[Bits-1:0];
  end
  assign queue_d  = begins && grant != '0 ? granted : queue_q;
  assign chosen   = One << queue_q;
  assign asks     = marked_q & ~(state_q != Idle ? chosen : '0);
  assign host_bit = One << host_queue;

  // ---- serving it -------------------------------------------------------------------------------
  logic [511:0] command_d;
  logic [14:0]  code_d, code_q;
  logic [31:0]  result_d, result_q, crc_d, crc_q, slot;
  logic [63:0]  address_d, ring_q;
  logic         ok;
  assign ok = code_q == speckv_pkg::StatusOk;
  always_comb begin
    state_d = state_q;
    cause_d = cause_q;
    case (state_q)
      Idle:    if (begins && grant != '0) state_d = Look;
      Look:    state_d = Decide;
      Decide: begin
        cause_d = ahead_q > depth ? speckv_pkg::QueueCauseOverrun
                                  : speckv_pkg::QueueCauseFetchFailed;
        if (fires)                                        state_d = raise_ready_i ? Look : Decide;
        else if (!some)                                   state_d = Idle;
        else if (ahead_q > depth || bad_fetch_q[queue_q]) state_d = Fail;
        else                                              state_d = Fetch;
      end
      Fetch:   if (fetch_ready_i) state_d = Data;
      Data:    if (fetched_valid_i) state_d = fetched_error_i ? Fail : Taken;
      Taken:   state_d = pending_q ? Rest : Command;
      Command: if (command_ready_i) state_d = Outcome;
      Outcome: begin
        cause_d = speckv_pkg::QueueCauseCompletionLost;
        if (outcome_valid_i) state_d = pending_q ? Rest : bad_entry_q[queue_q] ? Fail : Write;
      end
      Write:   if (complete_ready_i) state_d = Entry;
      Entry:   if (entry_ready_i) state_d = Ack;
      Ack:     if (written_valid_i) state_d = written_error_i ? Fail : Done;
      Done:    state_d = Rest;
      Fail:    if (error_ready_i && !blame_q) state_d = Rest;
      Rest:    state_d = Idle;  // a reset that came meanwhile is done
      default: state_d = Idle;
    endcase
  end
  assign fetch_valid_o    = state_q == Fetch;
  assign fetched_ready_o  = state_q == Data;
  assign command_valid_o  = state_q == Command;
  assign complete_valid_o = state_q == Write;
  assign entry_valid_o    = state_q == Entry;
  assign written_ready_o  = state_q == Ack;
  assign took_o           = state_q == Taken;
  assign answered_o       = state_q == Done;
  assign failed_o         = state_q == Done && !ok;
  assign idle_o           = state_q == Idle;
  assign busy_o           = sweep_q;
  assign quiet_o          = idle_o && !sweep_q && !host_q && (marked_q == '0 || !enable_i)
                            && waiting_q == '0;

  // Where the rings' entries lie: computed in Look and Outcome, used in the states behind them.
  assign slot      = (state_q == Outcome ? completed : fetched) & (depth - 32'd1);
  assign address_d = state_q == Look || state_q == Decide ? words[63:0] + {26'd0, slot, 6'd0}
                     : state_q == Outcome ? words[127:64] + {28'd0, slot, 4'd0} : ring_q;
  assign fetch_address_o    = ring_q;
  assign complete_address_o = ring_q;
  assign command_d          = state_q == Data ? fetched_data_i : command_o;
  assign command_tenant_o   = words[159:144];
  assign code_d   = state_q == Outcome ? outcome_code_i : code_q;
  assign result_d = state_q == Outcome ? outcome_result_i : result_q;
  assign crc_d    = state_q == Outcome ? outcome_crc_i : crc_q;

  logic [31:0] lap;
  assign lap     = completed >> depth_log2;
  assign entry_o = {32'd0, ok ? crc_q : 32'd0, ok ? result_q : 32'd0, code_q, !lap[0],
                    command_o[speckv_pkg::DescTagLow +: 16]};

  assign card_word = {state_q == Decide && wants_wait, raised_o, state_q == Done,
                      state_q == Taken};
  assign next      = {now_q, arm, completed + 32'd1, fetched + 32'd1};

  // ---- errors -----------------------------------------------------------------------------------
  logic [15:0] tag;
  assign tag = cause_q == speckv_pkg::QueueCauseCompletionLost
               ? command_o[speckv_pkg::DescTagLow +: 16] : 16'd0;
  assign error_valid_o = blame_q || state_q == Fail;
  assign error_entry_o = blame_q ? {32'd0, 16'd0, {(8-Bits){1'b0}}, host_queue,
                                    speckv_pkg::QueueCauseBadSetup}
                                 : {completed, tag, {(8-Bits){1'b0}}, queue_q, cause_q};

  // ---- states of queues -------------------------------------------------------------------------
  logic              reset_now, reset_late, injects;
  logic [Queues-1:0] ends, stops;
  assign reset_now  = order_reset && !(state_q != Idle && queue_q == host_queue);
  assign reset_late = order_reset && !reset_now;
  assign pending_d  = reset_late || (pending_q && state_q != Rest);
  assign ends       = (reset_now ? host_bit : '0) | (pending_q && state_q == Rest ? chosen : '0);
  assign stops      = state_q == Fail ? chosen : '0;
  assign injects    = inject_i && inject_argument_i < {32'd0, Queues};
  assign inject_bit = injects ? One << inject_argument_i[Bits-1:0] : '0;
  assign ready_d    = (ready_q | (order_enable && !bad_setup ? host_bit : '0)) & ~ends & ~stops;
  assign error_d    = (error_q | (order_enable && bad_setup ? host_bit : '0) | stops) & ~ends;
  assign enabled_d  = (enabled_q | (control && !order_reset && data_q[0] ? host_bit : '0)) & ~ends;
  assign interrupt_d = ((control && !order_reset ? interrupt_q & ~host_bit : interrupt_q)
                        | (control && !order_reset && data_q[2] ? host_bit : '0)) & ~ends;
  assign bad_fetch_d = (bad_fetch_q
                        | (inject_kind_i == speckv_pkg::InjectFetch ? inject_bit : '0))
                       & ~ends & ~stops;
  assign bad_entry_d = (bad_entry_q
                        | (inject_kind_i == speckv_pkg::InjectCompletion ? inject_bit : '0))
                       & ~ends & ~stops;
  assign waiting_d = ((waiting_q | (state_q == Decide && wants_wait ? chosen : '0))
                      & ~(state_q == Decide && (fires || !reached) ? chosen : '0)) & ~ends & ~stops;
  // A mark goes when a visit finds nothing left; doorbells cannot come in between.
  assign marked_d  = ((marked_q | (bell || control ? host_bit : '0) | (tick ? waiting_q : '0))
                      & ~(state_q == Decide && !fires && !some ? chosen : '0));
  assign sweep_d = clear_i || (sweep_q && place_q != '1);
  assign place_d = clear_i || !sweep_q ? '0 : place_q + {{(Bits-1){1'b0}}, 1'b1};

  always_ff @(posedge clk_i) begin
    if (!live) begin
      state_q     <= Idle;
      ready_q     <= '0;
      error_q     <= '0;
      enabled_q   <= '0;
      interrupt_q <= '0;
      waiting_q   <= '0;
      marked_q    <= '0;
      bad_fetch_q <= '0;
      bad_entry_q <= '0;
      pending_q   <= 1'b0;
      sweep_q     <= 1'b1;
      place_q     <= '0;
    end else begin
      state_q     <= state_d;
      ready_q     <= ready_d;
      error_q     <= error_d;
      enabled_q   <= enabled_d;
      interrupt_q <= interrupt_d;
      waiting_q   <= waiting_d;
      marked_q    <= marked_d;
      bad_fetch_q <= bad_fetch_d;
      bad_entry_q <= bad_entry_d;
      pending_q   <= pending_d;
      sweep_q     <= sweep_d;
      place_q     <= place_d;
    end
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      host_q  <= 1'b0;
      told_q  <= 1'b0;
      blame_q <= 1'b0;
      clock_q <= 16'd0;
      now_q   <= 32'd0;
    end else begin
      host_q  <= host_d;
      told_q  <= told_d;
      blame_q <= blame_d;
      clock_q <= clock_d;
      now_q   <= now_d;
    end
  end
  always_ff @(posedge clk_i) begin
    if (request_i) begin
      write_q   <= write_i;
      address_q <= address_i;
      data_q    <= write_data_i;
    end
    if (act) read_data_o <= read_d;
    queue_q   <= queue_d;
    cause_q   <= cause_d;
    command_o <= command_d;
    code_q    <= code_d;
    result_q  <= result_d;
    crc_q     <= crc_d;
    ring_q    <= address_d;
  end

  logic unused;
  assign unused = &{1'b0, host_words[255:192], words[143:132], host_counts[127:64],
                    coalesce[15:8], lap[31:1]};
endmodule
