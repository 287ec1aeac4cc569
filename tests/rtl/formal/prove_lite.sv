// prove_lite -- speckv_lite: what a checker of an AXI4-Lite slave looks for, with any host and any
// registers. Answers stay until they are taken and belong to what was asked; each access reaches
// the registers with what the host sent, one at a time, and a write of less than a word never does.
//
// The solver picks the number of one read and of one write; what holds for those holds for each.
module prove_lite (
  input logic        clk_i,
  input logic        rst_ni,
  input logic        aw_valid,
  input logic [3:0]  aw_addr,
  input logic        w_valid,
  input logic [31:0] w_data,
  input logic [3:0]  w_strb,
  input logic        b_ready,
  input logic        ar_valid,
  input logic [3:0]  ar_addr,
  input logic        r_ready,
  input logic        done,
  input logic [31:0] read_data
);
  logic        aw_ready, w_ready, b_valid, ar_ready, r_valid, request, write;
  logic [1:0]  b_resp, r_resp;
  logic [3:0]  address;
  logic [31:0] r_data, write_data;
  speckv_lite #(.AddressBits(4)) dut (
    .clk_i(clk_i), .rst_ni(rst_ni), .aw_valid_i(aw_valid), .aw_ready_o(aw_ready),
    .aw_addr_i(aw_addr), .w_valid_i(w_valid), .w_ready_o(w_ready), .w_data_i(w_data),
    .w_strb_i(w_strb), .b_valid_o(b_valid), .b_ready_i(b_ready), .b_resp_o(b_resp),
    .ar_valid_i(ar_valid), .ar_ready_o(ar_ready), .ar_addr_i(ar_addr), .r_valid_o(r_valid),
    .r_ready_i(r_ready), .r_data_o(r_data), .r_resp_o(r_resp), .request_o(request),
    .write_o(write), .address_o(address), .write_data_o(write_data), .done_i(done),
    .read_data_i(read_data));
  reset_first u_reset (.clk_i(clk_i), .rst_ni(rst_ni));

  // What was sent, in order, and what was answered. An access begins when the last of its kind is
  // answered and that was taken, so that the answers count it.
  (* anyconst *) logic [3:0] one_write;
  (* anyconst *) logic [3:0] one_read;
  logic [3:0]  aws_q, ws_q, bs_q, ars_q, rs_q, aw_addr_q, ar_addr_q;
  logic [31:0] w_data_q, want_q, r_data_q;
  logic        whole_q, b_wait_q, r_wait_q, reset_q, busy_q, writing_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      aws_q    <= 4'd0;
      ws_q     <= 4'd0;
      bs_q     <= 4'd0;
      ars_q    <= 4'd0;
      rs_q     <= 4'd0;
      busy_q   <= 1'b0;
      b_wait_q <= 1'b0;
      r_wait_q <= 1'b0;
    end else begin
      aws_q    <= aws_q + {3'd0, aw_valid && aw_ready};
      ws_q     <= ws_q + {3'd0, w_valid && w_ready};
      bs_q     <= bs_q + {3'd0, b_valid && b_ready};
      ars_q    <= ars_q + {3'd0, ar_valid && ar_ready};
      rs_q     <= rs_q + {3'd0, r_valid && r_ready};
      busy_q   <= request || (busy_q && !done);
      b_wait_q <= b_valid && !b_ready;
      r_wait_q <= r_valid && !r_ready;
    end
    reset_q <= !rst_ni;
    if (request) writing_q <= write;
    r_data_q <= r_data;
    if (aw_valid && aw_ready && aws_q == one_write) aw_addr_q <= aw_addr;
    if (w_valid && w_ready && ws_q == one_write) begin
      w_data_q <= w_data;
      whole_q  <= w_strb == 4'hf;
    end
    if (ar_valid && ar_ready && ars_q == one_read)     ar_addr_q <= ar_addr;
    if (done && busy_q && !writing_q && rs_q == one_read) want_q <= read_data;
  end
  always @* assume (busy_q || !done);  // the registers answer what they were asked
  always @(posedge clk_i) if (rst_ni) begin
    reset_b:    assert (!(reset_q && b_valid));
    reset_r:    assert (!(reset_q && r_valid));
    b_stays:    assert (!b_wait_q || b_valid);
    r_stays:    assert (!r_wait_q || (r_valid && r_data == r_data_q));
    okay:       assert (b_resp == 2'b00 && r_resp == 2'b00);
    b_of_write: assert (!b_valid || (aws_q != bs_q && ws_q != bs_q));
    r_of_read:  assert (!r_valid || ars_q != rs_q);
    single:     assert (!(request && busy_q));
    of_write:   assert (!(request && write) || (aws_q != bs_q && ws_q != bs_q && !b_valid));
    of_read:    assert (!(request && !write) || (ars_q != rs_q && !r_valid));
    write_sent: assert (!(request && write && bs_q == one_write)
                        || (whole_q && address == aw_addr_q && write_data == w_data_q));
    read_sent:  assert (!(request && !write && rs_q == one_read) || address == ar_addr_q);
    answer:     assert (!(r_valid && rs_q == one_read) || r_data == want_q);
    both:       cover (bs_q == 4'd2 && rs_q == 4'd1);
    part:       cover (bs_q == 4'd1 && one_write == 4'd0 && !whole_q);
  end
endmodule
