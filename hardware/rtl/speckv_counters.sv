// speckv_counters -- the performance counters: each adds up to 255 a cycle and stays at its largest
// value; a snapshot shows all of them as of one cycle.
//
// Ports: what each counter adds, and how much one of them adds beyond that; `snapshot_i` takes the
// picture, what is added in that cycle not included; `clear_i` zeroes counters and picture.
// Reading: the picture of one counter, in the same cycle; 0 beyond the last. Trusts nothing.
module speckv_counters #(
  parameter int Count = 23
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  input  logic               clear_i,
  input  logic               snapshot_i,
  input  logic [8*Count-1:0] add_i,
  input  logic [4:0]         more_i,       // of this counter
  input  logic [31:0]        more_count_i,
  input  logic [4:0]         read_i,
  output logic [63:0]        value_o
);
  logic [64*Count-1:0] value_d, value_q, picture_d, picture_q;
  for (genvar i = 0; i < Count; i++) begin : gen_counter
    localparam logic [4:0] Number = i;
    logic [64:0] sum;
    assign sum = {1'b0, value_q[64*i +: 64]} + {57'd0, add_i[8*i +: 8]}
                 + {33'd0, more_i == Number ? more_count_i : 32'd0};
    assign value_d[64*i +: 64] = clear_i ? 64'd0 : sum[64] ? ~64'd0 : sum[63:0];
  end
  assign picture_d = clear_i ? '0 : snapshot_i ? value_q : picture_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      value_q   <= '0;
      picture_q <= '0;
    end else begin
      value_q   <= value_d;
      picture_q <= picture_d;
    end
  end

  logic [2047:0] all;
  assign all     = {{(2048-64*Count){1'b0}}, picture_q};
  assign value_o = all[{read_i, 6'd0} +: 64];
endmodule
