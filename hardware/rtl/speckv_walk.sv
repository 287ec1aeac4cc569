// speckv_walk -- names the chunks of a unit: each row is cut into chunks of at most 32 values,
// and no chunk holds values of two rows.
//
// Ports: a command of `rows` and `length` (values a row, both at least 1) with a side word that
// accompanies its chunks; a chunk a cycle, without a gap between units. Latency: 1 cycle.
// Trusts that neither count is 0.
module speckv_walk #(
  parameter int Side = 1
) (
  input  logic            clk_i,
  input  logic            rst_ni,
  input  logic            cmd_valid_i,
  output logic            cmd_ready_o,
  input  logic [15:0]     cmd_rows_i,
  input  logic [15:0]     cmd_length_i,
  input  logic [Side-1:0] cmd_side_i,
  output logic            out_valid_o,
  input  logic            out_ready_i,
  output logic [5:0]      out_count_o,      // values of the chunk, 1 to 32
  output logic [10:0]     out_index_o,      // of the chunk in its row
  output logic            out_row_last_o,   // the row's last chunk
  output logic            out_first_row_o,
  output logic            out_last_row_o,
  output logic [Side-1:0] out_side_o
);
  logic            busy_d, busy_q, first_row_d, first_row_q;
  logic [15:0]     rows_d, rows_q, left_d, left_q, length_d, length_q;
  logic [10:0]     index_d, index_q;
  logic [Side-1:0] side_d, side_q;
  logic            done, step, take;

  assign out_valid_o     = busy_q;
  assign out_row_last_o  = left_q <= 16'd32;
  assign out_count_o     = out_row_last_o ? left_q[5:0] : 6'd32;
  assign out_index_o     = index_q;
  assign out_first_row_o = first_row_q;
  assign out_last_row_o  = rows_q == 16'd1;
  assign out_side_o      = side_q;

  assign done        = out_row_last_o && out_last_row_o;
  assign step        = busy_q && out_ready_i;
  assign cmd_ready_o = !busy_q || (out_ready_i && done);
  assign take        = cmd_valid_i && cmd_ready_o;

  always_comb begin
    busy_d      = busy_q;
    rows_d      = rows_q;
    left_d      = left_q;
    length_d    = length_q;
    index_d     = index_q;
    first_row_d = first_row_q;
    side_d      = side_q;
    if (step) begin
      left_d  = left_q - 16'd32;
      index_d = index_q + 11'd1;
      if (out_row_last_o) begin
        left_d      = length_q;
        index_d     = 11'd0;
        rows_d      = rows_q - 16'd1;
        first_row_d = 1'b0;
        busy_d      = !done;
      end
    end
    if (take) begin
      busy_d      = 1'b1;
      rows_d      = cmd_rows_i;
      left_d      = cmd_length_i;
      length_d    = cmd_length_i;
      index_d     = 11'd0;
      first_row_d = 1'b1;
      side_d      = cmd_side_i;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else         busy_q <= busy_d;
  end
  always_ff @(posedge clk_i) begin
    rows_q      <= rows_d;
    left_q      <= left_d;
    length_q    <= length_d;
    index_q     <= index_d;
    first_row_q <= first_row_d;
    side_q      <= side_d;
  end
endmodule
