// speckv_check -- what can be said of a descriptor before any table is looked at
// (docs/queue-protocol.md, "Checks", 1 to 4), and the sizes of its layer.
//
// Ports: a descriptor that stays; 5 cycles later its code, `ok` if it is to go on, and sizes, which
// have no meaning for opcodes other than ENCODE and DECODE.
// Trusts nothing of the descriptor.
module speckv_check #(
  parameter [63:0] Codecs = '0,
  parameter [31:0] Opcodes = '0,
  parameter [31:0] MaxLength = '0,
  parameter [31:0] MaxLayer = '0
) (
  input  logic         clk_i,
  input  logic [511:0] descriptor_i,
  output logic [14:0]  code_o,
  output logic [31:0]  unit_bytes_o,   // plain
  output logic [31:0]  layer_bytes_o,  // plain
  output logic [31:0]  coded_bytes_o
);
  logic [7:0]  opcode, flags, codec, dtype, kind;
  logic [15:0] heads, head_dim, tokens;
  logic [31:0] length, room;
  logic [63:0] src_offset, dst_offset;
  assign opcode     = descriptor_i[speckv_pkg::DescOpcodeLow +: 8];
  assign flags      = descriptor_i[speckv_pkg::DescFlagsLow +: 8];
  assign length     = descriptor_i[speckv_pkg::DescLengthLow +: 32];
  assign src_offset = descriptor_i[speckv_pkg::DescSrcOffsetLow +: 64];
  assign dst_offset = descriptor_i[speckv_pkg::DescDstOffsetLow +: 64];
  assign codec      = descriptor_i[speckv_pkg::DescCodecLow +: 8];
  assign dtype      = descriptor_i[speckv_pkg::DescDtypeLow +: 8];
  assign kind       = descriptor_i[speckv_pkg::DescKindLow +: 8];
  assign room       = descriptor_i[speckv_pkg::DescRoomLow +: 32];
  assign heads      = descriptor_i[speckv_pkg::DescHeadsLow +: 16];
  assign head_dim   = descriptor_i[speckv_pkg::DescHeadDimLow +: 16];
  assign tokens     = descriptor_i[speckv_pkg::DescTokensLow +: 16];

  // ---- 1 and 2: opcode, flags, codec ------------------------------------------------------------
  logic         encodes, codes, known, offered, codec_offered, bits_good, named, checks;
  logic [511:0] mask, allowed;
  assign encodes = opcode == speckv_pkg::OpEncode;
  assign codes   = encodes || opcode == speckv_pkg::OpDecode;
  assign named   = (flags & speckv_pkg::DescFlagNamed) != 8'd0;
  assign checks  = (flags & speckv_pkg::DescFlagCheck) != 8'd0;
  always_comb begin
    case (opcode)
      speckv_pkg::OpNop:       mask = speckv_pkg::MaskNop;
      speckv_pkg::OpCopy:      mask = speckv_pkg::MaskCopy;
      speckv_pkg::OpEncode:    mask = speckv_pkg::MaskEncode;
      speckv_pkg::OpDecode:    mask = speckv_pkg::MaskDecode;
      speckv_pkg::OpPrefetch:  mask = speckv_pkg::MaskPrefetch;
      speckv_pkg::OpFill:      mask = speckv_pkg::MaskFill;
      speckv_pkg::OpFence:     mask = speckv_pkg::MaskFence;
      speckv_pkg::OpStep:      mask = speckv_pkg::MaskStep;
      speckv_pkg::OpHint:      mask = speckv_pkg::MaskHint;
      speckv_pkg::OpWeights:   mask = speckv_pkg::MaskWeights;
      speckv_pkg::OpTelemetry: mask = speckv_pkg::MaskTelemetry;
      speckv_pkg::OpPredict:   mask = speckv_pkg::MaskPredict;
      default:                 mask = 512'd0;
    endcase
  end
  assign known         = mask != 512'd0;
  assign offered       = opcode < 8'd32 && Opcodes[opcode[4:0]];
  assign codec_offered = codec < 8'd64 && Codecs[codec[5:0]];
  assign allowed       = mask | (checks ? speckv_pkg::MaskFlagCheck : 512'd0);
  assign bits_good     = (descriptor_i & ~allowed) == 512'd0;

  // ---- the layer: rows, then values, then bytes -------------------------------------------------
  logic        int8, kvq4, sixteen, latent;
  logic [31:0] rows_q, values_q, groups_q;  // of the layer, of a unit, of a unit's V
  logic [47:0] all_q;                       // values of all heads' K, V or latent rows
  logic [51:0] layer_d, layer_q;
  logic [34:0] keys_d, keys_q, others_d, others_q;  // coded bytes of a unit
  logic [51:0] coded_d, coded_q;
  logic [32:0] value_bytes;
  logic [4:0]  per_row;
  function automatic logic [34:0] padded(input logic [34:0] bytes);
    padded = {bytes[34:6] + {28'd0, bytes[5:0] != 6'd0}, 6'd0};
  endfunction
  assign int8    = codec == speckv_pkg::CodecInt8;
  assign kvq4    = codec == speckv_pkg::CodecKvq4;
  assign sixteen = dtype == speckv_pkg::DtypeF16 || dtype == speckv_pkg::DtypeBf16;
  assign latent  = kind == speckv_pkg::KindLatent;
  assign per_row = head_dim > 16'd256 ? head_dim[10:6] : 5'd1;
  always_ff @(posedge clk_i) begin
    rows_q   <= heads * tokens;
    values_q <= tokens * head_dim;
    groups_q <= tokens * {11'd0, per_row};
    all_q    <= rows_q * head_dim;
    layer_q  <= layer_d;
    keys_q   <= keys_d;
    others_q <= others_d;
    coded_q  <= coded_d;
  end
  logic [50:0] both;
  assign both = latent ? {3'd0, all_q} : {2'd0, all_q, 1'b0};
  always_comb begin
    case (dtype)
      speckv_pkg::DtypeF32:    layer_d = {both[49:0], 2'd0};
      speckv_pkg::DtypeF8e4m3: layer_d = {1'b0, both};
      default:                 layer_d = {both, 1'b0};
    endcase
  end
  assign value_bytes = {1'b0, int8 ? values_q : {1'b0, values_q[31:1]}};
  assign keys_d      = padded(int8 ? {18'd0, tokens, 1'b0} : {17'd0, head_dim, 2'd0})
                       + padded({2'd0, value_bytes});
  assign others_d    = padded(int8 ? {18'd0, tokens, 1'b0} : {1'b0, groups_q, 2'd0})
                       + padded({2'd0, value_bytes});
  logic [35:0] pair;
  assign pair    = latent ? {1'b0, others_q} : {1'b0, keys_q} + {1'b0, others_q};
  assign coded_d = int8 || kvq4 ? {16'd0, pair} * {36'd0, heads} : layer_q;

  assign unit_bytes_o  = {values_q[30:0], 1'b0};
  assign layer_bytes_o = layer_q[31:0];
  assign coded_bytes_o = coded_q[31:0];

  // ---- 3: values --------------------------------------------------------------------------------
  logic length_good, extents, aligned, values_good;
  assign length_good = length != 32'd0 && length <= MaxLength;
  assign extents     = heads != 16'd0 && head_dim != 16'd0 && tokens != 16'd0;
  assign aligned     = src_offset[5:0] == 6'd0 && dst_offset[5:0] == 6'd0;
  always_comb begin
    case (opcode)
      speckv_pkg::OpCopy, speckv_pkg::OpPrefetch, speckv_pkg::OpFill: values_good = length_good;
      speckv_pkg::OpEncode, speckv_pkg::OpDecode:
        values_good = length_good && room <= MaxLength && extents && aligned
                      && dtype <= speckv_pkg::DtypeF8e4m3 && kind <= speckv_pkg::KindInterleaved
                      && (!encodes || layer_q == {20'd0, length});
      default: values_good = 1'b1;
    endcase
  end

  // ---- 4: whether the pipelines take the layer --------------------------------------------------
  logic dims_good, takes;
  assign dims_good = head_dim <= 16'd256 ? head_dim[3:0] == 4'd0
                                           : head_dim <= 16'd1024 && head_dim[5:0] == 6'd0;
  assign takes = layer_q <= {20'd0, MaxLayer}
                 && coded_q <= {19'd0, MaxLayer, 1'b0} + 52'd4096
                 && (!(int8 || kvq4) || sixteen)
                 && (!kvq4 || (dims_good && tokens >= 16'd16 && tokens <= 16'd256));

  logic [14:0] code_d;
  always_comb begin
    if (!known)                                              code_d = speckv_pkg::StatusBadDesc;
    else if (!offered || named || (codes && !codec_offered)) code_d = speckv_pkg::StatusUnsupported;
    else if (!bits_good || !values_good)                     code_d = speckv_pkg::StatusBadDesc;
    else if (codes && !takes)                                code_d = speckv_pkg::StatusUnsupported;
    else                                                     code_d = speckv_pkg::StatusOk;
  end
  always_ff @(posedge clk_i) code_o <= code_d;
  logic unused;
  assign unused = &{1'b0, values_q[31], src_offset[63:6], dst_offset[63:6], groups_q};
endmodule
