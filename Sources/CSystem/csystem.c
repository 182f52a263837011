#define _GNU_SOURCE
#include "csystem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

static uint32_t tables[8][256];

// Filled before main, so no thread ever sees half a table.
__attribute__((constructor)) static void fill_tables(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ ((value & 1) ? 0x82F63B78u : 0);
    tables[0][byte] = value;
  }
  for (uint32_t byte = 0; byte < 256; byte++)
    for (int slice = 1; slice < 8; slice++)
      tables[slice][byte] =
          (tables[slice - 1][byte] >> 8) ^ tables[0][tables[slice - 1][byte] & 0xFF];
}

uint32_t sfm_crc32c_portable(uint32_t crc, const void *bytes, size_t count) {
  const uint8_t *next = bytes;
  uint32_t value = ~crc;
  while (count >= 8) {
    uint32_t low = value ^ ((uint32_t)next[0] | (uint32_t)next[1] << 8 | (uint32_t)next[2] << 16 |
                            (uint32_t)next[3] << 24);
    value = tables[7][low & 0xFF] ^ tables[6][(low >> 8) & 0xFF] ^ tables[5][(low >> 16) & 0xFF] ^
            tables[4][low >> 24] ^ tables[3][next[4]] ^ tables[2][next[5]] ^ tables[1][next[6]] ^
            tables[0][next[7]];
    next += 8;
    count -= 8;
  }
  while (count--) value = (value >> 8) ^ tables[0][(value ^ *next++) & 0xFF];
  return ~value;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *bytes,
                                                               size_t count) {
  const uint8_t *next = bytes;
  uint64_t value = ~crc;
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, next, 8);
    value = __builtin_ia32_crc32di(value, word);
    next += 8;
    count -= 8;
  }
  uint32_t narrow = (uint32_t)value;
  while (count--) narrow = __builtin_ia32_crc32qi(narrow, *next++);
  return ~narrow;
}
#endif

uint32_t sfm_crc32c(uint32_t crc, const void *bytes, size_t count) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42(crc, bytes, count);
#endif
  return sfm_crc32c_portable(crc, bytes, count);
}

int sfm_fallocate_keep_size(int descriptor, int64_t offset, int64_t length) {
  int result;
  do result = fallocate(descriptor, FALLOC_FL_KEEP_SIZE, offset, length);
  while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

int sfm_flock_exclusive(int descriptor) {
  int result;
  do result = flock(descriptor, LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

void sfm_flock_release(int descriptor) {
  int result;
  do result = flock(descriptor, LOCK_UN);
  while (result != 0 && errno == EINTR);
}
