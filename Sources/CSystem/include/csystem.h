// Small wrappers around what Swift's Glibc module does not show: CPU-dispatched CRC32C, Linux-only system calls.
#ifndef SFM_CSYSTEM_H
#define SFM_CSYSTEM_H

#include <stddef.h>
#include <stdint.h>

// CRC32C (Castagnoli, RFC 3720 appendix B.4) of `count` bytes, continued from `crc` (0 to begin).
// Uses the SSE4.2 instruction where the CPU has it, else the portable tables.
uint32_t sfm_crc32c(uint32_t crc, const void *bytes, size_t count);

// The same function by tables only; it exists so that a test can compare both.
uint32_t sfm_crc32c_portable(uint32_t crc, const void *bytes, size_t count);

// Reserves disk blocks for [offset, offset + length) without changing the file's size. Returns 0 or an errno.
int sfm_fallocate_keep_size(int descriptor, int64_t offset, int64_t length);

// Takes an exclusive advisory lock (flock) on an open file without waiting. Returns 0 or an errno;
// EWOULDBLOCK when another open file description holds it.
int sfm_flock_exclusive(int descriptor);

// Gives the lock back, for every copy of the descriptor in this and other processes.
void sfm_flock_release(int descriptor);

#endif
