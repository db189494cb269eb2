/* Fits and predictions of several threads at once, each with a network of its own on 1 to 4 threads
 * of the team, have the bits of a fit alone on one thread; ThreadSanitizer must find no race.
 *   cc -O1 -g -pthread -fsanitize=thread -ffp-contract=off -Icsrc tests/c/test_fits.c csrc/[a-z]*.c
 *      -lm -o test_fits */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_dispatch.h"
#include "fgd_net.h"
#include "weights.h"

enum { N_INPUTS = 20, HIDDEN = 33, N_OUTPUTS = 5, N_SAMPLES = 150, BATCH = 64, N_STEPS = 3 };

static void expect(int ok, const char *what)
{
    if (ok) return;
    printf("%s FAILED\n", what);
    exit(1);
}

static float x[N_SAMPLES * N_INPUTS];
static int64_t labels[N_SAMPLES];

/* The ways of a fit: samples divided among threads; stored gradients, by clip_norm; a first layer of
 * so many weights that its units are divided; Adam, in the same way; few samples, for which the last
 * layer's weights are read once for delta and update. */
enum { PLAIN, BY_NORM, BY_UNITS, ADAM, FEW, N_WAYS };
enum { WIDE = 5000, FEW_SAMPLES = 10 };

/* OUT: weights of the first layer, the columns of all ways' HIDDEN units. */
static void fit(int n_threads, int way, float *weights)
{
    const size_t units[] = {way == PLAIN || way == BY_NORM ? HIDDEN : WIDE, N_OUTPUTS};
    const size_t batch = way == FEW ? FEW_SAMPLES : BATCH;
    const double clip_norm = way == BY_NORM;
    static const double lrs[] = {0.1, 0.1, 0.1};
    fgd_net net;
    expect(fgd_net_init(&net, FGD_F32, N_INPUTS, 2, units) == FGD_OK, "init");
    net.serial_flop = 0;
    net.loss = FGD_LOSS_CROSS_ENTROPY_LABELS_Z;
    net.clip_norm = clip_norm;
    net.layers[0].act = FGD_ACT_TANH;
    net.layers[0].l2 = 0.01;
    net.layers[0].dropout = 0.2;
    net.layers[1].act = FGD_ACT_SOFTMAX;
    set_weights(&net);
    const fgd_opt opt = way == ADAM ? FGD_OPT_ADAM : FGD_OPT_SGD;
    expect(fgd_net_set_optimizer(&net, opt, 0) == FGD_OK, "optimizer");
    net.params = (fgd_update_params){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    expect(fgd_net_reserve(&net, BATCH, n_threads, clip_norm > 0) == FGD_OK, "reserve");

    fgd_data data = {.x = {x, FGD_F32, N_SAMPLES, N_INPUTS, N_INPUTS * sizeof *x, sizeof *x}, .labels = labels};
    fgd_progress progress;
    memset(&progress, 0, sizeof progress);
    fgd_net_train(&net, &data, NULL, 0, N_SAMPLES, batch, N_STEPS, lrs, n_threads, 60, &progress);
    expect(progress.outcome == FGD_TRAINED && progress.n_steps == N_STEPS, "training");
    float out[BATCH * N_OUTPUTS];
    data.outputs = out;
    data.output_stride = N_OUTPUTS;
    fgd_net_infer(&net, &data, 0, BATCH, n_threads, NULL, 0);
    for (size_t i = 0; i < N_INPUTS; i++)
        memcpy(weights + i * HIDDEN, (float *)net.layers[0].w + i * net.layers[0].ldw,
               HIDDEN * sizeof *weights);
    fgd_net_free(&net);
}

enum { N_WEIGHTS = N_INPUTS * HIDDEN };
static float expected[N_WAYS][N_WEIGHTS];

static void *caller(void *argument)
{
    for (int i = 0; i < 40; i++) {
        float weights[N_WEIGHTS] = {0};
        const int way = i % N_WAYS, n_threads = 1 + (i / 2 + (int)(ptrdiff_t)argument) % 4;
        fit(n_threads, way, weights);
        expect(memcmp(weights, expected[way], sizeof weights) == 0, "bits");
    }
    return NULL;
}

int main(void)
{
    fgd_isa_select_best();
    for (int i = 0; i < N_SAMPLES * N_INPUTS; i++) x[i] = (float)(i % 17) / 8 - 1;
    for (int s = 0; s < N_SAMPLES; s++) labels[s] = s % N_OUTPUTS;
    for (int way = 0; way < N_WAYS; way++) fit(1, way, expected[way]);
    pthread_t callers[3];
    for (ptrdiff_t i = 0; i < 3; i++) pthread_create(&callers[i], NULL, caller, (void *)(i + 1));
    for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
    puts("ok");
    return 0;
}
