/* Every float32 input of an activation or a derivative once, or random float64 ones: the largest
 * error, and equality of bits between the instruction sets of this machine.
 *   cc -O2 -pthread -ffp-contract=off -Icsrc tests/c/sweep.c csrc/kernels_*.c -lm -o sweep
 * ./sweep f32|f64 NAME value|slope THREADS COUNT: f32 takes COUNT inputs at equal distances, all
 * of them if it is 4294967296.  Prints one line of JSON; tools/sweep.py runs it.  Outputs are summed
 * up with their inputs to a number that is the same wherever all bits are. */
#define _POSIX_C_SOURCE 200809L
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_common.h"
#include "fgd_kernel_table.h"
#include "isas.h"
#include "exact.h"

enum { CHUNK = 4096 }; /* inputs at a time; they stay in the first-level cache */

static size_t number;    /* of the activation, in table */
static int is_slope;
static uint64_t n_inputs;
static const fgd_kernels *isas[4];
static size_t n_isas;
static atomic_uint_fast64_t next_chunk;

/* What a thread has found; the first of several worst inputs counts. */
typedef struct {
    double worst, at;
    uint64_t worst_index, sum;
    uint64_t n_wrong_class, n_unequal;
    double wrong_at, unequal_at;
} found;

static uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#define REAL float
#define BITS 32
#define UINT uint32_t
#define NAME(x) x##_f32
#define WIDE double
#define E(name) name##_wide
#define TABLE f32
#define REAL_MIN FLT_MIN
#define REAL_MAX_ FLT_MAX
#define EPSILON FLT_EPSILON
#include "sweep_body.h"
#undef REAL
#undef BITS
#undef UINT
#undef NAME
#undef WIDE
#undef E
#undef TABLE
#undef REAL_MIN
#undef REAL_MAX_
#undef EPSILON
#define REAL double
#define BITS 64
#define UINT uint64_t
#define NAME(x) x##_f64
#define WIDE long double
#define E(name) name##_widest
#define TABLE f64
#define REAL_MIN DBL_MIN
#define REAL_MAX_ DBL_MAX
#define EPSILON DBL_EPSILON
#include "sweep_body.h"

static int find(const char *name)
{
    for (number = 0; number < N_ACTS; number++)
        if (strcmp(name, table[number].name) == 0) return 1;
    return 0;
}

int main(int argc, char **argv)
{
    enum { MOST_THREADS = 64 };
    if (argc != 6 || !find(argv[2])) {
        fprintf(stderr, "usage: sweep f32|f64 NAME value|slope THREADS COUNT\n");
        return 2;
    }
    const int is_float = strcmp(argv[1], "f32") == 0;
    is_slope = strcmp(argv[3], "slope") == 0;
    const int n_threads = atoi(argv[4]);
    n_inputs = strtoull(argv[5], NULL, 10);
    if (n_threads < 1 || n_threads > MOST_THREADS || n_inputs % CHUNK != 0 || n_inputs == 0 ||
        (is_float && ((uint64_t)1 << 32) % n_inputs != 0)) {
        fprintf(stderr, "THREADS must be 1 to %d, COUNT a multiple of %d that divides 2^32\n",
                MOST_THREADS, CHUNK);
        return 2;
    }
    n_isas = available(isas);
    pthread_t threads[MOST_THREADS];
    found each[MOST_THREADS];
    memset(each, 0, sizeof each);
    for (int i = 0; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, is_float ? sweep_f32 : sweep_f64, &each[i]) != 0) {
            fprintf(stderr, "no thread %d\n", i);
            return 2;
        }
    found all = {.worst_index = UINT64_MAX};
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        const found *f = &each[i];
        if (f->worst > all.worst || (f->worst == all.worst && f->worst_index < all.worst_index)) {
            all.worst = f->worst;
            all.worst_index = f->worst_index;
            all.at = f->at;
        }
        all.sum += f->sum;
        all.n_wrong_class += f->n_wrong_class;
        all.n_unequal += f->n_unequal;
        if (f->n_wrong_class) all.wrong_at = f->wrong_at;
        if (f->n_unequal) all.unequal_at = f->unequal_at;
    }
    const double bound = is_slope ? table[number].slope_bound : table[number].act_bound;
    printf("{\"inputs\": %" PRIu64 ", \"worst\": %.6f, \"at\": \"%a\", \"bound\": %g, "
           "\"unit\": \"%s\", \"sum\": \"%016" PRIx64 "\", \"isas\": [",
           n_inputs, all.worst, all.at, bound,
           (is_slope ? table[number].slope_kind : table[number].act_kind) == ULP ? "ULP"
                                                                                 : "ULP of 1",
           all.sum);
    for (size_t k = 0; k < n_isas; k++)
        printf("%s\"%s\"", k ? ", " : "", isas[k]->f32.isa);
    printf("]}\n");
    if (all.n_wrong_class)
        fprintf(stderr, "%" PRIu64 " results of the wrong class, as at %a\n", all.n_wrong_class,
                all.wrong_at);
    if (all.n_unequal)
        fprintf(stderr, "%" PRIu64 " results differ between instruction sets, as at %a\n",
                all.n_unequal, all.unequal_at);
    if (all.worst > bound + 1e-9) fprintf(stderr, "%g is above the bound, %g\n", all.worst, bound);
    return all.n_wrong_class || all.n_unequal || all.worst > bound + 1e-9;
}
