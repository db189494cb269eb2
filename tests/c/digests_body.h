/* The body of digests.c for one element type. */

enum {
    NAME(UNIT) = FGD_ALIGN_BYTES / sizeof(REAL),
    NAME(COLUMNS) = 6 * NAME(UNIT),
    NAME(LD) = NAME(COLUMNS) + NAME(UNIT),
    NAME(ROWS) = 40,
    NAME(SIZE) = NAME(ROWS) * NAME(LD)
};

static void NAME(add)(size_t rows, size_t n, const REAL *x, size_t ld)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) ADD(x[i * ld + j]);
}

/* Numbers in [low, high]. */
static void NAME(fill)(size_t n, REAL *x, double low, double high)
{
    for (size_t i = 0; i < n; i++) x[i] = (REAL)random_between(low, high);
}
/* Among them all magnitudes, and one in 16 that is no ordinary number. */
static void NAME(fill_special)(size_t n, REAL *x, double low, double high)
{
    const REAL special[] = {0,        -0.0,      INFINITY,      -INFINITY,     NAN,
                            SMALLEST, -SMALLEST, SMALLEST / 4,  -SMALLEST / 8, LARGEST,
                            -LARGEST, EPSILON,   1 - EPSILON,   1 + EPSILON,   -1,
                            3,        -3,        88,            -104,          709};
    const double most = sizeof(REAL) == 4 ? 126 : 1022;
    for (size_t i = 0; i < n; i++) {
        const uint64_t kind = random_bits() % 16;
        const double size = ldexp(1, (int)random_between(-most, most));
        if (kind == 0)
            x[i] = special[random_bits() % (sizeof special / sizeof special[0])];
        else if (kind < 4)
            x[i] = (REAL)(random_between(-2, 2) * size);
        else
            x[i] = (REAL)random_between(low, high);
    }
}

/* ---- products --------------------------------------------------------------------------------- */

/* C[m][n] in tiles of mr rows and nv vectors, and smaller ones at its ends. */
static void NAME(product)(const TABLE_TYPE *t, int by_column, size_t mr, size_t nv, size_t m,
                          size_t n, size_t k, const REAL *a, ptrdiff_t as, const REAL *b, REAL *c,
                          const REAL *bias, const REAL *gate, SGD_TYPE *sgd, int flags)
{
    const fgd_ask ask = {(const char *)a, 0, 0, 0};
    const ptrdiff_t ld = NAME(LD);
    for (size_t i = 0; i < m; i += mr)
        for (size_t j = 0; j < n;) {
            const size_t rows = m - i < mr ? m - i : mr;
            const size_t left = (n - j) / t->lanes, vectors = left < nv ? left : nv;
            SGD_TYPE of_tile = {0};
            if (sgd) {
                of_tile = *sgd;
                of_tile.w += i * NAME(LD) + j;
            }
            (by_column ? t->ukr_by_column : t->ukr_by_row)[vectors][rows](
                k, by_column ? a + i : a + (ptrdiff_t)i * as, as, b + j, ld,
                c + i * NAME(LD) + j, ld, bias ? bias + i : NULL,
                gate ? gate + i * NAME(LD) + j : NULL, sgd ? &of_tile : NULL, flags, &ask);
            if (sgd) sgd->diverged |= of_tile.diverged;
            j += vectors * t->lanes;
        }
}

/* An update within a tile is the tile's product followed by the update's kernel.  mr 0: not in tiles,
 * but of rows as they lie. */
static void NAME(compare_sgd)(const TABLE_TYPE *t, size_t mr, size_t nv, size_t m, size_t n,
                              size_t k, const REAL *a, const REAL *b, const REAL *gradient)
{
    static REAL start[NAME(SIZE)], w[NAME(SIZE)], expected[NAME(SIZE)], c[NAME(SIZE)];
    for (int kind = 0; kind < 8; kind++) {
        for (size_t i = 0; i < NAME(SIZE); i++) start[i] = (REAL)((int)(i % 31) - 15) / 8;
        for (size_t i = 15; i < NAME(SIZE); i += 62) start[i] = -(REAL)0;
        /* The second step is so large that some weights would not stay finite. */
        const double lr = kind & 1 ? 0.5 * LARGEST : 0.37;
        const double clip = kind & 2 ? 0.25 : 0, decay = kind & 4 ? 0.11 : 0;
        const fgd_update_params params = {
            .lr = lr, .scale = 1, .norm_scale = 1, .clip_value = clip, .weight_decay = decay};
        memcpy(w, start, sizeof start);
        memcpy(expected, start, sizeof start);
        SGD_TYPE sgd = {.w = w,
                        .ldw = NAME(LD),
                        .neg_lr = (REAL)-lr,
                        .has_terms = kind > 1,
                        .clip = clip > 0 ? (REAL)clip : (REAL)__builtin_inf(),
                        .decay = (REAL)decay,
                        .asks_to_write = kind % 3 == 1};
        if (mr)
            NAME(product)(t, 0, mr, nv, m, n, k, a, NAME(LD), b, c, NULL, NULL, &sgd, 0);
        else
            t->streamed_update(m, k, n, a, NAME(LD), b, NAME(LD), &sgd, w, (fgd_purpose)(kind % 3));
        const int kept = t->update[FGD_OPT_SGD](m, n, expected, NULL, NULL, NAME(LD), gradient,
                                                NAME(LD), &params);
        expect(!memcmp(w, expected, sizeof w), "a tile's update is the kernel's");
        expect(!sgd.diverged == !kept, "a tile tells of weights that it kept");
    }
}

/* A gradient of -0, which a product gives that is less than the smallest number. */
static void NAME(compare_sgd_of_zero)(const TABLE_TYPE *t)
{
    static REAL a[NAME(SIZE)], b[NAME(SIZE)], zero[NAME(SIZE)];
    for (size_t i = 0; i < NAME(SIZE); i++) {
        a[i] = -SMALLEST;
        b[i] = (REAL)0.125;
        zero[i] = -(REAL)0;
    }
    for (size_t nv = 1; nv <= t->max_vectors; nv++)
        for (size_t mr = 1; mr <= t->tile_rows[nv]; mr++)
            NAME(compare_sgd)(t, mr, nv, mr, nv * t->lanes, 1, a, b, zero);
    NAME(compare_sgd)(t, 0, 0, 5, NAME(UNIT) * 5, 1, a, b, zero);
}

/* Whether C is D, any NaN being like any other. */
static int NAME(are_same)(const REAL *c, const REAL *d)
{
    for (size_t i = 0; i < NAME(SIZE); i++)
        if (memcmp(&c[i], &d[i], sizeof(REAL)) && !(isnan(c[i]) && isnan(d[i]))) return 0;
    return 1;
}

static void NAME(show_products)(const TABLE_TYPE *t)
{
    static REAL a[NAME(SIZE)], b[NAME(SIZE)], gate[NAME(SIZE)], start[NAME(SIZE)];
    static REAL first[NAME(SIZE)], c[NAME(SIZE)], bias[NAME(ROWS)];
    static const size_t ms[] = {1, 2, 3, 5, 8, 13, 24, 25, 37}, ks[] = {1, 3, 4, 5, 17, 36};
    static const char *const forms[] = {"from zero", "from bias", "onto C", "relu", "gate"};
    for (int by_column = 0; by_column < 2; by_column++)
        for (int form = 0; form < 5; form++) {
            begin(TYPE, by_column ? "product_by_column" : "product_by_row", forms[form]);
            for (size_t which = 0; which < 9 * 6; which++) {
                const size_t m = ms[which / 6], k = ks[which % 6];
                const size_t n = NAME(UNIT) * (1 + which % 6);
                if (which % 4 == 3) {
                    NAME(fill_special)(NAME(SIZE), a, -1, 1);
                    NAME(fill_special)(NAME(SIZE), b, -1, 1);
                } else {
                    NAME(fill)(NAME(SIZE), a, -1, 1);
                    NAME(fill)(NAME(SIZE), b, -1, 1);
                }
                NAME(fill_special)(NAME(SIZE), gate, -1, 1);
                NAME(fill)(NAME(SIZE), start, -1, 1);
                NAME(fill)(NAME(ROWS), bias, -1, 1);
                for (size_t nv = 1; nv <= t->max_vectors; nv++)
                    for (size_t mr = 1; mr <= t->tile_rows[nv]; mr++) {
                        REAL *const out = nv == 1 && mr == 1 ? first : c;
                        memcpy(out, start, sizeof start);
                        NAME(product)(t, by_column, mr, nv, m, n, k, a, NAME(LD), b, out,
                                      form == 1 || form == 3 ? bias : NULL, form == 4 ? gate : NULL,
                                      NULL,
                                      form == 2   ? FGD_UKR_LOAD_C
                                      : form == 3 ? FGD_UKR_RELU
                                                  : 0);
                        expect(NAME(are_same)(out, first), "the same bits from every tile");
                        if (form == 0 && !by_column)
                            NAME(compare_sgd)(t, mr, nv, m, n, k, a, b, first);
                    }
                if (form == 0 && !by_column)
                    NAME(compare_sgd)(t, 0, 0, m, n, k, a, b, first);
                if (form == 2 && by_column) {
                    memcpy(c, start, sizeof start);
                    t->streamed_product(m, k, n, a, NAME(LD), b, NAME(LD), c, NAME(LD), b,
                                        (fgd_purpose)(which & 1));
                    expect(NAME(are_same)(c, first), "the bits of tiles from rows that are streamed");
                }
                NAME(add)(m, n, first, NAME(LD));
            }
            end();
        }
    NAME(compare_sgd_of_zero)(t);
    begin(TYPE, "product", "turned");
    for (size_t n = 1; n <= NAME(UNIT) / 2; n++)
        for (size_t k = 1; k <= NAME(ROWS); k++) {
            const size_t rows = NAME(UNIT) * (1 + k % 2);
            NAME(fill)(NAME(SIZE), a, -1, 1);
            NAME(fill)(NAME(SIZE), b, -1, 1);
            if (k % 4 == 3) NAME(fill_special)(NAME(SIZE), k % 8 == 3 ? a : b, -1, 1);
            NAME(product)(t, 0, 1, 1, rows, NAME(UNIT), k, a, NAME(LD), b, first, NULL, NULL, NULL, 0);
            t->turned_product(rows, n, k, a, NAME(LD), b, NAME(LD), c, NAME(LD));
            int same = 1;
            for (size_t i = 0; i < rows * n; i++) {
                const REAL *x = &first[i / n * NAME(LD) + i % n];
                const REAL *y = &c[i % n * NAME(LD) + i / n];
                same &= !memcmp(x, y, sizeof(REAL)) || (isnan(*x) && isnan(*y));
            }
            expect(same, "the bits of tiles from rows that are turned");
            NAME(add)(n, rows, c, NAME(LD));
        }
    end();
    begin(TYPE, "product", "chain16");
    for (size_t units = 1; units <= 4; units++)
        for (size_t fan_in = 1; fan_in <= NAME(ROWS); fan_in++) {
            const size_t n = NAME(UNIT) * (1 + fan_in % 6);
            NAME(fill)(NAME(SIZE), a, -1, 1);
            NAME(fill)(NAME(SIZE), b, -1, 1);
            NAME(fill)(NAME(ROWS), bias, -1, 1);
            t->chain16(units, fan_in, n, a, NAME(LD), b, 5, bias, c, NAME(LD));
            NAME(add)(units, n, c, NAME(LD));
        }
    end();
}

/* ---- moving and multiplying ------------------------------------------------------------------- */

static void NAME(show_moves)(const TABLE_TYPE *t)
{
    static REAL a[NAME(SIZE)], b[NAME(SIZE)], to[NAME(COLUMNS) * NAME(LD)], sums[NAME(LD)];
    begin(TYPE, "move", "column_sums");
    for (size_t k = 1; k <= NAME(ROWS); k++) {
        NAME(fill_special)(NAME(SIZE), a, -1, 1);
        t->column_sums(k, NAME(COLUMNS), a, NAME(LD), sums);
        NAME(add)(1, NAME(COLUMNS), sums, NAME(LD));
    }
    end();
    begin(TYPE, "move", "multiply");
    NAME(fill_special)(NAME(SIZE), a, -1, 1);
    NAME(fill_special)(NAME(SIZE), b, -1, 1);
    t->multiply(NAME(ROWS), NAME(COLUMNS), a, NAME(LD), b, NAME(LD));
    NAME(add)(NAME(ROWS), NAME(COLUMNS), a, NAME(LD));
    end();
    begin(TYPE, "move", "transpose");
    const size_t rows = 2 * NAME(UNIT);
    NAME(fill_special)(NAME(SIZE), a, -1, 1);
    t->transpose(rows, NAME(COLUMNS), a, NAME(LD), to, NAME(LD));
    NAME(add)(NAME(COLUMNS), rows, to, NAME(LD));
    end();
    begin(TYPE, "move", "transpose_and_sum");
    for (size_t n_summed = 1; n_summed <= NAME(COLUMNS); n_summed += 3) {
        NAME(fill)(NAME(SIZE), a, -1, 1);
        t->transpose_and_sum(rows, NAME(COLUMNS), a, NAME(LD), to, NAME(LD), n_summed, sums);
        NAME(add)(NAME(COLUMNS), rows, to, NAME(LD));
        NAME(add)(1, rows, sums, NAME(LD));
    }
    end();
    /* Of every type, in rows, in columns and backwards, scaled or not, with and without an order. */
    enum { SAMPLES = 53, FEATURES = 71 };
    static uint64_t data[SAMPLES * FEATURES];
    static REAL out[(FEATURES + NAME(UNIT)) * NAME(LD)];
    for (int dtype = 0; dtype < FGD_N_DTYPES; dtype++) {
        const ptrdiff_t size = (ptrdiff_t)dtype_sizes[dtype];
        begin(TYPE, "gather", dtype_names[dtype]);
        for (int form = 0; form < 12; form++) {
            for (size_t i = 0; i < SAMPLES * FEATURES; i++) {
                data[i] = random_bits();
                if (dtype == FGD_F32) ((float *)(void *)data)[i] = (float)random_between(-9, 9);
                if (dtype == FGD_F64) ((double *)(void *)data)[i] = random_between(-9, 9);
            }
            int64_t order[SAMPLES];
            for (size_t s = 0; s < SAMPLES; s++) order[s] = (int64_t)(random_bits() % SAMPLES);
            static const size_t widths[] = {1, 3, 16, 17, 33, FEATURES};
            fgd_matrix x = {data, (fgd_dtype)dtype, SAMPLES, widths[form % 6], 0, size,
                            form % 2 ? 0 : 0.1};
            x.row_stride = (ptrdiff_t)x.cols * size;
            if (form % 3 == 1) { /* columns */
                x.row_stride = size;
                x.col_stride = SAMPLES * size;
            } else if (form % 3 == 2) { /* backwards */
                x.data = (const char *)data + (SAMPLES * (ptrdiff_t)x.cols - 1) * size;
                x.row_stride = -x.row_stride;
                x.col_stride = -size;
            }
            const size_t n = 2 * NAME(UNIT), n_samples = n + NAME(UNIT) - 3, col0 = NAME(UNIT);
            t->gather(&x, form < 6 ? order : NULL, 2, n_samples, col0, n, out, NAME(LD));
            NAME(add)(x.cols, n, out + col0, NAME(LD));
        }
        end();
    }
    /* Rows as they are, with each number of features behind the last whole vector. */
    begin(TYPE, "gather", "ends");
    REAL *const numbers = (REAL *)(void *)data;
    for (size_t i = 0; i < SAMPLES * FEATURES; i++) numbers[i] = (REAL)random_between(-9, 9);
    for (size_t features = 1; features <= 33; features++) {
        const fgd_matrix x = {numbers + features % 5, sizeof(REAL) == 4 ? FGD_F32 : FGD_F64, SAMPLES,
                              features, (ptrdiff_t)((features + 1) * sizeof(REAL)),
                              (ptrdiff_t)sizeof(REAL), 0};
        t->gather(&x, NULL, 2, NAME(UNIT) + 3, 0, 2 * NAME(UNIT), out, NAME(LD));
        NAME(add)(features, 2 * NAME(UNIT), out, NAME(LD));
    }
    end();
}

/* ---- activations, losses ---------------------------------------------------------------------- */

static void NAME(show_activations)(const TABLE_TYPE *t)
{
    static REAL z[NAME(SIZE)], a[NAME(SIZE)], d[NAME(SIZE)];
    static const double widths[] = {1, 6, 30, 120, 800};
    for (int act = 0; act < FGD_N_ELEMENTWISE_ACTS; act++) {
        for (int is_grad = 0; is_grad < 2; is_grad++) {
            begin(TYPE, is_grad ? "act_grad" : "act", act_names[act]);
            for (size_t trial = 0; trial < 10; trial++) {
                const double width = widths[trial % 5];
                REAL param = trial < 5 ? 0 : (REAL)1.5;
                if (act == FGD_ACT_ELU) param += (REAL)0.25;
                NAME(fill_special)(NAME(SIZE), z, -width, width);
                NAME(fill_special)(NAME(SIZE), d, -2, 2);
                t->act[act](NAME(ROWS), NAME(COLUMNS), z, NAME(LD), a, NAME(LD), param);
                if (is_grad)
                    t->act_grad[act](NAME(ROWS), NAME(COLUMNS), fgd_act_consumes_z(act) ? z : a,
                                     NAME(LD), d, NAME(LD), param);
                NAME(add)(NAME(ROWS), NAME(COLUMNS), is_grad ? d : a, NAME(LD));
            }
            end();
        }
    }
    for (int is_grad = 0; is_grad < 2; is_grad++) {
        begin(TYPE, is_grad ? "act_grad" : "act", "softmax");
        for (size_t units = 1; units <= 2 * NAME(UNIT); units++) {
            if (units % 4 == 3)
                NAME(fill_special)(NAME(SIZE), z, -9, 9);
            else
                NAME(fill)(NAME(SIZE), z, -60, 60);
            NAME(fill)(NAME(SIZE), d, -2, 2);
            t->softmax(units, NAME(COLUMNS), z, NAME(LD), a, NAME(LD));
            if (is_grad) t->softmax_grad(units, NAME(COLUMNS), a, NAME(LD), d, NAME(LD));
            NAME(add)(units, NAME(COLUMNS), is_grad ? d : a, NAME(LD));
        }
        end();
    }
}

static void NAME(fill_loss)(int loss, size_t units, REAL *x, REAL *y)
{
    for (size_t i = 0; i < NAME(SIZE); i++) {
        const uint64_t kind = random_bits() % 6;
        const double u = random_between(0, 1);
        x[i] = (REAL)random_between(-30, 30);
        y[i] = (REAL)u;
        if (loss == FGD_LOSS_LOG_LOSS_A)
            x[i] = (REAL)(kind < 2 ? (double)kind : random_between(0, 1));
        else if (loss == FGD_LOSS_POISSON_A)
            x[i] = (REAL)random_between(0, 20);
        if (loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z)
            y[i] = (REAL)(random_bits() % units);
        else if (loss == FGD_LOSS_POISSON_A || loss == FGD_LOSS_POISSON_Z)
            y[i] = (REAL)(random_bits() % 20);
        else if (kind < 2)
            y[i] = (REAL)kind;
    }
}

static void NAME(show_losses)(const TABLE_TYPE *t)
{
    static REAL x[NAME(SIZE)], y[NAME(SIZE)], delta[NAME(SIZE)];
    static REAL coef[NAME(LD)], value[NAME(LD)], alone[NAME(LD)];
    for (int loss = 0; loss < FGD_N_LOSSES; loss++) {
        begin(TYPE, "loss", loss_names[loss]);
        for (size_t units = 1; units <= 2 * NAME(UNIT); units++) {
            const size_t n = NAME(COLUMNS), ld = NAME(LD);
            const REAL param = loss == FGD_LOSS_HUBER_A ? (REAL)1.5
                               : units % 2              ? 0
                                                        : (REAL)1e-3;
            NAME(fill_loss)(loss, units, x, y);
            if (units % 5 == 4) NAME(fill_special)(ld, x, -9, 9);
            NAME(fill)(ld, coef, 0, 1);
            t->loss[loss](units, n, x, ld, y, ld, coef, delta, ld, value, param);
            t->loss[loss](units, n, x, ld, y, ld, coef, NULL, 0, alone, param);
            expect(!memcmp(value, alone, n * sizeof(REAL)), "values with and without delta");
            NAME(add)(units, n, delta, ld);
            NAME(add)(1, n, value, ld);
        }
        end();
    }
}

/* ---- updates, sums ---------------------------------------------------------------------------- */

static void NAME(show_updates)(const TABLE_TYPE *t)
{
    enum { ROWS_OF_W = 5 };
    static REAL w[NAME(SIZE)], s1[NAME(SIZE)], s2[NAME(SIZE)], g[NAME(SIZE)];
    const size_t n = NAME(COLUMNS), ld = NAME(LD);
    for (int opt = 0; opt <= FGD_N_OPTS; opt++) {
        const int is_finish = opt == FGD_N_OPTS;
        begin(TYPE, "update", is_finish ? "finish_grad" : opt_names[opt]);
        for (int trial = 0; trial < 48; trial++) {
            fgd_update_params p = {.lr = 0.01, .scale = 1, .norm_scale = 1, .momentum = 0.9,
                                   .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .bias1 = 0.271,
                                   .bias2 = 0.00299, .penalty_share = 1};
            p.variant = trial % 2 ? FGD_VARIANT_SKLEARN : FGD_VARIANT_TORCH;
            p.nesterov = trial / 2 % 2;
            if (trial / 4 % 2) {
                p.scale = 0.25, p.l1 = 0.01, p.l2 = 0.1, p.clip_value = 0.5, p.norm_scale = 0.75;
                p.weight_decay = 0.05;
            }
            if (trial / 8 % 2 && !p.nesterov && p.variant == FGD_VARIANT_TORCH) p.dampening = 0.25;
            NAME(fill)(NAME(SIZE), w, -1, 1);
            NAME(fill)(NAME(SIZE), s1, 0, 0.1);
            NAME(fill)(NAME(SIZE), s2, 0, 0.1);
            NAME(fill)(NAME(SIZE), g, -4, 4);
            if (trial % 3 == 2) NAME(fill_special)(NAME(SIZE), g, -4, 4);
            if (is_finish) {
                t->finish_grad(ROWS_OF_W, n, w, ld, g, ld, &p);
                NAME(add)(ROWS_OF_W, n, g, ld);
                continue;
            }
            const int has_s2 = opt != FGD_OPT_RMSPROP || trial % 4 < 2;
            const int kept = t->update[opt](ROWS_OF_W, n, w, s1, has_s2 ? s2 : NULL, ld, g, ld, &p);
            add_bits(kept != 0, 2);
            NAME(add)(ROWS_OF_W, n, w, ld);
            NAME(add)(ROWS_OF_W, n, s1, ld);
            NAME(add)(ROWS_OF_W, n, s2, ld);
        }
        end();
    }
}

static void NAME(show_sums)(const TABLE_TYPE *t)
{
    REAL x[131], w[131];
    for (int what = 0; what < 5; what++) {
        static const char *const names[] = {"sum16", "sum16 with weights", "row_sumsq",
                                            "row_sumabs", "all_finite"};
        begin(TYPE, "sum", names[what]);
        for (size_t n = 0; n < 260; n++) {
            const size_t count = n / 2;
            NAME(fill)(131, x, -1, 1);
            NAME(fill)(131, w, 0, 1);
            if (n % 2) NAME(fill_special)(131, x, -1, 1);
            const REAL *const from = x + n % 2;
            if (what == 4)
                add_bits(t->all_finite(count, from) != 0, 2);
            else
                add_double(what == 0   ? t->sum16(count, from, NULL)
                           : what == 1 ? t->sum16(count, from, w)
                           : what == 2 ? t->row_sumsq(count, from)
                                       : t->row_sumabs(count, from));
        }
        end();
    }
    static REAL a[NAME(SIZE)], out[NAME(SIZE)], mask[NAME(SIZE)];
    begin(TYPE, "sum", "dropout");
    for (int trial = 0; trial < 24; trial++) {
        static const double chances[] = {0, 0.1, 0.5, 0.999};
        const size_t rows = 1 + (size_t)trial % 5, n = NAME(UNIT) * (size_t)(1 + trial % 6);
        const size_t col0 = 4 * (random_bits() % 1000);
        const uint64_t seed = random_bits(), step = random_bits() >> (trial % 2 ? 40 : 0);
        NAME(fill_special)(NAME(SIZE), a, -1, 1);
        t->dropout(rows, n, 3 * (size_t)trial, col0, a, NAME(LD), out, NAME(LD), mask, NAME(LD),
                   seed, step, (uint32_t)(trial % 3), chances[trial % 4]);
        NAME(add)(rows, n, out, NAME(LD));
        NAME(add)(rows, n, mask, NAME(LD));
    }
    end();
    begin(TYPE, "sum", "fma_burn");
    REAL sink[NAME(UNIT)];
    t->fma_burn(37, sink);
    ADD(sink[0]);
    end();
}

/* ---- single-sample steps ---------------------------------------------------------------------- */

static void NAME(show_online)(const TABLE_TYPE *t)
{
    enum { SAMPLES = 40, MOST = 48 };
    static REAL x[SAMPLES * MOST], y[SAMPLES], w[MOST + 16], new_w[MOST + 16];
    static REAL buffer[2 * (MOST + 16)];
    static double lrs[SAMPLES];
    for (int form = 0; form < 3; form++) {
        static const char *const names[] = {"delta rule", "sigmoid, log loss", "tanh, huber"};
        begin(TYPE, "online", names[form]);
        for (size_t fan_in = 1; fan_in <= MOST; fan_in++) {
            const size_t padded = (fan_in + 15) / 16 * 16;
            NAME(fill)(SAMPLES * MOST, x, -1, 1);
            NAME(fill)(SAMPLES, y, 0, 1);
            NAME(fill)(MOST, w, -1, 1);
            for (size_t i = fan_in; i < padded; i++) w[i] = (REAL)-0.0;
            for (size_t i = 0; i < MOST + 16; i++) new_w[i] = (REAL)-0.0;
            memset(buffer, 0, sizeof buffer);
            for (size_t s = 0; s < SAMPLES; s++) lrs[s] = 0.05 / (double)(1 + s);
            int64_t order[SAMPLES];
            for (size_t s = 0; s < SAMPLES; s++) order[s] = (int64_t)(random_bits() % SAMPLES);
            const ptrdiff_t size = sizeof(REAL);
            const fgd_matrix xs = {x, DTYPE, SAMPLES, fan_in, (ptrdiff_t)fan_in * size, size,
                                   fan_in % 3 ? 0 : 0.5};
            const fgd_matrix ys = {y, DTYPE, SAMPLES, 1, size, size, 0};
            REAL b = (REAL)0.1;
            ONLINE_RUN run = {.x = &xs, .y = &ys, .order = fan_in % 2 ? order : NULL,
                              .end = SAMPLES, .lrs = lrs, .use_bias = fan_in % 4 != 3,
                              .w = w, .new_w = new_w, .b = &b, .buffer = buffer, .outcome = FGD_TRAINED};
            run.loss = t->loss[form == 0   ? FGD_LOSS_SQUARED_ERROR_A
                               : form == 1 ? FGD_LOSS_LOG_LOSS_Z
                                           : FGD_LOSS_HUBER_A];
            run.loss_from_z = form == 1;
            if (form == 1) run.act = t->act[FGD_ACT_SIGMOID];
            if (form == 2) {
                run.act = t->act[FGD_ACT_TANH];
                run.act_grad = t->act_grad[FGD_ACT_TANH];
                run.loss_param = (REAL)0.5;
            }
            t->online(&run, SAMPLES);
            add_bits((uint64_t)run.outcome, 2);
            add_double(run.loss_sum);
            add_double(run.last_loss);
            NAME(add)(1, fan_in, run.w, fan_in);
            ADD(b);
        }
        end();
    }
}

static void NAME(show_kernels)(const TABLE_TYPE *t)
{
    NAME(show_products)(t);
    NAME(show_moves)(t);
    NAME(show_activations)(t);
    NAME(show_losses)(t);
    NAME(show_updates)(t);
    NAME(show_sums)(t);
    NAME(show_online)(t);
}

/* ---- fits ------------------------------------------------------------------------------------- */

enum { NAME(N_INPUTS) = 19, NAME(N_SAMPLES) = 90, NAME(N_STEPS) = 9, NAME(BATCH) = 24 };

/* One network by way of fgd_net: act in its hidden layers, outputs of the loss's kind. */
static void NAME(fit)(int n_threads, size_t batch, int act, int loss, int opt, size_t outputs,
                      double clip_norm, double dropout)
{
    static REAL x[NAME(N_SAMPLES) * NAME(N_INPUTS)], y[NAME(N_SAMPLES) * 8];
    static int64_t labels[NAME(N_SAMPLES)], order[NAME(N_STEPS) * NAME(BATCH)];
    static double weights[NAME(N_SAMPLES)];
    const int is_linear = act < 0;
    const size_t units[] = {is_linear ? outputs : 33, 17, outputs};
    const size_t n_layers = is_linear ? 1 : 3;
    static const int output_acts[FGD_N_LOSSES] = {
        FGD_ACT_IDENTITY, FGD_ACT_TANH,    FGD_ACT_IDENTITY, FGD_ACT_SIGMOID, FGD_ACT_SIGMOID,
        FGD_ACT_SOFTMAX,  FGD_ACT_SOFTMAX, FGD_ACT_EXP,      FGD_ACT_EXP};
    NAME(fill)(NAME(N_SAMPLES) * NAME(N_INPUTS), x, -1, 1);
    NAME(fill)(NAME(N_SAMPLES) * 8, y, 0, 1);
    for (size_t s = 0; s < NAME(N_SAMPLES); s++) {
        labels[s] = (int64_t)(random_bits() % outputs);
        weights[s] = random_between(0, 2);
    }
    for (size_t i = 0; i < NAME(N_STEPS) * NAME(BATCH); i++)
        order[i] = (int64_t)(random_bits() % NAME(N_SAMPLES));
    /* The last batch is a short one. */
    const size_t n_rows = NAME(N_STEPS) * batch - batch / 3;
    fgd_net net;
    int ok = fgd_net_init(&net, DTYPE, NAME(N_INPUTS), n_layers, units) == FGD_OK;
    net.serial_flop = 0;
    net.loss = loss;
    net.loss_param = loss == FGD_LOSS_HUBER_A ? 0.4 : 0;
    net.clip_norm = clip_norm;
    net.seed = 12345;
    net.params = (fgd_update_params){.scale = 1, .norm_scale = 1, .momentum = 0.9, .beta1 = 0.9,
                                     .beta2 = 0.99, .eps = 1e-8, .penalty_share = 1};
    net.params.nesterov = opt == FGD_OPT_MOMENTUM;
    for (size_t l = 0; ok && l < n_layers; l++) {
        fgd_layer *const layer = &net.layers[l];
        layer->act = l + 1 < n_layers ? act : output_acts[loss];
        layer->act_param = 0.5;
        if (layer->act == FGD_ACT_SOFTPLUS) layer->act_param = 0;
        layer->l2 = 0.01, layer->l1 = l ? 0 : 0.001;
        layer->dropout = l + 1 < n_layers ? dropout : 0;
        REAL *const w = layer->w;
        for (size_t i = 0; i < layer->fan_in; i++)
            NAME(fill)(units[l], w + i * layer->ldw, -0.3, 0.3);
    }
    ok = ok && fgd_net_set_optimizer(&net, (fgd_opt)opt, 0) == FGD_OK &&
         fgd_net_reserve(&net, batch, n_threads, clip_norm > 0) == FGD_OK;
    expect(ok, "memory for a fit");
    if (!ok) return;
    double lrs[NAME(N_STEPS)];
    for (int i = 0; i < NAME(N_STEPS); i++) lrs[i] = 0.02 / (1 + i);
    const ptrdiff_t size = sizeof(REAL);
    static REAL out[NAME(N_SAMPLES) * 8], losses[NAME(N_SAMPLES)];
    fgd_data data = {.x = {x, DTYPE, NAME(N_SAMPLES), NAME(N_INPUTS), NAME(N_INPUTS) * size, size, 0},
                     .y = {y, DTYPE, NAME(N_SAMPLES), outputs, 8 * size, size, 0},
                     .labels = loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z ? labels : NULL,
                     .weights = batch > 1 ? weights : NULL};
    fgd_progress progress;
    memset(&progress, 0, sizeof progress);
    fgd_net_train(&net, &data, order, 0, n_rows, batch, NAME(N_STEPS), lrs, n_threads, 1e9,
                  &progress);
    expect(progress.outcome == FGD_TRAINED && progress.n_steps == NAME(N_STEPS), "training");
    data.outputs = out;
    data.output_stride = 8;
    fgd_net_infer(&net, &data, 0, NAME(N_SAMPLES), n_threads, losses, 0);
    add_double(progress.loss_sum);
    add_double(progress.weight_sum);
    add_double(progress.last_loss);
    for (size_t l = 0; l < n_layers; l++) {
        NAME(add)(net.layers[l].fan_in, units[l], net.layers[l].w, net.layers[l].ldw);
        NAME(add)(1, units[l], net.layers[l].b, units[l]);
    }
    NAME(add)(NAME(N_SAMPLES), outputs, out, 8);
    NAME(add)(1, NAME(N_SAMPLES), losses, NAME(N_SAMPLES));
    fgd_net_free(&net);
}

/* Fits of one name on 1 to 3 threads, which must agree. */
static void NAME(show_fit)(const char *name, size_t batch, int act, int loss, int opt,
                           size_t outputs, double clip_norm, double dropout)
{
    uint64_t of_one = 0;
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        begin(TYPE, "fit", name);
        NAME(fit)(n_threads, batch, act, loss, opt, outputs, clip_norm, dropout);
        if (n_threads == 1) of_one = digest;
        expect(digest == of_one, "the same bits from every number of threads");
    }
    end();
}

static void NAME(show_fits)(void)
{
    char name[64];
    for (int act = 0; act < FGD_N_ELEMENTWISE_ACTS; act++) {
        const int loss = act % FGD_N_LOSSES, opt = act % FGD_N_OPTS;
        snprintf(name, sizeof name, "%s %s %s", act_names[act], loss_names[loss], opt_names[opt]);
        NAME(show_fit)(name, NAME(BATCH), act, loss, opt, 5 - (size_t)act % 3, act % 2 ? 0.5 : 0,
                       act % 4 ? 0 : 0.2);
    }
    for (int loss = 0; loss < FGD_N_LOSSES; loss++) {
        const size_t outputs = loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z ? 3 : 1;
        snprintf(name, sizeof name, "linear %s", loss_names[loss]);
        NAME(show_fit)(name, 1, -1, loss, FGD_OPT_SGD, outputs, 0, 0);
    }
}
