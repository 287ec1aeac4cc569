// address_bench -- packs and unpacks the address of a token's K or V by the package's fields.
module address_bench
  import speckv_pkg::*;
(
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic [31:0]  request_i,
  input  logic [15:0]  layer_i,
  input  logic [7:0]   head_i,
  input  logic [31:0]  position_i,
  input  logic         kind_i,
  output logic [127:0] word_o,
  input  logic [127:0] word_i,
  output logic [31:0]  request_o,
  output logic [15:0]  layer_o,
  output logic [7:0]   head_o,
  output logic [31:0]  position_o,
  output logic         kind_o,
  output logic         known_o  // no bit beyond the address is set
);

  always_comb begin
    word_o = '0;
    word_o[AddressRequestLow  +: AddressRequestBits]  = request_i;
    word_o[AddressLayerLow    +: AddressLayerBits]    = layer_i;
    word_o[AddressHeadLow     +: AddressHeadBits]     = head_i;
    word_o[AddressPositionLow +: AddressPositionBits] = position_i;
    word_o[AddressKindLow     +: AddressKindBits]     = kind_i;
  end

  assign request_o  = word_i[AddressRequestLow  +: AddressRequestBits];
  assign layer_o    = word_i[AddressLayerLow    +: AddressLayerBits];
  assign head_o     = word_i[AddressHeadLow     +: AddressHeadBits];
  assign position_o = word_i[AddressPositionLow +: AddressPositionBits];
  assign kind_o     = word_i[AddressKindLow     +: AddressKindBits];
  assign known_o    = word_i[127:AddressBits] == '0;

  // It has no state; the clock is what every bench drives.
  logic unused;
  assign unused = &{1'b0, clk_i, rst_ni};

endmodule
