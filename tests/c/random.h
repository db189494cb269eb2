/* For the C tests: pseudo-random numbers that are the same everywhere (SplitMix64). */
#ifndef FGD_TEST_RANDOM_H
#define FGD_TEST_RANDOM_H

#include <stdint.h>

static uint64_t random_state = 1;

static inline uint64_t random_bits(void)
{
    uint64_t x = random_state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static inline double random_between(double low, double high)
{
    return low + (high - low) * ((double)(random_bits() >> 11) * 0x1p-53);
}

#endif
