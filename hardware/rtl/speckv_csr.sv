// speckv_csr -- the registers of the card as a whole (docs/registers.md, window csr): what the card
// offers, enable and reset, the fatal state, the error log, counters, settings, injected faults.
//
// Ports: the register bus (speckv_lite), answered in the next cycle; what is counted; errors of
// queues, one a cycle while `error_ready_o`; fatal causes, of which the first counts. Out: the
// card's state, settings, one-cycle orders. `reset_o` stays until `reset_done_i`: by then nothing
// of the card touches host memory, and everything else is as after power-on too.
// Trusts the other blocks' causes and counts; nothing of the host.
module speckv_csr #(
  parameter [63:0] Features = '0,
  parameter [63:0] Codecs = '0,
  parameter [31:0] Opcodes = '0,
  parameter [31:0] BufferBytes = '0,
  parameter [31:0] Regions = speckv_pkg::MaxRegions,
  parameter [31:0] DirectoryEntries = '0,
  parameter [31:0] Queues = speckv_pkg::MaxQueues,
  parameter [31:0] MaxLength = '0,
  parameter [31:0] MaxLayer = '0
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         request_i,
  input  logic         write_i,
  input  logic [11:0]  address_i,
  input  logic [31:0]  write_data_i,
  output logic         done_o,
  output logic [31:0]  read_data_o,
  input  logic [63:0]  memory_bytes_i,   // of device memory; does not change
  input  logic [183:0] count_i,          // 8 bits for each counter, by number; not errors_logged
  input  logic [4:0]   more_i,           // a counter, and how much it counts beyond that
  input  logic [31:0]  more_count_i,
  input  logic         error_valid_i,    // a queue's error, as an entry of the log
  output logic         error_ready_o,
  input  logic [63:0]  error_entry_i,
  input  logic         fatal_valid_i,
  input  logic [7:0]   fatal_cause_i,
  output logic         enable_o,         // enabled, and not fatal
  output logic         fatal_o,
  output logic         reset_o,
  input  logic         reset_done_i,
  output logic         error_interrupt_o,
  output logic         invalidate_o,     // of `invalidate_region_o`, then busy until done
  output logic [15:0]  invalidate_region_o,
  input  logic         invalidate_done_i,
  output logic         inject_o,         // not the fatal one, which stays here
  output logic [7:0]   inject_kind_o,
  output logic [63:0]  inject_argument_o,
  output logic [3:0]   block_shift_o,
  output logic [31:0]  directory_quota_o,
  output logic [31:0]  weights_o,
  output logic [31:0]  thresholds_o
);
  localparam int Counters = 23;

  logic        live;  // neither power-on nor a reset by register
  logic        write;
  logic [31:0] data;
  assign live  = rst_ni && !reset_o;
  assign write = request_i && write_i && !reset_o;
  assign data  = write_data_i;

  // ---- enable, reset, fatal ---------------------------------------------------------------------
  logic       enable_d, enable_q, reset_d, order_reset, order_inject, inject_fatal, dies;
  logic [7:0] cause_d, cause_q, cause;
  assign order_reset  = write && address_i == speckv_pkg::CsrControl && data[1];
  assign order_inject = write && address_i == speckv_pkg::CsrInject;
  assign reset_d      = order_reset || (reset_o && !reset_done_i);
  assign enable_d     = write && address_i == speckv_pkg::CsrControl ? data[0] : enable_q;
  assign cause        = fatal_valid_i ? fatal_cause_i : speckv_pkg::FatalCauseInjected;
  assign dies         = cause_q == 8'd0 && !reset_o
                        && (fatal_valid_i || inject_fatal);
  assign cause_d      = dies ? cause : cause_q;
  assign fatal_o      = cause_q != 8'd0;
  assign enable_o     = enable_q && !fatal_o && !reset_o;
  assign inject_fatal = order_inject && data[7:0] == speckv_pkg::InjectFatal;
  assign inject_o     = order_inject && !inject_fatal;
  assign inject_kind_o = data[7:0];

  // ---- the error log ----------------------------------------------------------------------------
  logic        log_push, log_pop;
  logic [4:0]  pending;
  logic [63:0] oldest, entry;
  assign error_ready_o     = !dies;
  assign log_push          = dies || (error_valid_i && !reset_o);
  assign entry             = dies ? {56'd0, 8'h80 | cause} : error_entry_i;
  assign log_pop           = write && address_i == speckv_pkg::CsrErrorPop;
  assign error_interrupt_o = log_push;
  speckv_error_log u_log (
    .clk_i(clk_i), .rst_ni(rst_ni), .clear_i(reset_o), .push_i(log_push), .entry_i(entry),
    .pop_i(log_pop), .pending_o(pending), .oldest_o(oldest));

  // ---- the counters -----------------------------------------------------------------------------
  logic [63:0] counter;
  speckv_counters #(.Count(Counters)) u_counters (
    .clk_i(clk_i), .rst_ni(rst_ni), .clear_i(reset_o),
    .snapshot_i(write && address_i == speckv_pkg::CsrSnapshot),
    .add_i({7'd0, log_push, count_i[8*Counters-9:0]}),
    .more_i(more_i), .more_count_i(more_count_i),
    .read_i(address_i[7:3]), .value_o(counter));

  // ---- settings ---------------------------------------------------------------------------------
  // Block shift and quota are written while not enabled; what breaks a rule is ignored.
  logic        set, shift_valid, weights_valid, thresholds_valid;
  logic [3:0]  shift_d;
  logic [31:0] quota_d, weights_d;
  logic [23:0] thresholds_d, thresholds_q;
  logic [8:0]  upper, lower;
  assign set              = write && !enable_q;
  assign shift_valid      = data >= 32'd4 && data <= 32'd8;
  assign weights_valid    = data != 32'd0;
  assign upper            = {1'b0, data[15:8]} - {1'b0, data[23:16]};  // prefetch - hysteresis
  assign lower            = {1'b0, data[7:0]} + {1'b0, data[23:16]};   // evict + hysteresis
  assign thresholds_valid = data[7:0] != 8'd0 && !upper[8] && lower <= upper;
  assign shift_d = set && address_i == speckv_pkg::CsrBlockShift && shift_valid ? data[3:0]
                                                                              : block_shift_o;
  assign quota_d = set && address_i == speckv_pkg::CsrDirectoryQuota ? data : directory_quota_o;
  assign weights_d = write && address_i == speckv_pkg::CsrWeights && weights_valid ? data
                                                                                  : weights_o;
  assign thresholds_d = write && address_i == speckv_pkg::CsrThresholds && thresholds_valid
                        ? data[23:0] : thresholds_q;
  assign thresholds_o = {8'd0, thresholds_q};

  logic [63:0] argument_d;
  assign argument_d[31:0]  = write && address_i == speckv_pkg::CsrInjectArgument
                             ? data : inject_argument_o[31:0];
  assign argument_d[63:32] = write && address_i == speckv_pkg::CsrInjectArgument + 12'd4
                             ? data : inject_argument_o[63:32];

  // ---- invalidate -------------------------------------------------------------------------------
  logic        order_invalidate, forgetting_d, forgetting_q;
  logic [15:0] region_d;
  assign order_invalidate = write && address_i == speckv_pkg::CsrInvalidate && !forgetting_q;
  assign forgetting_d     = order_invalidate || (forgetting_q && !invalidate_done_i);
  assign region_d         = order_invalidate ? data[15:0] : invalidate_region_o;
  assign invalidate_o     = forgetting_q;

  always_ff @(posedge clk_i) begin
    if (!live) begin
      enable_q            <= 1'b0;
      cause_q             <= 8'd0;
      forgetting_q        <= 1'b0;
      invalidate_region_o <= 16'd0;
      inject_argument_o   <= 64'd0;
      block_shift_o       <= speckv_pkg::CsrBlockShiftReset[3:0];
      directory_quota_o   <= speckv_pkg::CsrDirectoryQuotaReset;
      weights_o           <= speckv_pkg::CsrWeightsReset;
      thresholds_q        <= speckv_pkg::CsrThresholdsReset[23:0];
    end else begin
      enable_q            <= enable_d;
      cause_q             <= cause_d;
      forgetting_q        <= forgetting_d;
      invalidate_region_o <= region_d;
      inject_argument_o   <= argument_d;
      block_shift_o       <= shift_d;
      directory_quota_o   <= quota_d;
      weights_o           <= weights_d;
      thresholds_q        <= thresholds_d;
    end
  end

  // ---- reading ----------------------------------------------------------------------------------
  logic [63:0] pair;  // both words at a multiple of 8
  logic [31:0] read_d;
  logic        done_d;
  always_comb begin
    pair = 64'd0;
    case ({address_i[11:3], 3'd0})
      speckv_pkg::CsrId: pair = {speckv_pkg::ContractMajor, speckv_pkg::ContractMinor,
                                 speckv_pkg::ContractId};
      speckv_pkg::CsrFeatures:       pair = Features;
      speckv_pkg::CsrCodecs:         pair = Codecs;
      speckv_pkg::CsrOpcodes:        pair = {speckv_pkg::MaxTenants[15:0],
                                             speckv_pkg::MaxDepthLog2Max[7:0],
                                             Queues[7:0], Opcodes};
      speckv_pkg::CsrMemoryBytes:    pair = memory_bytes_i;
      speckv_pkg::CsrBufferBytes:    pair = {32'd0, BufferBytes};
      speckv_pkg::CsrRegions:        pair = {DirectoryEntries, Regions};
      speckv_pkg::CsrMaxLength:      pair = {MaxLayer, MaxLength};
      speckv_pkg::CsrControl:        pair = {29'd0, pending != 5'd0, fatal_o, enable_o,
                                             30'd0, reset_o, enable_q};
      speckv_pkg::CsrFatalCause:     pair = {27'd0, pending, 24'd0, cause_q};
      speckv_pkg::CsrErrorInfo:      pair = oldest;
      // The upper word, as error_pop is only written.
      speckv_pkg::CsrErrorPop:       pair = {forgetting_q, 15'd0, invalidate_region_o, 32'd0};
      speckv_pkg::CsrBlockShift:     pair = {directory_quota_o, 28'd0, block_shift_o};
      speckv_pkg::CsrWeights:        pair = {thresholds_o, weights_o};
      speckv_pkg::CsrInjectArgument: pair = inject_argument_o;
      default:                       if (address_i[11:8] == 4'h2) pair = counter;
    endcase
  end
  assign read_d = address_i[1:0] != 2'd0 ? 32'd0 : address_i[2] ? pair[63:32] : pair[31:0];
  assign done_d = request_i;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      done_o  <= 1'b0;
      reset_o <= 1'b0;
    end else begin
      done_o  <= done_d;
      reset_o <= reset_d;
    end
  end
  always_ff @(posedge clk_i) read_data_o <= read_d;

  logic unused;
  assign unused = &{1'b0, count_i[183:176]};
endmodule
