// speckv_least4 -- the least of four signed numbers. Combinational. The largest is the
// complement of the least complement.
module speckv_least4 (
  input  logic [63:0] in_i,
  output logic [15:0] least_o
);
  logic [15:0] first, second;
  assign first   = $signed(in_i[15:0]) < $signed(in_i[31:16]) ? in_i[15:0] : in_i[31:16];
  assign second  = $signed(in_i[47:32]) < $signed(in_i[63:48]) ? in_i[47:32] : in_i[63:48];
  assign least_o = $signed(first) < $signed(second) ? first : second;
endmodule
