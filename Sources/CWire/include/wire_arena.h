// A bump allocator for protobuf-c: decoding takes from it, nothing is freed one by one, and `limit`
// bounds what a hostile message can make us allocate. One per encode or decode; not thread-safe.
#ifndef SFM_WIRE_ARENA_H
#define SFM_WIRE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sfm_arena_chunk sfm_arena_chunk;

typedef struct sfm_arena {
  ProtobufCAllocator allocator;
  uint8_t *_Nullable cursor;
  uint8_t *_Nullable end;
  sfm_arena_chunk *_Nullable chunks;
  size_t used;
  size_t limit;
  size_t next_chunk;
  /// 1 once an allocation was refused.
  int exhausted;
} sfm_arena;

/// An arena for one message; the thread's own where it has one to spare.
sfm_arena *_Nonnull sfm_arena_begin(size_t limit);
/// Releases all that was allocated from it.
void sfm_arena_end(sfm_arena *_Nonnull arena);
void *_Nullable sfm_arena_allocate(sfm_arena *_Nonnull arena, size_t count);

#endif
