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

typedef long double real; /* what the references compute in */

/* z / sqrt(2) as a rounded value and what it lost, without which erfc of a large argument
 * would be less exact than a double. */
static real over_sqrt2(real z, real *lost)
{
    /* Their sum is 1 / sqrt(2); z * high is exact. */
    const real high = 0x1.6ap-1L, low = 7.553118654752440084436210484903928e-5L;
    const real t = z * high, rest = z * low, sum = t + rest;
    *lost = rest - (sum - t);
    return sum;
}
static real normal_density(real z)
{
    real lost;
    const real t = over_sqrt2(z, &lost), high = (real)(float)t, low = t - high;
    return expl(-high * high) * expl(-(2 * high + low) * low - 2 * t * lost) *
           0.398942280401432677939946059934381868L;
}
static real normal_below(real z)
{
    real lost;
    const real t = over_sqrt2(-z, &lost);
    return erfcl(t) / 2 - 1.41421356237309504880168872420969808L * lost * normal_density(z);
}
static real sigmoid(real z) { return 1 / (1 + expl(-z)); }

/* alpha of leaky_relu and of elu in this test, and selu's constants as rounded to the type. */
static const float leaky_alpha = 0.01f, elu_alpha = 0.75f;
static real rounded(real x, int bits) { return bits == 32 ? (real)(float)x : (real)(double)x; }

static real activation(fgd_act act, real z, int bits)
{
    const real scale = rounded(1.0507009873554805, bits);
    const real scale_alpha = rounded(1.0507009873554805 * 1.6732632423543772, bits);
    switch (act) {
    case FGD_ACT_RELU: return z <= 0 ? 0 : z;
    case FGD_ACT_LEAKY_RELU: return z > 0 ? z : leaky_alpha * z;
    case FGD_ACT_ELU: return z > 0 ? z : elu_alpha * expm1l(z);
    case FGD_ACT_SELU: return z > 0 ? scale * z : scale_alpha * expm1l(z);
    case FGD_ACT_GELU: return fabsl(z) > 100 ? fmaxl(z, 0) : z * normal_below(z);
    case FGD_ACT_SILU: return z == -INFINITY ? 0 : z * sigmoid(z);
    case FGD_ACT_MISH: {
        const real e = expl(z), n = e * (e + 2);
        return fabsl(z) > 2000 ? fmaxl(z, 0) : z * n / (n + 2);
    }
    case FGD_ACT_SOFTPLUS: return fmaxl(z, 0) + log1pl(expl(-fabsl(z)));
    case FGD_ACT_SOFTSIGN: return isinf(z) ? copysignl(1, z) : z / (1 + fabsl(z));
    case FGD_ACT_TANH: return tanhl(z);
    case FGD_ACT_SIGMOID: return sigmoid(z);
    case FGD_ACT_HARD_SIGMOID: return z < -3 ? 0 : z > 3 ? 1 : (z + 3) / 6;
    case FGD_ACT_EXP: return expl(z);
    default: return z;
    }
}

/* The derivative from what the kernel consumes. */
static real slope(fgd_act act, real x, int bits)
{
    const real scale = rounded(1.0507009873554805, bits);
    const real scale_alpha = rounded(1.0507009873554805 * 1.6732632423543772, bits);
    switch (act) {
    case FGD_ACT_RELU: return x > 0;
    case FGD_ACT_LEAKY_RELU: return x > 0 ? 1 : leaky_alpha;
    case FGD_ACT_ELU: return x > 0 ? 1 : x + elu_alpha;
    case FGD_ACT_SELU: return x > 0 ? scale : x + scale_alpha;
    case FGD_ACT_GELU: return fabsl(x) > 100 ? x > 0 : normal_below(x) + x * normal_density(x);
    case FGD_ACT_SILU: return fabsl(x) > 9000 ? x > 0 : sigmoid(x) * (1 + x * sigmoid(-x));
    case FGD_ACT_MISH: {
        if (fabsl(x) > 2000) return x > 0;
        const real e = expl(x), d = e * (e + 2) + 2;
        return e * ((e + 2) * d + 4 * x * (e + 1)) / (d * d);
    }
    case FGD_ACT_SOFTPLUS: return sigmoid(x);
    case FGD_ACT_SOFTSIGN: return 1 / ((1 + fabsl(x)) * (1 + fabsl(x)));
    case FGD_ACT_TANH: return 1 - x * x;
    case FGD_ACT_SIGMOID: return x * (1 - x);
    case FGD_ACT_HARD_SIGMOID: return fabsl(x) < 3 ? 1 / 6.0L : 0;
    case FGD_ACT_EXP: return x;
    default: return 1;
    }
}

/* Bounds, the same for both types.  UNITS is in units of the last place of 1 for a result
 * that crosses zero, ULP in those of the result itself. */
enum { ULP, UNITS };
static const struct {
    fgd_act act;
    const char *name;
    double act_bound;
    int act_kind;
    double slope_bound;
    int slope_kind, slope_of_a;
} table[] = {
    {FGD_ACT_IDENTITY, "identity", 0, ULP, 0, ULP, 0},
    {FGD_ACT_RELU, "relu", 0, ULP, 0, ULP, 1},
    {FGD_ACT_LEAKY_RELU, "leaky_relu", 0.5, ULP, 0, ULP, 1},
    {FGD_ACT_ELU, "elu", 2.5, ULP, 0.5, UNITS, 1},
    {FGD_ACT_SELU, "selu", 2.5, ULP, 1, UNITS, 1},
    {FGD_ACT_GELU, "gelu", 4, ULP, 3, UNITS, 0},
    {FGD_ACT_SILU, "silu", 3.5, ULP, 5, UNITS, 0},
    {FGD_ACT_MISH, "mish", 4, ULP, 5, UNITS, 0},
    {FGD_ACT_SOFTPLUS, "softplus", 2.5, ULP, 2.5, ULP, 0},
    {FGD_ACT_SOFTSIGN, "softsign", 1.5, ULP, 3.5, ULP, 0},
    {FGD_ACT_TANH, "tanh", 2.5, ULP, 0.5, UNITS, 1},
    {FGD_ACT_SIGMOID, "sigmoid", 2.5, ULP, 0.5, UNITS, 1},
    {FGD_ACT_HARD_SIGMOID, "hard_sigmoid", 1.5, UNITS, 0.5, ULP, 0},
    {FGD_ACT_EXP, "exp", 1, ULP, 0, ULP, 1},
};
enum { N_ACTS = sizeof table / sizeof table[0] };

static uint64_t random_state = 1;
static uint64_t random_bits(void)
{
    uint64_t x = random_state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}
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
