/* Fits of several threads at once, each on 1 to 4 threads of the team, have the bits of a fit
 * alone on one thread; ThreadSanitizer must find no race in them.
 *   cc -O1 -g -pthread -fsanitize=thread -ffp-contract=off -Icsrc tests/c/test_fits.c csrc/[a-z]*.c
 *      -lm -o test_fits */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_dispatch.h"
#include "fgd_net.h"

enum { N_INPUTS = 20, HIDDEN = 33, N_OUTPUTS = 5, N_SAMPLES = 150, BATCH = 64, N_STEPS = 3 };

static void expect(int ok, const char *what)
{
    if (ok) return;
    printf("%s FAILED\n", what);
    exit(1);
}

static float x[N_SAMPLES * N_INPUTS];
static int64_t labels[N_SAMPLES];

/* clip_norm > 0 takes the way of stored gradients.  OUT: weights of the first layer. */
static void fit(int n_threads, double clip_norm, float *weights)
{
    static const size_t units[] = {HIDDEN, N_OUTPUTS};
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
    for (size_t l = 0; l < 2; l++) {
        float *w = net.layers[l].w;
        for (size_t i = 0; i < net.layers[l].fan_in; i++)
            for (size_t j = 0; j < units[l]; j++)
                w[i * net.layers[l].ldw + j] = (float)((i * 7 + j * 3) % 13) / 26 - 0.25f;
    }
    expect(fgd_net_set_optimizer(&net, FGD_OPT_SGD, 0) == FGD_OK, "optimizer");
    expect(fgd_net_reserve(&net, BATCH, n_threads, clip_norm > 0) == FGD_OK, "reserve");

    fgd_data data = {.x = {x, FGD_F32, N_SAMPLES, N_INPUTS, N_INPUTS * sizeof *x, sizeof *x}, .labels = labels};
    fgd_progress progress;
    memset(&progress, 0, sizeof progress);
    fgd_net_train(&net, &data, NULL, 0, N_SAMPLES, BATCH, N_STEPS, lrs, n_threads, 60, &progress);
    expect(progress.outcome == FGD_TRAINED && progress.n_steps == N_STEPS, "training");
    float out[BATCH * N_OUTPUTS];
    data.outputs = out;
    data.output_stride = N_OUTPUTS;
    fgd_net_infer(&net, &data, 0, BATCH, n_threads, NULL, 0);
    memcpy(weights, net.layers[0].w, N_INPUTS * net.layers[0].ldw * sizeof *weights);
    fgd_net_free(&net);
}

enum { N_WEIGHTS = N_INPUTS * 64 };
static float expected[2][N_WEIGHTS];

static void *caller(void *argument)
{
    for (int i = 0; i < 40; i++) {
        float weights[N_WEIGHTS] = {0};
        const int by_norm = i % 2, n_threads = 1 + (i + (int)(ptrdiff_t)argument) % 4;
        fit(n_threads, by_norm, weights);
        expect(memcmp(weights, expected[by_norm], sizeof weights) == 0, "bits");
    }
    return NULL;
}

int main(void)
{
    fgd_isa_select_best();
    for (int i = 0; i < N_SAMPLES * N_INPUTS; i++) x[i] = (float)(i % 17) / 8 - 1;
    for (int s = 0; s < N_SAMPLES; s++) labels[s] = s % N_OUTPUTS;
    for (int by_norm = 0; by_norm < 2; by_norm++) fit(1, by_norm, expected[by_norm]);
    pthread_t callers[3];
    for (ptrdiff_t i = 0; i < 3; i++) pthread_create(&callers[i], NULL, caller, (void *)(i + 1));
    for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
    puts("ok");
    return 0;
}
