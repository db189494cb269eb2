/* What this processor and operating system can run, and its floating-point mode. */
#ifndef FGD_CPU_H
#define FGD_CPU_H

#include <stdint.h>

/* Of processors with AVX-512: ZEN4, whose 512-bit operations pass units of 256 bits twice; ZEN5. */
enum {
    FGD_CPU_AVX2_FMA = 1,
    FGD_CPU_AVX512 = 2,
    FGD_CPU_NEON = 4,
    FGD_CPU_ZEN4 = 8,
    FGD_CPU_ZEN5 = 16
};

/* Feature bits of this machine: CPUID for the processor, XGETBV for the registers that the
 * operating system saves. */
unsigned fgd_cpu_features(void);

/* Sets flush-to-zero and denormals-are-zero for the calling thread; returns the mode to give
 * back to fgd_fp_leave, which restores it. */
uint64_t fgd_fp_enter(void);
void fgd_fp_leave(uint64_t mode);

/* The same for the mode that programs begin in: nothing is flushed, to the nearest. */
uint64_t fgd_fp_enter_ordinary(void);

#endif
