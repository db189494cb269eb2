/* Kernel table for AArch64 Advanced SIMD, which is part of the base instruction set. */
#include "fgd_common.h"
#include "fgd_kernel_table.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define FGD_ISA neon
#include "isa/neon.h"
#include "template/kernels.h"

#endif
