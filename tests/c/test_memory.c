/* Every allocation of a network fails once, alone or with all that come after it: the call says so,
 * nothing is left allocated, and the same call then works, to the same bits.
 *   cc -O1 -pthread -ffp-contract=off -Wl,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign,--wrap=free
 *      -Icsrc tests/c/test_memory.c csrc/[a-z]*.c -lm -o test_memory */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_dispatch.h"
#include "fgd_net.h"
#include "weights.h"

/* ---- memory ----------------------------------------------------------------------------------- */

static long until_failure = -1; /* allocations that succeed before one fails; below 0: all do */
static int goes_on;             /* those after it fail as well */
static long n_blocks, n_injected;

static int fails(void)
{
    if (until_failure < 0) return 0;
    if (until_failure > 0) {
        until_failure--;
        return 0;
    }
    if (!goes_on) until_failure = -1;
    n_injected++;
    return 1;
}

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
int __real_posix_memalign(void **block, size_t alignment, size_t size);
void __real_free(void *block);

void *__wrap_calloc(size_t n, size_t size)
{
    if (fails()) return NULL;
    void *const block = __real_calloc(n, size);
    n_blocks += block != NULL;
    return block;
}
void *__wrap_realloc(void *block, size_t size)
{
    if (fails()) return NULL;
    void *const moved = __real_realloc(block, size);
    n_blocks += !block && moved;
    return moved;
}
int __wrap_posix_memalign(void **block, size_t alignment, size_t size)
{
    if (fails()) return 12; /* ENOMEM */
    const int error = __real_posix_memalign(block, alignment, size);
    n_blocks += error == 0;
    return error;
}
void __wrap_free(void *block)
{
    n_blocks -= block != NULL;
    __real_free(block);
}

/* ---- a network -------------------------------------------------------------------------------- */

static void expect(int ok, const char *what, int way, long failure)
{
    if (ok) return;
    printf("%s FAILED (way %d, allocation %ld, %s)\n", what, way, failure,
           goes_on ? "and all after it" : "alone");
    exit(1);
}

enum { N_INPUTS = 9, HIDDEN = 21, N_OUTPUTS = 3, N_SAMPLES = 40, BATCH = 20, N_THREADS = 2 };
enum { PLAIN, BY_NORM, DROPOUT, ADAM, RMSPROP, N_WAYS };

static float x[N_SAMPLES * N_INPUTS];
static int64_t labels[N_SAMPLES];

/* Makes a network and trains it; a call that has no memory is made again.  Returns whether an allocation
 * has failed; OUT: the weights of the first layer. */
static int fit(int way, long failure, float *weights)
{
    const size_t units[] = {HIDDEN, N_OUTPUTS};
    const double lrs[] = {0.1, 0.1};
    int n_failed = 0; /* calls */
    n_injected = 0;
    fgd_net net;
    until_failure = failure;
    while (fgd_net_init(&net, FGD_F32, N_INPUTS, 2, units) != FGD_OK) {
        expect(n_blocks == 0 && !net.layers, "nothing is left of a network", way, failure);
        until_failure = -1;
        n_failed++;
    }
    net.serial_flop = 0;
    net.loss = FGD_LOSS_CROSS_ENTROPY_LABELS_Z;
    net.clip_norm = way == BY_NORM;
    net.layers[0].act = FGD_ACT_GELU;
    net.layers[0].dropout = way == DROPOUT ? 0.2 : 0;
    net.layers[1].act = FGD_ACT_SOFTMAX;
    set_weights(&net);
    const fgd_opt opt = way == ADAM ? FGD_OPT_ADAM : way == RMSPROP ? FGD_OPT_RMSPROP : FGD_OPT_SGD;
    long before = n_blocks;
    while (fgd_net_set_optimizer(&net, opt, 1) != FGD_OK) {
        expect(n_blocks == before, "nothing is left of states", way, failure);
        expect(net.opt == 0 && !net.layers[0].w_s1, "the optimiser is as before", way, failure);
        until_failure = -1;
        n_failed++;
    }
    net.params = (fgd_update_params){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .momentum = 0.5};
    while (fgd_net_reserve(&net, BATCH, N_THREADS, way == BY_NORM) != FGD_OK) {
        expect(net.capacity == 0, "a network without buffers has no room", way, failure);
        until_failure = -1;
        n_failed++;
    }
    until_failure = -1;
    fgd_data data = {.x = {x, FGD_F32, N_SAMPLES, N_INPUTS, N_INPUTS * sizeof *x, sizeof *x, 0},
                     .labels = labels};
    fgd_progress progress;
    memset(&progress, 0, sizeof progress);
    fgd_net_train(&net, &data, NULL, 0, N_SAMPLES, BATCH, 2, lrs, N_THREADS, 60, &progress);
    expect(progress.outcome == FGD_TRAINED && progress.n_steps == 2, "training", way, failure);
    for (size_t i = 0; i < N_INPUTS; i++)
        memcpy(weights + i * HIDDEN, (float *)net.layers[0].w + i * net.layers[0].ldw,
               HIDDEN * sizeof *weights);
    fgd_net_free(&net);
    expect(n_blocks == 0, "nothing is left of a fit", way, failure);
    expect((n_injected > 0) == (n_failed > 0), "a call without memory says so", way, failure);
    return n_injected > 0;
}

/* Sizes whose product is more than there are addresses. */
static void check_sizes(void)
{
    const size_t too_many[] = {(size_t)1 << 62}, many[] = {(size_t)1 << 40}, one[] = {1};
    fgd_net net;
    expect(fgd_net_init(&net, FGD_F64, 1, 1, too_many) != FGD_OK, "too many bytes", 0, 0);
    expect(fgd_net_init(&net, FGD_F64, (size_t)1 << 40, 1, many) != FGD_OK, "too many", 0, 0);
    expect(fgd_net_init(&net, FGD_F64, 1, 1, one) == FGD_OK, "one weight", 0, 0);
    expect(fgd_net_reserve(&net, SIZE_MAX, 1, 0) != FGD_OK, "too many samples", 0, 0);
    fgd_net_free(&net);
    expect(n_blocks == 0, "nothing is left of refused sizes", 0, 0);
}

int main(void)
{
    enum { N_WEIGHTS = N_INPUTS * HIDDEN };
    static float expected[N_WEIGHTS], weights[N_WEIGHTS];
    fgd_isa_select_best();
    for (int i = 0; i < N_SAMPLES * N_INPUTS; i++) x[i] = (float)(i % 17) / 8 - 1;
    for (int s = 0; s < N_SAMPLES; s++) labels[s] = s % N_OUTPUTS;
    long n_failures = 0;
    for (int way = 0; way < N_WAYS; way++) {
        expect(!fit(way, -1, expected), "there is memory", way, -1);
        for (goes_on = 0; goes_on < 2; goes_on++)
            for (long failure = 0; fit(way, failure, weights); failure++) {
                expect(memcmp(weights, expected, sizeof weights) == 0, "bits", way, failure);
                n_failures++;
            }
    }
    check_sizes();
    printf("%ld allocations failed\n", n_failures);
    return 0;
}
