/* For digests.c, for one element type: every kernel of arrays with strides, but for the steps of one
 * sample, computes the same however far apart the rows of each of them are.  What lies between them is
 * NaN, and stays as it is. */

enum { NAME(STRIDES) = 4, NAME(MOST) = 48 * 8 * NAME(UNIT), NAME(NUMBERS) = 1 << 16 };

/* The arrays of a call, by number: where they lie and how far apart their rows are. */
static struct {
    REAL dense[NAME(MOST)], strided[8][NAME(MOST)];
    size_t ld[8];
    REAL results[NAME(NUMBERS)]; /* of the first strides */
    size_t variant, n_results;
} NAME(calls);

static void NAME(need)(size_t wanted, size_t there)
{
    if (wanted <= there) return;
    printf("%s: the arrays of strides_body.h hold %zu numbers, not %zu\n", TYPE, there, wanted);
    exit(1);
}

/* Array i holds rows of random numbers, ld apart. */
static REAL *NAME(place)(size_t i, size_t ld, size_t rows, size_t n, double low, double high)
{
    REAL *const to = NAME(calls).strided[i];
    NAME(calls).ld[i] = ld;
    NAME(need)(rows * ld, NAME(MOST));
    for (size_t j = 0; j < NAME(MOST); j++) to[j] = (REAL)NAN;
    NAME(fill)(rows * n, NAME(calls).dense, low, high);
    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * ld, NAME(calls).dense + r * n, n * sizeof(REAL));
    return to;
}

/* The same, as far apart as this variant has it. */
static REAL *NAME(array)(size_t i, size_t rows, size_t n, double low, double high)
{
    /* In the first variant all are equally far apart. */
    const size_t extra = NAME(calls).variant ? 1 + (i + 3 * NAME(calls).variant) % 7 : 1;
    const size_t ld = ((n + NAME(UNIT) - 1) / NAME(UNIT) + extra) * NAME(UNIT);
    return NAME(place)(i, ld, rows, n, low, high);
}

/* An array of positive numbers whose rows are as far apart as those of another one. */
static REAL *NAME(beside)(size_t i, size_t other, size_t rows, size_t n)
{
    return NAME(place)(i, NAME(calls).ld[other], rows, n, 0.1, 0.9);
}

/* What a call has left in array i is what the first one left. */
static void NAME(compare)(const char *kernel, size_t i, size_t rows, size_t n)
{
    const REAL *const from = NAME(calls).strided[i];
    const size_t ld = NAME(calls).ld[i];
    int same = 1, untouched = 1;
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < ld && r * ld + j < NAME(MOST); j++) {
            const REAL x = from[r * ld + j];
            if (j >= n) {
                untouched &= isnan(x);
                continue;
            }
            NAME(need)(NAME(calls).n_results + 1, NAME(NUMBERS));
            REAL *const first = &NAME(calls).results[NAME(calls).n_results++];
            if (NAME(calls).variant == 0)
                *first = x;
            else
                same &= !memcmp(first, &x, sizeof x);
            same &= !isnan(x);
        }
    snprintf(line, sizeof line, "%s strides %s", TYPE, kernel);
    expect(same, "the same at any strides");
    expect(untouched, "nothing between the rows");
}

/* Each of them once. */
static void NAME(call_all)(const TABLE_TYPE *t)
{
    enum { ROWS = 7, WIDTH = 2 * NAME(UNIT), K = 11 };
    const size_t *const ld = NAME(calls).ld;
    REAL *a, *b, *c, *d;
    random_state = 1;
    NAME(calls).n_results = 0;
#define ARRAY(i, rows, n) NAME(array)(i, rows, n, -1, 1)
#define PROBABILITY(i, rows, n) NAME(array)(i, rows, n, 0.1, 0.9)
    for (int act = 0; act < FGD_N_ELEMENTWISE_ACTS; act++) {
        a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, ROWS, WIDTH);
        t->act[act](ROWS, WIDTH, a, ld[0], b, ld[1], (REAL)0.25);
        NAME(compare)(act_names[act], 1, ROWS, WIDTH);
        a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, ROWS, WIDTH);
        t->act_grad[act](ROWS, WIDTH, a, ld[0], b, ld[1], (REAL)0.25);
        NAME(compare)(act_names[act], 1, ROWS, WIDTH);
    }
    a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, ROWS, WIDTH);
    t->softmax(ROWS, WIDTH, a, ld[0], b, ld[1]);
    NAME(compare)("softmax", 1, ROWS, WIDTH);
    a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, ROWS, WIDTH);
    t->softmax_grad(ROWS, WIDTH, a, ld[0], b, ld[1]);
    NAME(compare)("softmax_grad", 1, ROWS, WIDTH);
    for (int loss = 0; loss < FGD_N_LOSSES; loss++) {
        REAL *const x = PROBABILITY(0, ROWS, WIDTH), *const y = PROBABILITY(1, ROWS, WIDTH);
        REAL *const coef = PROBABILITY(2, 1, WIDTH), *const delta = ARRAY(3, ROWS, WIDTH);
        REAL *const values = ARRAY(4, 1, WIDTH);
        for (size_t j = 0; loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z && j < WIDTH; j++)
            y[j] = (REAL)(j % ROWS);
        t->loss[loss](ROWS, WIDTH, x, ld[0], y, ld[1], coef, delta, ld[3], values, (REAL)0.25);
        NAME(compare)(loss_names[loss], 3, ROWS, WIDTH);
        NAME(compare)(loss_names[loss], 4, 1, WIDTH);
    }
    const fgd_update_params p = {.lr = 0.01, .scale = 0.5, .norm_scale = 0.75, .momentum = 0.9,
                                 .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .bias1 = 0.271,
                                 .bias2 = 0.00299, .penalty_share = 1, .l2 = 0.1};
    for (int opt = 0; opt < FGD_N_OPTS; opt++) {
        /* The weights and their states lie alike. */
        REAL *const w = ARRAY(0, ROWS, WIDTH), *const g = ARRAY(1, ROWS, WIDTH);
        REAL *const s1 = NAME(beside)(2, 0, ROWS, WIDTH), *const s2 = NAME(beside)(3, 0, ROWS, WIDTH);
        t->update[opt](ROWS, WIDTH, w, s1, s2, ld[0], g, ld[1], &p);
        for (size_t i = 0; i < 4; i++) NAME(compare)(opt_names[opt], i, ROWS, WIDTH);
    }
    a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, ROWS, WIDTH);
    t->finish_grad(ROWS, WIDTH, a, ld[0], b, ld[1], &p);
    NAME(compare)("finish_grad", 1, ROWS, WIDTH);
    a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, ROWS, WIDTH), c = ARRAY(2, ROWS, WIDTH);
    t->dropout(ROWS, WIDTH, 3, 8, a, ld[0], b, ld[1], c, ld[2], 5, 6, 7, 0.5);
    NAME(compare)("dropout", 1, ROWS, WIDTH);
    NAME(compare)("dropout's mask", 2, ROWS, WIDTH);
    a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, ROWS, WIDTH);
    t->multiply(ROWS, WIDTH, a, ld[0], b, ld[1]);
    NAME(compare)("multiply", 0, ROWS, WIDTH);
    a = ARRAY(0, WIDTH, WIDTH), b = ARRAY(1, WIDTH, WIDTH);
    t->transpose(WIDTH, WIDTH, a, ld[0], b, ld[1]);
    NAME(compare)("transpose", 1, WIDTH, WIDTH);
    a = ARRAY(0, WIDTH, WIDTH), b = ARRAY(1, WIDTH, WIDTH), c = ARRAY(2, 1, WIDTH);
    t->transpose_and_sum(WIDTH, WIDTH, a, ld[0], b, ld[1], WIDTH, c);
    NAME(compare)("transpose_and_sum", 1, WIDTH, WIDTH);
    NAME(compare)("its sums", 2, 1, WIDTH);
    a = ARRAY(0, ROWS, WIDTH), b = ARRAY(1, 1, WIDTH);
    t->column_sums(ROWS, WIDTH, a, ld[0], b);
    NAME(compare)("column_sums", 1, 1, WIDTH);
    for (size_t units = 1; units <= 4; units++) {
        a = ARRAY(0, 35, WIDTH), b = ARRAY(1, 35, units), c = ARRAY(2, 1, units);
        d = ARRAY(3, units, WIDTH);
        t->chain16(units, 35, WIDTH, a, ld[0], b, ld[1], c, d, ld[3]);
        NAME(compare)("chain16", 3, units, WIDTH);
    }
    a = ARRAY(0, K, ROWS), b = ARRAY(1, K, WIDTH), c = ARRAY(2, ROWS, WIDTH);
    t->streamed_product(ROWS, K, WIDTH, a, ld[0], b, ld[1], c, ld[2], b, FGD_TO_SECOND_LEVEL);
    NAME(compare)("streamed_product", 2, ROWS, WIDTH);
    a = ARRAY(0, ROWS, K), b = ARRAY(1, K, WIDTH), c = ARRAY(2, ROWS, WIDTH);
    SGD_TYPE sgd = {.w = c, .ldw = (ptrdiff_t)ld[2], .neg_lr = (REAL)-0.5};
    t->streamed_update(ROWS, K, WIDTH, a, ld[0], b, ld[1], &sgd, c, FGD_TO_FIRST_LEVEL);
    NAME(compare)("streamed_update", 2, ROWS, WIDTH);
    a = ARRAY(0, WIDTH, 2 * NAME(UNIT)), b = ARRAY(1, K, 2), c = ARRAY(2, 2, WIDTH);
    t->turned_product(WIDTH, 2, K, a, ld[0], b, ld[1], c, ld[2]);
    NAME(compare)("turned_product", 2, 2, WIDTH);
    const fgd_ask ask = {(const char *)a, 0, 0, 0};
    for (size_t nv = 1; nv <= t->max_vectors; nv++)
        for (size_t mr = 1; mr <= t->tile_rows[nv]; mr++) {
            const size_t n = nv * t->lanes;
            for (int by_column = 0; by_column < 2; by_column++) {
                a = by_column ? ARRAY(0, K, mr) : ARRAY(0, mr, K);
                b = ARRAY(1, K, n), c = ARRAY(2, mr, n);
                (by_column ? t->ukr_by_column : t->ukr_by_row)[nv][mr](
                    K, a, (ptrdiff_t)ld[0], b, (ptrdiff_t)ld[1], c, (ptrdiff_t)ld[2], NULL, NULL,
                    NULL, FGD_UKR_LOAD_C, &ask);
                NAME(compare)(by_column ? "tiles by column" : "tiles by row", 2, mr, n);
            }
            a = ARRAY(0, mr, K), b = ARRAY(1, K, n), c = ARRAY(2, mr, n);
            sgd = (SGD_TYPE){.w = c, .ldw = (ptrdiff_t)ld[2], .neg_lr = (REAL)-0.5};
            t->ukr_by_row[nv][mr](K, a, (ptrdiff_t)ld[0], b, (ptrdiff_t)ld[1], NULL, 0, NULL, NULL,
                                  &sgd, 0, &ask);
            NAME(compare)("tiles that update", 2, mr, n);
        }
    a = ARRAY(0, ROWS, 3), b = ARRAY(1, NAME(UNIT), WIDTH);
    const fgd_matrix x = {a, DTYPE, ROWS, 3, (ptrdiff_t)(ld[0] * sizeof(REAL)), sizeof(REAL), 0.5};
    t->gather(&x, NULL, 0, ROWS, 0, WIDTH, b, ld[1]);
    NAME(compare)("gather", 1, 3, WIDTH);
#undef ARRAY
#undef PROBABILITY
}

static void NAME(check_strides)(const TABLE_TYPE *t)
{
    for (NAME(calls).variant = 0; NAME(calls).variant < NAME(STRIDES); NAME(calls).variant++)
        NAME(call_all)(t);
}
