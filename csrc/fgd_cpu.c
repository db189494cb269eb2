/* CPUID + XGETBV -> feature bits; the floating-point control register of the thread. */
#include "fgd_cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

/* Of an AMD processor; else 0. */
static unsigned amd_family(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx || c != signature_AMD_ecx)
        return 0;
    __get_cpuid(1, &a, &b, &c, &d);
    return (a >> 8 & 0xf) + (a >> 20 & 0xff);
}

unsigned fgd_cpu_features(void)
{
    unsigned a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const unsigned osxsave = 1u << 27, avx = 1u << 28, fma = 1u << 12;
    if (!(c & osxsave) || !(c & avx) || !(c & fma)) return 0;
    const uint64_t saved = read_xcr0();
    const uint64_t ymm = 0x6, zmm = 0xe6; /* SSE + AVX; and opmask, both halves of ZMM */
    if ((saved & ymm) != ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    const unsigned avx2 = 1u << 5;
    const unsigned avx512 = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31); /* F DQ BW VL */
    if (b & avx2) features |= FGD_CPU_AVX2_FMA;
    if ((b & avx2) && (b & avx512) == avx512 && (saved & zmm) == zmm) features |= FGD_CPU_AVX512;
    if (features & FGD_CPU_AVX512) {
        const unsigned family = amd_family(); /* 25: Zen 3, without AVX-512, and Zen 4 */
        if (family == 25) features |= FGD_CPU_ZEN4;
        if (family == 26) features |= FGD_CPU_ZEN5;
    }
    return features;
}

/* Round to nearest, exceptions masked: a caller's other mode would change bits. */
enum { ORDINARY = 0x1f80, FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x0040 };

uint64_t fgd_fp_enter(void)
{
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(ORDINARY | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
    return mode;
}

uint64_t fgd_fp_enter_ordinary(void)
{
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(ORDINARY);
    return mode;
}

void fgd_fp_leave(uint64_t mode) { _mm_setcsr((unsigned)mode); }

#elif defined(__aarch64__)

unsigned fgd_cpu_features(void) { return FGD_CPU_NEON; }

static uint64_t exchange(uint64_t new_mode)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(new_mode));
    return mode;
}

uint64_t fgd_fp_enter(void) { return exchange((uint64_t)1 << 24); /* FZ, round to nearest */ }

uint64_t fgd_fp_enter_ordinary(void) { return exchange(0); }

void fgd_fp_leave(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }

#else
#error "fastgd supports x86-64 and AArch64"
#endif
