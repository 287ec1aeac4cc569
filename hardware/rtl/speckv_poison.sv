// speckv_poison -- 64-byte lines of device memory that are poisoned for a test, until they are
// written as a whole.
//
// Ports: `add_i` poisons a line, in vain if there are too many; a range of bytes, and in the next
// cycle whether it holds a poisoned byte; `written_i` takes out what the range covers in this
// cycle. Trusts that a range does not pass the end of the address space.
module speckv_poison #(
  parameter int Entries = 4
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        clear_i,
  input  logic        add_i,
  input  logic [57:0] add_line_i,
  input  logic [63:0] address_i,
  input  logic [31:0] bytes_i,
  output logic        hit_o,
  input  logic        written_i
);
  logic [63:0] finish;  // the first byte behind the range
  assign finish = address_i + {32'd0, bytes_i};

  logic [Entries-1:0] valid_d, valid_q, same, touched, covered, place;
  assign place = ~valid_q & (valid_q + {{(Entries-1){1'b0}}, 1'b1});  // the lowest free one
  for (genvar i = 0; i < Entries; i++) begin : gen_entry
    logic [57:0] line_d, line_q;
    logic        take;
    assign take       = add_i && same == '0 && place[i];
    assign line_d     = take ? add_line_i : line_q;
    assign same[i]    = valid_q[i] && line_q == add_line_i;
    assign touched[i] = valid_q[i] && {line_q, 6'd0} < finish && address_i <= {line_q, 6'd63};
    assign covered[i] = address_i <= {line_q, 6'd0} && {line_q, 6'd63} < finish;
    assign valid_d[i] = take || (valid_q[i] && !(written_i && covered[i]));
    always_ff @(posedge clk_i) line_q <= line_d;
  end
  logic live, hit_d;
  assign live  = rst_ni && !clear_i;
  assign hit_d = touched != '0;
  always_ff @(posedge clk_i) begin
    if (!live) valid_q <= '0;
    else       valid_q <= valid_d;
  end
  always_ff @(posedge clk_i) hit_o <= hit_d;
endmodule
