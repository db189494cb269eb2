/* Which rows training asks for ahead: all lines of those that a later step gathers, some steps before
 * it, each once, and no others.  It changes no number, so that nothing else would see a mistake.
 *   cc -O1 -pthread -ffp-contract=off -Icsrc tests/c/test_ahead.c csrc/fgd_[cdprt]*.c csrc/kernels_*.c -lm */
#define _GNU_SOURCE /* as fgd_net.c */
#include <stdint.h>

static void note_line(const void *at);
#define FIRST_OF(first, ...) (first)
#define __builtin_prefetch(...) note_line(FIRST_OF(__VA_ARGS__, 0))
#include "../../csrc/fgd_net.c"
#undef __builtin_prefetch

#include <stdio.h>

#include "fgd_dispatch.h"
#include "weights.h"

enum { LINE = FGD_ALIGN_BYTES, MOST_AHEAD = 50 };

/* Memory of data, and what is asked of each of its lines. */
typedef struct {
    char *base;
    size_t n_lines;
    atomic_int *times;    /* it has been asked for */
    atomic_size_t *steps; /* that were complete when it last was */
} area;

enum { OF_X, OF_Y, OF_LABELS, OF_WEIGHTS, N_AREAS };
static area areas[N_AREAS];
static fgd_progress progress;
static const char *what = "";

static void note_line(const void *at)
{
    for (area *a = areas; a < areas + N_AREAS; a++) {
        const uintptr_t offset = (uintptr_t)at - (uintptr_t)a->base;
        if (offset >= a->n_lines * LINE) continue;
        atomic_fetch_add(&a->times[offset / LINE], 1);
        atomic_store(&a->steps[offset / LINE], progress.n_steps);
    }
}

static void expect(int ok, const char *property, size_t step)
{
    if (ok) return;
    printf("%s, step %zu: %s FAILED\n", what, step, property);
    exit(1);
}

static area make_area(size_t bytes)
{
    const size_t n_lines = bytes / LINE + 2;
    area a = {NULL, n_lines, calloc(n_lines, sizeof *a.times), calloc(n_lines, sizeof *a.steps)};
    void *base = NULL;
    if (!a.times || !a.steps || posix_memalign(&base, 4096, n_lines * LINE)) abort();
    memset(base, 0, n_lines * LINE);
    a.base = base;
    return a;
}

static void free_area(area *a)
{
    free(a->base);
    free(a->times);
    free(a->steps);
}

/* Of one element: the times that its line has been asked for; *steps: complete then. */
static int asked(const area *a, const void *element, size_t *steps)
{
    const size_t line = (size_t)((const char *)element - a->base) / LINE;
    *steps = atomic_load(&a->steps[line]);
    return atomic_load(&a->times[line]);
}

typedef struct {
    const char *name;
    size_t n_rows, n_features;
    ptrdiff_t row_stride, col_stride; /* in bytes */
    size_t offset;                    /* of X from a line's beginning */
    size_t n_hidden, batch_size;
    int n_threads, has_labels;
    int times; /* that a row is asked for */
} setting;

/* Element f of row r. */
static const char *element(const fgd_matrix *m, size_t r, size_t f)
{
    return (const char *)m->data + (ptrdiff_t)r * m->row_stride + (ptrdiff_t)f * m->col_stride;
}

/* Every element of a row, its target and its weight have been asked for `times` times, in the step that is
 * `ahead` steps before theirs; threads may begin a step before it is counted that the last is complete. */
static void check_row(const fgd_data *data, size_t row, size_t step, int times, int is_alone,
                      size_t ahead)
{
    size_t at;
    for (size_t f = 0; f < data->x.cols; f++) {
        expect(asked(&areas[OF_X], element(&data->x, row, f), &at) == times, "a row is asked for",
               step);
        if (!times) continue;
        const size_t sooner = at + ahead - step;
        expect(at < step && (is_alone ? sooner == 0 : sooner + 1 <= 2), "as many steps ahead", step);
    }
    /* Their lines belong to several rows. */
    const char *const target =
        data->labels ? (const char *)(data->labels + row) : element(&data->y, row, 0);
    const area *const a = &areas[data->labels ? OF_LABELS : OF_Y];
    if (!times) return;
    expect(asked(a, target, &at) >= times, "a target is asked for", step);
    expect(asked(&areas[OF_WEIGHTS], data->weights + row, &at) >= times, "so is a weight", step);
}

static void check(const setting *s)
{
    what = s->name;
    const size_t row_extent = (s->n_rows - 1) * fgd_magnitude(s->row_stride);
    const size_t col_extent = (s->n_features - 1) * fgd_magnitude(s->col_stride);
    areas[OF_X] = make_area(s->offset + row_extent + col_extent + sizeof(float));
    areas[OF_Y] = make_area(s->n_rows * 2 * sizeof(float));
    areas[OF_LABELS] = make_area(s->n_rows * sizeof(int64_t));
    areas[OF_WEIGHTS] = make_area(s->n_rows * sizeof(double));
    char *const first = areas[OF_X].base + s->offset + (s->row_stride < 0 ? row_extent : 0) +
                        (s->col_stride < 0 ? col_extent : 0);
    double *const weights = (void *)areas[OF_WEIGHTS].base;
    for (size_t r = 0; r < s->n_rows; r++) weights[r] = 1;
    const fgd_data data = {
        .x = {first, FGD_F32, s->n_rows, s->n_features, s->row_stride, s->col_stride, 0},
        .y = {areas[OF_Y].base, FGD_F32, s->n_rows, 2, 2 * sizeof(float), sizeof(float), 0},
        .labels = s->has_labels ? (const void *)areas[OF_LABELS].base : NULL,
        .weights = weights};

    /* An order in which no row comes twice; the last batch is short. */
    enum { BEFORE = 3, STEPS = 2 * MOST_AHEAD };
    const size_t n = STEPS * s->batch_size - s->batch_size / 2;
    int64_t *const order = calloc(BEFORE + n, sizeof *order);
    double *const lrs = calloc(STEPS, sizeof *lrs);
    if (!order || !lrs || BEFORE + n > s->n_rows) abort();
    for (size_t i = 0; i < BEFORE + n; i++) order[i] = (int64_t)(i * 7919 % s->n_rows);

    const size_t units[] = {s->n_hidden, 2};
    fgd_net net;
    if (fgd_net_init(&net, FGD_F32, s->n_features, 2, units) != FGD_OK) abort();
    net.loss = s->has_labels ? FGD_LOSS_CROSS_ENTROPY_LABELS_Z : FGD_LOSS_SQUARED_ERROR_A;
    net.layers[0].act = FGD_ACT_RELU;
    net.layers[1].act = s->has_labels ? FGD_ACT_SOFTMAX : FGD_ACT_IDENTITY;
    net.serial_flop = 0; /* as many threads as there are */
    set_weights(&net);
    if (fgd_net_set_optimizer(&net, FGD_OPT_SGD, 0) != FGD_OK) abort();
    if (fgd_net_reserve(&net, s->batch_size, s->n_threads, 0) != FGD_OK) abort();
    memset(&progress, 0, sizeof progress);
    fgd_net_train(&net, &data, order, BEFORE, n, s->batch_size, STEPS, lrs, s->n_threads, 60,
                  &progress);
    expect(progress.outcome == FGD_TRAINED && progress.n_steps == STEPS, "training", 0);

    const fgd_batch batch = {.data = &data, .n = s->batch_size};
    const size_t ahead = fgd_steps_ahead(&batch);
    expect(ahead >= 1 && ahead <= MOST_AHEAD, "some steps ahead", 0);
    size_t n_asked = 0;
    for (size_t i = n; i-- > 0;) {
        const size_t step = i / s->batch_size, row = (size_t)order[BEFORE + i];
        const int times = step >= ahead ? s->times : 0;
        check_row(&data, row, step, times, s->n_threads == 1, ahead);
        n_asked += (size_t)times;
    }
    /* No lines but those of these rows. */
    size_t n_lines = 0;
    for (size_t i = 0; i < areas[OF_X].n_lines; i++)
        n_lines += (size_t)atomic_load(&areas[OF_X].times[i]);
    expect(n_lines <= n_asked * fgd_row_lines(&data.x), "no other row is asked for", 0);
    fgd_net_free(&net);
    free(order);
    free(lrs);
    for (area *a = areas; a < areas + N_AREAS; a++) free_area(a);
    memset(areas, 0, sizeof areas);
}

int main(void)
{
    /* No two rows share a line, so that each line's times are those of one row. */
    const setting settings[] = {
        {"in rows", 50000, 28, 192, 4, 0, 64, 64, 1, 0, 1},
        {"rows that begin within a line", 50000, 28, 192, 4, 24, 64, 64, 1, 0, 1},
        {"two threads", 50000, 28, 192, 4, 24, 64, 64, 2, 0, 1},
        {"three threads, labels", 50000, 28, 192, 4, 0, 64, 100, 3, 1, 1},
        {"two threads, by units", 50000, 28, 192, 4, 0, 4096, 64, 2, 0, 2},
        {"small batches", 50000, 28, 192, 4, 56, 64, 5, 1, 1, 1},
        {"single samples", 50000, 28, 192, 4, 4, 64, 1, 1, 0, 1},
        {"backwards", 50000, 28, -192, -4, 0, 64, 64, 1, 0, 1},
        {"with gaps", 30000, 20, 448, 20, 8, 64, 64, 2, 1, 1},
        {"columns", 2000, 40, 64, 64 * 2000, 0, 64, 16, 2, 0, 1},
        {"columns, backwards", 2000, 40, -64, -64 * 2000, 0, 64, 16, 1, 0, 1},
        {"long rows", 9000, 200, 832, 4, 0, 64, 64, 1, 0, 0},
        {"many columns", 2000, 60, 64, 64 * 2000, 0, 64, 16, 1, 0, 0},
        {"little data", 12000, 28, 192, 4, 0, 64, 64, 1, 0, 0},
    };
    fgd_isa_select_best();
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) check(&settings[i]);
    printf("%zu settings\n", sizeof settings / sizeof *settings);
    return 0;
}
