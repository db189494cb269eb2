/* Kernel table for AVX2 + FMA. */
#include "fgd_common.h"
#include "fgd_kernel_table.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* prefetchw is no part of AVX2, but does nothing on a processor that has not got it (before Broadwell). */
FGD_TARGET_BEGIN("avx2,fma,prfchw")
#define FGD_ISA avx2
#include "isa/avx2.h"
#include "template/kernels.h"
FGD_TARGET_END

#endif
