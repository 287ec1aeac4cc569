// speckv_top -- the card: registers, queues, the command engine, the mover with its codecs, the
// fast buffer, the region table, the pages of regions and interrupts. What a vendor's shell has to
// bring is outside.
//
// Ports: `l_`, an AXI4-Lite slave with BAR0; `h_`, an AXI4 master to host memory, by bus address;
// `m_`, an AXI4 master to device memory, from address 0 on; MSI-X messages for the shell to write.
// AXI4: 512 bits, one ID, INCR bursts of whole beats within 4 KB. The memory answers SLVERR for
// what it cannot correct. `snoop_`: a write of device memory by somebody else, which reads of `m_`
// see from then on. `memory_bytes_i` does not change. `quiet_o`: nothing to do until BAR0 is
// accessed; until then the clock may stand still.
// Trusts the shell to answer what it is asked; nothing of the host but what the driver alone can
// write: regions of device memory, and the setup of queues.
module speckv_top #(
  parameter int Queues = 64,
  parameter int ClockMhz = 400,
  parameter int Regions = 4096,
  parameter int Lines = 256,             // of the fast buffer, 4 KB each
  parameter int MaxLength = 16777216,
  parameter int MaxLayer = 1048576,      // at most 1 MB
  parameter int WatchdogUs = 100000      // that work may stand still
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic [63:0]  memory_bytes_i,
  output logic         quiet_o,
  input  logic         l_aw_valid_i,
  output logic         l_aw_ready_o,
  input  logic [18:0]  l_aw_addr_i,
  input  logic         l_w_valid_i,
  output logic         l_w_ready_o,
  input  logic [31:0]  l_w_data_i,
  input  logic [3:0]   l_w_strb_i,
  output logic         l_b_valid_o,
  input  logic         l_b_ready_i,
  output logic [1:0]   l_b_resp_o,
  input  logic         l_ar_valid_i,
  output logic         l_ar_ready_o,
  input  logic [18:0]  l_ar_addr_i,
  output logic         l_r_valid_o,
  input  logic         l_r_ready_i,
  output logic [31:0]  l_r_data_o,
  output logic [1:0]   l_r_resp_o,
  input  logic         msix_enable_i,
  input  logic         msix_mask_i,
  output logic         message_valid_o,
  input  logic         message_ready_i,
  output logic [63:0]  message_address_o,
  output logic [31:0]  message_data_o,
  output logic         h_ar_valid_o,
  input  logic         h_ar_ready_i,
  output logic [63:0]  h_ar_addr_o,
  output logic [7:0]   h_ar_len_o,
  input  logic         h_r_valid_i,
  output logic         h_r_ready_o,
  input  logic [511:0] h_r_data_i,
  input  logic [1:0]   h_r_resp_i,
  input  logic         h_r_last_i,
  output logic         h_aw_valid_o,
  input  logic         h_aw_ready_i,
  output logic [63:0]  h_aw_addr_o,
  output logic [7:0]   h_aw_len_o,
  output logic         h_w_valid_o,
  input  logic         h_w_ready_i,
  output logic [511:0] h_w_data_o,
  output logic [63:0]  h_w_strb_o,
  output logic         h_w_last_o,
  input  logic         h_b_valid_i,
  output logic         h_b_ready_o,
  input  logic [1:0]   h_b_resp_i,
  output logic         m_ar_valid_o,
  input  logic         m_ar_ready_i,
  output logic [63:0]  m_ar_addr_o,
  output logic [7:0]   m_ar_len_o,
  input  logic         m_r_valid_i,
  output logic         m_r_ready_o,
  input  logic [511:0] m_r_data_i,
  input  logic [1:0]   m_r_resp_i,
  input  logic         m_r_last_i,
  output logic         m_aw_valid_o,
  input  logic         m_aw_ready_i,
  output logic [63:0]  m_aw_addr_o,
  output logic [7:0]   m_aw_len_o,
  output logic         m_w_valid_o,
  input  logic         m_w_ready_i,
  output logic [511:0] m_w_data_o,
  output logic [63:0]  m_w_strb_o,
  output logic         m_w_last_o,
  input  logic         m_b_valid_i,
  output logic         m_b_ready_o,
  input  logic [1:0]   m_b_resp_i,
  input  logic         snoop_valid_i,
  input  logic [63:0]  snoop_address_i   // of any byte of its 4 KB
);
  localparam logic [63:0] Features = speckv_pkg::FeatureCrc | speckv_pkg::FeaturePaged
                                     | speckv_pkg::FeatureInject | speckv_pkg::FeatureCoalesce;
  localparam logic [63:0] Codecs = (64'd1 << speckv_pkg::CodecRaw)
                                   | (64'd1 << speckv_pkg::CodecInt8)
                                   | (64'd1 << speckv_pkg::CodecKvq4);
  localparam logic [31:0] Opcodes = (32'd1 << speckv_pkg::OpNop) | (32'd1 << speckv_pkg::OpCopy)
                                    | (32'd1 << speckv_pkg::OpEncode)
                                    | (32'd1 << speckv_pkg::OpDecode)
                                    | (32'd1 << speckv_pkg::OpPrefetch)
                                    | (32'd1 << speckv_pkg::OpFill)
                                    | (32'd1 << speckv_pkg::OpFence);
  // The pipelines hold the largest unit that a layer can have.
  localparam int Beats = MaxLayer / 64;
  localparam int Rows = MaxLayer / 2 < 65536 ? MaxLayer / 2 : 65536;
  localparam int Words = Beats < 4096 ? Beats : 4096;
  // The pages of the longest range, 4 KB each and eight a line, wherever it begins.
  localparam int ListLines = 1 << $clog2(MaxLength / 32768 + 2);

  // ---- BAR0 -------------------------------------------------------------------------------------
  logic        request, write, done, csr_done, queues_done, msix_done, regions_done, none_done;
  logic [18:0] address;
  logic [31:0] write_data, read_data, csr_data, queues_data, msix_data, regions_data;
  logic        at_csr, at_queues, at_msix, at_regions, at_none;
  speckv_lite u_lite (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .aw_valid_i(l_aw_valid_i), .aw_ready_o(l_aw_ready_o), .aw_addr_i(l_aw_addr_i),
    .w_valid_i(l_w_valid_i), .w_ready_o(l_w_ready_o), .w_data_i(l_w_data_i),
    .w_strb_i(l_w_strb_i), .b_valid_o(l_b_valid_o), .b_ready_i(l_b_ready_i),
    .b_resp_o(l_b_resp_o), .ar_valid_i(l_ar_valid_i), .ar_ready_o(l_ar_ready_o),
    .ar_addr_i(l_ar_addr_i), .r_valid_o(l_r_valid_o), .r_ready_i(l_r_ready_i),
    .r_data_o(l_r_data_o), .r_resp_o(l_r_resp_o),
    .request_o(request), .write_o(write), .address_o(address), .write_data_o(write_data),
    .done_i(done), .read_data_i(read_data));
  assign at_csr     = address[18:12] == speckv_pkg::CsrWindow[18:12];
  assign at_queues  = address[18] || address[18:12] == speckv_pkg::QueueWindow[18:12];
  assign at_msix    = address[18:12] == speckv_pkg::MsixTableWindow[18:12]
                      || address[18:12] == speckv_pkg::MsixPbaWindow[18:12];
  assign at_regions = address[18:17] == speckv_pkg::RegionWindow[18:17];
  assign at_none    = !(at_csr || at_queues || at_msix || at_regions);
  assign done       = csr_done || queues_done || msix_done || regions_done || none_done;
  assign read_data  = csr_done ? csr_data : queues_done ? queues_data : msix_done ? msix_data
                      : regions_done ? regions_data : 32'd0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) none_done <= 1'b0;
    else         none_done <= request && at_none;
  end

  // ---- the card as a whole ----------------------------------------------------------------------
  logic        enable, resetting, reset_done, error_interrupt, invalidate, inject, unused_fatal;
  logic [15:0] unused_region;
  logic [7:0]  inject_kind;
  logic [63:0] inject_argument;
  logic [3:0]  unused_shift;
  logic [31:0] unused_quota, unused_weights, unused_thresholds;
  logic [4:0]  more;
  logic [31:0] more_count;
  logic        took, answered, failed, raised, hit, miss, stuck;
  logic        error_valid, error_ready, command_idle, forgotten;
  logic [63:0] error_entry;
  localparam logic [2:0] Stage = 3'd3;  // of the mover's jobs
  logic [2:0]  job;
  logic [183:0] count;
  always_comb begin
    count = 184'd0;
    count[8*speckv_pkg::CounterDescriptors +: 8]  = {7'd0, took};
    count[8*speckv_pkg::CounterCompletions +: 8]  = {7'd0, answered};
    count[8*speckv_pkg::CounterFailures +: 8]     = {7'd0, failed};
    count[8*speckv_pkg::CounterBufferHits +: 8]   = {1'b0, hit, 6'd0};
    count[8*speckv_pkg::CounterBufferMisses +: 8] = {1'b0, miss && job != Stage, 6'd0};
    count[8*speckv_pkg::CounterInterrupts +: 8]   = {7'd0, raised};
  end
  speckv_csr #(
    .Features(Features), .Codecs(Codecs), .Opcodes(Opcodes), .BufferBytes(Lines * 4096),
    .Regions(Regions), .DirectoryEntries(32'd0), .Queues(Queues), .MaxLength(MaxLength),
    .MaxLayer(MaxLayer)) u_csr (
    .clk_i(clk_i), .rst_ni(rst_ni), .request_i(request && at_csr), .write_i(write),
    .address_i(address[11:0]), .write_data_i(write_data), .done_o(csr_done),
    .read_data_o(csr_data), .memory_bytes_i(memory_bytes_i), .count_i(count), .more_i(more),
    .more_count_i(more_count), .error_valid_i(error_valid), .error_ready_o(error_ready),
    .error_entry_i(error_entry), .fatal_valid_i(stuck),
    .fatal_cause_i(speckv_pkg::FatalCauseWatchdog), .enable_o(enable),
    .fatal_o(unused_fatal), .reset_o(resetting), .reset_done_i(reset_done),
    .error_interrupt_o(error_interrupt), .invalidate_o(invalidate),
    .invalidate_region_o(unused_region), .invalidate_done_i(forgotten), .inject_o(inject),
    .inject_kind_o(inject_kind), .inject_argument_o(inject_argument),
    .block_shift_o(unused_shift), .directory_quota_o(unused_quota), .weights_o(unused_weights),
    .thresholds_o(unused_thresholds));

  // A reset waits until nothing is under way, clears everything at once, and waits for the tables.
  // Whatever is under way is for a queue that is served: it waits for the bytes of its descriptor,
  // the outcome, and the answer to its completion; the outcome waits for its jobs, and each job for
  // the last answer to each of its ranges. So while no queue is served all else is idle.
  logic clear, cleared_d, cleared_q, queues_idle, queues_busy, regions_busy, mover_idle, atu_busy;
  assign clear      = resetting && !cleared_q && queues_idle;
  assign cleared_d  = resetting && (cleared_q || clear);
  assign reset_done = cleared_q && !queues_busy && !regions_busy && !atu_busy;

  // An order to invalidate waits until no descriptor is here, and forgets all pages once.
  logic forget, forgot_d, forgot_q;
  assign forget    = invalidate && command_idle && !forgot_q;
  assign forgot_d  = invalidate && (forgot_q || forget);
  assign forgotten = forgot_q && !atu_busy;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      cleared_q <= 1'b0;
      forgot_q  <= 1'b0;
    end else begin
      cleared_q <= cleared_d;
      forgot_q  <= forgot_d;
    end
  end
`ifdef SPECKV_ASSERT
  always @(posedge clk_i)
    if (rst_ni) a_all_idle: assert (!queues_idle || (command_idle && mover_idle));
`endif

  // Whatever stands still waits for a bus: one job runs at a time, and between transfers the card
  // is never busy for long by itself.
  logic moves;
  assign moves = (h_ar_valid_o && h_ar_ready_i) || (h_r_valid_i && h_r_ready_o)
                 || (h_aw_valid_o && h_aw_ready_i) || (h_w_valid_o && h_w_ready_i)
                 || (h_b_valid_i && h_b_ready_o) || (m_ar_valid_o && m_ar_ready_i)
                 || (m_r_valid_i && m_r_ready_o) || (m_aw_valid_o && m_aw_ready_i)
                 || (m_w_valid_o && m_w_ready_i) || (m_b_valid_i && m_b_ready_o);
  speckv_watchdog #(.Cycles(WatchdogUs * ClockMhz)) u_watchdog (
    .clk_i(clk_i), .rst_ni(rst_ni), .working_i(!queues_idle), .moves_i(moves), .expired_o(stuck));

  // ---- queues and their descriptors -------------------------------------------------------------
  logic         fetch_valid, fetch_ready, fetched_valid, fetched_ready, fetched_error;
  logic [63:0]  fetch_address, complete_address;
  logic [511:0] fetched_data, descriptor;
  logic         command_valid, command_ready, outcome_valid;
  logic [15:0]  tenant;
  logic [14:0]  code;
  logic [31:0]  result, crc, mover_crc;
  logic         complete_valid, complete_ready, entry_valid, entry_ready;
  logic         written_valid, written_ready, written_error, raise_valid, queues_quiet;
  logic [127:0] entry;
  logic [6:0]   raise_vector;
  speckv_queues #(.Queues(Queues), .ClockMhz(ClockMhz)) u_queues (
    .clk_i(clk_i), .rst_ni(rst_ni), .enable_i(enable), .clear_i(clear), .idle_o(queues_idle),
    .busy_o(queues_busy), .quiet_o(queues_quiet), .request_i(request && at_queues),
    .write_i(write), .address_i(address), .write_data_i(write_data), .done_o(queues_done),
    .read_data_o(queues_data), .inject_i(inject), .inject_kind_i(inject_kind),
    .inject_argument_i(inject_argument), .fetch_valid_o(fetch_valid),
    .fetch_ready_i(fetch_ready), .fetch_address_o(fetch_address),
    .fetched_valid_i(fetched_valid), .fetched_ready_o(fetched_ready),
    .fetched_data_i(fetched_data), .fetched_error_i(fetched_error),
    .command_valid_o(command_valid), .command_ready_i(command_ready), .command_o(descriptor),
    .command_tenant_o(tenant), .outcome_valid_i(outcome_valid), .outcome_code_i(code),
    .outcome_result_i(result), .outcome_crc_i(crc), .complete_valid_o(complete_valid),
    .complete_ready_i(complete_ready), .complete_address_o(complete_address),
    .entry_valid_o(entry_valid), .entry_ready_i(entry_ready), .entry_o(entry),
    .written_valid_i(written_valid), .written_ready_o(written_ready),
    .written_error_i(written_error), .raise_valid_o(raise_valid),
    .raise_ready_i(!error_interrupt), .raise_vector_o(raise_vector),
    .error_valid_o(error_valid), .error_ready_i(error_ready), .error_entry_o(error_entry),
    .took_o(took), .answered_o(answered), .failed_o(failed), .raised_o(raised));

  logic       msix_quiet;
  logic [6:0] vector;
  assign vector = error_interrupt ? speckv_pkg::MaxQueues[6:0] : raise_vector;
  speckv_msix #(.Vectors(65)) u_msix (
    .clk_i(clk_i), .rst_ni(rst_ni), .enable_i(msix_enable_i), .mask_i(msix_mask_i),
    .request_i(request && at_msix), .write_i(write), .address_i(address[12:0]),
    .write_data_i(write_data), .done_o(msix_done), .read_data_o(msix_data),
    .raise_i(error_interrupt || raise_valid), .vector_i(vector),
    .message_valid_o(message_valid_o), .message_ready_i(message_ready_i),
    .message_address_o(message_address_o), .message_data_o(message_data_o),
    .quiet_o(msix_quiet));

  // ---- a descriptor's work ----------------------------------------------------------------------
  logic        check_valid, check_ready, check_writing, answer_valid, answer_ok;
  logic [31:0] check_region, check_length, answer_control;
  logic [15:0] check_tenant;
  logic [63:0] check_offset, answer_base;
  logic [51:0] line;
  logic        line_here, fill_begin, fill_end, drop, start, job_done, read_error, write_error, bad;
  logic        source_device, target_device, nowhere, int8, bf16, latent, interleaved;
  logic [63:0] source, target, pattern;
  logic [31:0] source_bytes, target_bytes, unit_bytes;
  logic [15:0] heads, tokens, channels;
  logic        walk_valid, walk_target, walk_done, walk_failed, source_paged, target_paged;
  logic [11:0] source_region, target_region;
  logic [63:0] source_list, target_list;
  logic [5:0]  source_shift, target_shift;
  speckv_command #(
    .Codecs(Codecs), .Opcodes(Opcodes), .MaxLength(MaxLength), .MaxLayer(MaxLayer),
    .Lines(Lines)) u_command (
    .clk_i(clk_i), .rst_ni(rst_ni), .clear_i(clear), .memory_bytes_i(memory_bytes_i),
    .valid_i(command_valid), .ready_o(command_ready), .descriptor_i(descriptor),
    .tenant_i(tenant), .outcome_valid_o(outcome_valid), .code_o(code), .result_o(result),
    .crc_o(crc), .idle_o(command_idle), .inject_i(inject), .inject_kind_i(inject_kind),
    .inject_argument_i(inject_argument), .more_o(more), .more_count_o(more_count),
    .check_valid_o(check_valid), .check_ready_i(check_ready), .check_region_o(check_region),
    .check_tenant_o(check_tenant), .check_offset_o(check_offset),
    .check_length_o(check_length), .check_writing_o(check_writing),
    .answer_valid_i(answer_valid), .answer_ok_i(answer_ok), .answer_base_i(answer_base),
    .answer_control_i(answer_control), .walk_valid_o(walk_valid), .walk_target_o(walk_target),
    .walk_done_i(walk_done), .walk_failed_i(walk_failed), .source_paged_o(source_paged),
    .source_region_o(source_region), .source_list_o(source_list),
    .source_shift_o(source_shift), .target_paged_o(target_paged),
    .target_region_o(target_region), .target_list_o(target_list),
    .target_shift_o(target_shift), .line_o(line), .line_here_i(line_here),
    .fill_begin_o(fill_begin), .fill_end_o(fill_end), .drop_o(drop), .start_o(start),
    .job_o(job), .done_i(job_done), .read_error_i(read_error), .write_error_i(write_error),
    .bad_i(bad), .crc_i(mover_crc), .source_device_o(source_device), .source_o(source),
    .source_bytes_o(source_bytes), .target_device_o(target_device), .target_o(target),
    .target_bytes_o(target_bytes), .nowhere_o(nowhere), .pattern_o(pattern), .int8_o(int8),
    .bf16_o(bf16), .latent_o(latent), .interleaved_o(interleaved), .heads_o(heads),
    .tokens_o(tokens), .channels_o(channels), .unit_bytes_o(unit_bytes));

  speckv_regions #(.Entries(Regions)) u_regions (
    .clk_i(clk_i), .rst_ni(rst_ni), .clear_i(clear), .busy_o(regions_busy),
    .request_i(request && at_regions), .write_i(write), .address_i(address[16:0]),
    .write_data_i(write_data), .done_o(regions_done), .read_data_o(regions_data),
    .check_valid_i(check_valid), .check_ready_o(check_ready), .check_region_i(check_region),
    .check_tenant_i(check_tenant), .check_offset_i(check_offset),
    .check_length_i(check_length), .check_writing_i(check_writing),
    .answer_valid_o(answer_valid), .answer_ok_o(answer_ok), .answer_base_o(answer_base),
    .answer_control_o(answer_control));

  // ---- bytes: of a descriptor, or of a list of pages --------------------------------------------
  logic         list_start, listing, c_ar_valid, c_ar_ready, c_aw_valid, c_aw_ready;
  logic         c_w_valid, c_w_ready;
  logic [63:0]  list_address, c_ar_addr, c_aw_addr;
  logic [31:0]  list_bytes;
  logic [7:0]   c_ar_len, c_aw_len;
  logic         stage_valid, b_ar_valid, b_ar_ready, b_r_valid, b_r_ready, b_r_last;
  logic [511:0] stage_data, b_r_data;
  logic [63:0]  b_ar_addr;
  logic [7:0]   b_ar_len;
  logic [1:0]   b_r_resp;
  speckv_mover #(.Beats(Beats), .Rows(Rows), .Words(Words)) u_mover (
    .clk_i(clk_i), .rst_ni(rst_ni), .start_i(start || list_start), .job_i(listing ? Stage : job),
    .done_o(job_done), .read_error_o(read_error), .write_error_o(write_error), .bad_o(bad),
    .crc_o(mover_crc), .source_device_i(source_device && !listing),
    .source_i(listing ? list_address : source),
    .source_bytes_i(listing ? list_bytes : source_bytes),
    .target_device_i(target_device), .target_i(target), .target_bytes_i(target_bytes),
    .nowhere_i(nowhere), .pattern_i(pattern), .int8_i(int8), .bf16_i(bf16), .latent_i(latent),
    .interleaved_i(interleaved), .heads_i(heads), .tokens_i(tokens), .channels_i(channels),
    .unit_bytes_i(unit_bytes), .stage_valid_o(stage_valid), .stage_data_o(stage_data),
    .fetch_valid_i(fetch_valid), .fetch_ready_o(fetch_ready), .fetch_address_i(fetch_address),
    .fetched_valid_o(fetched_valid), .fetched_ready_i(fetched_ready),
    .fetched_data_o(fetched_data), .fetched_error_o(fetched_error),
    .complete_valid_i(complete_valid), .complete_ready_o(complete_ready),
    .complete_address_i(complete_address), .entry_valid_i(entry_valid),
    .entry_ready_o(entry_ready), .entry_i(entry), .written_valid_o(written_valid),
    .written_ready_i(written_ready), .written_error_o(written_error), .idle_o(mover_idle),
    .h_ar_valid_o(c_ar_valid), .h_ar_ready_i(c_ar_ready), .h_ar_addr_o(c_ar_addr),
    .h_ar_len_o(c_ar_len), .h_r_valid_i(h_r_valid_i), .h_r_ready_o(h_r_ready_o),
    .h_r_data_i(h_r_data_i), .h_r_resp_i(h_r_resp_i), .h_r_last_i(h_r_last_i),
    .h_aw_valid_o(c_aw_valid), .h_aw_ready_i(c_aw_ready), .h_aw_addr_o(c_aw_addr),
    .h_aw_len_o(c_aw_len), .h_w_valid_o(c_w_valid), .h_w_ready_i(c_w_ready),
    .h_w_data_o(h_w_data_o), .h_w_strb_o(h_w_strb_o), .h_w_last_o(h_w_last_o),
    .h_b_valid_i(h_b_valid_i), .h_b_ready_o(h_b_ready_o), .h_b_resp_i(h_b_resp_i),
    .m_ar_valid_o(b_ar_valid), .m_ar_ready_i(b_ar_ready), .m_ar_addr_o(b_ar_addr),
    .m_ar_len_o(b_ar_len), .m_r_valid_i(b_r_valid), .m_r_ready_o(b_r_ready),
    .m_r_data_i(b_r_data), .m_r_resp_i(b_r_resp), .m_r_last_i(b_r_last),
    .m_aw_valid_o(m_aw_valid_o), .m_aw_ready_i(m_aw_ready_i), .m_aw_addr_o(m_aw_addr_o),
    .m_aw_len_o(m_aw_len_o), .m_w_valid_o(m_w_valid_o), .m_w_ready_i(m_w_ready_i),
    .m_w_data_o(m_w_data_o), .m_w_strb_o(m_w_strb_o), .m_w_last_o(m_w_last_o),
    .m_b_valid_i(m_b_valid_i), .m_b_ready_o(m_b_ready_o), .m_b_resp_i(m_b_resp_i));
  speckv_atu #(.Lines(ListLines)) u_atu (
    .clk_i(clk_i), .rst_ni(rst_ni), .flush_i(clear || forget), .busy_o(atu_busy),
    .walk_valid_i(walk_valid), .walk_target_i(walk_target), .walk_done_o(walk_done),
    .walk_failed_o(walk_failed), .source_paged_i(source_paged), .source_region_i(source_region),
    .source_list_i(source_list), .source_shift_i(source_shift), .source_offset_i(source),
    .source_bytes_i(source_bytes), .target_paged_i(target_paged),
    .target_region_i(target_region), .target_list_i(target_list),
    .target_shift_i(target_shift), .target_offset_i(target), .target_bytes_i(target_bytes),
    .read_start_o(list_start), .reading_o(listing), .read_address_o(list_address),
    .read_bytes_o(list_bytes), .read_beat_i(stage_valid), .read_data_i(stage_data),
    .read_done_i(job_done), .read_error_i(read_error),
    .ar_valid_i(c_ar_valid), .ar_ready_o(c_ar_ready), .ar_addr_i(c_ar_addr),
    .ar_len_i(c_ar_len), .h_ar_valid_o(h_ar_valid_o), .h_ar_ready_i(h_ar_ready_i),
    .h_ar_addr_o(h_ar_addr_o), .h_ar_len_o(h_ar_len_o),
    .aw_valid_i(c_aw_valid), .aw_ready_o(c_aw_ready), .aw_addr_i(c_aw_addr),
    .aw_len_i(c_aw_len), .h_aw_valid_o(h_aw_valid_o), .h_aw_ready_i(h_aw_ready_i),
    .h_aw_addr_o(h_aw_addr_o), .h_aw_len_o(h_aw_len_o),
    .w_valid_i(c_w_valid), .w_ready_o(c_w_ready), .w_last_i(h_w_last_o),
    .h_w_valid_o(h_w_valid_o), .h_w_ready_i(h_w_ready_i));
  speckv_buffer #(.Lines(Lines)) u_buffer (
    .clk_i(clk_i), .rst_ni(rst_ni), .clear_i(clear), .query_line_i(line),
    .query_here_o(line_here), .fill_begin_i(fill_begin), .fill_valid_i(stage_valid && !listing),
    .fill_data_i(stage_data), .fill_end_i(fill_end), .drop_i(drop),
    .drop_line_i(inject_argument[63:12]),
    .snoop_i(snoop_valid_i), .snoop_line_i(snoop_address_i[63:12]),
    .ar_valid_i(b_ar_valid), .ar_ready_o(b_ar_ready), .ar_addr_i(b_ar_addr), .ar_len_i(b_ar_len),
    .r_valid_o(b_r_valid), .r_ready_i(b_r_ready), .r_data_o(b_r_data), .r_resp_o(b_r_resp),
    .r_last_o(b_r_last),
    .m_ar_valid_o(m_ar_valid_o), .m_ar_ready_i(m_ar_ready_i), .m_ar_addr_o(m_ar_addr_o),
    .m_ar_len_o(m_ar_len_o), .m_r_valid_i(m_r_valid_i), .m_r_ready_o(m_r_ready_o),
    .m_r_data_i(m_r_data_i), .m_r_resp_i(m_r_resp_i), .m_r_last_i(m_r_last_i),
    .write_i(m_aw_valid_o && m_aw_ready_i), .write_line_i(m_aw_addr_o[63:12]),
    .hit_o(hit), .miss_o(miss));

  assign quiet_o = queues_quiet && msix_quiet && !resetting && !regions_busy && !atu_busy
                   && !invalidate && !request && !l_b_valid_o && !l_r_valid_o;
  logic unused;
  assign unused = &{1'b0, unused_fatal, unused_region, unused_shift, unused_quota, unused_weights,
                    unused_thresholds, snoop_address_i[11:0], mover_idle};
endmodule
