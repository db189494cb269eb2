/* Accuracy of every activation and derivative, float and double, against long double, and
 * equality of bits between the instruction sets of this machine.
 *   cc -O2 -ffp-contract=off -Icsrc tests/c/test_math.c csrc/kernels_*.c -lm -o test_math
 * ./test_math N: N times as many points; ./test_math speed: nanoseconds per element instead.
 * Says nothing about NaN payloads. */
#define _POSIX_C_SOURCE 200809L
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fgd_common.h"
#include "fgd_kernel_table.h"
#include "isas.h"
#include "random.h"
#include "exact.h"

static double random_unit(void) { return (double)(random_bits() >> 11) * 0x1p-53; }

static int failures = 0;

#define REAL float
#define BITS 32
#define NAME(x) x##_f32
#define REAL_MIN FLT_MIN
#define REAL_MAX_ FLT_MAX
#define EPSILON FLT_EPSILON
#define MIN_EXPONENT (-126)
#define MANTISSA 24
#define TABLE f32
#include "test_math_body.h"
#undef REAL
#undef BITS
#undef NAME
#undef REAL_MIN
#undef REAL_MAX_
#undef EPSILON
#undef MIN_EXPONENT
#undef MANTISSA
#undef TABLE
#define REAL double
#define BITS 64
#define NAME(x) x##_f64
#define REAL_MIN DBL_MIN
#define REAL_MAX_ DBL_MAX
#define EPSILON DBL_EPSILON
#define MIN_EXPONENT (-1022)
#define MANTISSA 53
#define TABLE f64
#include "test_math_body.h"

int main(int argc, char **argv)
{
    const fgd_kernels *isas[4];
    const size_t n_isas = available(isas);
    flush_denormals();
    if (argc > 1 && strcmp(argv[1], "speed") == 0) {
        speed_f32(isas, n_isas);
        speed_f64(isas, n_isas);
        return 0;
    }
    const size_t times = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 1;
    accuracy_f32(isas, n_isas, times * 40000);
    accuracy_f64(isas, n_isas, times * 40000);
    printf(failures ? "%d failures\n" : "all within their bounds\n", failures);
    return failures != 0;
}
