/* The losses: per-sample values, and delta = d(value)/d(output), times the sample's
 * coefficient.  Samples lie across lanes; each lane adds its units in ascending order.
 * Common shapes: x [units][ldx] (z or a, as the name's ending says), y [units][ldy], coef [n],
 * delta [units][ldd] or NULL (value only; no overlap with x or y), sample_loss [n];
 * n a multiple of UNIT.  The means over samples are taken by sum16. */

#define FGD_LOSS(name)                                                                            \
    static void FN(loss_##name)(size_t units, size_t n, const REAL *x, size_t ldx, const REAL *y, \
                                size_t ldy, const REAL *coef, REAL *delta, size_t ldd,            \
                                REAL *sample_loss, REAL param)

/* One term of a loss that is a plain sum over units: its value, *slope its derivative. */
FGD_INLINE void FN(loss_sum)(size_t units, size_t n, const REAL *x, size_t ldx, const REAL *y,
                             size_t ldy, const REAL *coef, REAL *delta, size_t ldd,
                             REAL *sample_loss, REAL param, VF (*term)(VF, VF, VF, VF *))
{
    const VF p = V(set1)(param);
    for (size_t j = 0; j < n; j += LANES) {
        const VF c = V(load)(coef + j);
        VF sum = V(zero)();
        for (size_t k = 0; k < units; k++) {
            VF slope;
            sum = V(add)(sum, term(V(load)(x + k * ldx + j), V(load)(y + k * ldy + j), p, &slope));
            if (delta) V(store)(delta + k * ldd + j, V(mul)(slope, c));
        }
        V(store)(sample_loss + j, sum);
    }
}

/* (a - y)^2 / 2; slope a - y. */
FGD_INLINE VF V(squared_error)(VF a, VF y, VF param, VF *slope)
{
    (void)param;
    const VF e = V(sub)(a, y);
    *slope = e;
    return V(mul)(V(mul)(V(set1)((REAL)0.5), e), e);
}
FGD_LOSS(squared_error_a)
{
    FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param, V(squared_error));
}

/* |a - y|; slope sign(a - y), 0 at 0, NaN at NaN. */
FGD_INLINE VF V(absolute_error)(VF a, VF y, VF param, VF *slope)
{
    (void)param;
    const VF e = V(sub)(a, y), size = V(abs)(e);
    const VF sign = V(copysign)(V(set1)(1), e);
    *slope = V(select)(V(lt)(V(zero)(), size), sign, size);
    return size;
}
FGD_LOSS(absolute_error_a)
{
    FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param, V(absolute_error));
}

/* With e = a - y and c = e clipped to +-param: c (e - c / 2), which is e^2 / 2 within and
 * param (|e| - param / 2) beyond; slope c. */
FGD_INLINE VF V(huber)(VF a, VF y, VF param, VF *slope)
{
    const VF e = V(sub)(a, y);
    const VF c = V(min)(param, V(max)(V(neg)(param), e));
    *slope = c;
    return V(mul)(c, V(fnma)(V(set1)((REAL)0.5), c, e));
}
FGD_LOSS(huber_a)
{
    FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param, V(huber));
}

/* What the loss -log(p) of a probability p becomes where p is clipped to [clip, 1 - clip].  NaN
 * stays. */
FGD_INLINE VF V(clipped_log)(VF loss, VF clip)
{
    return V(min)(V(neg)(V(log)(clip)), V(max)(V(neg)(V(log1m)(clip)), loss));
}

/* Output a = sigmoid(z): max(z, 0) - y z + log1p(e), e = exp(-|z|); slope a - y, written
 * with q = e / (1 + e) as q - y for z < 0 and (1 - y) - q else, so that neither a small a nor
 * a small 1 - a is lost when y is 0 or 1.  Where param is not 0, the value (for such y), but
 * not the slope, is that of a clipped by param. */
FGD_INLINE VF V(log_loss_from_z)(VF z, VF y, VF param, VF *slope)
{
    (void)param;
    const VF one = V(set1)(1), e = V(exp)(V(neg)(V(abs)(z)));
    const VF q = V(div)(e, V(add)(one, e));
    *slope = V(select)(V(lt)(z, V(zero)()), V(sub)(q, y), V(sub)(V(sub)(one, y), q));
    return V(add)(V(fnma)(y, z, V(max)(V(zero)(), z)), V(log1p_unit)(e));
}
FGD_INLINE VF V(clipped_log_loss_from_z)(VF z, VF y, VF param, VF *slope)
{
    return V(clipped_log)(V(log_loss_from_z)(z, y, param, slope), param);
}
FGD_LOSS(log_loss_z)
{
    if (param > 0)
        FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param,
                     V(clipped_log_loss_from_z));
    else
        FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param,
                     V(log_loss_from_z));
}

/* p = a clipped to [epsilon, 1 - epsilon]: -y log p - (1 - y) log(1 - p);
 * slope (p - y) / (p (1 - p)). */
FGD_INLINE VF V(log_loss_from_a)(VF a, VF y, VF param, VF *slope)
{
    (void)param;
    const REAL eps = FGD_PICK(0x1p-23, 0x1p-52);
    const VF one = V(set1)(1);
    const VF p = V(min)(V(set1)(1 - eps), V(max)(V(set1)(eps), a));
    *slope = V(div)(V(sub)(p, y), V(mul)(p, V(sub)(one, p)));
    return V(neg)(V(fma)(y, V(log)(p), V(mul)(V(sub)(one, y), V(log1m)(p))));
}
FGD_LOSS(log_loss_a)
{
    FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param,
                 V(log_loss_from_a));
}

/* Output a = exp(z): a - y z; slope a - y. */
FGD_INLINE VF V(poisson_from_z)(VF z, VF y, VF param, VF *slope)
{
    (void)param;
    const VF a = V(exp)(z);
    *slope = V(sub)(a, y);
    return V(fnma)(y, z, a);
}
FGD_LOSS(poisson_z)
{
    FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param, V(poisson_from_z));
}

/* p = max(a + param, smallest normal): a - y log p; slope 1 - y / p. */
FGD_INLINE VF V(poisson_from_a)(VF a, VF y, VF param, VF *slope)
{
    const VF p = V(max)(V(set1)(FGD_PICK(0x1p-126, 0x1p-1022)), V(add)(a, param));
    *slope = V(sub)(V(set1)(1), V(div)(y, p));
    return V(fnma)(y, V(log)(p), a);
}
FGD_LOSS(poisson_a)
{
    FN(loss_sum)(units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, param, V(poisson_from_a));
}

/* Sum over units of exp(z - m); the terms are left in delta unless that is NULL. */
FGD_INLINE VF FN(sum_exp)(size_t units, const REAL *z, size_t ldz, VF m, REAL *delta, size_t ldd)
{
    VF sum = V(zero)();
    for (size_t k = 0; k < units; k++) {
        const VF e = V(exp)(V(sub)(V(load)(z + k * ldz), m));
        if (delta) V(store)(delta + k * ldd, e);
        sum = V(add)(sum, e);
    }
    return sum;
}

/* Output a = softmax(z), y [n] the labels as REAL, 0 <= label < units: with m = max_k z and
 * S = sum_k exp(z_k - m), (m - z_label) + log S, where param is not 0 with
 * a_label clipped by it; delta (a - onehot) coef. */
FGD_LOSS(cross_entropy_labels_z)
{
    (void)ldy;
    for (size_t j = 0; j < n; j += LANES) {
        const VF m = FN(column_max)(units, x + j, ldx), label = V(load)(y + j);
        REAL *const d = delta ? delta + j : NULL;
        const VF sum = FN(sum_exp)(units, x + j, ldx, m, d, ldd);
        const VF inv = V(div)(V(set1)(1), sum), c = V(load)(coef + j);
        VF chosen = V(zero)();
        for (size_t k = 0; k < units; k++) {
            const VM hit = V(eq)(label, V(set1)((REAL)k));
            chosen = V(select)(hit, V(load)(x + k * ldx + j), chosen);
            if (d) {
                const VF a = V(mul)(V(load)(d + k * ldd), inv);
                const VF target = V(select)(hit, V(set1)(1), V(zero)());
                V(store)(d + k * ldd, V(mul)(V(sub)(a, target), c));
            }
        }
        const VF value = V(add)(V(sub)(m, chosen), V(log)(sum));
        V(store)(sample_loss + j, param > 0 ? V(clipped_log)(value, V(set1)(param)) : value);
    }
}

/* The same for y [units][ldy] of probabilities: sum_k y_k ((m - z_k) + log S);
 * delta (a sum_k y_k - y) coef, the exact derivative also where a row's sum is not 1. */
FGD_LOSS(cross_entropy_rows_z)
{
    (void)param;
    for (size_t j = 0; j < n; j += LANES) {
        const VF m = FN(column_max)(units, x + j, ldx);
        REAL *const d = delta ? delta + j : NULL;
        const VF sum = FN(sum_exp)(units, x + j, ldx, m, d, ldd);
        const VF log_sum = V(log)(sum), c = V(load)(coef + j);
        VF loss = V(zero)(), total = V(zero)();
        for (size_t k = 0; k < units; k++) {
            const VF target = V(load)(y + k * ldy + j);
            const VF term = V(add)(V(sub)(m, V(load)(x + k * ldx + j)), log_sum);
            loss = V(fma)(target, term, loss);
            total = V(add)(total, target);
        }
        V(store)(sample_loss + j, loss);
        if (!d) continue;
        const VF scale = V(div)(total, sum);
        for (size_t k = 0; k < units; k++) {
            const VF a = V(mul)(V(load)(d + k * ldd), scale);
            V(store)(d + k * ldd, V(mul)(V(sub)(a, V(load)(y + k * ldy + j)), c));
        }
    }
}
#undef FGD_LOSS
