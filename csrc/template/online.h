/* The delta rule, online: steps of a model with one layer and one unit on one sample each, by
 * plain SGD.  The bits are those of the general path (chain16, activation, loss, column sums,
 * sgd); only the work buffers and the lanes that hold no sample are missing.
 * Time is the latency from one update to the next, so what a step needs of a weight is taken
 * while the weight is in a register: one pass updates w and multiplies it by the next sample. */

typedef struct {
    const REAL *x; /* [fan_in] */
    VF y;          /* in every lane */
} FN(online_sample);

/* The sample of position at; its row is read where it lies, if it can be, and else put into
 * buffer, a step before it is needed: parts of a vector that were written one by one cannot be
 * loaded together until they have reached the cache. */
FGD_INLINE FN(online_sample) FN(online_read)(const TYPE(online_run) * run, size_t at, int x_direct,
                                             int y_direct, REAL *buffer)
{
    enum { AHEAD = 32 };
    const fgd_matrix *x = run->x, *y = run->y;
    const int64_t row = run->order ? run->order[at] : (int64_t)at;
    if (run->order && at + AHEAD < run->end) {
        const int64_t later = run->order[at + AHEAD];
        const char *next = (const char *)x->data + later * x->row_stride;
        const ptrdiff_t last = (ptrdiff_t)(x->cols - 1) * x->col_stride, line = FGD_ALIGN_BYTES;
        __builtin_prefetch(next);
        __builtin_prefetch(next + (last > line ? line : last < -line ? -line : last));
        __builtin_prefetch((const char *)y->data + later * y->row_stride);
    }
    const char *source = (const char *)x->data + row * x->row_stride;
    const char *target = (const char *)y->data + row * y->row_stride;
    FN(online_sample) sample = {.x = buffer};
    if (x_direct)
        sample.x = (const REAL *)(const void *)source;
    else
        FN(convert)(x->dtype, x->cols, source, x->col_stride, FN(scale_of)(x), buffer);
    REAL value = 0;
    if (y_direct)
        value = *(const REAL *)(const void *)target;
    else
        FN(convert)(y->dtype, 1, target, (ptrdiff_t)sizeof(REAL), 1, &value);
    sample.y = V(set1)(value);
    return sample;
}

/* new_w[16] = w - lr (used delta), acc[16] += new_w next; used and next have n elements, of which 16
 * at most count, and then zeros.  Not updates (known when this is compiled): acc += w next. */
FGD_INLINE void FN(online_group)(size_t n, const REAL *w, REAL *new_w, const REAL *used, VF neg_lr,
                                 VF delta, const REAL *next, VF *acc, int updates)
{
#pragma GCC unroll 16
    for (size_t v = 0; v < 16 / LANES; v++) {
        const size_t at = v * LANES, some = n < at ? 0 : n - at;
        if (n <= at) break;
        VF now = V(load)(w + at);
        if (updates) {
            const VF x = n == 16 ? V(load)(used + at) : V(load_first)(used + at, some);
            now = V(fma)(neg_lr, V(fma)(x, delta, V(zero)()), now);
            V(store)(new_w + at, now);
        }
        const VF x = n == 16 ? V(load)(next + at) : V(load_first)(next + at, some);
        acc[v] = V(fma)(now, x, acc[v]);
    }
}

/* The groups of a column; returns the sum of the 16 chains, of which the first starts at start's
 * first lane, in every lane. */
FGD_INLINE VF FN(online_pass)(size_t fan_in, const REAL *w, REAL *new_w, const REAL *used,
                              VF neg_lr, VF delta, const REAL *next, VF start, int updates)
{
    enum { VECTORS = 16 / LANES };
    VF acc[VECTORS];
    acc[0] = start;
#pragma GCC unroll 16
    for (int v = 1; v < VECTORS; v++) acc[v] = V(zero)();
    size_t k = 0;
    for (; k + 16 <= fan_in; k += 16)
        FN(online_group)(16, w + k, new_w + k, used + k, neg_lr, delta, next + k, acc, updates);
    if (k < fan_in)
        FN(online_group)(fan_in - k, w + k, new_w + k, used + k, neg_lr, delta, next + k, acc,
                         updates);
#pragma GCC unroll 4
    for (int h = VECTORS / 2; h > 0; h /= 2)
#pragma GCC unroll 8
        for (int v = 0; v < h; v++) acc[v] = V(add)(acc[v], acc[v + h]);
    return V(tree)(acc[0]);
}

/* Weights that are not finite take their old values; returns whether there were any. */
static int FN(online_undo)(size_t fan_in, const REAL *w, REAL *new_w)
{
    int diverged = 0;
    for (size_t i = 0; i < fan_in; i++) {
        if (__builtin_isfinite((double)new_w[i])) continue;
        new_w[i] = w[i];
        diverged = 1;
    }
    return diverged;
}

/* Loss of one sample with output sum before the activation, *delta its derivative in every lane. */
FGD_INLINE REAL FN(online_loss)(const TYPE(online_run) * run, VF sum, VF y, VF *delta)
{
    enum { UNIT = FGD_ALIGN_BYTES / sizeof(REAL) };
    REAL z[UNIT], a[UNIT], d[UNIT], ys[UNIT], coef[UNIT], values[UNIT];
    for (size_t i = 0; i < UNIT; i += LANES) {
        V(store)(z + i, sum);
        V(store)(a + i, sum);
        V(store)(ys + i, y);
        V(store)(coef + i, V(set1)(1));
    }
    if (run->act) run->act(1, UNIT, z, UNIT, a, UNIT, run->act_param);
    run->loss(1, UNIT, run->loss_from_z ? z : a, UNIT, ys, UNIT, coef, d, UNIT, values,
              run->loss_param);
    if (!run->loss_from_z && run->act_grad)
        run->act_grad(1, UNIT, run->grad_from_z ? z : a, UNIT, d, UNIT, run->act_param);
    *delta = V(set1)(d[0]);
    return values[0];
}

/* The steps; is_plain, known when this is compiled: the output is the sum, the loss the squared
 * error, and nothing is called between one update and the next. */
FGD_INLINE void FN(online_steps)(TYPE(online_run) * run, size_t n_steps, int is_plain)
{
    const size_t fan_in = run->x->cols, padded = (fan_in + 15) / 16 * 16;
    const int x_direct = FN(is_direct)(run->x), y_direct = FN(is_direct)(run->y);
    const REAL ones[LANES] = {1};
    const VM first = V(eq)(V(load)(ones), V(set1)(1)); /* the lane whose chain starts at b */
    const VF none = V(zero)();
    REAL *w = run->w, *new_w = run->new_w;
    VF b = V(set1)(*run->b);
    double loss_sum = run->loss_sum;
    FN(online_sample)
    now = FN(online_read)(run, run->first + run->done, x_direct, y_direct, run->buffer);
    VF sum =
        FN(online_pass)(fan_in, w, NULL, now.x, none, none, now.x, V(select)(first, b, none), 0);
    for (size_t step = 1; step <= n_steps; step++) {
        FN(online_sample) next = now; /* the last pass multiplies by it to no end */
        if (step < n_steps)
            next = FN(online_read)(run, run->first + run->done + 1, x_direct, y_direct,
                                   run->buffer + step % 2 * padded);
        VF delta;
        REAL value;
        if (is_plain)
            value = V(first)(V(squared_error)(sum, now.y, none, &delta));
        else
            value = FN(online_loss)(run, sum, now.y, &delta);
        if (!__builtin_isfinite((double)value)) {
            run->outcome = FGD_LOSS_NOT_FINITE;
            break;
        }
        loss_sum += (double)value;
        run->last_loss = (double)value;

        const VF neg_lr = V(set1)((REAL)-run->lrs[run->done]);
        VF new_b = b;
        if (run->use_bias) new_b = V(fma)(neg_lr, V(add)(none, delta), b);
        sum = FN(online_pass)(fan_in, w, new_w, now.x, neg_lr, delta, next.x,
                              V(select)(first, new_b, none), 1);
        run->done++;
        /* Whatever is not finite has made the sum so: inf times x is inf or NaN, and so on. */
        if (__builtin_expect(!__builtin_isfinite((double)V(first)(sum)), 0)) {
            int diverged = FN(online_undo)(fan_in, w, new_w);
            if (!__builtin_isfinite((double)V(first)(new_b))) {
                new_b = b;
                diverged = 1;
            }
            if (diverged) run->outcome = FGD_WEIGHT_NOT_FINITE;
        }
        REAL *const old_w = w;
        w = new_w;
        new_w = old_w;
        b = new_b;
        now = next;
        if (__builtin_expect(run->outcome != FGD_TRAINED, 0)) break;
    }
    run->w = w;
    run->new_w = new_w;
    *run->b = V(first)(b);
    run->loss_sum = loss_sum;
}

/* run->w and run->new_w [fan_in rounded up to 16] change places at each step; their pads are -0,
 * which no product changes and which changes no sum.  run->buffer: twice as long.  Stops after
 * n_steps > 0, or where the loss (before the update) or a weight (which keeps its value) is not
 * finite: run->outcome. */
static void FN(online)(TYPE(online_run) * run, size_t n_steps)
{
    if (!run->act && run->loss == FN(loss_squared_error_a))
        FN(online_steps)(run, n_steps, 1);
    else
        FN(online_steps)(run, n_steps, 0);
}
