/* The delta rule, online: steps of a model with one layer and one unit on one sample each, by
 * plain SGD.  The bits are those of the general path (chain16, activation, loss, column sums,
 * sgd); only the work buffers and the lanes that hold no sample are missing. */

/* Row of the data as REAL, in buffer unless it can be read where it lies; returns where it is. */
FGD_INLINE const REAL *FN(online_row)(const fgd_matrix *x, int64_t row, int direct, REAL *buffer)
{
    const char *source = (const char *)x->data + row * x->row_stride;
    if (direct) return (const REAL *)(const void *)source;
    FN(convert)(x->dtype, x->cols, source, x->col_stride, FN(scale_of)(x), buffer);
    return buffer;
}

/* run->w [fan_in rounded up to 16]: pads are -0, which no product changes and which changes no
 * sum.  run->buffer: as long as w.  Stops after n_steps, or where the loss (before the update)
 * or a weight (which keeps its value) is not finite: run->outcome. */
static void FN(online)(TYPE(online_run) * run, size_t n_steps)
{
    enum { VECTORS = 16 / LANES, UNIT = FGD_ALIGN_BYTES / sizeof(REAL), AHEAD = 32 };
    const size_t fan_in = run->x->cols, whole = fan_in / 16 * 16, tail = fan_in - whole;
    const int x_direct = FN(is_direct)(run->x), y_direct = FN(is_direct)(run->y);
    REAL *const w = run->w;
    const VF infinity = V(infinity)();
    const int is_plain = !run->act && run->loss == FN(loss_squared_error_a);
    REAL b = *run->b, rest[16] = {0}, lane[LANES];
    for (size_t i = 0; i < LANES; i++) lane[i] = (REAL)i;
    const VM first = V(eq)(V(load)(lane), V(zero)()); /* the lane whose chain starts at the bias */
    double loss_sum = run->loss_sum;
    for (size_t step = 0; step < n_steps; step++) {
        const size_t at = run->first + run->done;
        const int64_t row = run->order ? run->order[at] : (int64_t)at;
        if (run->order && at + AHEAD < run->x->rows) {
            const int64_t later = run->order[at + AHEAD];
            const char *next = (const char *)run->x->data + later * run->x->row_stride;
            __builtin_prefetch(next);
            __builtin_prefetch(next + FGD_ALIGN_BYTES);
            __builtin_prefetch((const char *)run->y->data + later * run->y->row_stride);
        }
        const REAL *x = FN(online_row)(run->x, row, x_direct, run->buffer);
        for (size_t i = 0; i < tail; i++) rest[i] = x[whole + i];
        REAL y = 0;
        const char *target = (const char *)run->y->data + row * run->y->row_stride;
        if (y_direct)
            y = *(const REAL *)(const void *)target;
        else
            FN(convert)(run->y->dtype, 1, target, (ptrdiff_t)sizeof(REAL), 1, &y);

        VF acc[VECTORS];
        acc[0] = V(select)(first, V(set1)(b), V(zero)());
#pragma GCC unroll 16
        for (int v = 1; v < VECTORS; v++) acc[v] = V(zero)();
        for (size_t k = 0; k < whole; k += 16) {
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++)
                acc[v] = V(fma)(V(load)(w + k + v * LANES), V(load)(x + k + v * LANES), acc[v]);
        }
        if (tail) {
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++)
                acc[v] = V(fma)(V(load)(w + whole + v * LANES), V(load)(rest + v * LANES), acc[v]);
        }
#pragma GCC unroll 4
        for (int h = VECTORS / 2; h > 0; h /= 2)
#pragma GCC unroll 8
            for (int v = 0; v < h; v++) acc[v] = V(add)(acc[v], acc[v + h]);
        const REAL sum = V(tree)(acc[0]);

        REAL delta, value;
        if (is_plain) {
            VF slope;
            const VF loss = V(squared_error)(V(set1)(sum), V(set1)(y), V(zero)(), &slope);
            REAL lanes[2 * LANES];
            V(store)(lanes, loss);
            V(store)(lanes + LANES, slope);
            value = lanes[0];
            delta = lanes[LANES];
        } else {
            /* One sample in the first lane of each work buffer. */
            REAL z[UNIT] = {sum}, a[UNIT] = {sum}, d[UNIT] = {0}, ys[UNIT] = {y};
            REAL coef[UNIT] = {1}, values[UNIT];
            if (run->act) run->act(1, UNIT, z, UNIT, a, UNIT, run->act_param);
            run->loss(1, UNIT, run->loss_from_z ? z : a, UNIT, ys, UNIT, coef, d, UNIT, values,
                      run->loss_param);
            if (!run->loss_from_z && run->act_grad)
                run->act_grad(1, UNIT, run->grad_from_z ? z : a, UNIT, d, UNIT, run->act_param);
            value = values[0];
            delta = d[0];
        }
        if (!__builtin_isfinite((double)value)) {
            run->outcome = FGD_LOSS_NOT_FINITE;
            break;
        }
        loss_sum += (double)value;
        run->last_loss = (double)value;

        const VF neg_lr = V(set1)((REAL)-run->lrs[run->done]), ds = V(set1)(delta);
        VM finite = V(eq)(V(zero)(), V(zero)());
        const size_t padded = whole + (tail ? 16 : 0);
        for (size_t k = 0; k < padded; k += LANES) {
            const VF xs = V(load)(k < whole ? x + k : rest + (k - whole));
            const VF old = V(load)(w + k);
            const VF now = V(fma)(neg_lr, V(fma)(xs, ds, V(zero)()), old);
            const VM ok = V(lt)(V(abs)(now), infinity);
            V(store)(w + k, V(select)(ok, now, old));
            finite = V(mand)(finite, ok);
        }
        int diverged = V(any)(V(mnot)(finite));
        if (run->use_bias) {
            REAL now[LANES];
            V(store)(now, V(fma)(neg_lr, V(add)(V(zero)(), ds), V(set1)(b)));
            if (__builtin_isfinite((double)now[0]))
                b = now[0];
            else
                diverged = 1;
        }
        run->done++;
        if (diverged) {
            run->outcome = FGD_WEIGHT_NOT_FINITE;
            break;
        }
    }
    *run->b = b;
    run->loss_sum = loss_sum;
}
