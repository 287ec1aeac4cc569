/* test_dma: bytes to the card and back by a batch of descriptors, more than fit at once,
 * each answered once; and the same by the library's calls on the node. */
#include <speckv.h>

#include "card.h"

enum { kPiece = 4096, kPieces = 64, kDepth = 16, kBytes = kPiece * kPieces };

/* Submits and reaps until all are answered; the caller's tags are 0, 1, ... */
static void carry_out(int card, uint32_t queue, const struct speckv_desc* descs) {
  unsigned char answers[kPieces] = {0};
  uint32_t submitted = 0, answered = 0, i;
  while (answered < kPieces) {
    struct speckv_batch out = {0}, in = {0};
    struct speckv_cpl cpls[kDepth];
    out.queue = in.queue = queue;
    out.entries = (uintptr_t)(descs + submitted);
    out.count = kPieces - submitted;
    if (out.count != 0) {
      const int error = CALL(card, SPECKV_IOC_SUBMIT, &out);
      CHECK(error == 0 || error == EAGAIN);
      if (error == 0) submitted += out.out_count;
    }
    struct pollfd ready = {card, POLLIN, 0};
    CHECK(poll(&ready, 1, 20000) == 1);
    in.entries = (uintptr_t)cpls;
    in.count = kDepth;
    CHECK(CALL(card, SPECKV_IOC_REAP, &in) == 0);
    for (i = 0; i < in.out_count; ++i) {
      CHECK(cpls[i].status >> 1 == SPECKV_CPL_OK);
      CHECK(cpls[i].result == kPiece);
      CHECK(cpls[i].tag < kPieces && answers[cpls[i].tag]++ == 0);
    }
    answered += in.out_count;
  }
}

static void a_batch_moves_every_byte(void) {
  const int card = open_card();
  unsigned char* from = (unsigned char*)aligned_alloc(kPiece, kBytes);
  unsigned char* to = (unsigned char*)aligned_alloc(kPiece, kBytes);
  CHECK(from != NULL && to != NULL);
  uint32_t i;
  for (i = 0; i < kBytes; ++i)
    from[i] = (unsigned char)(i * 2654435761U >> 24);
  memset(to, 0, kBytes);
  const uint32_t memory = make_region(card, kBytes, NULL);
  const uint32_t source = make_region(card, kBytes, from);
  const uint32_t target = make_region(card, kBytes, to);
  const uint32_t queue = make_queue(card, kDepth);
  struct speckv_desc in[kPieces], out[kPieces];
  memset(in, 0, sizeof in);
  memset(out, 0, sizeof out);
  for (i = 0; i < kPieces; ++i) {
    in[i].opcode = out[i].opcode = SPECKV_OP_COPY;
    in[i].tag = out[i].tag = (uint16_t)i;
    in[i].length = out[i].length = kPiece;
    in[i].src_region = source;
    in[i].dst_region = out[i].src_region = memory;
    out[i].dst_region = target;
    in[i].src_offset = (uint64_t)i * kPiece;
    in[i].dst_offset = out[i].src_offset = (uint64_t)(kPieces - 1 - i) * kPiece;
    out[i].dst_offset = (uint64_t)i * kPiece;
  }
  carry_out(card, queue, in);
  carry_out(card, queue, out);
  CHECK(memcmp(from, to, kBytes) == 0);
  close(card);
  free(from);
  free(to);
}

static void the_librarys_calls_move_every_byte(void) {
  speckv_handle_t handle = 0;
  void* memory = NULL;
  char name[256];
  uint32_t i;
  snprintf(name, sizeof name, "%s?size=4M&window=256K", card_name());
  CHECK(speckv_init(name) == SPECKV_OK);
  CHECK(speckv_alloc(2 << 20, NULL, &handle) == SPECKV_OK);
  for (i = 0; i < 2 << 20; i += kPiece) {
    CHECK(speckv_access(handle, i, kPiece, &memory) == SPECKV_OK);
    memset(memory, (int)(i / kPiece % 251), kPiece);
  }
  for (i = 0; i < 2 << 20; i += kPiece) {
    CHECK(speckv_access(handle, i, kPiece, &memory) == SPECKV_OK);
    CHECK(((unsigned char*)memory)[0] == i / kPiece % 251);
    CHECK(((unsigned char*)memory)[kPiece - 1] == i / kPiece % 251);
  }
  CHECK(speckv_free(handle) == SPECKV_OK);
  speckv_finalize();
}

int main(void) {
  a_batch_moves_every_byte();
  the_librarys_calls_move_every_byte();
  puts("test_dma: passed");
  return 0;
}
