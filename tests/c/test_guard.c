/* No kernel of the table, and no fit or prediction, touches an element before or after its arrays:
 * each of them lies between two guard pages, and ends or begins at one.
 *   cc -O1 -ffp-contract=off -pthread -Icsrc tests/c/test_guard.c csrc/kernels_*.c csrc/fgd_team.c
 *      csrc/fgd_cpu.c csrc/fgd_pace.c -lm -o test_guard
 *   ./test_guard [rounds [seed]] */
#define _GNU_SOURCE
#include <float.h>
#include <math.h>

#include "guarded.h"

/* What the network allocates for its numbers lies between guards as well. */
static int network_at_end;
static int allocate_guarded(void **block, size_t alignment, size_t bytes)
{
    (void)alignment; /* a page, and its end, are aligned to any vector */
    *block = guard(bytes, network_at_end);
    return 0;
}
static void free_any(void *block)
{
    if (block && !release_guarded(block)) free(block);
}
#define posix_memalign allocate_guarded
#define free free_any
#undef _GNU_SOURCE
#include "../../csrc/fgd_net.c"
#undef posix_memalign
#undef free

#include "isas.h"
#include "random.h"

const fgd_kernels *fgd_active;
static fgd_blocking blocking;
const fgd_blocking *fgd_active_blocking = &blocking;

/* low .. high, both included. */
static size_t between(size_t low, size_t high) { return low + random_bits() % (high - low + 1); }
static int one_of(int n) { return (int)(random_bits() % (uint64_t)n); }
static double unit(void) { return (double)(random_bits() >> 11) * 0x1p-53; }

static size_t n_calls, n_fits;

static void expect(int ok, const char *what)
{
    if (ok) return;
    printf("%s FAILED: %s\n", what, guarded_case);
    exit(1);
}

#define REAL float
#define NAME(x) x##_f32
typedef fgd_sonline_run run_of_steps_f32;
#define TABLE_TYPE fgd_stable
#define SGD_TYPE fgd_ssgd
#define UNIT 16
#include "test_guard_body.h"
#undef REAL
#undef NAME
#undef TABLE_TYPE
#undef SGD_TYPE
#undef UNIT
#define REAL double
#define NAME(x) x##_f64
typedef fgd_donline_run run_of_steps_f64;
#define TABLE_TYPE fgd_dtable
#define SGD_TYPE fgd_dsgd
#define UNIT 8
#include "test_guard_body.h"

/* ---- whole fits ---- */

static const size_t sizes[FGD_N_DTYPES] = {4, 8, 1, 1, 2, 2, 4, 4, 8, 8};

/* rows x cols of small whole numbers (targets: 0 or 1), in a layout that must fit exactly. */
static fgd_matrix random_matrix(size_t rows, size_t cols, fgd_dtype dtype, int is_target)
{
    const ptrdiff_t size = (ptrdiff_t)sizes[dtype], n_rows = (ptrdiff_t)rows,
                    n_cols = (ptrdiff_t)cols;
    fgd_matrix m = {.dtype = dtype, .rows = rows, .cols = cols};
    ptrdiff_t first = 0; /* of element (0, 0) in the memory */
    /* Rows with or without a gap, which may leave them misaligned; columns; from the end. */
    const ptrdiff_t gap = one_of(2) ? 0 : (ptrdiff_t)between(1, 9);
    switch (is_target ? 0 : one_of(4)) {
    case 0:
    case 1:
        m.col_stride = size;
        m.row_stride = size * n_cols + gap;
        break;
    case 2:
        m.row_stride = size;
        m.col_stride = size * n_rows + gap;
        break;
    default:
        m.col_stride = -size;
        m.row_stride = -(size * n_cols + gap);
        first = (n_rows - 1) * -m.row_stride + (n_cols - 1) * size;
    }
    const ptrdiff_t rs = m.row_stride < 0 ? -m.row_stride : m.row_stride,
                    cs = m.col_stride < 0 ? -m.col_stride : m.col_stride;
    const size_t bytes = (size_t)((n_rows - 1) * rs + (n_cols - 1) * cs + size);
    /* Misaligned: what a page begins with is not the first element. */
    const size_t shift = one_of(3) ? 0 : between(1, 7);
    char *memory = (char *)guard(bytes + shift, one_of(2)) + shift;
    memset(memory - shift, 0, bytes + shift);
    m.data = memory + first;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            char *to = (char *)m.data + (ptrdiff_t)i * m.row_stride + (ptrdiff_t)j * m.col_stride;
            const int value = is_target ? one_of(2) : one_of(7) - 3;
            const float single = (float)value;
            const double full = value;
            const int64_t whole = value < 0 ? -value : value;
            if (dtype == FGD_F32) memcpy(to, &single, sizeof single);
            else if (dtype == FGD_F64) memcpy(to, &full, sizeof full);
            else memcpy(to, &whole, (size_t)size); /* little end first */
        }
    return m;
}

/* A size that is small, near a multiple of a vector, or now and then large. */
static size_t random_size(size_t most)
{
    const size_t n = one_of(3) ? between(1, 40) : 16 * between(1, 6) + between(0, 2) - 1;
    return one_of(30) ? n : between(1, most);
}

static void random_fit(const char *isa)
{
    static const struct {
        int loss, act;
    } outputs[] = {{FGD_LOSS_SQUARED_ERROR_A, FGD_ACT_IDENTITY},
                   {FGD_LOSS_ABSOLUTE_ERROR_A, FGD_ACT_TANH},
                   {FGD_LOSS_HUBER_A, FGD_ACT_IDENTITY},
                   {FGD_LOSS_LOG_LOSS_Z, FGD_ACT_SIGMOID},
                   {FGD_LOSS_LOG_LOSS_A, FGD_ACT_HARD_SIGMOID},
                   {FGD_LOSS_CROSS_ENTROPY_LABELS_Z, FGD_ACT_SOFTMAX},
                   {FGD_LOSS_CROSS_ENTROPY_ROWS_Z, FGD_ACT_SOFTMAX},
                   {FGD_LOSS_SQUARED_ERROR_A, FGD_ACT_SOFTMAX},
                   {FGD_LOSS_POISSON_Z, FGD_ACT_EXP},
                   {FGD_LOSS_POISSON_A, FGD_ACT_SOFTPLUS}};
    const size_t before = n_guarded;
    const int online = one_of(5) == 0, output = one_of(10), at_end = one_of(2);
    const int n_threads = one_of(3) ? 1 : 1 + one_of(3);
    const fgd_dtype dtype = one_of(2) ? FGD_F32 : FGD_F64;
    const size_t n_inputs = random_size(700), n_layers = online ? 1 : between(1, 3);
    size_t units[3];
    for (size_t l = 0; l < n_layers; l++) units[l] = random_size(700);
    if (online) units[0] = 1;
    const size_t last = units[n_layers - 1], n = random_size(300);
    const size_t batch = online ? 1 : between(1, one_of(2) ? n : 8 < n ? 8 : n);

    fgd_net net;
    network_at_end = at_end;
    expect(fgd_net_init(&net, dtype, n_inputs, n_layers, units) == FGD_OK, "init");
    net.serial_flop = 0;
    net.seed = random_bits();
    net.loss = outputs[output].loss;
    net.loss_param = net.loss == FGD_LOSS_HUBER_A ? 1.5 : 0;
    for (size_t l = 0; l < n_layers; l++) {
        fgd_layer *layer = &net.layers[l];
        layer->act = l + 1 == n_layers ? outputs[output].act : one_of(FGD_N_ELEMENTWISE_ACTS);
        layer->act_param = 0.5;
        layer->use_bias = one_of(4) != 0;
        layer->l1 = one_of(4) || online ? 0 : 0.01;
        layer->l2 = one_of(4) || online ? 0 : 0.01;
        layer->dropout = one_of(3) || l + 1 == n_layers ? 0 : 0.3;
        for (size_t i = 0; i < layer->fan_in; i++)
            for (size_t j = 0; j < layer->fan_out; j++) {
                const size_t at = i * layer->ldw + j;
                const double value = (unit() - 0.5) / sqrt((double)layer->fan_in);
                if (dtype == FGD_F32) ((float *)layer->w)[at] = (float)value;
                else ((double *)layer->w)[at] = value;
            }
    }
    const fgd_opt opt = online && one_of(3) ? FGD_OPT_SGD : (fgd_opt)one_of(FGD_N_OPTS);
    expect(fgd_net_set_optimizer(&net, opt, one_of(2)) == FGD_OK, "optimizer");
    net.params = (fgd_update_params){.momentum = 0.9, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8,
                                     .nesterov = one_of(2), .weight_decay = one_of(3) ? 0 : 0.01,
                                     .clip_value = one_of(4) ? 0 : 1};
    if (online) net.params.weight_decay = net.params.clip_value = 0;
    net.clip_norm = one_of(4) || online ? 0 : 1;
    if (one_of(8) == 0) net.long_flop = 0; /* stored gradients */

    const fgd_dtype x_dtype = one_of(2) ? dtype : (fgd_dtype)one_of(FGD_N_DTYPES);
    const fgd_dtype y_dtype = one_of(2) ? dtype : (fgd_dtype)one_of(FGD_N_DTYPES);
    fgd_data data = {.x = random_matrix(n, n_inputs, x_dtype, 0)};
    data.x.scale = one_of(3) ? 0 : 0.25;
    if (net.loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z) {
        int64_t *labels = guard(n * sizeof *labels, one_of(2));
        for (size_t s = 0; s < n; s++) labels[s] = (int64_t)between(0, last - 1);
        data.labels = labels;
    } else {
        data.y = random_matrix(n, last, y_dtype, 1);
    }
    if (one_of(3) == 0) {
        double *weights = guard(n * sizeof *weights, one_of(2));
        for (size_t s = 0; s < n; s++) weights[s] = 0.5 + unit();
        data.weights = weights;
    }
    int64_t *order = NULL;
    if (one_of(2)) {
        order = guard(n * sizeof *order, one_of(2));
        for (size_t s = 0; s < n; s++) order[s] = (int64_t)between(0, n - 1);
    }
    const size_t n_steps = (n + batch - 1) / batch;
    double *lrs = guard(n_steps * sizeof *lrs, one_of(2));
    for (size_t s = 0; s < n_steps; s++) lrs[s] = 0.01;
    const size_t size = element_size(&net);
    void *outputs_of = guard(n * last * size, one_of(2));
    void *losses = guard(n * size, one_of(2));
    snprintf(guarded_case, sizeof guarded_case,
             "fit %zu on %s, dtype %d: %zu inputs, %zu layers, %zu outputs, %zu samples of dtype %d "
             "(strides %td %td), batch %zu, loss %d, optimiser %d, %d threads, at_end %d",
             n_fits, isa, dtype, n_inputs, n_layers, last, n, x_dtype, data.x.row_stride,
             data.x.col_stride, batch, net.loss, opt, n_threads, at_end);
    if (one_of(2)) {
        data.outputs = outputs_of;
        data.output_stride = last;
    }
    const int needs_gradient = fgd_net_needs_gradient(&net, batch);
    expect(fgd_net_reserve(&net, batch, n_threads, needs_gradient) == FGD_OK, "reserve");
    fgd_progress progress;
    memset(&progress, 0, sizeof progress);
    fgd_net_train(&net, &data, order, 0, n, batch, n_steps, lrs, n_threads, 1e9, &progress);
    expect(progress.outcome != FGD_TRAINED || progress.n_steps == n_steps, "training");
    /* A prediction, with other threads and blocks, and a gradient. */
    expect(fgd_net_reserve(&net, n < 256 ? n : 256, n_threads, 1) == FGD_OK, "reserve");
    data.outputs = outputs_of;
    data.output_stride = last;
    fgd_net_infer(&net, &data, 0, n, n_threads, one_of(2) ? losses : NULL, one_of(2));
    fgd_net_find_gradient(&net, &data, n < 256 ? n : 256, n_threads, &progress);
    fgd_net_penalty(&net);
    /* Arrays of any alignment. */
    const size_t count = between(1, 200), shift = one_of(2) ? 0 : between(1, 7);
    const size_t front = one_of(2) ? shift : 0;
    for (int act = 0; act < FGD_N_ELEMENTWISE_ACTS; act++) {
        char *z = (char *)guard(count * size + front, front ? 0 : one_of(2)) + front;
        char *a = (char *)guard(count * size + front, front ? 0 : one_of(2)) + front;
        memset(z, 0, count * size);
        fgd_activate(dtype, (fgd_act)act, 0.5, count, z, a);
        fgd_activate_grad(dtype, (fgd_act)act, 0.5, count, z, a);
        fgd_all_finite(dtype, count, a);
        fgd_weighted_sum(dtype, count, a, one_of(2) ? z : NULL);
    }
    int64_t *drawn = guard(count * sizeof *drawn, one_of(2));
    for (size_t done = 0; done < count;) done = fgd_permutation(drawn, count, 1, 2, done);
    fgd_net_free(&net);
    release_from(before);
    n_fits++;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 20;
    if (argc > 2) random_state = (uint64_t)atoll(argv[2]);
    const fgd_kernels *isas[4];
    const size_t n_isas = available(isas);
    catch_crashes();
    flush_denormals();
    for (int round = 0; round < rounds; round++)
        for (size_t k = 0; k < n_isas; k++) {
            fgd_active = isas[k];
            blocking = (fgd_blocking){between(512, 100000), between(0, 150000), between(1, 400),
                                      between(1, 40), one_of(2)};
            const char *isa = isas[k]->f32.isa;
            all_kernels_f32(&isas[k]->f32, isa);
            all_kernels_f64(&isas[k]->f64, isa);
            if (isas[k]->narrow) {
                all_kernels_f32(&isas[k]->narrow->f32, "narrow");
                all_kernels_f64(&isas[k]->narrow->f64, "narrow");
            }
            for (int fit = 0; fit < 10; fit++) random_fit(isa);
        }
    printf("%zu calls of kernels and %zu fits on %zu instruction sets, nothing beyond an array\n",
           n_calls, n_fits, n_isas);
    return 0;
}
