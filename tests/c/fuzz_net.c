/* A network, its data and its settings are decoded from a string of bytes, trained and asked for
 * predictions by every instruction set of the machine, with several threads: weights, outputs and
 * losses must have the bits of the plain C kernels on one thread, and no sanitizer may complain.
 *   clang -O1 -g -fsanitize=fuzzer,address,undefined -ffp-contract=off -pthread -Icsrc
 *       tests/c/fuzz_net.c csrc/[a-z]*.c -lm -o fuzz_net
 * With -DFGD_REPLAY, and without the fuzzer, main runs the files that it is given. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_dispatch.h"
#include "fgd_net.h"

enum { MOST_LAYERS = 3, MOST_STEPS = 4, MOST_ROWS = 150 };

/* ---- choices ---------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *at, *end;
} source;

static unsigned byte(source *s) { return s->at < s->end ? *s->at++ : 0; }

/* 0 .. n - 1 */
static size_t below(source *s, size_t n)
{
    size_t value = byte(s);
    if (n > 256) value |= (size_t)byte(s) << 8;
    return value % n;
}

/* Mostly an eighth of a small whole number, now and then one of any magnitude. */
static double number(source *s)
{
    static const double odd[] = {0.0,   -0.0,  1e-45,  -1e-38,     1e-310, 1e30,
                                 -3e38, 1e300, -1e308, 16777217.0, 0.1,    -1.0};
    const unsigned b = byte(s);
    return b < 12 ? odd[b] : ((double)b - 132) / 8;
}

static const size_t element_bytes[FGD_N_DTYPES] = {4, 8, 1, 1, 2, 2, 4, 4, 8, 8};

static void put(fgd_dtype dtype, void *at, double value)
{
    /* memcpy: rows may begin at any address */
#define PUT(TYPE, CONVERTED)                    \
    do {                                        \
        const TYPE element = (TYPE)(CONVERTED); \
        memcpy(at, &element, sizeof element);   \
    } while (0)
    if (dtype == FGD_F32) {
        PUT(float, fabs(value) > 3.4e38 ? 0 : value);
    } else if (dtype == FGD_F64) {
        PUT(double, value);
    } else {
        const int64_t whole = fabs(value) < 1e15 ? (int64_t)value : 7;
        switch (dtype) {
        case FGD_U8: PUT(uint8_t, whole); break;
        case FGD_I8: PUT(int8_t, whole); break;
        case FGD_U16: PUT(uint16_t, whole); break;
        case FGD_I16: PUT(int16_t, whole); break;
        case FGD_U32: PUT(uint32_t, whole); break;
        case FGD_I32: PUT(int32_t, whole); break;
        case FGD_U64: PUT(uint64_t, whole); break;
        default: PUT(int64_t, whole); break;
        }
    }
#undef PUT
}

static void *allocate(size_t bytes)
{
    void *made = malloc(bytes ? bytes : 1);
    if (!made) exit(2);
    return made;
}

/* ---- what one string of bytes means ----------------------------------------------------- */

typedef struct {
    fgd_dtype dtype;
    size_t n_inputs, n_layers, units[MOST_LAYERS], n_rows, batch, n_steps;
    int act[MOST_LAYERS], use_bias[MOST_LAYERS];
    double act_param[MOST_LAYERS], l1[MOST_LAYERS], l2[MOST_LAYERS], dropout[MOST_LAYERS];
    int loss, opt, has_buffer, account, n_threads;
    double loss_param, lrs[MOST_STEPS], clip_norm, lr_decay, long_flop;
    fgd_update_params params;
    uint64_t seed;
    int has_order, keeps_outputs;
    fgd_data data;
    int64_t *order;
    uint8_t *x_block, *y_block; /* exactly as long as is read, so that one byte too far is found */
    source weights;
} job;

/* A matrix in a block of its own: spaced, transposed or backwards.  OUT: matrix. */
static uint8_t *make_matrix(source *s, fgd_dtype dtype, size_t rows, size_t cols, double low,
                            fgd_matrix *matrix)
{
    const size_t size = element_bytes[dtype], layout = below(s, 8);
    ptrdiff_t col = (ptrdiff_t)size, row = (ptrdiff_t)(cols * size);
    if (layout == 1) row = (ptrdiff_t)size, col = (ptrdiff_t)(rows * size);
    if (layout == 2) row += 3; /* aligned to nothing */
    if (layout == 3) col *= 2, row = (ptrdiff_t)cols * col;
    const int is_backwards = layout == 4, is_repeated = layout == 5;
    if (is_repeated) row = 0; /* every sample the same, as broadcast */
    const size_t last = (size_t)row * (rows - 1) + (size_t)col * (cols - 1);
    uint8_t *block = allocate(last + size);
    memset(block, 0, last + size);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            double value = number(s);
            if (low == 0) value = fmin(fabs(value), 1);
            put(dtype, block + (size_t)row * i + (size_t)col * j, value);
        }
    *matrix = (fgd_matrix){block, dtype, rows, cols, row, col, 0};
    if (is_backwards) {
        matrix->data = block + last;
        matrix->row_stride = -row;
        matrix->col_stride = -col;
    }
    return block;
}

static const struct {
    int loss, act; /* -1: any */
} pairs[] = {
    {FGD_LOSS_SQUARED_ERROR_A, -1},
    {FGD_LOSS_SQUARED_ERROR_A, FGD_ACT_SOFTMAX},
    {FGD_LOSS_ABSOLUTE_ERROR_A, -1},
    {FGD_LOSS_HUBER_A, -1},
    {FGD_LOSS_LOG_LOSS_Z, FGD_ACT_SIGMOID},
    {FGD_LOSS_LOG_LOSS_A, FGD_ACT_HARD_SIGMOID},
    {FGD_LOSS_CROSS_ENTROPY_LABELS_Z, FGD_ACT_SOFTMAX},
    {FGD_LOSS_CROSS_ENTROPY_ROWS_Z, FGD_ACT_SOFTMAX},
    {FGD_LOSS_POISSON_Z, FGD_ACT_EXP},
    {FGD_LOSS_POISSON_A, FGD_ACT_SOFTPLUS},
};

static void decode(source *s, job *j)
{
    memset(j, 0, sizeof *j);
    j->dtype = below(s, 2) ? FGD_F64 : FGD_F32;
    j->n_layers = 1 + below(s, MOST_LAYERS);
    const int is_wide = below(s, 8) == 7;
    j->n_inputs = 1 + below(s, is_wide ? 600 : 40);
    const size_t pair = below(s, sizeof pairs / sizeof *pairs);
    j->loss = pairs[pair].loss;
    for (size_t l = 0; l < j->n_layers; l++) {
        const int is_last = l + 1 == j->n_layers;
        j->units[l] = 1 + below(s, is_wide ? 300 : 40);
        j->act[l] = (int)below(s, FGD_N_ELEMENTWISE_ACTS);
        if (is_last && pairs[pair].act >= 0) j->act[l] = pairs[pair].act;
        j->act_param[l] = j->act[l] == FGD_ACT_LEAKY_RELU ? 0.01 : 1;
        const unsigned settings = byte(s);
        j->use_bias[l] = (settings & 1) == 0;
        j->l1[l] = settings & 2 ? 1e-3 : 0;
        j->l2[l] = settings & 4 ? 1e-3 : 0;
        j->dropout[l] = (settings & 24) == 24 && !is_last ? 0.3 : 0;
    }
    if (j->loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z && j->units[j->n_layers - 1] == 1)
        j->units[j->n_layers - 1] = 2;
    /* losses._settings of Python */
    j->loss_param = j->loss == FGD_LOSS_HUBER_A ? 1.0 : 1e-7;
    j->opt = (int)below(s, FGD_N_OPTS);
    const unsigned kind = byte(s);
    j->has_buffer = j->opt == FGD_OPT_RMSPROP && (kind & 1);
    j->params =
        (fgd_update_params){.scale = 1,
                            .penalty_share = 1,
                            .norm_scale = 1,
                            .clip_value = kind & 2 ? 0.5 : 0,
                            .weight_decay = kind & 4 ? 0.01 : 0,
                            .momentum = j->opt == FGD_OPT_MOMENTUM || j->has_buffer ? 0.9 : 0,
                            .beta1 = 0.9,
                            .beta2 = 0.99,
                            .eps = 1e-8,
                            .nesterov = j->opt == FGD_OPT_MOMENTUM && (kind & 8),
                            .variant = kind & 16 ? FGD_VARIANT_SKLEARN : FGD_VARIANT_TORCH};
    j->clip_norm = kind & 32 ? 1 : 0;
    j->lr_decay = kind & 64 && j->opt == FGD_OPT_ADAGRAD ? 0.1 : 0;
    j->long_flop = kind & 128 ? 0 : 2e9;
    j->account = (int)below(s, 3);
    j->n_threads = 1 + (int)below(s, 4);
    j->seed = byte(s) * 0x9E3779B97F4A7C15u;
    j->n_rows = 1 + below(s, MOST_ROWS);
    j->batch = 1 + below(s, below(s, 2) ? 20 : j->n_rows);
    if (j->batch > j->n_rows) j->batch = j->n_rows;
    const size_t whole = (j->n_rows + j->batch - 1) / j->batch;
    j->n_steps = 1 + below(s, MOST_STEPS);
    if (j->n_steps > whole) j->n_steps = whole;
    for (size_t i = 0; i < j->n_steps; i++) j->lrs[i] = ldexp(1, -(int)below(s, 12));
    j->keeps_outputs = (int)below(s, 2);
    j->has_order = (int)below(s, 2);
    const size_t n_outputs = j->units[j->n_layers - 1];

    j->x_block =
        make_matrix(s, (fgd_dtype)below(s, FGD_N_DTYPES), j->n_rows, j->n_inputs, -1, &j->data.x);
    if (below(s, 4) == 0) j->data.x.scale = 0.25;
    if (j->loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z) {
        int64_t *labels = allocate(j->n_rows * sizeof *labels);
        for (size_t i = 0; i < j->n_rows; i++) labels[i] = (int64_t)below(s, n_outputs);
        j->data.labels = labels;
    } else {
        const int is_share = j->loss != FGD_LOSS_SQUARED_ERROR_A &&
                             j->loss != FGD_LOSS_ABSOLUTE_ERROR_A && j->loss != FGD_LOSS_HUBER_A;
        j->y_block = make_matrix(s, (fgd_dtype)below(s, FGD_N_DTYPES), j->n_rows, n_outputs,
                                 is_share ? 0 : -1, &j->data.y);
    }
    if (below(s, 3) == 0) {
        double *weights = allocate(j->n_rows * sizeof *weights);
        for (size_t i = 0; i < j->n_rows; i++) weights[i] = (double)below(s, 4) + (i == 0);
        j->data.weights = weights;
    }
    if (j->has_order) {
        j->order = allocate(j->n_rows * sizeof *j->order);
        for (size_t done = 0; done < j->n_rows;) {
            done = fgd_permutation(j->order, j->n_rows, j->seed, 1, done);
            if (j->n_rows < 2) break;
        }
        if (j->n_rows == 1) j->order[0] = 0;
    }
    j->weights = *s;
}

static void release(job *j)
{
    free(j->x_block);
    free(j->y_block);
    free((void *)j->data.labels);
    free((void *)j->data.weights);
    free(j->order);
}

/* ---- what a run leaves ------------------------------------------------------------------ */

typedef struct {
    size_t size, at;
    uint8_t *bytes;
    fgd_outcome outcome;
    double loss_sum, weight_sum;
} result;

static void keep(result *r, const void *from, size_t bytes)
{
    if (r->at + bytes > r->size) {
        r->size = 2 * (r->at + bytes);
        r->bytes = realloc(r->bytes, r->size);
        if (!r->bytes) exit(2);
    }
    memcpy(r->bytes + r->at, from, bytes);
    r->at += bytes;
}

static int is_finite(fgd_dtype dtype, const void *values, size_t i)
{
    return dtype == FGD_F32 ? isfinite(((const float *)values)[i])
                            : isfinite(((const double *)values)[i]);
}

static void complain(const char *what, const char *isa)
{
    printf("%s: %s\n", isa, what);
    fflush(stdout);
    abort();
}

static result run(const job *j, const char *isa, int n_threads)
{
    result r = {0};
    if (fgd_isa_select(isa) != FGD_ISA_OK) complain("cannot be selected", isa);
    fgd_net net;
    if (fgd_net_init(&net, j->dtype, j->n_inputs, j->n_layers, j->units) != FGD_OK) exit(2);
    /* Small passes use the team as well, or find out whether that is faster. */
    net.serial_flop = j->seed % 2 ? 0 : (double)(j->batch * j->n_inputs * j->units[0]);
    net.long_flop = j->long_flop;
    net.loss = j->loss;
    net.loss_param = j->loss_param;
    net.account = j->account;
    net.loss_scale = net.grad_scale = 1;
    net.seed = j->seed;
    net.lr_decay = j->lr_decay;
    net.clip_norm = j->clip_norm;
    const size_t size = element_bytes[j->dtype];
    source s = j->weights;
    for (size_t l = 0; l < j->n_layers; l++) {
        fgd_layer *layer = &net.layers[l];
        layer->act = j->act[l];
        layer->act_param = j->act_param[l];
        layer->use_bias = j->use_bias[l];
        layer->l1 = j->l1[l];
        layer->l2 = j->l2[l];
        layer->dropout = j->dropout[l];
        for (size_t i = 0; i < layer->fan_in; i++)
            for (size_t k = 0; k < layer->fan_out; k++)
                put(j->dtype, (uint8_t *)layer->w + (i * layer->ldw + k) * size, number(&s) / 8);
        for (size_t k = 0; k < layer->fan_out && layer->use_bias; k++)
            put(j->dtype, (uint8_t *)layer->b + k * size, number(&s) / 8);
    }
    if (fgd_net_set_optimizer(&net, (fgd_opt)j->opt, j->has_buffer) != FGD_OK) exit(2);
    net.params = j->params;
    const int stores = fgd_net_needs_gradient(&net, j->batch);
    if (fgd_net_reserve(&net, j->batch, n_threads, stores) != FGD_OK) exit(2);

    const size_t n_outputs = j->units[j->n_layers - 1];
    void *outputs = allocate(j->n_rows * n_outputs * size);
    memset(outputs, 0, j->n_rows * n_outputs * size);
    fgd_data data = j->data;
    data.outputs = j->keeps_outputs ? outputs : NULL;
    data.output_stride = n_outputs;
    fgd_progress progress;
    memset(&progress, 0, sizeof progress);
    size_t first = 0;
    for (size_t step = 0; step < j->n_steps && progress.outcome == FGD_TRAINED; step++) {
        const size_t before = progress.n_steps;
        const size_t left = j->n_rows - first;
        fgd_net_train(&net, &data, j->order, first, left, j->batch < left ? j->batch : left, 1,
                      &j->lrs[step], n_threads, 60, &progress);
        if (progress.outcome == FGD_TRAINED && progress.n_steps != before + 1)
            complain("a step is missing", isa);
        first += j->batch < left ? j->batch : left;
        if (first == j->n_rows) break;
    }
    for (size_t l = 0; l < j->n_layers; l++) {
        const fgd_layer *layer = &net.layers[l];
        for (size_t i = 0; i < layer->fan_in; i++) {
            const uint8_t *row = (const uint8_t *)layer->w + i * layer->ldw * size;
            for (size_t k = 0; k < layer->fan_out; k++)
                if (!is_finite(j->dtype, row, k)) complain("a weight is not finite", isa);
            keep(&r, row, layer->fan_out * size);
        }
        keep(&r, layer->b, layer->fan_out * size);
    }
    if (j->keeps_outputs) keep(&r, outputs, j->n_rows * n_outputs * size);
    data.outputs = outputs;
    void *losses = allocate(j->n_rows * size);
    fgd_net_infer(&net, &data, 0, j->n_rows, n_threads, losses, 0);
    keep(&r, outputs, j->n_rows * n_outputs * size);
    keep(&r, losses, j->n_rows * size);
    r.outcome = progress.outcome;
    r.loss_sum = progress.loss_sum;
    r.weight_sum = progress.weight_sum;
    free(losses);
    free(outputs);
    fgd_net_free(&net);
    return r;
}

static int is_same_number(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

/* NaN has no sign or payload that anybody promises. */
static void compare(const job *j, const result *plain, const result *other, const char *isa)
{
    if (plain->outcome != other->outcome) complain("another outcome", isa);
    if (!is_same_number(plain->loss_sum, other->loss_sum)) complain("another loss", isa);
    if (!is_same_number(plain->weight_sum, other->weight_sum)) complain("another weight", isa);
    const size_t n = plain->at / element_bytes[j->dtype];
    for (size_t i = 0; i < n; i++) {
        const double a = j->dtype == FGD_F32 ? ((const float *)plain->bytes)[i]
                                             : ((const double *)plain->bytes)[i];
        const double b = j->dtype == FGD_F32 ? ((const float *)other->bytes)[i]
                                             : ((const double *)other->bytes)[i];
        if (!is_same_number(a, b)) {
            printf("%s: number %zu of %zu is %.17g, and %.17g by scalar\n", isa, i, n, b, a);
            fflush(stdout);
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    source s = {bytes, bytes + size};
    job j;
    decode(&s, &j);
    result plain = run(&j, "scalar", 1);
    for (size_t i = 0; i < FGD_N_ISAS; i++) {
        if (fgd_isa_check(fgd_isa_names[i]) != FGD_ISA_OK) continue;
        result other = run(&j, fgd_isa_names[i], j.n_threads);
        compare(&j, &plain, &other, fgd_isa_names[i]);
        free(other.bytes);
    }
    free(plain.bytes);
    release(&j);
    return 0;
}

#ifdef FGD_REPLAY
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        static uint8_t bytes[1 << 20];
        FILE *file = fopen(argv[i], "rb");
        if (!file) return 2;
        const size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        /* A copy of the string's own length: reading past it is found as well. */
        uint8_t *copy = allocate(size);
        memcpy(copy, bytes, size);
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
    }
    printf("%d files\n", argc - 1);
    return 0;
}
#endif
