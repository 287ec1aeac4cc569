/* A program written for the published header, on the software device. */
#include <cxlspeckv/speckv.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  const speckv_alloc_hint_t hint = {0, 0};
  speckv_handle_t handle;
  void* memory = NULL;

  if (speckv_init("soft:?size=64M") != SPECKV_OK) return 1;
  if (speckv_alloc(4096, &hint, &handle) != SPECKV_OK) return 2;
  if (speckv_access(handle, 1024, 16, &memory) != SPECKV_OK) return 3;
  memcpy(memory, "fifteen letters", 16);
  if (speckv_access(handle, 1024, 16, &memory) != SPECKV_OK) return 4;
  if (memcmp(memory, "fifteen letters", 16) != 0) return 5;
  if (speckv_free(handle) != SPECKV_OK) return 6;
  speckv_finalize();
  puts("the bytes came back");
  return 0;
}
