// speckv_width -- how many bits a number has without its leading zeros. Combinational.
module speckv_width #(
  parameter int Bits = 32  // at most 63
) (
  input  logic [Bits-1:0] in_i,
  output logic [5:0]      width_o
);
  always_comb begin
    width_o = 6'd0;
    for (int i = 0; i < Bits; i++) if (in_i[i]) width_o = i[5:0] + 6'd1;
  end
endmodule
