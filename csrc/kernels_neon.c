/* Kernel table for AArch64 Advanced SIMD, which is part of the base instruction set. */
#include "fgd_common.h"
#include "fgd_kernel_table.h"

#if defined(__aarch64__)
/* gcc else moves loads so far ahead that a quarter of a tile's sums has to wait in memory. */
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#include <arm_neon.h>

#define FGD_ISA neon
#include "isa/neon.h"
#include "template/kernels.h"

#endif
