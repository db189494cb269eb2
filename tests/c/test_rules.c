/* Losses, softmax, optimisers, sums and dropout, float and double, on every instruction set of
 * this machine: equal to a plain C loop bit for bit where only +, *, / and fma are involved,
 * within an error bound where exp and log are, and always the same bits on every set.
 *   cc -O2 -ffp-contract=off -Icsrc tests/c/test_rules.c csrc/kernels_*.c -lm -o test_rules */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_common.h"
#include "fgd_kernel_table.h"
#include "isas.h"
#include "random.h"

static int failures = 0;
static void expect(int ok, const char *type, const char *isa, const char *what)
{
    if (ok) return;
    printf("%s %s: %s FAILED\n", type, isa, what);
    failures++;
}

/* Whether long double is wider than REAL of this size, so that errors can be held to bounds: on some
 * processors, and under valgrind, it is a double. */
static int has_reference(size_t size)
{
    volatile long double one = 1, tiny = 0x1p-60L;
    return size < sizeof(double) || one + tiny != one;
}

/* One block of Philox 4x32-10. */
static void philox(const uint32_t counter[4], uint32_t k0, uint32_t k1, uint32_t out[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1,
                                  (uint32_t)(p0 >> 32) ^ c[3] ^ k1, (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

static const struct {
    fgd_loss loss;
    const char *name;
} losses[] = {
    {FGD_LOSS_SQUARED_ERROR_A, "squared_error"},
    {FGD_LOSS_ABSOLUTE_ERROR_A, "absolute_error"},
    {FGD_LOSS_HUBER_A, "huber"},
    {FGD_LOSS_LOG_LOSS_Z, "log_loss from z"},
    {FGD_LOSS_LOG_LOSS_A, "log_loss from a"},
    {FGD_LOSS_CROSS_ENTROPY_LABELS_Z, "cross_entropy of labels"},
    {FGD_LOSS_CROSS_ENTROPY_ROWS_Z, "cross_entropy of rows"},
    {FGD_LOSS_POISSON_Z, "poisson from z"},
    {FGD_LOSS_POISSON_A, "poisson from a"},
};
static const struct {
    fgd_opt opt;
    const char *name;
} optimizers[] = {
    {FGD_OPT_SGD, "sgd"},     {FGD_OPT_MOMENTUM, "momentum"}, {FGD_OPT_ADAM, "adam"},
    {FGD_OPT_ADAMW, "adamw"}, {FGD_OPT_RMSPROP, "rmsprop"},   {FGD_OPT_ADAGRAD, "adagrad"},
};

#define REAL float
#define TYPE "float32"
#define NAME(x) x##_f32
#define EPSILON FLT_EPSILON
#define REAL_MIN FLT_MIN
#define FMA fmaf
#define SQRT sqrtf
#define FABS fabsf
#define TABLE_TYPE fgd_stable
#include "test_rules_body.h"
#undef REAL
#undef TYPE
#undef NAME
#undef EPSILON
#undef REAL_MIN
#undef FMA
#undef SQRT
#undef FABS
#undef TABLE_TYPE
#define REAL double
#define TYPE "float64"
#define NAME(x) x##_f64
#define EPSILON DBL_EPSILON
#define REAL_MIN DBL_MIN
#define FMA fma
#define SQRT sqrt
#define FABS fabs
#define TABLE_TYPE fgd_dtable
#include "test_rules_body.h"

int main(void)
{
    const fgd_kernels *isas[4];
    const size_t n_isas = available(isas);
    flush_denormals();
    /* The generator itself, against the published answer for counter 0 and key 0. */
    uint32_t words[4];
    philox((const uint32_t[4]){0}, 0, 0, words);
    expect(words[0] == 0x6627e8d5u && words[1] == 0xe169c58du && words[2] == 0xbc57ac4cu &&
               words[3] == 0x9b00dbd8u,
           "", "", "philox");
    for (size_t k = 0; k < n_isas; k++) {
        test_losses_f32(&isas[0]->f32, &isas[k]->f32);
        test_losses_f64(&isas[0]->f64, &isas[k]->f64);
        test_softmax_f32(&isas[0]->f32, &isas[k]->f32);
        test_softmax_f64(&isas[0]->f64, &isas[k]->f64);
        test_optimizers_f32(&isas[k]->f32);
        test_optimizers_f64(&isas[k]->f64);
        test_sums_f32(&isas[k]->f32);
        test_sums_f64(&isas[k]->f64);
        test_dropout_f32(&isas[k]->f32);
        test_dropout_f64(&isas[k]->f64);
    }
    if (!has_reference(sizeof(double)))
        puts("long double is a double here: errors in float64 have not been held to their bounds");
    printf(failures ? "%d failures\n" : "all equal or within their bounds\n", failures);
    return failures != 0;
}
