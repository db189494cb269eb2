/* Memory, data flow and mini-batch steps of a dense network.  Which threads run and for how
 * long is the caller's choice; what they compute does not depend on it. */
#define _GNU_SOURCE /* pthread_setname_np, posix_memalign, clock_gettime, madvise */
#include "fgd_net.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_common.h"
#include "fgd_cpu.h"
#include "fgd_kernel_table.h"
#include "fgd_system.h"
#include "fgd_team.h"

/* Layers with at most this many units use the 16-chain forward sum (part of the contract). */
enum { FGD_NARROW_UNITS = 4 };

/* Blocks of a product, see fgd_gemm_body.h.  A panel of B (kc rows of a tile's columns) stays in
 * a cache while all rows of A pass by, see fgd_blocking; a block of C (FGD_BLOCK_ROWS rows of
 * FGD_ROW_BYTES), and what of A and B belongs to it, in the second-level one.  The gradient of an
 * update waits in a thread's scratch, FGD_GROUP_ROWS at a time if there are as many in its block;
 * where the tile updates the weights itself, only while blocks of k are left.  Of few samples a block
 * has FGD_THIN_KC rows of W, or as many more, see fgd_blocking, as have FGD_THIN_BYTES. */
enum {
    FGD_BLOCK_ROWS = 240,
    FGD_ROW_BYTES = 1024,
    FGD_SCRATCH_ROWS = 192,
    FGD_GROUP_ROWS = 24,
    FGD_BY_UNITS_BYTES = 256 * 1024,
    FGD_THIN_KC = 16,
    FGD_THIN_BYTES = 256 * 1024,
    FGD_THIN_ROWS = 6, /* of an update after few samples, at a time */
    FGD_PIECE_SAMPLES = 256, /* of a prediction, at a time */
    FGD_THIN_WEIGHTS = 16 * 1024,
    FGD_ONLINE_STEPS = 4096, /* between two looks at the clock */
    FGD_ONLINE_BYTES = 384 * 1024,
    FGD_NARROW_BYTES = 512, /* a column of at most this is summed up sooner in shorter vectors */
    FGD_RESIDENT_BYTES = 256 * 1024, /* operands above this may have left a private cache */
    FGD_KEPT_BYTES = 512 * 1024,     /* so much of an operand stays in a private cache */
    FGD_NEAR_BYTES = 2 * 1024 * 1024, /* weights of at most this are asked for by tiles */
    FGD_FAR_BYTES = 4 * 1024 * 1024, /* rows of data below this are not asked for */
    FGD_ASKED_LINES = 8, /* rows of more are not asked for before they are gathered, */
    FGD_ASKED_COLUMNS = 48, /* nor those of more columns that lie across memory */
    FGD_SCRATCH_BYTES = FGD_SCRATCH_ROWS * FGD_ROW_BYTES
};

/* The loop over n in blocks of nearly equal size, none above most: first index and size. */
#define FOR_BLOCKS(i, size, n, most)                                                              \
    for (size_t i##_n = (n),                                                                      \
                i##_blocks = i##_n <= (most) ? i##_n > 0 : (i##_n + (most) - 1) / (most),         \
                i##_block = 0, i = 0, size;                                                       \
         i##_block < i##_blocks &&                                                                \
         (size = i##_blocks == 1 ? i##_n : i##_n / i##_blocks + (i##_block < i##_n % i##_blocks), \
         1);                                                                                      \
         i += size, i##_block++)

/* A rectangle of memory that will be needed soon: rows of row_bytes, stride bytes apart; and, at
 * two distances from it, 0 if not, rectangles of the same shape. */
typedef struct {
    const char *base;
    size_t rows, row_bytes, stride;
    ptrdiff_t second, third;
} fgd_area;

/* Areas that the micro-kernels of a block ask for, one column of lines after the other. */
typedef struct {
    fgd_area areas[3];
    size_t n_areas, area; /* the current one */
    size_t row, offset;   /* in it */
    size_t lines;         /* of all */
    size_t columns;       /* at once, where nothing is at the two distances */
} fgd_areas;

static void fgd_add_area(fgd_areas *areas, fgd_area area)
{
    areas->lines += area.rows * (area.row_bytes / FGD_ALIGN_BYTES + 1);
    areas->areas[areas->n_areas++] = area;
}

/* What the next micro-kernel, of k steps, asks for; at is any address that it reads itself. */
static fgd_ask fgd_next_ask(fgd_areas *areas, size_t k, const void *at)
{
    if (areas->area == areas->n_areas) return (fgd_ask){at, 0, 0, 0};
    const fgd_area *area = &areas->areas[areas->area];
    const size_t columns = area->second ? 1 : areas->columns;
    const fgd_ask ask = {area->base + areas->row * area->stride + areas->offset,
                         (ptrdiff_t)area->stride,
                         area->second  ? area->second
                         : columns > 1 ? FGD_ALIGN_BYTES
                                       : 0,
                         area->second  ? area->third
                         : columns > 2 ? 2 * FGD_ALIGN_BYTES
                                       : 0};
    areas->row += k / FGD_UKR_STEPS;
    if (areas->row >= area->rows) {
        areas->row = 0;
        areas->offset += columns * FGD_ALIGN_BYTES;
        if (areas->offset >= area->row_bytes) {
            areas->offset = 0;
            areas->area++;
        }
    }
    return ask;
}

/* Arithmetic of a step, in floating-point operations, below which a second thread costs more than it
 * brings everywhere; from measured_range times as much on it pays everywhere.  Where nothing is
 * measured, from unmeasured times as much on. */
static const double default_serial_flop = 1.5e6, measured_range = 64, unmeasured = 7;

/* Arithmetic of a step whose update alone takes some 0.1 s on one core.  Others can be abandoned
 * only until the update begins. */
static const double default_long_flop = 2e10;
static const double poll_seconds = 0.05;

typedef struct {
    fgd_net *net;
    const fgd_kernels *kernels;
    const fgd_data *data;
    const int64_t *order;
    size_t first, n_rows, batch_size, n_steps;
    const double *lrs;
    fgd_progress *progress;
    void *losses;
    int checks_input;
    int is_gradient;       /* the step ends with its stored gradient */
    double deadline;       /* on fgd_seconds' clock */
    double next_poll;
    uint64_t caller_mode; /* of floating point, which the poll needs */
    size_t clock_interval; /* steps between two looks at the clock */
    atomic_int diverged, stop, abandoned;
} fgd_run;

double fgd_seconds(void) { return 1e-9 * (double)fgd_nanoseconds(); }

size_t fgd_unit(fgd_dtype dtype)
{
    return FGD_ALIGN_BYTES / (dtype == FGD_F32 ? sizeof(float) : sizeof(double));
}

int fgd_act_consumes_z(int act)
{
    switch (act) {
    case FGD_ACT_GELU:
    case FGD_ACT_SILU:
    case FGD_ACT_MISH:
    case FGD_ACT_SOFTPLUS:
    case FGD_ACT_SOFTSIGN:
    case FGD_ACT_HARD_SIGMOID: return 1;
    default: return 0;
    }
}

static int fgd_loss_from_z(int loss)
{
    switch (loss) {
    case FGD_LOSS_LOG_LOSS_Z:
    case FGD_LOSS_CROSS_ENTROPY_LABELS_Z:
    case FGD_LOSS_CROSS_ENTROPY_ROWS_Z:
    case FGD_LOSS_POISSON_Z: return 1;
    default: return 0;
    }
}

double fgd_power(double base, uint64_t n)
{
    double power = 1;
    for (; n; n >>= 1, base *= base)
        if (n & 1) power *= base;
    return power;
}

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

/* Row strides that are a multiple of 512 bytes map all rows to few cache sets. */
static size_t padded_stride(fgd_dtype dtype, size_t n)
{
    const size_t unit = fgd_unit(dtype), padded = round_up(n, unit);
    return padded % (8 * unit) == 0 ? padded + unit : padded;
}

static size_t element_size(const fgd_net *net)
{
    return net->dtype == FGD_F32 ? sizeof(float) : sizeof(double);
}

/* Zeroed, aligned; NULL if the size overflows or memory is short. */
static void *allocate(size_t rows, size_t cols, size_t size)
{
    size_t n, bytes;
    if (__builtin_mul_overflow(rows, cols, &n) || __builtin_mul_overflow(n, size, &bytes) ||
        bytes > PTRDIFF_MAX - 2 * FGD_ALIGN_BYTES)
        return NULL;
    bytes = round_up(bytes ? bytes : 1, FGD_ALIGN_BYTES);
    const size_t huge_page = (size_t)2 << 20;
    const int is_large = bytes >= 2 * huge_page;
    void *block = fgd_allocate_aligned(is_large ? huge_page : FGD_ALIGN_BYTES, bytes);
    if (!block) return NULL;
#ifdef MADV_HUGEPAGE
    /* Columns of a large W touch a page a row: with small pages, each a miss of the TLB. */
    if (is_large) madvise(block, bytes, MADV_HUGEPAGE);
#endif
    return memset(block, 0, bytes);
}

static int64_t fgd_row(const fgd_batch *batch, size_t s)
{
    return batch->order ? batch->order[batch->first + s] : (int64_t)(batch->first + s);
}

/* Rows of the caller's data that a later step will gather, some of them asked for at each call while
 * this step computes: they come from anywhere in memory. */
typedef struct {
    const fgd_data *data;
    const fgd_matrix *y; /* NULL: labels, no target, or one of long rows */
    const int64_t *order;
    size_t at, end; /* positions in the order */
    size_t share;   /* rows a call */
    size_t calls;   /* so far */
} fgd_ahead;

/* Whether each feature of a row has a line of its own: rows lie across memory, as in a table of
 * columns. */
static int fgd_lies_across(const fgd_matrix *x)
{
    return x->col_stride >= FGD_ALIGN_BYTES || x->col_stride <= -FGD_ALIGN_BYTES;
}

static size_t fgd_magnitude(ptrdiff_t stride) { return (size_t)(stride < 0 ? -stride : stride); }

/* The most lines in which elements of a row begin. */
static size_t fgd_row_lines(const fgd_matrix *x)
{
    assert(x->cols > 0);
    if (fgd_lies_across(x)) return x->cols;
    const size_t distance = (x->cols - 1) * fgd_magnitude(x->col_stride);
    return (distance + FGD_ALIGN_BYTES - 1) / FGD_ALIGN_BYTES + 1;
}

/* Whether it is worth while to ask for a row.  The processor itself follows long ones while they are
 * gathered, several at a time. */
static int fgd_is_short(const fgd_matrix *x)
{
    return fgd_row_lines(x) <= (fgd_lies_across(x) ? FGD_ASKED_COLUMNS : FGD_ASKED_LINES);
}

/* Whether rows are asked for: short ones that come from anywhere in memory. */
static int fgd_asks_ahead(const fgd_matrix *x, const int64_t *order)
{
    if (!order || !fgd_is_short(x)) return 0;
    /* If no two rows share a line. */
    const size_t apart = x->rows * fgd_row_lines(x) * FGD_ALIGN_BYTES;
    const size_t extent =
        (x->rows - 1) * fgd_magnitude(x->row_stride) + (x->cols - 1) * fgd_magnitude(x->col_stride);
    return (apart < extent ? apart : extent) >= FGD_FAR_BYTES;
}

/* How many steps before its use a row is asked for: the last moment of the step before is too
 * late for a small batch, which is gathered sooner than memory answers. */
static size_t fgd_steps_ahead(const fgd_batch *batch)
{
    const size_t bytes = batch->n * fgd_row_lines(&batch->data->x) * FGD_ALIGN_BYTES;
    return bytes > (size_t)128 << 10 ? 1 : 2 + ((size_t)8 << 10) / bytes;
}

static void fgd_ask_row(const fgd_matrix *x, int64_t row)
{
    const uintptr_t start = (uintptr_t)x->data + (uintptr_t)(row * x->row_stride);
    if (fgd_lies_across(x)) {
        for (size_t f = 0; f < x->cols; f++)
            __builtin_prefetch((const void *)(start + f * (uintptr_t)x->col_stride), 0, 2);
        return;
    }
    const uintptr_t end = start + (x->cols - 1) * (uintptr_t)x->col_stride;
    const uintptr_t last = end > start ? end : start;
    uintptr_t line = (end > start ? start : end) / FGD_ALIGN_BYTES * FGD_ALIGN_BYTES;
    for (; line <= last; line += FGD_ALIGN_BYTES) __builtin_prefetch((const void *)line, 0, 2);
}

static void fgd_look_ahead(fgd_ahead *ahead)
{
    const fgd_data *data = ahead->data;
    const size_t left = ahead->end - ahead->at, n = left < ahead->share ? left : ahead->share;
    ahead->calls++;
    for (size_t i = 0; i < n; i++) {
        const int64_t row = ahead->order[ahead->at++];
        fgd_ask_row(&data->x, row);
        if (ahead->y) fgd_ask_row(ahead->y, row);
        if (data->labels) __builtin_prefetch(data->labels + row, 0, 2);
        if (data->weights) __builtin_prefetch(data->weights + row, 0, 2);
    }
}

/* Floating-point operations of passes (1 forward, 3 a whole step) over n samples. */
static double arithmetic(const fgd_net *net, size_t n, int passes)
{
    double weights = 0;
    for (size_t l = 0; l < net->n_layers; l++)
        weights += (double)net->layers[l].fan_in * (double)net->layers[l].fan_out;
    return 2 * passes * weights * (double)n;
}

int fgd_net_needs_gradient(const fgd_net *net, size_t n)
{
    return net->clip_norm > 0 || arithmetic(net, n, 3) > net->long_flop;
}

/* So many weights that they may have left a private cache. */
static int fgd_is_far(const fgd_layer *layer, size_t size)
{
    return layer->fan_in * layer->ldw * size > FGD_RESIDENT_BYTES;
}

/* So few weights that threads which share the layer keep them in private caches.  Those of larger layers
 * come from beyond, and a tile that asked for them would be held up. */
static int fgd_is_near(const fgd_layer *layer, size_t size)
{
    return layer->fan_in * layer->ldw * size <= FGD_NEAR_BYTES;
}

/* Whether a step on n samples reads a layer's weights once for delta of the layer below and for the
 * update: memory is what takes the time of both. */
static int fgd_is_read_once(const fgd_net *net, size_t l, size_t n)
{
    return l > 0 && n <= fgd_unit(net->dtype) && fgd_is_far(&net->layers[l], element_size(net));
}

static int fgd_has_penalty(const fgd_layer *layer) { return layer->l1 != 0 || layer->l2 != 0; }

/* Whether plain SGD on n samples updates a layer's weights as they lie, row by row, by streamed_update:
 * they come from beyond a private cache.  Not where gradients have penalties or a factor, or are stored. */
static int fgd_is_streamed(const fgd_net *net, size_t l, size_t n)
{
    const fgd_layer *layer = &net->layers[l];
    if (net->opt != FGD_OPT_SGD || n > fgd_unit(net->dtype) ||
        !fgd_is_far(layer, element_size(net)) || fgd_has_penalty(layer))
        return 0;
    if (net->has_own && (layer->own_w.is_frozen || layer->own_w.params.scale != 1)) return 0;
    return !fgd_net_needs_gradient(net, n);
}

static int fgd_reads_any_once(const fgd_net *net, size_t n)
{
    for (size_t l = 1; l < net->n_layers; l++)
        if (fgd_is_read_once(net, l, n)) return 1;
    return 0;
}

size_t fgd_net_rows_read_once(const fgd_net *net, size_t l, size_t n)
{
    return fgd_is_read_once(net, l, n) ? fgd_unit(net->dtype) : 0;
}

size_t fgd_net_block_rows(const fgd_net *net, size_t l, size_t n, int is_gradient)
{
    const fgd_layer *layer = &net->layers[l];
    if (is_gradient) return FGD_BLOCK_ROWS;
    if (n > fgd_unit(net->dtype)) return FGD_SCRATCH_ROWS;
    if (fgd_is_streamed(net, l, n)) return fgd_unit(net->dtype);
    /* After few samples rows of W are written as they lie, long ones a few at a time. */
    const size_t size = element_size(net);
    if (fgd_is_far(layer, size) && layer->ldw * size >= FGD_ROW_BYTES) return FGD_THIN_ROWS;
    return fgd_is_read_once(net, l, n) ? fgd_unit(net->dtype) : FGD_GROUP_ROWS;
}

static int fgd_looks_around(const fgd_net *net, size_t n)
{
    return arithmetic(net, n, 3) > net->long_flop / 10;
}

/* A thread in the first phase of a step, up to delta of every layer, or in the second, where the
 * gradients are stored. */
typedef struct {
    fgd_run *run;
    const fgd_worker *worker;
    enum { FGD_IN_COLUMNS = 1, FGD_IN_ROWS = 2 } phase;
} fgd_look;

/* Whether the step is to be abandoned: the calling thread asks, the others learn of it.  All
 * leave at the barrier that ends the phase: one that is late there must not take the second
 * phase's answer for the first one's. */
static int fgd_is_abandoned(const fgd_look *look)
{
    fgd_run *run = look->run;
    const fgd_poll *poll = &run->net->poll;
    const int abandoned = atomic_load_explicit(&run->abandoned, memory_order_relaxed);
    if (abandoned) return abandoned; /* asked once: a second answer would hide the first */
    if (look->worker->id == 0 && poll->is_interrupted && fgd_seconds() > run->next_poll) {
        fgd_fp_leave(run->caller_mode);
        if (poll->is_interrupted(poll->context))
            atomic_store_explicit(&run->abandoned, (int)look->phase, memory_order_relaxed);
        fgd_fp_enter();
        run->next_poll = fgd_seconds() + poll_seconds;
    }
    return atomic_load_explicit(&run->abandoned, memory_order_relaxed);
}

/* Whether a layer's weights are so many that threads had better divide it by its units, for all
 * samples, instead of by samples: what one writes of W then stays in its own cache, at the price
 * of a barrier.  (Of weights that are read once, too many for that cache, it writes rows.) */
static int is_large(const fgd_layer *layer, size_t size)
{
    return layer->fan_in * layer->padded * size >= FGD_BY_UNITS_BYTES;
}

/* Where the share of thread id in n equal things begins; divisions add up in a small step. */
static size_t fgd_share(size_t n, size_t id, size_t workers)
{
    return workers == 1 ? n * id : n * id / workers;
}

/* Scratch for the steps of template/online.h: the weights twice and two samples.  0: not for this
 * network. */
static size_t fgd_online_bytes(const fgd_net *net)
{
    const fgd_layer *layer = &net->layers[0];
    if (net->n_layers != 1 || layer->fan_out != 1) return 0;
    const size_t bytes = 4 * (layer->fan_in + 16) * element_size(net);
    return bytes <= FGD_ONLINE_BYTES ? bytes : 0;
}

int fgd_net_is_online(const fgd_net *net, const fgd_data *data, size_t n)
{
    const fgd_layer *layer = &net->layers[0];
    const fgd_update_params *p = &net->params;
    return n == 1 && fgd_online_bytes(net) > 0 && layer->act != FGD_ACT_SOFTMAX &&
           net->opt == FGD_OPT_SGD && p->weight_decay == 0 && p->clip_value == 0 &&
           net->clip_norm == 0 && net->loss_scale == 1 && net->grad_scale == 1 &&
           net->account != FGD_ACCOUNT_SUM && !net->has_own && !fgd_has_penalty(layer) &&
           layer->dropout == 0 && data->y.data && !data->weights && !data->outputs;
}

/* A column that is summed up sooner in shorter vectors. */
static int fgd_is_narrow(const fgd_net *net, const fgd_kernels *kernels)
{
    return kernels->narrow &&
           round_up(net->layers[0].fan_in, 16) * element_size(net) <= FGD_NARROW_BYTES;
}

/* Few samples, of a vector of unit, in a layer of many weights: these are read as they lie. */
static int fgd_is_thin(const fgd_layer *layer, size_t unit, size_t n)
{
    /* It saves lanes without a sample; of nearly full vectors, the loads of tiles of one vector, which
     * pays in larger layers and where most panels are wide. */
    return n <= unit && (n <= unit / 4 * 3 || layer->padded >= 8 * unit) &&
           layer->fan_in * layer->padded * (4 * (unit - n) + 1) >= unit * FGD_THIN_WEIGHTS;
}

/* So few that turning the weights for their delta pays. */
static int fgd_is_turned(size_t unit, size_t n) { return n <= unit / 2; }

int fgd_net_path(const fgd_net *net, const fgd_data *data, size_t n)
{
    enum { ONLINE = 1, ONLINE_NARROW = 2, READ_ONCE = 4, TURNED = 8 };
    enum { THIN = 16, NOT_THIN = 32, STREAMED = 64, NOT_STREAMED = 128 }; /* of some layer each */
    const size_t unit = fgd_unit(net->dtype);
    if (fgd_net_is_online(net, data, n))
        return ONLINE | (fgd_is_narrow(net, fgd_active) ? ONLINE_NARROW : 0);
    int path = fgd_reads_any_once(net, n) ? READ_ONCE : 0;
    for (size_t l = 0; l < net->n_layers; l++) {
        const fgd_layer *layer = &net->layers[l];
        path |= fgd_is_streamed(net, l, n) ? STREAMED : NOT_STREAMED;
        path |= fgd_is_thin(layer, unit, n) ? THIN : NOT_THIN;
        if (!fgd_is_thin(layer, unit, n)) continue;
        /* Of the first layer, and of less than a vector of rows, nothing is turned. */
        if (l > 0 && layer->fan_in >= unit && fgd_is_turned(unit, n)) path |= TURNED;
    }
    return path;
}

/* The sum of 16 chains in the contract's tree. */
static double fgd_tree16(double *chain)
{
    for (int h = 8; h > 0; h /= 2)
        for (int r = 0; r < h; r++) chain[r] += chain[r + h];
    return chain[0];
}

static double fgd_penalty_of_rows(const fgd_net *net, const fgd_kernels *kernels)
{
    double sum = 0;
    for (size_t l = 0; l < net->n_layers; l++)
        if (fgd_has_penalty(&net->layers[l]))
            sum += kernels->f64.sum16(net->layers[l].fan_in, net->layers[l].penalty_rows, NULL);
    return sum;
}

static void add_loss(const fgd_net *net, size_t n, double loss_sum, double weight_sum,
                     double penalty, fgd_progress *progress)
{
    loss_sum *= net->loss_scale;
    if (net->account == FGD_ACCOUNT_SKLEARN) {
        progress->last_loss = (loss_sum + penalty) / weight_sum;
        progress->loss_sum += progress->last_loss * (double)n;
        progress->weight_sum += (double)n;
        return;
    }
    if (net->account == FGD_ACCOUNT_SUM) {
        loss_sum += penalty;
        progress->last_loss = loss_sum;
    } else {
        loss_sum += penalty * weight_sum;
        progress->last_loss = weight_sum != 0 ? loss_sum / weight_sum : penalty;
    }
    progress->loss_sum += loss_sum;
    progress->weight_sum += weight_sum;
}

/* Whether a step may go on from these sums. */
static int fgd_is_sound(const fgd_net *net, double loss_sum, double weight_sum)
{
    return __builtin_isfinite(loss_sum) && (net->account != FGD_ACCOUNT_SKLEARN || weight_sum != 0);
}

/* Sets what of the parameters depends on how many steps have been. */
static void fgd_count_step(const fgd_net *net, uint64_t step, double lr_decay, fgd_update_params *p)
{
    p->step = step;
    if (lr_decay > 0) p->lr /= 1 + (double)step * lr_decay;
    if (step == 0) p->dampening = 0;
    if (net->opt == FGD_OPT_ADAM || net->opt == FGD_OPT_ADAMW) {
        p->bias1 = 1 - fgd_power(p->beta1, step + 1);
        p->bias2 = 1 - fgd_power(p->beta2, step + 1);
    }
}

static fgd_update_params step_params(const fgd_net *net, uint64_t step, double lr,
                                     double weight_sum)
{
    fgd_update_params p = net->params;
    p.lr = lr;
    p.scale = p.norm_scale = 1;
    p.l1 = p.l2 = 0;
    p.penalty_share = net->account == FGD_ACCOUNT_SKLEARN ? 1 / weight_sum : 1;
    fgd_count_step(net, step, net->lr_decay, &p);
    return p;
}

/* The parameters of a step, which are without penalties, for the weights of a layer. */
static fgd_update_params fgd_weight_params(const fgd_layer *layer, const fgd_update_params *step)
{
    fgd_update_params p = *step;
    p.l1 = layer->l1 * p.penalty_share;
    p.l2 = layer->l2 * p.penalty_share;
    return p;
}

/* The parameters of a step for one array: the step's, or its own, which are then put into room. */
static const fgd_update_params *fgd_array_params(const fgd_net *net, const fgd_own_update *own,
                                                 const fgd_update_params *p,
                                                 fgd_update_params *room)
{
    if (!net->has_own) return p;
    *room = own->params;
    room->scale *= p->scale;
    room->l1 = p->l1;
    room->l2 = p->l2;
    room->penalty_share = p->penalty_share;
    room->clip_value = p->clip_value;
    room->norm_scale = p->norm_scale;
    fgd_count_step(net, p->step + (uint64_t)own->ahead, own->lr_decay, room);
    return room;
}

/* Whether SGD with these can update weights within the tile of their gradient: see sgd_tile in
 * template/gemm.h. */
static int fgd_is_in_tile(const fgd_update_params *p)
{
    return p->scale == 1 && p->l1 == 0 && p->l2 == 0 && p->norm_scale == 1;
}

#define REAL float
#define TYPE(name) fgd_s##name
#define TABLE f32
#include "fgd_gemm_body.h"
#include "fgd_net_body.h"
#undef REAL
#undef TYPE
#undef TABLE
#define REAL double
#define TYPE(name) fgd_d##name
#define TABLE f64
#include "fgd_gemm_body.h"
#include "fgd_net_body.h"
#undef REAL
#undef TYPE
#undef TABLE

/* Calls the float or double form of a function. */
#define BY_TYPE(type, name, ...) \
    ((type) == FGD_F32 ? fgd_s##name(__VA_ARGS__) : fgd_d##name(__VA_ARGS__))

void fgd_free_block(void *block) { fgd_free_aligned(block); }

static void release(void **block)
{
    fgd_free_aligned(*block);
    *block = NULL;
}

static void free_layer_work(fgd_layer *layer)
{
    release(&layer->z);
    release(&layer->a);
    release(&layer->delta);
    release(&layer->dropped);
    release(&layer->mask);
    release(&layer->delta_t);
}

static void free_work(fgd_net *net)
{
    for (size_t l = 0; l < net->n_layers; l++) free_layer_work(&net->layers[l]);
    for (int i = 0; i < net->n_threads; i++) release(&net->input[i]);
    release(&net->target);
    release(&net->coef);
    release(&net->weight);
    release(&net->sample_loss);
    net->capacity = net->ldb = 0;
}

static void free_states(fgd_layer *layer)
{
    release(&layer->w_s1);
    release(&layer->w_s2);
    release(&layer->b_s1);
    release(&layer->b_s2);
}

void fgd_net_free(fgd_net *net)
{
    if (net->layers) {
        free_work(net);
        for (size_t l = 0; l < net->n_layers; l++) {
            fgd_layer *layer = &net->layers[l];
            free_states(layer);
            release(&layer->w);
            release(&layer->b);
            release(&layer->dw);
            release(&layer->db);
            fgd_free_aligned(layer->penalty_rows);
            fgd_free_aligned(layer->norm_rows);
        }
    }
    for (int i = 0; i < net->n_threads; i++) fgd_free_aligned(net->scratch[i]);
    free(net->scratch);
    free(net->input);
    free(net->layers);
    memset(net, 0, sizeof *net);
}

fgd_status fgd_net_init(fgd_net *net, fgd_dtype dtype, size_t n_inputs, size_t n_layers,
                        const size_t *units)
{
    memset(net, 0, sizeof *net);
    net->dtype = dtype;
    net->loss_scale = net->grad_scale = 1;
    net->n_inputs = n_inputs;
    net->serial_flop = default_serial_flop;
    net->long_flop = default_long_flop;
    net->layers = calloc(n_layers, sizeof *net->layers);
    if (!net->layers) return FGD_NO_MEMORY;
    net->n_layers = n_layers;
    for (size_t l = 0; l < n_layers; l++) {
        fgd_layer *layer = &net->layers[l];
        layer->fan_in = l ? units[l - 1] : n_inputs;
        layer->fan_out = units[l];
        layer->padded = round_up(units[l], fgd_unit(dtype));
        layer->ldw = padded_stride(dtype, units[l]);
        layer->use_bias = 1;
        layer->w = allocate(layer->fan_in, layer->ldw, element_size(net));
        if (layer->w) layer->b = allocate(1, layer->padded, element_size(net));
        if (layer->b) layer->penalty_rows = allocate(layer->fan_in, 1, sizeof(double));
        if (!layer->penalty_rows) {
            fgd_net_free(net);
            return FGD_NO_MEMORY;
        }
    }
    return FGD_OK;
}

fgd_status fgd_net_set_optimizer(fgd_net *net, fgd_opt opt, int has_buffer)
{
    const int n_states = opt == FGD_OPT_SGD                            ? 0
                         : opt == FGD_OPT_ADAM || opt == FGD_OPT_ADAMW ? 2
                         : opt == FGD_OPT_RMSPROP                      ? 1 + has_buffer
                                                                       : 1;
    const size_t size = element_size(net);
    fgd_layer *states = calloc(net->n_layers, sizeof *states);
    if (!states) return FGD_NO_MEMORY;
    int complete = 1;
    for (size_t l = 0; l < net->n_layers && complete; l++) {
        const fgd_layer *layer = &net->layers[l];
        if (n_states > 0) {
            states[l].w_s1 = allocate(layer->fan_in, layer->ldw, size);
            states[l].b_s1 = allocate(1, layer->padded, size);
            complete = states[l].w_s1 && states[l].b_s1;
        }
        if (n_states > 1) {
            states[l].w_s2 = allocate(layer->fan_in, layer->ldw, size);
            states[l].b_s2 = allocate(1, layer->padded, size);
            complete = complete && states[l].w_s2 && states[l].b_s2;
        }
    }
    for (size_t l = 0; l < net->n_layers; l++) {
        if (complete) {
            fgd_layer *layer = &net->layers[l];
            free_states(layer);
            layer->w_s1 = states[l].w_s1;
            layer->w_s2 = states[l].w_s2;
            layer->b_s1 = states[l].b_s1;
            layer->b_s2 = states[l].b_s2;
        } else {
            free_states(&states[l]);
        }
    }
    free(states);
    if (!complete) return FGD_NO_MEMORY;
    net->opt = opt;
    return FGD_OK;
}

/* Allocates *block unless it is there already. */
static int ensure(void **block, int wanted, size_t rows, size_t cols, size_t size)
{
    if (!wanted || *block) return 1;
    *block = allocate(rows, cols, size);
    return *block != NULL;
}

/* Grows the lists of what each thread has, and gives every thread its scratch. */
static int reserve_threads(fgd_net *net, int n_threads, size_t least_scratch)
{
    if (n_threads <= net->n_threads) return 1;
    void **scratch = realloc(net->scratch, (size_t)n_threads * sizeof *scratch);
    if (scratch) net->scratch = scratch;
    void **input = realloc(net->input, (size_t)n_threads * sizeof *input);
    if (input) net->input = input;
    if (!scratch || !input) return 0;
    const size_t bytes = least_scratch > FGD_SCRATCH_BYTES ? least_scratch : FGD_SCRATCH_BYTES;
    while (net->n_threads < n_threads) {
        void *block = allocate(bytes, 1, 1);
        if (!block) return 0;
        net->input[net->n_threads] = NULL;
        net->scratch[net->n_threads++] = block;
    }
    return 1;
}

fgd_status fgd_net_reserve(fgd_net *net, size_t n, int n_threads, int store_gradient)
{
    const size_t size = element_size(net), unit = fgd_unit(net->dtype);
    if (n > SIZE_MAX / 2) return FGD_NO_MEMORY;
    if (n > net->capacity) free_work(net);
    const size_t capacity = n > net->capacity ? round_up(n, unit) : net->capacity;
    const size_t ldb = padded_stride(net->dtype, capacity);
    int ok = 1;
    size_t widest = 0;
    for (size_t l = 0; l < net->n_layers && ok; l++) {
        fgd_layer *layer = &net->layers[l];
        const int is_last = l + 1 == net->n_layers;
        const int drops = layer->dropout > 0, is_new = !layer->a;
        if (layer->ldw > widest) widest = layer->ldw;
        ok = ensure(&layer->z, is_last || fgd_act_consumes_z(layer->act), layer->padded, ldb,
                    size) &&
             ensure(&layer->a, 1, layer->padded, ldb, size) &&
             ensure(&layer->delta, 1, layer->padded, ldb, size) &&
             ensure(&layer->delta_t, 1, capacity, layer->ldw, size) &&
             ensure(&layer->dropped, drops, layer->padded, ldb, size) &&
             ensure(&layer->mask, drops, layer->padded, ldb, size) &&
             ensure(&layer->dw, store_gradient, layer->fan_in, layer->ldw, size) &&
             ensure(&layer->db, 1, 1, layer->padded, size) &&
             ensure((void **)&layer->norm_rows, store_gradient && net->clip_norm > 0, layer->fan_in,
                    1, sizeof(double));
        if (!drops) {
            release(&layer->dropped);
            release(&layer->mask);
        }
        /* The first touch of much memory takes its time. */
        if (is_new && net->poll.is_interrupted)
            ok = ok && !net->poll.is_interrupted(net->poll.context);
    }
    const size_t units = net->layers[net->n_layers - 1].padded;
    const size_t wide = widest * unit * size, online = fgd_online_bytes(net);
    ok = ok && ensure(&net->target, 1, units, ldb, size) && ensure(&net->coef, 1, 1, ldb, size) &&
         ensure(&net->weight, 1, 1, ldb, size) && ensure(&net->sample_loss, 1, 1, ldb, size) &&
         reserve_threads(net, n_threads, wide > online ? wide : online);
    const int by_units = is_large(&net->layers[0], size);
    for (int i = 0; i < n_threads && ok; i++)
        ok = ensure(&net->input[i], i == 0 || by_units, round_up(net->n_inputs, unit), ldb, size);
    if (!ok) {
        free_work(net);
        return FGD_NO_MEMORY;
    }
    net->capacity = capacity;
    net->ldb = ldb;
    return FGD_OK;
}

static void run_region(fgd_run *run, fgd_region region, int n_threads)
{
    run->caller_mode = fgd_fp_enter();
    fgd_team_run(n_threads, region, run);
    fgd_fp_leave(run->caller_mode);
}

/* The next n_steps of a run, or fewer if it ends before; returns how many they were. */
static size_t train_steps(fgd_run *run, size_t n_steps, int n_threads)
{
    fgd_net *net = run->net;
    const size_t before = run->progress->n_steps;
    run->n_steps = n_steps;
    run_region(run, net->dtype == FGD_F32 ? fgd_strain_region : fgd_dtrain_region, n_threads);
    const size_t done = run->progress->n_steps - before;
    const size_t rows = done * run->batch_size < run->n_rows ? done * run->batch_size : run->n_rows;
    /* Others may look at it meanwhile: fgd_net_steps. */
    __atomic_store_n(&net->step, net->step + done, __ATOMIC_RELAXED);
    run->first += rows;
    run->n_rows -= rows;
    run->lrs += done;
    return done;
}

void fgd_net_train(fgd_net *net, const fgd_data *data, const int64_t *order, size_t first,
                   size_t n_rows, size_t batch_size, size_t n_steps, const double *lrs,
                   int n_threads, double seconds, fgd_progress *progress)
{
    assert(batch_size <= net->capacity && n_threads <= net->n_threads);
    fgd_run run = {.net = net,
                   .kernels = fgd_active,
                   .data = data,
                   .order = order,
                   .first = first,
                   .n_rows = n_rows,
                   .batch_size = batch_size,
                   .lrs = lrs,
                   .progress = progress,
                   .deadline = fgd_seconds() + seconds,
                   .next_poll = fgd_seconds() + poll_seconds};
    /* The clock costs some 25 ns, a small step a microsecond. */
    const double flop = arithmetic(net, batch_size, 3);
    run.clock_interval = flop < 1e6 ? 16 : 1;
    progress->outcome = FGD_TRAINED;
    if (n_threads == 1 || flop < net->serial_flop || flop >= measured_range * net->serial_flop) {
        train_steps(&run, n_steps, flop < net->serial_flop ? 1 : n_threads);
        return;
    }
    const int guess = flop >= unmeasured * net->serial_flop;
    double now = fgd_seconds();
    for (size_t left = n_steps; left > 0 && progress->outcome == FGD_TRAINED;) {
        const fgd_piece piece = fgd_plan_piece(&net->pace, batch_size, n_threads, guess, left);
        const size_t done = train_steps(&run, piece.n_steps, piece.n_threads);
        const double end = fgd_seconds();
        fgd_note_piece(&net->pace, done, end - now);
        now = end;
        left -= done;
        if (now > run.deadline) break;
    }
}

void fgd_net_find_gradient(fgd_net *net, const fgd_data *data, size_t n, int n_threads,
                           fgd_progress *progress)
{
    assert(n <= net->capacity && n_threads <= net->n_threads);
    const double lr = 0;
    fgd_run run = {.net = net,
                   .kernels = fgd_active,
                   .data = data,
                   .n_rows = n,
                   .batch_size = n,
                   .n_steps = 1,
                   .lrs = &lr,
                   .progress = progress,
                   .is_gradient = 1,
                   .next_poll = fgd_seconds() + poll_seconds};
    progress->outcome = FGD_TRAINED;
    run_region(&run, net->dtype == FGD_F32 ? fgd_strain_region : fgd_dtrain_region,
               arithmetic(net, n, 3) < unmeasured * net->serial_flop ? 1 : n_threads);
}

int fgd_net_infer(fgd_net *net, const fgd_data *data, size_t first, size_t n, int n_threads,
                  void *losses, int checks_input)
{
    assert(net->capacity > 0 && n_threads <= net->n_threads);
    fgd_run run = {.net = net,
                   .kernels = fgd_active,
                   .data = data,
                   .first = first,
                   .n_rows = n,
                   .losses = losses,
                   .checks_input = checks_input,
                   .next_poll = fgd_seconds() + poll_seconds};
    run_region(&run, net->dtype == FGD_F32 ? fgd_sinfer_region : fgd_dinfer_region,
               arithmetic(net, n, 1) < unmeasured * net->serial_flop ? 1 : n_threads);
    return !atomic_load_explicit(&run.diverged, memory_order_relaxed) &&
           !atomic_load_explicit(&run.abandoned, memory_order_relaxed);
}

int fgd_net_operate(fgd_net *net, const fgd_batch *batch, fgd_op op, size_t layer)
{
    fgd_run run = {.net = net, .next_poll = fgd_seconds() + poll_seconds};
    run.caller_mode = fgd_fp_enter();
    BY_TYPE(net->dtype, operate, &run, batch, op, layer);
    fgd_fp_leave(run.caller_mode);
    return !atomic_load_explicit(&run.abandoned, memory_order_relaxed);
}

int fgd_net_gradient(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                     void *dw, void *db)
{
    fgd_run run = {.net = net, .next_poll = fgd_seconds() + poll_seconds};
    run.caller_mode = fgd_fp_enter();
    BY_TYPE(net->dtype, gradient_of, &run, batch, layer, r0, r1, dw, db);
    fgd_fp_leave(run.caller_mode);
    return !atomic_load_explicit(&run.abandoned, memory_order_relaxed);
}

int fgd_net_update(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                   const fgd_update_params *params)
{
    const uint64_t mode = fgd_fp_enter();
    const int diverged = BY_TYPE(net->dtype, update, net, batch, layer, r0, r1, params);
    fgd_fp_leave(mode);
    return diverged;
}

int fgd_net_apply_gradient(fgd_net *net, size_t layer, size_t r0, size_t r1,
                           const fgd_update_params *params)
{
    const uint64_t mode = fgd_fp_enter();
    const int diverged = BY_TYPE(net->dtype, apply, net, layer, r0, r1, params);
    fgd_fp_leave(mode);
    return diverged;
}

double fgd_net_norm_scale(fgd_net *net)
{
    const uint64_t mode = fgd_fp_enter();
    const double scale = BY_TYPE(net->dtype, global_norm_scale, net);
    fgd_fp_leave(mode);
    return scale;
}

void fgd_net_put(fgd_net *net, fgd_buffer buffer, size_t layer, const fgd_matrix *matrix)
{
    assert(matrix->rows <= net->capacity);
    const uint64_t mode = fgd_fp_enter();
    BY_TYPE(net->dtype, put, net, buffer, layer, matrix);
    fgd_fp_leave(mode);
}

void fgd_net_look_at(const fgd_net *net, fgd_buffer buffer, size_t layer, size_t n,
                     fgd_matrix *matrix)
{
    BY_TYPE(net->dtype, look_at, net, buffer, layer, n, matrix);
}

void fgd_net_get(const fgd_net *net, fgd_buffer buffer, size_t layer, size_t n, void *out)
{
    BY_TYPE(net->dtype, get, net, buffer, layer, n, out);
}

void fgd_activate(fgd_dtype dtype, fgd_act act, double param, size_t n, const void *z, void *a)
{
    const uint64_t mode = fgd_fp_enter();
    BY_TYPE(dtype, activate, act, param, n, z, a);
    fgd_fp_leave(mode);
}

void fgd_activate_grad(fgd_dtype dtype, fgd_act act, double param, size_t n, const void *x, void *d)
{
    const uint64_t mode = fgd_fp_enter();
    BY_TYPE(dtype, activate_grad, act, param, n, x, d);
    fgd_fp_leave(mode);
}

uint64_t fgd_net_steps(const fgd_net *net) { return __atomic_load_n(&net->step, __ATOMIC_RELAXED); }

int fgd_all_finite(fgd_dtype dtype, size_t n, const void *x)
{
    return dtype == FGD_F32 ? fgd_active->f32.all_finite(n, x) : fgd_active->f64.all_finite(n, x);
}

double fgd_weighted_sum(fgd_dtype dtype, size_t n, const void *x, const void *weights)
{
    const uint64_t mode = fgd_fp_enter();
    const double sum = dtype == FGD_F32 ? fgd_active->f32.sum16(n, x, weights)
                                        : fgd_active->f64.sum16(n, x, weights);
    fgd_fp_leave(mode);
    return sum;
}

double fgd_fma_burn(fgd_dtype dtype, size_t rounds)
{
    double lanes;
    if (dtype == FGD_F32) {
        float sink[16];
        fgd_active->f32.fma_burn(rounds, sink);
        lanes = (double)fgd_active->f32.lanes;
    } else {
        double sink[8];
        fgd_active->f64.fma_burn(rounds, sink);
        lanes = (double)fgd_active->f64.lanes;
    }
    return 2 * 48 * lanes * (double)rounds;
}

void fgd_net_add_loss(const fgd_net *net, size_t n, double loss_sum, double weight_sum,
                      double penalty, fgd_progress *progress)
{
    const uint64_t mode = fgd_fp_enter();
    add_loss(net, n, loss_sum, weight_sum, penalty, progress);
    fgd_fp_leave(mode);
}

fgd_update_params fgd_step_params(const fgd_net *net, uint64_t step, double lr, double weight_sum)
{
    const uint64_t mode = fgd_fp_enter();
    const fgd_update_params params = step_params(net, step, lr, weight_sum);
    fgd_fp_leave(mode);
    return params;
}

double fgd_mean_loss(double loss_sum, double weight_sum)
{
    if (weight_sum == 0) return 0;
    const uint64_t mode = fgd_fp_enter();
    /* volatile: a compiler does not know that the mode matters to a division. */
    const volatile double sum = loss_sum;
    const volatile double mean = sum / weight_sum;
    fgd_fp_leave(mode);
    return mean;
}

void fgd_net_batch_loss(const fgd_net *net, const fgd_batch *batch, double *loss_sum,
                        double *weight_sum)
{
    const uint64_t mode = fgd_fp_enter();
    if (net->dtype == FGD_F32)
        fgd_sbatch_loss(net, &fgd_active->f32, batch, loss_sum, weight_sum);
    else
        fgd_dbatch_loss(net, &fgd_active->f64, batch, loss_sum, weight_sum);
    fgd_fp_leave(mode);
}

double fgd_net_penalty(const fgd_net *net)
{
    const uint64_t mode = fgd_fp_enter();
    for (size_t l = 0; l < net->n_layers; l++) {
        const fgd_layer *layer = &net->layers[l];
        if (!fgd_has_penalty(layer)) continue;
        if (net->dtype == FGD_F32)
            fgd_spenalty_rows(net, &fgd_active->f32, l, 0, layer->fan_in);
        else
            fgd_dpenalty_rows(net, &fgd_active->f64, l, 0, layer->fan_in);
    }
    const double sum = fgd_penalty_of_rows(net, fgd_active);
    fgd_fp_leave(mode);
    return sum;
}

/* Philox4x32-10, Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011). */
static void philox(uint32_t counter[4], uint32_t k0, uint32_t k1)
{
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * counter[0];
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * counter[2];
        const uint32_t c1 = counter[1], c3 = counter[3];
        counter[0] = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        counter[1] = (uint32_t)p1;
        counter[2] = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        counter[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

size_t fgd_permutation(int64_t *order, size_t n, uint64_t seed, uint64_t epoch, size_t done)
{
    enum {
        AHEAD = 32,                /* partners drawn, and asked for, before they are swapped */
        MOST_SWAPS = 8192 * AHEAD, /* some 25 ms where every partner is far away */
    };
    size_t partner[AHEAD];
    for (size_t i = 0; done == 0 && i < n; i++) order[i] = (int64_t)i;
    for (size_t t0 = done; t0 + 1 < n; t0 += AHEAD) {
        if (t0 - done == MOST_SWAPS) return t0;
        const size_t count = n - 1 - t0 < AHEAD ? n - 1 - t0 : AHEAD;
        for (size_t t = 0; t < count; t += 2) {
            const uint64_t block = (t0 + t) / 2;
            /* "SHFS" keeps this stream apart from dropout's. */
            uint32_t words[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)epoch,
                                 0x53484653u};
            philox(words, (uint32_t)seed, (uint32_t)(seed >> 32));
            for (size_t h = 0; h < 2; h++) {
                const uint64_t random = words[2 * h] | (uint64_t)words[2 * h + 1] << 32;
                /* Past the last pair n - (t0 + t + h) may be 0, and the draw is not used. */
                const size_t j = (size_t)(((unsigned __int128)random * (n - t0 - t - h)) >> 64);
                partner[t + h] = j;
                __builtin_prefetch(order + j, 1);
            }
        }
        for (size_t t = 0; t < count; t++) {
            const size_t i = n - 1 - t0 - t, j = partner[t];
            const int64_t swapped = order[i];
            order[i] = order[j];
            order[j] = swapped;
        }
    }
    return n;
}
