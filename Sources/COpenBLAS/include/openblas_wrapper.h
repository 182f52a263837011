// The part of OpenBLAS that the networks need: the standard CBLAS interface and the thread count.
#pragma once

#include <cblas.h>

// Tells OpenBLAS how many threads it may use inside one call, for the whole process.
//
// One is the right number here: the spinning barrier between BLAS threads slows a product down several
// times when another process holds a core, so parallelism belongs above the products.
void sfmedir_blas_set_thread_count(int count);
