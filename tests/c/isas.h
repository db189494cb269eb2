/* For the C tests: the kernel tables that this machine can run, with FGD_SCALAR_ONLY the first of
 * them, and the floating-point mode in which kernels are called. */
#ifndef FGD_TEST_ISAS_H
#define FGD_TEST_ISAS_H

#include "fgd_kernel_table.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Fills isas with the tables, scalar first; returns their number. */
static size_t available(const fgd_kernels *isas[4])
{
    size_t n = 0;
    isas[n++] = &fgd_kernels_scalar;
#if defined(FGD_SCALAR_ONLY)
#elif defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        isas[n++] = &fgd_kernels_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        isas[n++] = &fgd_kernels_avx512;
#elif defined(__aarch64__)
    isas[n++] = &fgd_kernels_neon;
#endif
    return n;
}

static void flush_denormals(void)
{
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040u);
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (1u << 24)));
#endif
}

#endif
