/* The body of test_guard.c for one element type: each kernel of a table once, at a random size. */

/* An array [rows][ld] of which the last row ends after n elements; of small numbers. */
static REAL *NAME(array)(size_t rows, size_t n, size_t ld)
{
    const size_t count = rows == 0 ? 0 : (rows - 1) * ld + n;
    REAL *x = guard(count * sizeof(REAL), one_of(2));
    for (size_t i = 0; i < count; i++) x[i] = (REAL)(unit() * 0.9 + 0.05);
    return x;
}

#define CASE(name, ...)                                                                  \
    do {                                                                                 \
        const int at = snprintf(guarded_case, sizeof guarded_case, "%s, %zu bytes: ", isa, \
                                sizeof(REAL));                                           \
        snprintf(guarded_case + at, sizeof guarded_case - (size_t)at, name, __VA_ARGS__); \
        n_calls++;                                                                       \
    } while (0)

static void NAME(tiles)(const TABLE_TYPE *t, const char *isa)
{
    for (size_t nv = 1; nv <= t->max_vectors; nv++)
        for (size_t mr = 1; mr <= t->tile_rows[nv]; mr++)
            for (int by_column = 0; by_column < 2; by_column++) {
                const size_t before = n_guarded, n = nv * t->lanes, k = between(1, 70);
                const size_t ldb = n + between(0, 9), ldc = n + between(0, 9);
                const size_t as = (by_column ? mr : k) + between(0, 9);
                const REAL *a = by_column ? NAME(array)(k, mr, as) : NAME(array)(mr, k, as);
                const REAL *b = NAME(array)(k, n, ldb), *bias = NAME(array)(1, mr, mr);
                const REAL *gate = NAME(array)(mr, n, ldc);
                REAL *c = NAME(array)(mr, n, ldc);
                SGD_TYPE sgd = {.w = NAME(array)(mr, n, ldc),
                                .ldw = (ptrdiff_t)ldc,
                                .has_terms = one_of(2),
                                .asks_to_write = one_of(2)};
                const fgd_ask none = {(const char *)a, 0, 0, 0};
                CASE("tile of %zu x %zu vectors, k %zu, by_column %d", mr, nv, k, by_column);
                (by_column ? t->ukr_by_column : t->ukr_by_row)[nv][mr](
                    k, a, (ptrdiff_t)as, b, (ptrdiff_t)ldb, c, (ptrdiff_t)ldc,
                    one_of(2) ? bias : NULL, one_of(2) ? gate : NULL,
                    one_of(2) ? &sgd : NULL,
                    (one_of(2) ? FGD_UKR_LOAD_C : 0) | (one_of(2) ? FGD_UKR_RELU : 0), &none);
                release_from(before);
            }
}

static void NAME(elementwise)(const TABLE_TYPE *t, const char *isa)
{
    const size_t rows = between(1, 5), n = UNIT * between(1, 5), before = n_guarded;
    const size_t ldx = n + (one_of(2) ? 0 : between(1, 20)), ldy = n + between(0, 20);
    REAL *x = NAME(array)(rows, n, ldx), *y = NAME(array)(rows, n, ldy);
    REAL *d = NAME(array)(rows, n, ldx);
    for (int act = 0; act < FGD_N_ELEMENTWISE_ACTS; act++) {
        CASE("activation %d, %zu x %zu", act, rows, n);
        t->act[act](rows, n, x, ldx, d, ldx, (REAL)0.5);
        t->act_grad[act](rows, n, x, ldx, d, ldx, (REAL)0.5);
        t->act[act](rows, n, x, ldx, y, ldy, (REAL)0.5);
    }
    CASE("softmax, %zu x %zu", rows, n);
    t->softmax(rows, n, x, ldx, y, ldy);
    t->softmax_grad(rows, n, y, ldy, d, ldx);
    CASE("multiply, %zu x %zu", rows, n);
    t->multiply(rows, n, x, ldx, y, ldy);
    CASE("dropout, %zu x %zu", rows, n);
    t->dropout(rows, n, between(0, 9), 4 * between(0, 9), x, ldx, y, ldy, d, ldx, 1, 2, 3, 0.5);
    release_from(before);
}

static void NAME(losses)(const TABLE_TYPE *t, const char *isa)
{
    for (int loss = 0; loss < FGD_N_LOSSES; loss++) {
        const int labels = loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z;
        const size_t units = between(1, 9), n = UNIT * between(1, 4), before = n_guarded;
        const size_t ldx = n + between(0, 9), ldy = n + between(0, 9), ldd = n + between(0, 9);
        REAL *x = NAME(array)(units, n, ldx), *y = NAME(array)(labels ? 1 : units, n, ldy);
        REAL *coef = NAME(array)(1, n, n), *value = NAME(array)(1, n, n);
        REAL *delta = one_of(3) ? NAME(array)(units, n, ldd) : NULL;
        for (size_t j = 0; labels && j < n; j++) y[j] = (REAL)between(0, units - 1);
        CASE("loss %d, %zu units, %zu samples", loss, units, n);
        t->loss[loss](units, n, x, ldx, y, ldy, coef, delta, ldd, value,
                      loss == FGD_LOSS_HUBER_A ? (REAL)0.3 : 0);
        release_from(before);
    }
}

static void NAME(updates)(const TABLE_TYPE *t, const char *isa)
{
    for (int opt = 0; opt < FGD_N_OPTS; opt++) {
        const size_t rows = between(1, 5), n = UNIT * between(1, 4), before = n_guarded;
        const size_t ldw = n + between(0, 20), ldg = n + between(0, 20);
        const int full = one_of(2);
        const fgd_update_params p = {.lr = 0.1, .scale = full ? 0.5 : 1, .l1 = full ? 0.1 : 0,
                                     .norm_scale = 1, .momentum = 0.9, .beta1 = 0.9, .beta2 = 0.9,
                                     .eps = 1e-8, .bias1 = 0.1, .bias2 = 0.1,
                                     .dampening = one_of(2) ? 0 : 0.5, .nesterov = one_of(2),
                                     .variant = one_of(2)};
        REAL *w = NAME(array)(rows, n, ldw), *g = NAME(array)(rows, n, ldg);
        REAL *s1 = opt == FGD_OPT_SGD ? NULL : NAME(array)(rows, n, ldw);
        const int two = opt == FGD_OPT_ADAM || opt == FGD_OPT_ADAMW ||
                        (opt == FGD_OPT_RMSPROP && one_of(2));
        CASE("update %d, %zu x %zu", opt, rows, n);
        t->update[opt](rows, n, w, s1, two ? NAME(array)(rows, n, ldw) : NULL, ldw, g, ldg, &p);
        CASE("finish_grad, %zu x %zu", rows, n);
        t->finish_grad(rows, n, w, ldw, g, ldg, &p);
        release_from(before);
    }
}

static void NAME(sums)(const TABLE_TYPE *t, const char *isa)
{
    const size_t n = between(1, 150), before = n_guarded;
    const REAL *x = NAME(array)(1, n, n), *w = NAME(array)(1, n, n);
    CASE("sums of %zu", n);
    t->sum16(n, x, NULL);
    t->sum16(n, x, w);
    t->row_sumsq(n, x);
    t->row_sumabs(n, x);
    t->all_finite(n, x);
    const size_t k = between(1, 30), cols = UNIT * between(1, 5), ldx = cols + between(0, 9);
    CASE("column_sums of %zu x %zu", k, cols);
    t->column_sums(k, cols, NAME(array)(k, cols, ldx), ldx, NAME(array)(1, cols, cols));
    const size_t units = between(1, 4), fan_in = between(1, 70), ldw = units + between(0, 9);
    CASE("chain16 of %zu units, %zu inputs, %zu samples", units, fan_in, cols);
    t->chain16(units, fan_in, cols, NAME(array)(fan_in, cols, ldx), ldx,
               NAME(array)(fan_in, units, ldw), ldw, NAME(array)(1, units, units),
               NAME(array)(units, cols, ldx), ldx);
    release_from(before);
}

static void NAME(moves)(const TABLE_TYPE *t, const char *isa)
{
    const size_t rows = UNIT * between(1, 4), cols = UNIT * between(1, 4), before = n_guarded;
    const size_t lds = cols + between(0, 9), ldd = rows + between(0, 9);
    CASE("transpose of %zu x %zu", rows, cols);
    t->transpose(rows, cols, NAME(array)(rows, cols, lds), lds, NAME(array)(cols, rows, ldd), ldd);
    CASE("transpose_and_sum of %zu x %zu", rows, cols);
    t->transpose_and_sum(rows, cols, NAME(array)(rows, cols, lds), lds,
                         NAME(array)(cols, rows, ldd), ldd, between(0, cols),
                         NAME(array)(1, rows, rows));
    const size_t few = between(1, UNIT / 2), k = between(1, 70);
    const size_t whole = (k + t->turned - 1) / t->turned * t->turned;
    const size_t ldw = whole + between(0, 9), ldx = few + between(0, 9);
    CASE("turned_product of %zu rows, %zu columns, k %zu", rows, few, k);
    t->turned_product(rows, few, k, NAME(array)(rows, whole, ldw), ldw, NAME(array)(k, few, ldx),
                      ldx, NAME(array)(few, rows, ldd), ldd);
    /* So many columns that an update takes them in pieces. */
    const size_t samples_of_few = between(1, UNIT), units = UNIT * between(1, 24);
    const size_t ldd_of_few = units + between(0, 9);
    CASE("streamed_product of %zu samples, %zu columns, k %zu", samples_of_few, units, k);
    const REAL *streamed = NAME(array)(k, units, ldd_of_few);
    t->streamed_product(samples_of_few, k, units, NAME(array)(k, samples_of_few, lds), lds, streamed,
                        ldd_of_few, NAME(array)(samples_of_few, units, ldd_of_few), ldd_of_few,
                        streamed, (fgd_purpose)one_of(2));
    CASE("streamed_update of %zu rows, %zu samples, %zu columns", k, samples_of_few, units);
    SGD_TYPE sgd = {.w = NAME(array)(k, units, ldd_of_few),
                    .ldw = (ptrdiff_t)ldd_of_few,
                    .neg_lr = (REAL)-0.1,
                    .has_terms = one_of(2),
                    .clip = 1,
                    .decay = (REAL)0.1};
    t->streamed_update(k, samples_of_few, units, NAME(array)(k, samples_of_few, lds), lds,
                       NAME(array)(samples_of_few, units, ldd_of_few), ldd_of_few, &sgd, sgd.w,
                       (fgd_purpose)one_of(3));
    const size_t n = UNIT * between(1, 3), features = between(1, 80), samples = between(1, n);
    const size_t pitch = features + between(0, 3), padded = (features + UNIT - 1) / UNIT * UNIT;
    /* Rows of the table's own type, of bytes, and of misaligned numbers. */
    const int kind = one_of(3);
    const size_t size = kind == 1 ? 1 : sizeof(REAL), shift = kind == 2 ? between(1, 3) : 0;
    const size_t bytes = ((samples - 1) * pitch + features) * size + shift;
    char *source = guard(bytes, one_of(2));
    memset(source, 0, bytes);
    const fgd_matrix m = {source + shift,
                          kind == 1 ? FGD_U8 : sizeof(REAL) == 4 ? FGD_F32 : FGD_F64,
                          samples, features, (ptrdiff_t)(pitch * size), (ptrdiff_t)size, 0};
    CASE("gather of %zu samples, %zu features, kind %d", samples, features, kind);
    t->gather(&m, NULL, 0, samples, 0, n, NAME(array)(padded, n, n), n);
    release_from(before);
    /* A row of each length up to two vectors, which ends or begins at the page. */
    for (size_t length = 1; length <= 2 * UNIT; length++)
        for (int side = 0; side < 2; side++) {
            const size_t row_bytes = length * sizeof(REAL);
            char *row = guard(row_bytes, side);
            memset(row, 0, row_bytes);
            const fgd_matrix one = {row, sizeof(REAL) == 4 ? FGD_F32 : FGD_F64, 1, length,
                                    (ptrdiff_t)row_bytes, (ptrdiff_t)sizeof(REAL), 0};
            CASE("gather of a row of %zu, side %d", length, side);
            t->gather(&one, NULL, 0, 1, 0, UNIT, NAME(array)(2 * UNIT, UNIT, UNIT), UNIT);
            release_from(before);
        }
}

static void NAME(online)(const TABLE_TYPE *t, const char *isa)
{
    const size_t n = between(1, 30), fan_in = between(1, 70), before = n_guarded;
    const size_t padded = (fan_in + 15) / 16 * 16;
    int64_t *order = one_of(2) ? guard(n * sizeof *order, one_of(2)) : NULL;
    for (size_t s = 0; order && s < n; s++) order[s] = (int64_t)between(0, n - 1);
    const fgd_dtype dtype = sizeof(REAL) == 4 ? FGD_F32 : FGD_F64;
    const ptrdiff_t size = sizeof(REAL), row = (ptrdiff_t)fan_in * size;
    /* An order may have fewer entries than there are rows. */
    const size_t n_rows = n + between(0, 70);
    const fgd_matrix x = {NAME(array)(n, fan_in, fan_in), dtype, n_rows, fan_in, row, size, 0};
    const fgd_matrix y = {NAME(array)(n, 1, 1), dtype, n, 1, size, size, 0};
    double *lrs = guard(n * sizeof *lrs, one_of(2));
    for (size_t s = 0; s < n; s++) lrs[s] = 0.01;
    const int act = one_of(2) ? FGD_ACT_TANH : FGD_ACT_SIGMOID, plain = one_of(2);
    NAME(run_of_steps) run = {.x = &x, .y = &y, .order = order, .end = n, .lrs = lrs,
                              .act = plain ? NULL : t->act[act],
                              .act_grad = plain ? NULL : t->act_grad[act],
                              .loss = t->loss[plain ? FGD_LOSS_SQUARED_ERROR_A : FGD_LOSS_HUBER_A],
                              .act_param = (REAL)0.5, .loss_param = 1, .use_bias = one_of(2),
                              .w = NAME(array)(1, padded, padded),
                              .new_w = NAME(array)(1, padded, padded), .b = NAME(array)(1, 1, 1),
                              .buffer = NAME(array)(1, 2 * padded, 2 * padded),
                              .outcome = FGD_TRAINED};
    for (size_t i = fan_in; i < padded; i++) run.w[i] = run.new_w[i] = (REAL)-0.0;
    CASE("online, %zu inputs, %zu steps", fan_in, n);
    t->online(&run, n);
    release_from(before);
}

static void NAME(all_kernels)(const TABLE_TYPE *t, const char *isa)
{
    NAME(tiles)(t, isa);
    NAME(elementwise)(t, isa);
    NAME(losses)(t, isa);
    NAME(updates)(t, isa);
    NAME(sums)(t, isa);
    NAME(moves)(t, isa);
    NAME(online)(t, isa);
}
#undef CASE
