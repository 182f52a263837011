// Counts what a thread allocates. Linked into a program, it stands before the C library's malloc and its kin,
// also for Swift's own; until counting is switched on it costs a branch.
#ifndef SFM_ALLOCATION_COUNT_H
#define SFM_ALLOCATION_COUNT_H

#include <stdint.h>

void sfm_allocation_counting(int on);
/// Allocations of the calling thread while counting was on.
uint64_t sfm_allocations_of_this_thread(void);
/// Bytes that the process has allocated and not freed, in all arenas.
uint64_t sfm_heap_in_use(void);

#endif
