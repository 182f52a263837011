#include "openblas_wrapper.h"

void sfmedir_blas_set_thread_count(int count) { openblas_set_num_threads(count); }
