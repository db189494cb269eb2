/* fma() of plain C where denormals count as zero: small numbers, whose result is normal, must give
 * that of large ones, of the same bits but for the exponent.
 *   cc -O2 -ffp-contract=off -Icsrc tests/c/test_fma.c csrc/fgd_cpu.c -lm -o test_fma
 * With glibc on x86-64, GLIBC_TUNABLES=glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2 has it use the fma() of
 * processors without the instruction. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "fgd_common.h"
#include "fgd_cpu.h"
#include "isa/scalar.h"
#include "random.h"

enum { N = 2000000 };

/* m 2^e, in two steps: a power of 2 that is a number may not suffice. */
static double scaled(double m, int e)
{
    return m * fgd_from_bits64((uint64_t)(1023 + e / 2) << 52) *
           fgd_from_bits64((uint64_t)(1023 + e - e / 2) << 52);
}
/* Of either sign and between 1 and 2; with trailing zeros now and then, so that sums tie. */
static double mantissa(void)
{
    const uint64_t bits = random_bits(), kept = ~(uint64_t)0 << (bits % 4 ? 0 : random_bits() % 52);
    return fgd_from_bits64((bits & 1) << 63 | (uint64_t)1023 << 52 | (bits >> 12 & kept));
}
static int between(int low, int high)
{
    return low + (int)(random_bits() % (uint64_t)(high - low + 1));
}

int main(void)
{
    int failures = 0, small = 0, otherwise = 0;
    const uint64_t mode = fgd_fp_enter();
    for (int i = 0; i < N; i++) {
        static const double special[] = {0, -0.0, INFINITY, -INFINITY, NAN};
        double a = mantissa(), b = mantissa();
        /* c about as large as a b, or as small as its last bits, or its opposite but for these, or so
         * large that a b is nothing; and numbers that are none. */
        double c = scaled(mantissa(), between(-110, i % 4 == 2 ? 200 : 60));
        if (i % 4 == 0) c = -a * b * (1 + scaled(between(-2, 2), -52));
        if (i % 16 == 1) c = 0;
        if (i % 64 == 3) *(i % 3 == 0 ? &a : i % 3 == 1 ? &b : &c) = special[random_bits() % 5];
        const double expected = fma(a, b, c);
        /* No number of these is denormal. */
        const int sum = between(-1020, -700);
        const int of_a = between(-1020, 900), of_b = sum - of_a;
        if (of_b < -1020 || of_b > 1000 || (c != 0 && fabs(c) < scaled(1, -1020 - sum))) continue;
        const double found = vf64_fma(scaled(a, of_a), scaled(b, of_b), scaled(c, sum));
        const double wanted = scaled(expected, sum);
        small += fabs(wanted) >= DBL_MIN && fabs(wanted) < 0x1p-900;
        if (isnan(found) && isnan(wanted)) continue;
        const double plain = fma(scaled(a, of_a), scaled(b, of_b), scaled(c, sum));
        otherwise += fgd_bits64(plain) != fgd_bits64(wanted);
        if (fgd_bits64(found) != fgd_bits64(wanted) && failures++ < 5)
            printf("fma(%a 2^%d, %a 2^%d, %a 2^%d): %a, not %a\n", a, of_a, b, of_b, c, sum, found,
                   wanted);
    }
    fgd_fp_leave(mode);
    printf("%d small results, %d differ; of fma() alone %d\n", small, failures, otherwise);
    return failures != 0 || small < N / 20;
}
