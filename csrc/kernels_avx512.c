/* Kernel table for AVX-512 F, DQ, BW, VL. */
#include "fgd_common.h"
#include "fgd_kernel_table.h"

#if defined(__x86_64__)
#include <immintrin.h>

FGD_TARGET_BEGIN("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prfchw")
#define FGD_ISA avx512
#define FGD_NARROW fgd_kernels_avx2
#include "isa/avx512.h"
#include "template/kernels.h"
FGD_TARGET_END

#endif
