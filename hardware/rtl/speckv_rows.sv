// speckv_rows -- where the plain bytes of a layer's units lie (docs/block-format.md): K's units by
// head, then V's, as ranges of addresses.
//
// Rows side by side, K and V of each token in turn, are a range each; else a unit is one range.
// Ports: `start_i` with a layer, which stays as it is until `idle_o`; a range a cycle. Latency: 1
// cycle. Trusts the layer: no extent is 0.
module speckv_rows (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic        start_i,
  input  logic [63:0] address_i,
  input  logic        interleaved_i,
  input  logic        latent_i,
  input  logic [15:0] heads_i,
  input  logic [15:0] tokens_i,
  input  logic [31:0] unit_bytes_i,
  input  logic [16:0] row_bytes_i,
  output logic        valid_o,
  input  logic        ready_i,
  output logic [63:0] address_o,
  output logic [31:0] bytes_o,
  output logic        idle_o
);
  // Ranges of a part (K, or V) are at equal distances; V's first is behind K's last, or its first.
  logic        busy_d, busy_q, second_d, second_q, step, token_last, head_last;
  logic [15:0] token_d, token_q, head_d, head_q;
  logic [63:0] address_d, address_q;
  logic [31:0] row, stride;
  assign row        = {15'd0, row_bytes_i};
  assign stride     = interleaved_i ? {row[30:0], 1'b0} : unit_bytes_i;
  assign token_last = !interleaved_i || token_q == tokens_i - 16'd1;
  assign head_last  = head_q == heads_i - 16'd1;
  assign step       = busy_q && ready_i;
  assign valid_o    = busy_q;
  assign address_o  = address_q;
  assign bytes_o    = interleaved_i ? row : unit_bytes_i;
  assign idle_o     = !busy_q;
  always_comb begin
    busy_d    = busy_q;
    second_d  = second_q;
    token_d   = token_q;
    head_d    = head_q;
    address_d = address_q;
    if (start_i) begin
      busy_d    = 1'b1;
      second_d  = latent_i;
      token_d   = 16'd0;
      head_d    = 16'd0;
      address_d = address_i;
    end else if (step) begin
      token_d   = token_last ? 16'd0 : token_q + 16'd1;
      address_d = address_q + {32'd0, stride};
      if (token_last) begin
        head_d = head_last ? 16'd0 : head_q + 16'd1;
        if (head_last) begin
          busy_d   = !second_q;
          second_d = 1'b1;
          if (interleaved_i) address_d = address_i + {32'd0, row};
        end
      end
    end
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else         busy_q <= busy_d;
  end
  always_ff @(posedge clk_i) begin
    second_q  <= second_d;
    token_q   <= token_d;
    head_q    <= head_d;
    address_q <= address_d;
  end
  logic unused;
  assign unused = row[31];
endmodule
