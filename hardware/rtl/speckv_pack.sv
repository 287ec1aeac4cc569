// speckv_pack -- joins chunks of bytes to dense 64-byte beats; the end of a part is padded with
// zeros.
//
// Ports: chunks (1 to InBytes bytes from byte 0, whether they end a part, a flag); beats with
// the part's end and the flags of all chunks since the last beat. Latency: 1 cycle. A chunk a
// cycle; a part that ends across two beats takes one more. Trusts that counts are in range.
module speckv_pack #(
  parameter int InBytes = 64
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,
  input  logic                 in_valid_i,
  output logic                 in_ready_o,
  input  logic [8*InBytes-1:0] in_data_i,
  input  logic [6:0]           in_bytes_i,
  input  logic                 in_last_i,
  input  logic                 in_flag_i,
  output logic                 out_valid_o,
  input  logic                 out_ready_i,
  output logic [511:0]         out_data_o,
  output logic                 out_last_o,
  output logic                 out_flag_o
);
  // What is left over from earlier chunks; everything beyond `fill` is zero.
  logic [511:0] rest_d, rest_q;
  logic [5:0]   fill_d, fill_q;
  logic         flag_d, flag_q;
  logic         flush_d, flush_q;  // the part has ended, and its last bytes are still here

  logic         room, take, emit;
  logic [7:0]   sum;
  logic [8*InBytes-1:0] chunk;
  logic [1023:0]        joined;

  for (genvar i = 0; i < InBytes; i++) begin : gen_mask
    localparam logic [6:0] Place = i;
    assign chunk[8*i +: 8] = Place < in_bytes_i ? in_data_i[8*i +: 8] : 8'd0;
  end
  assign joined = {512'd0, rest_q} | ({{(1024-8*InBytes){1'b0}}, chunk} << {fill_q, 3'd0});
  assign sum    = {2'd0, fill_q} + {1'b0, in_bytes_i};

  assign room       = !out_valid_o || out_ready_i;
  assign in_ready_o = room && !flush_q;
  assign take       = in_valid_i && in_ready_o;
  assign emit       = (take && (sum >= 8'd64 || in_last_i)) || (flush_q && room);

  always_comb begin
    rest_d  = rest_q;
    fill_d  = fill_q;
    flag_d  = flag_q;
    flush_d = flush_q;
    if (flush_q) begin
      if (room) begin
        rest_d  = '0;
        fill_d  = 6'd0;
        flag_d  = 1'b0;
        flush_d = 1'b0;
      end
    end else if (take) begin
      rest_d  = sum >= 8'd64 ? joined[1023:512] : joined[511:0];
      fill_d  = sum[5:0];
      flag_d  = emit ? 1'b0 : flag_q || in_flag_i;
      flush_d = in_last_i && sum > 8'd64;
      if (in_last_i && !flush_d) begin
        rest_d = '0;
        fill_d = 6'd0;
      end
    end
  end

  logic         out_valid_d, last_d, last_q, told_d, told_q;
  logic [511:0] data_d, data_q;
  assign out_valid_d = emit || (out_valid_o && !out_ready_i);
  assign data_d      = !room ? data_q : flush_q ? rest_q : joined[511:0];
  assign last_d      = !room ? last_q : flush_q || (in_last_i && sum <= 8'd64);
  assign told_d      = !room ? told_q : flush_q ? flag_q : flag_q || in_flag_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      rest_q      <= '0;
      fill_q      <= 6'd0;
      flag_q      <= 1'b0;
      flush_q     <= 1'b0;
      out_valid_o <= 1'b0;
    end else begin
      rest_q      <= rest_d;
      fill_q      <= fill_d;
      flag_q      <= flag_d;
      flush_q     <= flush_d;
      out_valid_o <= out_valid_d;
    end
  end
  always_ff @(posedge clk_i) begin
    data_q <= data_d;
    last_q <= last_d;
    told_q <= told_d;
  end
  assign out_data_o = data_q;
  assign out_last_o = last_q;
  assign out_flag_o = told_q;
endmodule
