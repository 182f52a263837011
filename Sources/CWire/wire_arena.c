#include "wire_arena.h"

#include <pthread.h>
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

// One arena and one chunk wait on each thread: a small message then costs no allocation at all. Chunks above
// this size are not kept.
enum { kept_bytes = 16 << 10, first_bytes = 4 << 10 };
static _Thread_local sfm_arena *kept_arena;
static _Thread_local sfm_arena_chunk *kept_chunk;
static pthread_key_t thread_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void thread_ends(void *unused) {
  (void)unused;
  free(kept_arena);
  free(kept_chunk);
  kept_arena = NULL;
  kept_chunk = NULL;
}

static void set_up(void) { pthread_key_create(&thread_end, thread_ends); }

sfm_arena *sfm_arena_begin(size_t limit) {
  sfm_arena *arena = kept_arena;
  kept_arena = NULL;
  if (!arena) arena = malloc(sizeof *arena);
  if (!arena) abort();
  *arena = (sfm_arena){.allocator = {allocate, release, arena}, .limit = limit, .next_chunk = first_bytes};
  if (kept_chunk && kept_chunk->size <= limit) {
    arena->chunks = kept_chunk;
    arena->used = kept_chunk->size;
    arena->cursor = kept_chunk->data;
    arena->end = kept_chunk->data + kept_chunk->size;
    kept_chunk = NULL;
  }
  return arena;
}

void sfm_arena_end(sfm_arena *arena) {
  for (sfm_arena_chunk *chunk = arena->chunks; chunk;) {
    sfm_arena_chunk *next = chunk->next;
    if (chunk->size <= kept_bytes && (!kept_chunk || kept_chunk->size < chunk->size)) {
      free(kept_chunk);
      kept_chunk = chunk;
      chunk->next = NULL;
    } else {
      free(chunk);
    }
    chunk = next;
  }
  if (kept_arena) {
    free(arena);
  } else {
    kept_arena = arena;
  }
  pthread_once(&once, set_up);
  // Any value but NULL makes the thread's end run the clean-up.
  pthread_setspecific(thread_end, &once);
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
