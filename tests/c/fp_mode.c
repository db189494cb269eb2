/* For the tests: the floating-point mode of the calling thread, to look at and to set. */
#include <stdint.h>

/* Bit 0: results and arguments below the smallest normal number count as zero.  Bits 1 and 2:
 * rounding to the nearest (0), down (1), up (2), to zero (3). */
#if defined(__x86_64__)
#include <immintrin.h>

enum { FLUSHING = 0x8040, MASKED = 0x1f80 };

int fp_mode(void)
{
    const unsigned mode = _mm_getcsr();
    /* Half a mode would be a mistake: both bits or none. */
    const unsigned flushing = mode & FLUSHING;
    return (int)(flushing == FLUSHING) + (int)(flushing && flushing != FLUSHING) * 64 +
           (int)((mode >> 13 & 3) << 1) + ((mode & MASKED) == MASKED ? 0 : 128);
}

void set_fp_mode(int mode)
{
    _mm_setcsr(MASKED | (mode & 1 ? FLUSHING : 0) | (unsigned)(mode >> 1 & 3) << 13);
}

#elif defined(__aarch64__)

/* FPCR's own order: to the nearest (0), up (1), down (2), to zero (3). */
static int turned(int rounding) { return rounding == 1 ? 2 : rounding == 2 ? 1 : rounding; }

int fp_mode(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return (int)(mode >> 24 & 1) + (turned((int)(mode >> 22 & 3)) << 1);
}

void set_fp_mode(int mode)
{
    const uint64_t bits = (uint64_t)(mode & 1) << 24 | (uint64_t)turned(mode >> 1 & 3) << 22;
    __asm__ volatile("msr fpcr, %0" : : "r"(bits));
}

#else
#error "fastgd supports x86-64 and AArch64"
#endif
