#include "wire_arena.h"

#include <stdlib.h>

struct sfm_arena_chunk {
  sfm_arena_chunk *next;
  size_t size;
  _Alignas(16) uint8_t data[];
};

static void *allocate(void *context, size_t count) { return sfm_arena_allocate(context, count); }

static void release(void *context, void *pointer) {
  (void)context;
  (void)pointer;
}

void sfm_arena_start(sfm_arena *arena, size_t limit) {
  *arena = (sfm_arena){.allocator = {allocate, release, arena}, .limit = limit, .next_chunk = 1024};
}

void sfm_arena_finish(sfm_arena *arena) {
  for (sfm_arena_chunk *chunk = arena->chunks; chunk;) {
    sfm_arena_chunk *next = chunk->next;
    free(chunk);
    chunk = next;
  }
  arena->chunks = NULL;
}

void *sfm_arena_allocate(sfm_arena *arena, size_t count) {
  if (count > arena->limit) {
    arena->exhausted = 1;
    return NULL;
  }
  count = (count + 15) & ~(size_t)15;
  if (count <= (size_t)(arena->end - arena->cursor)) {
    void *result = arena->cursor;
    arena->cursor += count;
    return result;
  }
  size_t size = count > arena->next_chunk ? count : arena->next_chunk;
  if (count > arena->limit - arena->used) {
    arena->exhausted = 1;
    return NULL;
  }
  if (size > arena->limit - arena->used) size = count;
  sfm_arena_chunk *chunk = malloc(sizeof *chunk + size);
  if (!chunk) {
    arena->exhausted = 1;
    return NULL;
  }
  chunk->next = arena->chunks;
  chunk->size = size;
  arena->chunks = chunk;
  arena->used += size;
  arena->cursor = chunk->data + count;
  arena->end = chunk->data + size;
  if (arena->next_chunk < (1u << 20)) arena->next_chunk *= 2;
  return chunk->data;
}
