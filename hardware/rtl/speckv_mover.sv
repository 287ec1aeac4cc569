// speckv_mover -- the ways of bytes through the card: host and device memory, each with a reading
// and a writing half; the codec pipelines and the checksum between them. One job at a time.
//
//     COPY    source -> crc -> target            FILL    pattern -> target
//     CHECK   source -> crc                      STAGE   device memory -> fast buffer
//     ENCODE  rows -> pack -> encode -> crc -> target (or nowhere)
//     DECODE  source -> crc -> decode -> split -> rows (or nowhere)
//
// Ports: `start_i` with a job, which stays as it is until `done_o`; then whether a read or a write
// failed, a unit could not be coded, and the checksum. While no job runs the host's halves are the
// queues'. AXI4 read and write ports of host and memory. All idle: `idle_o`.
// Latency: 3 cycles from a start to the first address. Trusts the job: lengths are not 0, a layer
// is one that the pipelines take, and what is decoded is as long as its layer makes it.
module speckv_mover #(
  parameter int Beats = 16384,
  parameter int Rows = 65536,
  parameter int Words = 4096
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         start_i,
  input  logic [2:0]   job_i,
  output logic         done_o,
  output logic         read_error_o,
  output logic         write_error_o,
  output logic         bad_o,
  output logic [31:0]  crc_o,
  input  logic         source_device_i,
  input  logic [63:0]  source_i,
  input  logic [31:0]  source_bytes_i,
  input  logic         target_device_i,
  input  logic [63:0]  target_i,
  input  logic [31:0]  target_bytes_i,
  input  logic         nowhere_i,       // of ENCODE and DECODE: nothing is written
  input  logic [63:0]  pattern_i,
  input  logic         int8_i,
  input  logic         bf16_i,
  input  logic         latent_i,
  input  logic         interleaved_i,
  input  logic [15:0]  heads_i,
  input  logic [15:0]  tokens_i,
  input  logic [15:0]  channels_i,
  input  logic [31:0]  unit_bytes_i,    // plain
  output logic         stage_valid_o,   // beats for the fast buffer
  output logic [511:0] stage_data_o,
  input  logic         fetch_valid_i,
  output logic         fetch_ready_o,
  input  logic [63:0]  fetch_address_i,
  output logic         fetched_valid_o,
  input  logic         fetched_ready_i,
  output logic [511:0] fetched_data_o,
  output logic         fetched_error_o,
  input  logic         complete_valid_i,
  output logic         complete_ready_o,
  input  logic [63:0]  complete_address_i,
  input  logic         entry_valid_i,
  output logic         entry_ready_o,
  input  logic [127:0] entry_i,
  output logic         written_valid_o,
  input  logic         written_ready_i,
  output logic         written_error_o,
  output logic         idle_o,
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
  input  logic [1:0]   m_b_resp_i
);
  localparam logic [2:0] Copy = 3'd0, Fill = 3'd1, Check = 3'd2, Stage = 3'd3, Encode = 3'd4,
                         Decode = 3'd5;

  // ---- the job ----------------------------------------------------------------------------------
  logic busy_d, busy_q, begin_q, reads, writes, from_rows, to_rows, codes, encodes, decodes;
  assign encodes   = job_i == Encode;
  assign decodes   = job_i == Decode;
  assign codes     = encodes || decodes;
  assign reads     = job_i != Fill;
  assign writes    = job_i == Copy || job_i == Fill || (codes && !nowhere_i);
  assign from_rows = encodes;
  assign to_rows   = decodes && !nowhere_i;
  assign busy_d    = start_i || (busy_q && !done_o);

  // ---- ranges: of rows, or one for the whole ----------------------------------------------------
  logic        rows_valid, rows_ready, rows_idle;
  logic [63:0] rows_address;
  logic [31:0] rows_bytes;
  speckv_rows u_rows (
    .clk_i(clk_i), .rst_ni(rst_ni), .start_i(begin_q && (from_rows || to_rows)),
    .address_i(encodes ? source_i : target_i), .interleaved_i(interleaved_i), .latent_i(latent_i),
    .heads_i(heads_i), .tokens_i(tokens_i), .unit_bytes_i(unit_bytes_i),
    .row_bytes_i({channels_i, 1'b0}),
    .valid_o(rows_valid), .ready_i(rows_ready), .address_o(rows_address), .bytes_o(rows_bytes),
    .idle_o(rows_idle));

  logic        whole_read_d, whole_read_q, whole_write_d, whole_write_q;  // still to be asked for
  logic        read_valid, read_ready, write_valid, write_ready;
  logic [63:0] read_address, write_address;
  logic [31:0] read_bytes, write_bytes;
  assign read_valid    = from_rows ? rows_valid : whole_read_q;
  assign read_address  = from_rows ? rows_address : source_i;
  assign read_bytes    = from_rows ? rows_bytes : source_bytes_i;
  assign write_valid   = to_rows ? rows_valid : whole_write_q;
  assign write_address = to_rows ? rows_address : target_i;
  assign write_bytes   = to_rows ? rows_bytes : target_bytes_i;
  assign rows_ready    = from_rows ? read_ready : write_ready;
  assign whole_read_d  = begin_q ? reads && !from_rows : whole_read_q && !read_ready;
  assign whole_write_d = begin_q ? writes && !to_rows : whole_write_q && !write_ready;

  // ---- the halves; the host's are the queues' while no job runs ---------------------------------
  logic         h_cmd_ready, h_out_valid, h_out_ready, h_out_last, h_out_error, h_read_idle;
  logic         m_cmd_ready, m_out_valid, m_out_last, m_out_error, m_read_idle;
  logic [511:0] h_out_data, m_out_data;
  logic         in_valid, in_ready, in_last, in_error;
  logic [511:0] in_data;
  speckv_reader u_host_reader (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(busy_q ? read_valid && !source_device_i : fetch_valid_i),
    .cmd_ready_o(h_cmd_ready),
    .cmd_address_i(busy_q ? read_address : fetch_address_i),
    .cmd_bytes_i(busy_q ? read_bytes : 32'd64),
    .ar_valid_o(h_ar_valid_o), .ar_ready_i(h_ar_ready_i), .ar_addr_o(h_ar_addr_o),
    .ar_len_o(h_ar_len_o),
    .r_valid_i(h_r_valid_i), .r_ready_o(h_r_ready_o), .r_data_i(h_r_data_i),
    .r_resp_i(h_r_resp_i), .r_last_i(h_r_last_i),
    .out_valid_o(h_out_valid), .out_ready_i(h_out_ready), .out_data_o(h_out_data),
    .out_last_o(h_out_last), .out_error_o(h_out_error), .idle_o(h_read_idle));
  speckv_reader u_memory_reader (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(busy_q && read_valid && source_device_i), .cmd_ready_o(m_cmd_ready),
    .cmd_address_i(read_address), .cmd_bytes_i(read_bytes),
    .ar_valid_o(m_ar_valid_o), .ar_ready_i(m_ar_ready_i), .ar_addr_o(m_ar_addr_o),
    .ar_len_o(m_ar_len_o),
    .r_valid_i(m_r_valid_i), .r_ready_o(m_r_ready_o), .r_data_i(m_r_data_i),
    .r_resp_i(m_r_resp_i), .r_last_i(m_r_last_i),
    .out_valid_o(m_out_valid), .out_ready_i(in_ready && source_device_i),
    .out_data_o(m_out_data), .out_last_o(m_out_last), .out_error_o(m_out_error),
    .idle_o(m_read_idle));
  assign read_ready      = source_device_i ? m_cmd_ready : h_cmd_ready;
  assign fetch_ready_o   = h_cmd_ready && !busy_q;
  assign fetched_valid_o = h_out_valid && !busy_q;
  assign fetched_data_o  = h_out_data;
  assign fetched_error_o = h_out_error;
  assign h_out_ready     = busy_q ? in_ready && !source_device_i : fetched_ready_i;
  assign in_valid        = busy_q && (source_device_i ? m_out_valid : h_out_valid);
  assign in_data         = source_device_i ? m_out_data : h_out_data;
  assign in_last         = source_device_i ? m_out_last : h_out_last;
  assign in_error        = source_device_i ? m_out_error : h_out_error;

  logic         h_wcmd_ready, h_in_ready, h_done_valid, h_done_error, h_write_idle;
  logic         m_wcmd_ready, m_in_ready, m_done_valid, m_done_error, m_write_idle;
  logic         out_valid, out_ready, put_ready;
  logic [511:0] out_data;
  speckv_writer u_host_writer (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(busy_q ? write_valid && !target_device_i : complete_valid_i),
    .cmd_ready_o(h_wcmd_ready),
    .cmd_address_i(busy_q ? write_address : complete_address_i),
    .cmd_bytes_i(busy_q ? write_bytes : 32'd16),
    .in_valid_i(busy_q ? out_valid && !target_device_i : entry_valid_i),
    .in_ready_o(h_in_ready), .in_data_i(busy_q ? out_data : {384'd0, entry_i}),
    .aw_valid_o(h_aw_valid_o), .aw_ready_i(h_aw_ready_i), .aw_addr_o(h_aw_addr_o),
    .aw_len_o(h_aw_len_o), .w_valid_o(h_w_valid_o), .w_ready_i(h_w_ready_i),
    .w_data_o(h_w_data_o), .w_strb_o(h_w_strb_o), .w_last_o(h_w_last_o),
    .b_valid_i(h_b_valid_i), .b_ready_o(h_b_ready_o), .b_resp_i(h_b_resp_i),
    .done_valid_o(h_done_valid), .done_ready_i(busy_q || written_ready_i),
    .done_error_o(h_done_error), .idle_o(h_write_idle));
  speckv_writer u_memory_writer (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(busy_q && write_valid && target_device_i), .cmd_ready_o(m_wcmd_ready),
    .cmd_address_i(write_address), .cmd_bytes_i(write_bytes),
    .in_valid_i(busy_q && out_valid && target_device_i), .in_ready_o(m_in_ready),
    .in_data_i(out_data),
    .aw_valid_o(m_aw_valid_o), .aw_ready_i(m_aw_ready_i), .aw_addr_o(m_aw_addr_o),
    .aw_len_o(m_aw_len_o), .w_valid_o(m_w_valid_o), .w_ready_i(m_w_ready_i),
    .w_data_o(m_w_data_o), .w_strb_o(m_w_strb_o), .w_last_o(m_w_last_o),
    .b_valid_i(m_b_valid_i), .b_ready_o(m_b_ready_o), .b_resp_i(m_b_resp_i),
    .done_valid_o(m_done_valid), .done_ready_i(1'b1), .done_error_o(m_done_error),
    .idle_o(m_write_idle));
  assign write_ready      = target_device_i ? m_wcmd_ready : h_wcmd_ready;
  assign put_ready        = target_device_i ? m_in_ready : h_in_ready;
  assign complete_ready_o = h_wcmd_ready && !busy_q;
  assign entry_ready_o    = h_in_ready && !busy_q;
  assign written_valid_o  = h_done_valid && !busy_q;
  assign written_error_o  = h_done_error;
  assign idle_o = !busy_q && h_read_idle && h_write_idle && m_read_idle && m_write_idle;

  // ---- where rows end in the plain beats: the same count cuts what is decoded, and tells what is
  // ---- joined to units for the encoder ----------------------------------------------------------
  logic [31:0] left_d, left_q, range_bytes;
  logic [15:0] row_d, row_q;
  logic        cut_last, row_last, unit_last, cut_take;
  logic [6:0]  cut_bytes;
  assign range_bytes = interleaved_i ? {15'd0, channels_i, 1'b0} : unit_bytes_i;
  assign row_last    = left_q <= 32'd64;
  assign cut_bytes   = row_last ? left_q[6:0] : 7'd64;
  assign unit_last   = !interleaved_i || row_q == tokens_i - 16'd1;
  assign cut_last    = row_last && unit_last;
  assign left_d      = begin_q || (cut_take && row_last) ? range_bytes
                       : cut_take ? left_q - 32'd64 : left_q;
  assign row_d       = begin_q || (cut_take && cut_last) ? 16'd0
                       : row_q + {15'd0, cut_take && row_last};

  // ---- commands for the pipelines: a unit each --------------------------------------------------
  logic        unit_d, unit_q, second_d, second_q, code_ready, head_end;  // unit_q: one is left
  logic [15:0] head_d, head_q;
  logic        encode_ready, decode_ready, keys;
  assign keys       = !latent_i && !second_q;
  assign code_ready = encodes ? encode_ready : decode_ready;
  assign head_end   = head_q == heads_i - 16'd1;
  always_comb begin
    unit_d   = unit_q;
    second_d = second_q;
    head_d   = head_q;
    if (begin_q) begin
      unit_d   = codes;
      second_d = latent_i;
      head_d   = 16'd0;
    end else if (unit_q && code_ready) begin
      head_d = head_end ? 16'd0 : head_q + 16'd1;
      if (head_end) begin
        unit_d   = !second_q;
        second_d = 1'b1;
      end
    end
  end

  // ---- encoding ---------------------------------------------------------------------------------
  logic         pack_ready, packed_valid, packed_ready, unused_packed_last, unused_packed_flag;
  logic [511:0] packed_data;
  speckv_pack #(.InBytes(64)) u_pack (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(in_valid && encodes), .in_ready_o(pack_ready), .in_data_i(in_data),
    .in_bytes_i(cut_bytes), .in_last_i(cut_last), .in_flag_i(1'b0),
    .out_valid_o(packed_valid), .out_ready_i(packed_ready), .out_data_o(packed_data),
    .out_last_o(unused_packed_last), .out_flag_o(unused_packed_flag));
  logic         encoded_valid, encoded_last, encoded_bad;
  logic [511:0] encoded_data;
  speckv_encode #(.Beats(Beats), .Rows(Rows)) u_encode (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(unit_q && encodes), .cmd_ready_o(encode_ready), .cmd_int8_i(int8_i),
    .cmd_keys_i(keys && !int8_i), .cmd_bf16_i(bf16_i), .cmd_tokens_i(tokens_i),
    .cmd_channels_i(channels_i),
    .in_valid_i(packed_valid), .in_ready_o(packed_ready), .in_data_i(packed_data),
    .out_valid_o(encoded_valid), .out_ready_i(out_ready && encodes), .out_data_o(encoded_data),
    .out_last_o(encoded_last), .out_bad_o(encoded_bad));

  // ---- decoding ---------------------------------------------------------------------------------
  logic         decode_in_ready, decoded_valid, decoded_ready, decoded_last, decoded_bad;
  logic [511:0] decoded_data;
  speckv_decode #(.Words(Words)) u_decode (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .cmd_valid_i(unit_q && decodes), .cmd_ready_o(decode_ready), .cmd_int8_i(int8_i),
    .cmd_keys_i(keys && !int8_i), .cmd_bf16_i(bf16_i), .cmd_tokens_i(tokens_i),
    .cmd_channels_i(channels_i),
    .in_valid_i(in_valid && decodes), .in_ready_o(decode_in_ready), .in_data_i(in_data),
    .out_valid_o(decoded_valid), .out_ready_i(decoded_ready), .out_data_o(decoded_data),
    .out_last_o(decoded_last), .out_bad_o(decoded_bad));
  logic         cut_ready, split_valid, unused_padding, unused_side;
  logic [511:0] split_data;
  speckv_split #(.OutBytes(64), .Side(1)) u_split (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(decoded_valid), .in_ready_o(decoded_ready), .in_data_i(decoded_data),
    .cut_valid_i(busy_q && decodes && !begin_q), .cut_ready_o(cut_ready),
    .cut_bytes_i(cut_bytes), .cut_last_i(cut_last), .cut_side_i(1'b0),
    .out_valid_o(split_valid), .out_ready_i(out_ready && decodes), .out_data_o(split_data),
    .out_padding_o(unused_padding), .out_side_o(unused_side));
  assign cut_take = encodes ? in_valid && pack_ready : decodes && cut_ready && busy_q && !begin_q;

  // ---- the ways ---------------------------------------------------------------------------------
  always_comb begin
    in_ready  = 1'b0;
    out_valid = 1'b0;
    out_data  = in_data;
    case (job_i)
      Copy: begin
        in_ready  = put_ready;
        out_valid = in_valid;
      end
      Fill: begin
        out_valid = 1'b1;
        out_data  = {8{pattern_i}};
      end
      Encode: begin
        in_ready  = pack_ready;
        out_valid = encoded_valid && !nowhere_i;
        out_data  = encoded_data;
      end
      Decode: begin
        in_ready  = decode_in_ready;
        out_valid = split_valid && !nowhere_i;
        out_data  = split_data;
      end
      default: in_ready = 1'b1;
    endcase
  end
  assign out_ready     = nowhere_i || put_ready;
  assign stage_valid_o = in_valid && job_i == Stage;
  assign stage_data_o  = in_data;

  // ---- what has come to an end ------------------------------------------------------------------
  logic [7:0]  reading_d, reading_q, writing_d, writing_q;  // ranges asked for and not ended
  logic [31:0] coded_d, coded_q, units;                     // units that have left a pipeline
  logic        coded, coded_bad, asked_read, ended_read, asked_write, ended_write;
  logic        read_error_d, read_error_q, write_error_d, write_error_q, bad_d, bad_q;
  assign asked_read  = busy_q && read_valid && read_ready;
  assign ended_read  = in_valid && in_ready && in_last;
  assign asked_write = busy_q && write_valid && write_ready;
  assign ended_write = busy_q && (target_device_i ? m_done_valid : h_done_valid);
  assign reading_d   = reading_q + {7'd0, asked_read} - {7'd0, ended_read};
  assign writing_d   = writing_q + {7'd0, asked_write} - {7'd0, ended_write};
  assign units       = {15'd0, latent_i ? {1'b0, heads_i} : {heads_i, 1'b0}};
  assign coded       = encodes ? encoded_valid && out_ready && encoded_last
                               : decodes && cut_take && cut_last;
  assign coded_bad   = encodes ? coded && encoded_bad
                               : decoded_valid && decoded_ready && decoded_last && decoded_bad;
  assign coded_d     = begin_q ? 32'd0 : coded_q + {31'd0, coded};
  assign read_error_d  = !begin_q && (read_error_q || (ended_read && in_error));
  assign write_error_d = !begin_q
                         && (write_error_q
                             || (ended_write && (target_device_i ? m_done_error : h_done_error)));
  assign bad_d         = !begin_q && (bad_q || coded_bad);

  // The checksum is over coded bytes: behind the encoder, before everything else.
  logic        crc_valid, crc_last, crc_done, summed_d, summed_q, sums;
  logic [6:0]  crc_bytes;
  logic [31:0] crc;
  assign sums      = job_i == Copy || job_i == Check || codes;
  assign crc_valid = encodes ? encoded_valid && out_ready : sums && in_valid && in_ready;
  assign crc_last  = encodes ? encoded_last && coded_q + 32'd1 == units : in_last;
  assign crc_bytes = !encodes && in_last && source_bytes_i[5:0] != 6'd0
                     ? {1'b0, source_bytes_i[5:0]} : 7'd64;
  speckv_crc u_crc (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .in_valid_i(crc_valid), .in_data_i(encodes ? encoded_data : in_data),
    .in_bytes_i(crc_bytes), .in_last_i(crc_last), .out_valid_o(crc_done), .out_crc_o(crc));
  assign summed_d = !begin_q && (summed_q || crc_done);

  logic [31:0] crc_d, crc_q;
  assign crc_d  = crc_done ? crc : crc_q;
  assign done_o = busy_q && !begin_q && !whole_read_q && !whole_write_q && rows_idle
                  && reading_q == 8'd0 && writing_q == 8'd0 && (!sums || summed_q)
                  && (!codes || (coded_q == units && !split_valid));
  assign read_error_o  = read_error_q;
  assign write_error_o = write_error_q;
  assign bad_o         = bad_q;
  assign crc_o         = crc_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      busy_q        <= 1'b0;
      begin_q       <= 1'b0;
      whole_read_q  <= 1'b0;
      whole_write_q <= 1'b0;
      unit_q        <= 1'b0;
      reading_q     <= 8'd0;
      writing_q     <= 8'd0;
    end else begin
      busy_q        <= busy_d;
      begin_q       <= start_i;
      whole_read_q  <= whole_read_d;
      whole_write_q <= whole_write_d;
      unit_q        <= unit_d;
      reading_q     <= reading_d;
      writing_q     <= writing_d;
    end
  end
  always_ff @(posedge clk_i) begin
    left_q        <= left_d;
    row_q         <= row_d;
    second_q      <= second_d;
    head_q        <= head_d;
    coded_q       <= coded_d;
    read_error_q  <= read_error_d;
    write_error_q <= write_error_d;
    bad_q         <= bad_d;
    summed_q      <= summed_d;
    crc_q         <= crc_d;
  end
  logic unused;
  assign unused = &{1'b0, unused_packed_last, unused_packed_flag, unused_padding, unused_side};
endmodule
