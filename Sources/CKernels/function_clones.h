// Builds a function for several processors at once; the loader picks the clone that the machine can run.
#pragma once

// The loader's choice runs before a sanitizer has started, and what the sanitizer adds to it would crash,
// so sanitized builds have the plain function only.
#if defined(__x86_64__) && !__has_feature(thread_sanitizer) && !__has_feature(address_sanitizer)
#define SFMEDIR_CLONES(...) __attribute__((target_clones(__VA_ARGS__)))
#else
#define SFMEDIR_CLONES(...)
#endif

// Vectors of 16, 32 and 64 bytes.
#define SFMEDIR_VECTOR_CLONES SFMEDIR_CLONES("default", "arch=x86-64-v3", "arch=x86-64-v4")
