// speckv_command -- carries out one descriptor after the other: checks it, looks up its regions,
// gives the mover its jobs, counts, and tells the outcome (docs/queue-protocol.md).
//
// NOP, COPY, ENCODE, DECODE, PREFETCH, FILL, FENCE. What is before a FENCE has ended when it
// begins, as everything has.
// Ports: descriptors with their queue's tenant; outcomes; checks of the region table; walks of
// lists of pages; jobs of the mover, whose address in a region of pages is the offset, `*_paged_o`
// while one runs; lines of the fast buffer; faults injected for tests; amounts that counters add.
// `idle_o`: no descriptor is here, so no region is in use.
// Latency: 7 cycles for a descriptor that moves nothing, 17 from one to the mover's job. Trusts the
// tenant, and the answers of the other blocks; nothing of a descriptor. Where the driver's regions
// pass the end of device memory, that is a bus error.
module speckv_command #(
  parameter [63:0] Codecs = '0,
  parameter [31:0] Opcodes = '0,
  parameter [31:0] MaxLength = '0,
  parameter [31:0] MaxLayer = '0,
  parameter [31:0] Lines = 32'd256  // of the fast buffer
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         clear_i,
  input  logic [63:0]  memory_bytes_i,
  input  logic         valid_i,
  output logic         ready_o,
  input  logic [511:0] descriptor_i,
  input  logic [15:0]  tenant_i,
  output logic         outcome_valid_o,
  output logic [14:0]  code_o,
  output logic [31:0]  result_o,
  output logic [31:0]  crc_o,
  output logic         idle_o,
  input  logic         inject_i,
  input  logic [7:0]   inject_kind_i,
  input  logic [63:0]  inject_argument_i,
  output logic [4:0]   more_o,
  output logic [31:0]  more_count_o,
  output logic         check_valid_o,
  input  logic         check_ready_i,
  output logic [31:0]  check_region_o,
  output logic [15:0]  check_tenant_o,
  output logic [63:0]  check_offset_o,
  output logic [31:0]  check_length_o,
  output logic         check_writing_o,
  input  logic         answer_valid_i,
  input  logic         answer_ok_i,
  input  logic [63:0]  answer_base_i,
  input  logic [31:0]  answer_control_i,
  output logic         walk_valid_o,     // until done: of one side, whose words stay for the job
  output logic         walk_target_o,
  input  logic         walk_done_i,
  input  logic         walk_failed_i,
  output logic         source_paged_o,
  output logic [11:0]  source_region_o,
  output logic [63:0]  source_list_o,
  output logic [5:0]   source_shift_o,
  output logic         target_paged_o,
  output logic [11:0]  target_region_o,
  output logic [63:0]  target_list_o,
  output logic [5:0]   target_shift_o,
  output logic [51:0]  line_o,           // of the fast buffer
  input  logic         line_here_i,
  output logic         fill_begin_o,
  output logic         fill_end_o,
  output logic         drop_o,           // the line of inject_argument_i
  output logic         start_o,
  output logic [2:0]   job_o,
  input  logic         done_i,
  input  logic         read_error_i,
  input  logic         write_error_i,
  input  logic         bad_i,
  input  logic [31:0]  crc_i,
  output logic         source_device_o,
  output logic [63:0]  source_o,
  output logic [31:0]  source_bytes_o,
  output logic         target_device_o,
  output logic [63:0]  target_o,
  output logic [31:0]  target_bytes_o,
  output logic         nowhere_o,
  output logic [63:0]  pattern_o,
  output logic         int8_o,
  output logic         bf16_o,
  output logic         latent_o,
  output logic         interleaved_o,
  output logic [15:0]  heads_o,
  output logic [15:0]  tokens_o,
  output logic [15:0]  channels_o,
  output logic [31:0]  unit_bytes_o
);
  localparam logic [2:0] Copy = 3'd0, Fill = 3'd1, Check = 3'd2, Stage = 3'd3, Encode = 3'd4,
                         Decode = 3'd5;
  localparam logic [3:0] Idle = 4'd0, Sizes = 4'd1, Source = 4'd2, SourceAnswer = 4'd3,
                         Target = 4'd4, TargetAnswer = 4'd5, Look = 4'd6, Plan = 4'd7, Run = 4'd8,
                         Line = 4'd9, LineLook = 4'd10, LineRun = 4'd11, Count = 4'd12,
                         Tell = 4'd13, WalkSource = 4'd14, WalkTarget = 4'd15;
  logic [3:0] state_d, state_q;

  // ---- the descriptor ---------------------------------------------------------------------------
  logic [511:0] d_q, d_d;
  logic [15:0]  tenant_d, tenant_q;
  logic [7:0]   opcode, codec;
  logic [31:0]  length, room, wanted_crc;
  logic         copies, encodes, decodes, codes, prefetches, fills, reads, writes, lossy, checks;
  assign d_d        = ready_o ? descriptor_i : d_q;
  assign tenant_d   = ready_o ? tenant_i : tenant_q;
  assign opcode     = d_q[speckv_pkg::DescOpcodeLow +: 8];
  assign codec      = d_q[speckv_pkg::DescCodecLow +: 8];
  assign length     = d_q[speckv_pkg::DescLengthLow +: 32];
  assign room       = d_q[speckv_pkg::DescRoomLow +: 32];
  assign wanted_crc = d_q[speckv_pkg::DescCrcLow +: 32];
  assign copies     = opcode == speckv_pkg::OpCopy;
  assign encodes    = opcode == speckv_pkg::OpEncode;
  assign decodes    = opcode == speckv_pkg::OpDecode;
  assign prefetches = opcode == speckv_pkg::OpPrefetch;
  assign fills      = opcode == speckv_pkg::OpFill;
  assign codes      = encodes || decodes;
  assign reads      = copies || codes || prefetches;
  assign writes     = copies || codes || fills;
  assign lossy      = codes && codec != speckv_pkg::CodecRaw;
  assign checks     = (d_q[speckv_pkg::DescFlagsLow +: 8] & speckv_pkg::DescFlagCheck) != 8'd0;

  logic [14:0] checked;
  logic [31:0] layer_bytes, coded_bytes;
  speckv_check #(.Codecs(Codecs), .Opcodes(Opcodes), .MaxLength(MaxLength), .MaxLayer(MaxLayer))
    u_check (
      .clk_i(clk_i), .descriptor_i(d_q), .code_o(checked), .unit_bytes_o(unit_bytes_o),
      .layer_bytes_o(layer_bytes), .coded_bytes_o(coded_bytes));

  // ---- regions: an address, and whether it is one -----------------------------------------------
  logic        usable, paged, source_device_d, target_device_d;
  logic        source_pages_d, source_pages_q, target_pages_d, target_pages_q;
  logic [63:0] source_d, target_d, offset, address;
  logic [31:0] out_bytes;
  assign offset          = check_writing_o ? d_q[speckv_pkg::DescDstOffsetLow +: 64]
                                           : d_q[speckv_pkg::DescSrcOffsetLow +: 64];
  assign check_writing_o = state_q == Target || state_q == TargetAnswer;
  assign check_valid_o   = state_q == Source || state_q == Target;
  assign check_region_o  = check_writing_o ? d_q[speckv_pkg::DescDstRegionLow +: 32]
                                           : d_q[speckv_pkg::DescSrcRegionLow +: 32];
  assign check_tenant_o  = tenant_q;
  assign check_offset_o  = offset;
  assign check_length_o  = check_writing_o && codes ? room : length;
  // Only device memory can be prefetched, and only host memory is in pages: there the address is
  // the offset.
  assign usable  = answer_ok_i && (!prefetches || answer_control_i[1]);
  assign paged   = answer_control_i[4] && !answer_control_i[1];
  assign address = paged ? offset : answer_base_i + offset;
  assign source_d        = state_q == SourceAnswer ? address : source_o;
  assign source_device_d = state_q == SourceAnswer ? answer_control_i[1] : source_device_o;
  assign source_pages_d  = state_q == SourceAnswer ? paged : source_pages_q && !ready_o;
  assign target_d        = state_q == TargetAnswer ? address : target_o;
  assign target_device_d = state_q == TargetAnswer ? answer_control_i[1] : target_device_o;
  assign target_pages_d  = state_q == TargetAnswer ? paged : target_pages_q && !ready_o;
  assign out_bytes       = encodes ? coded_bytes : decodes ? layer_bytes : length;

  // Whether a range is in device memory.
  logic        source_inside, target_inside, source_inside_q, target_inside_q;
  logic [63:0] source_most, target_most;
  assign source_most   = memory_bytes_i - {32'd0, length};
  assign target_most   = memory_bytes_i - {32'd0, out_bytes};
  assign source_inside = {32'd0, length} <= memory_bytes_i && source_o <= source_most;
  assign target_inside = {32'd0, out_bytes} <= memory_bytes_i && target_o <= target_most;

  // ---- poison, and what else tests inject -------------------------------------------------------
  logic        poisoned, wrote, add_poison, fail_read_d, fail_read_q, fail_write_d, fail_write_q;
  logic        takes_read, takes_write;
  logic [63:0] range;
  logic [31:0] range_bytes;
  assign add_poison = inject_i && inject_kind_i == speckv_pkg::InjectPoison
                      && inject_argument_i < memory_bytes_i;
  assign drop_o     = add_poison;
  speckv_poison u_poison (
    .clk_i(clk_i), .rst_ni(rst_ni), .clear_i(clear_i), .add_i(add_poison),
    .add_line_i(inject_argument_i[63:6]), .address_i(range), .bytes_i(range_bytes),
    .hit_o(poisoned), .written_i(wrote));
  assign fail_read_d  = (inject_i && inject_kind_i == speckv_pkg::InjectBusRead)
                        || (fail_read_q && !takes_read);
  assign fail_write_d = (inject_i && inject_kind_i == speckv_pkg::InjectBusWrite)
                        || (fail_write_q && !takes_write);

  // ---- the plan: what is said if nothing worse happens, and the job -----------------------------
  logic [14:0] then_d, then_q, code_d, early, late;
  assign nowhere_o = then_q != speckv_pkg::StatusOk;
  logic        mismatch, too_long, source_fails, target_fails, finds, unlisted, walks_target;
  assign mismatch     = decodes && length != coded_bytes;
  assign too_long     = decodes && {1'b0, length} > {MaxLayer, 1'b0} + 33'd4096;
  assign source_fails = reads && (source_device_o ? !source_inside_q : fail_read_q);
  assign target_fails = writes && (target_device_o ? !target_inside_q : fail_write_q);
  assign takes_read   = state_q == Plan && reads && !source_device_o;
  assign takes_write  = state_q == Plan && writes && !target_device_o && !source_fails;
  assign finds        = state_q == Plan && reads && source_device_o && poisoned;
  // The target's pages are looked for if something is written; without them nothing is.
  assign walks_target = target_pages_q && then_d == speckv_pkg::StatusOk;
  assign unlisted     = state_q == WalkTarget && walk_done_i && walk_failed_i;
  always_comb begin
    // Known before anything moves.
    if (too_long)                           early = speckv_pkg::StatusCorrupted;
    else if (source_fails)                  early = speckv_pkg::StatusBusError;
    else if (finds)                         early = speckv_pkg::StatusPoison;
    else if (fills && target_fails)         early = speckv_pkg::StatusBusError;
    else                                    early = speckv_pkg::StatusOk;
    // Known, but said only after what is found while reading.
    if (unlisted)                           then_d = speckv_pkg::StatusBusError;
    else if (state_q != Plan)               then_d = then_q;
    else if (mismatch)                      then_d = speckv_pkg::StatusCorrupted;
    else if (codes && out_bytes > room)     then_d = speckv_pkg::StatusNoSpace;
    else if (target_fails)                  then_d = speckv_pkg::StatusBusError;
    else                                    then_d = speckv_pkg::StatusOk;
    // When the mover is done.
    if (read_error_i)
      late = source_device_o ? speckv_pkg::StatusPoison : speckv_pkg::StatusBusError;
    else if (checks && crc_i != wanted_crc) late = speckv_pkg::StatusCorrupted;
    else if (bad_i && lossy)
      late = encodes ? speckv_pkg::StatusUnencodable : speckv_pkg::StatusCorrupted;
    else if (nowhere_o)                     late = then_q;
    else if (write_error_i)                 late = speckv_pkg::StatusBusError;
    else                                    late = speckv_pkg::StatusOk;
  end
  logic [2:0] job_d;
  always_comb begin
    job_d = job_o;
    if (state_q == Plan) begin
      if (prefetches)                                job_d = Stage;
      else if (fills)                                job_d = Fill;
      else if (lossy && !mismatch)                   job_d = encodes ? Encode : Decode;
      else if (then_d == speckv_pkg::StatusOk)       job_d = Copy;
      else                                           job_d = Check;
    end else if (unlisted && !lossy) begin
      job_d = Check;
    end
  end

  // ---- lines of a prefetch ----------------------------------------------------------------------
  logic [51:0] line_d, last_line_q, last_line;
  logic [31:0] lines_d, lines_q;  // that may still be brought
  logic [63:0] last_byte;
  logic        whole, wants, line_first, line_next;
  assign last_byte  = source_o + {32'd0, length} - 64'd1;
  assign last_line  = last_byte[63:12];
  assign line_first = state_q == Plan;
  assign line_d     = line_first ? source_o[63:12] : line_o + {51'd0, line_next};
  assign lines_d    = line_first ? Lines : lines_q - {31'd0, line_next};
  // A line that is not whole, or poisoned elsewhere, is read where it lies.
  assign whole     = {line_o, 12'hfff} < memory_bytes_i;
  assign wants     = state_q == LineLook && whole && !line_here_i && !poisoned;
  assign line_next = (state_q == LineLook && !wants) || (state_q == LineRun && done_i);
  assign fill_begin_o = wants;
  assign fill_end_o   = state_q == LineRun && done_i && !read_error_i;

  assign source_bytes_o = prefetches ? 32'd4096 : length;
  assign target_bytes_o = out_bytes;

  // ---- steps ------------------------------------------------------------------------------------
  logic [2:0] wait_d, wait_q;
  logic       counted;
  assign wait_d = state_q == Sizes ? wait_q + 3'd1 : 3'd0;
  always_comb begin
    state_d = state_q;
    code_d  = code_o;
    case (state_q)
      Idle: if (valid_i) state_d = Sizes;
      Sizes: if (wait_q == 3'd5) begin
        code_d = checked;
        if (checked != speckv_pkg::StatusOk) state_d = Tell;
        else                                 state_d = reads ? Source : writes ? Target : Tell;
      end
      Source: if (check_ready_i) state_d = SourceAnswer;
      SourceAnswer: if (answer_valid_i) begin
        state_d = !usable ? Tell : writes ? Target : Look;
        if (!usable) code_d = speckv_pkg::StatusBadRegion;
      end
      Target: if (check_ready_i) state_d = TargetAnswer;
      TargetAnswer: if (answer_valid_i) begin
        state_d = usable ? Look : Tell;
        if (!usable) code_d = speckv_pkg::StatusBadRegion;
      end
      Look: state_d = Plan;
      Plan: begin
        code_d  = early;
        state_d = early != speckv_pkg::StatusOk ? Tell : prefetches ? Line
                  : source_pages_q ? WalkSource : walks_target ? WalkTarget : Run;
      end
      WalkSource: if (walk_done_i) begin
        state_d = walk_failed_i ? Tell : walks_target ? WalkTarget : Run;
        if (walk_failed_i) code_d = speckv_pkg::StatusBusError;
      end
      WalkTarget: if (walk_done_i) begin
        state_d = walk_failed_i && fills ? Tell : Run;
        if (walk_failed_i) code_d = speckv_pkg::StatusBusError;
      end
      Run: if (done_i) begin
        code_d  = late;
        state_d = Count;
      end
      Line: state_d = LineLook;
      LineLook, LineRun: begin
        if (wants) state_d = LineRun;
        if (line_next) begin
          state_d = line_o == last_line_q || lines_q == 32'd1 ? Tell : Line;
          if (state_q == LineRun && read_error_i) begin
            code_d  = speckv_pkg::StatusPoison;
            state_d = Tell;
          end
        end
      end
      Count:   if (counted) state_d = Tell;
      default: state_d = Idle;
    endcase
  end
  // A pulse in the cycle after the decision, when the job and its words stand.
  logic start_d;
  assign start_d = (state_q != Run && state_d == Run) || wants;

  // The source's range is looked at first, then a line's; what is written loses its poison.
  assign range       = state_q == Line || state_q == LineLook ? {line_o, 12'd0}
                       : wrote ? target_o : source_o;
  assign range_bytes = state_q == Line || state_q == LineLook ? 32'd4096
                       : wrote ? target_bytes_o : length;
  assign wrote = start_o && state_q == Run && job_o != Check && !nowhere_o && target_device_o;

  // ---- counting: two amounts, or four -----------------------------------------------------------
  logic [1:0] amount_d, amount_q;
  logic       read_all, ok;
  assign ok       = code_o == speckv_pkg::StatusOk;
  assign amount_d = state_q == Count ? amount_q + 2'd1 : 2'd0;
  assign counted  = amount_q == 2'd3;
  // What was read whole counts, though it did not decode.
  assign read_all = ok || (codes && code_o != speckv_pkg::StatusPoison && !read_error_i);
  always_comb begin
    more_o       = speckv_pkg::CounterBytesRead[4:0];
    more_count_o = 32'd0;
    if (state_q == Count) begin
      case (amount_q)
        2'd0: if (reads && read_all) more_count_o = length;
        2'd1: begin
          more_o = speckv_pkg::CounterBytesWritten[4:0];
          if (ok) more_count_o = out_bytes;
        end
        2'd2: begin
          more_o = encodes ? speckv_pkg::CounterEncodeIn[4:0] : speckv_pkg::CounterDecodeIn[4:0];
          if (ok && codes) more_count_o = length;
        end
        default: begin
          more_o = encodes ? speckv_pkg::CounterEncodeOut[4:0] : speckv_pkg::CounterDecodeOut[4:0];
          if (ok && codes) more_count_o = out_bytes;
        end
      endcase
    end else if (fill_end_o) begin
      more_o       = speckv_pkg::CounterBufferFilled[4:0];
      more_count_o = 32'd4096;
    end
  end

  assign walk_valid_o    = state_q == WalkSource || state_q == WalkTarget;
  assign walk_target_o   = state_q == WalkTarget;
  assign source_paged_o  = source_pages_q && state_q == Run;
  assign source_region_o = d_q[speckv_pkg::DescSrcRegionLow +: 12];
  assign target_paged_o  = target_pages_q && state_q == Run;
  assign target_region_o = d_q[speckv_pkg::DescDstRegionLow +: 12];
  assign ready_o         = state_q == Idle;
  assign idle_o          = state_q == Idle;
  assign outcome_valid_o = state_q == Tell;
  assign result_o        = reads || writes ? out_bytes : 32'd0;
  assign crc_o           = copies || codes ? crc_i : 32'd0;
  assign pattern_o       = d_q[speckv_pkg::DescPatternLow +: 64];
  assign int8_o          = codec == speckv_pkg::CodecInt8;
  assign bf16_o          = d_q[speckv_pkg::DescDtypeLow +: 8] == speckv_pkg::DtypeBf16;
  assign latent_o        = d_q[speckv_pkg::DescKindLow +: 8] == speckv_pkg::KindLatent;
  assign interleaved_o   = d_q[speckv_pkg::DescKindLow +: 8] == speckv_pkg::KindInterleaved;
  assign heads_o         = d_q[speckv_pkg::DescHeadsLow +: 16];
  assign tokens_o        = d_q[speckv_pkg::DescTokensLow +: 16];
  assign channels_o      = d_q[speckv_pkg::DescHeadDimLow +: 16];

  logic live;
  assign live = rst_ni && !clear_i;
  always_ff @(posedge clk_i) begin
    if (!live) begin
      state_q      <= Idle;
      start_o      <= 1'b0;
      fail_read_q  <= 1'b0;
      fail_write_q <= 1'b0;
    end else begin
      state_q      <= state_d;
      start_o      <= start_d;
      fail_read_q  <= fail_read_d;
      fail_write_q <= fail_write_d;
    end
  end
  always_ff @(posedge clk_i) begin
    d_q             <= d_d;
    tenant_q        <= tenant_d;
    wait_q          <= wait_d;
    amount_q        <= amount_d;
    code_o          <= code_d;
    then_q          <= then_d;
    job_o           <= job_d;
    source_o        <= state_q == LineLook ? {line_o, 12'd0} : source_d;
    source_device_o <= source_device_d;
    source_pages_q  <= source_pages_d;
    target_o        <= target_d;
    target_device_o <= target_device_d;
    target_pages_q  <= target_pages_d;
    source_inside_q <= source_inside;
    target_inside_q <= target_inside;
    line_o          <= line_d;
    lines_q         <= lines_d;
    if (state_q == Plan) last_line_q <= last_line;
    if (state_q == SourceAnswer) begin
      source_list_o  <= answer_base_i;
      source_shift_o <= answer_control_i[13:8];
    end
    if (state_q == TargetAnswer) begin
      target_list_o  <= answer_base_i;
      target_shift_o <= answer_control_i[13:8];
    end
  end
  logic unused;
  assign unused = &{1'b0, last_byte[11:0], answer_control_i};
endmodule
