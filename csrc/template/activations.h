/* The activations and their derivatives, elementwise over [rows][n] with any row strides,
 * and softmax over the units of each sample.  V(<name>_act) and V(<name>_slope) are the
 * definitions on one vector; the kernels below them only loop.  A slope takes what its
 * derivative consumes, z or a, as its comment says.  +-inf goes to the limit, NaN to NaN.
 * Errors are in ULP of the result or, where it crosses 0, in units of epsilon / 2. */

/* a = z.  slope 1. */
FGD_INLINE VF V(identity_act)(VF z, VF param) { return (void)param, z; }

/* a = z > 0 ? z : 0.  Slope from a: a > 0 ? 1 : 0. */
FGD_INLINE VF V(relu_act)(VF z, VF param)
{
    (void)param;
    return V(select)(V(le)(z, V(zero)()), V(zero)(), z);
}
FGD_INLINE VF V(relu_slope)(VF a, VF param)
{
    (void)param;
    return V(select)(V(lt)(V(zero)(), a), V(set1)(1), V(zero)());
}

/* a = z > 0 ? z : alpha z, alpha >= 0.  Slope from a: a > 0 ? 1 : alpha. */
FGD_INLINE VF V(leaky_relu_act)(VF z, VF alpha)
{
    return V(select)(V(lt)(V(zero)(), z), z, V(mul)(alpha, z));
}
FGD_INLINE VF V(leaky_relu_slope)(VF a, VF alpha)
{
    return V(select)(V(lt)(V(zero)(), a), V(set1)(1), alpha);
}

/* a = z > 0 ? z : alpha (exp(z) - 1), alpha > 0.  2.5 ULP.  Slope from a: a > 0 ? 1 : a + alpha. */
FGD_INLINE VF V(elu_act)(VF z, VF alpha)
{
    const VF below = V(mul)(alpha, V(expm1_neg)(V(min)(V(zero)(), z)));
    return V(select)(V(lt)(V(zero)(), z), z, below);
}
FGD_INLINE VF V(elu_slope)(VF a, VF alpha)
{
    return V(select)(V(lt)(V(zero)(), a), V(set1)(1), V(add)(a, alpha));
}

/* a = scale * elu(z; alpha) with the constants that keep mean 0 and variance 1.  2.5 ULP.
 * Slope from a: a > 0 ? scale : a + scale * alpha. */
#define FGD_SELU_SCALE 1.0507009873554805
#define FGD_SELU_ALPHA 1.6732632423543772
FGD_INLINE VF V(selu_act)(VF z, VF param)
{
    (void)param;
    const VF scale = V(set1)((REAL)FGD_SELU_SCALE);
    const VF scale_alpha = V(set1)((REAL)(FGD_SELU_SCALE * FGD_SELU_ALPHA));
    const VF below = V(mul)(scale_alpha, V(expm1_neg)(V(min)(V(zero)(), z)));
    return V(select)(V(lt)(V(zero)(), z), V(mul)(scale, z), below);
}
FGD_INLINE VF V(selu_slope)(VF a, VF param)
{
    (void)param;
    const VF scale_alpha = V(set1)((REAL)(FGD_SELU_SCALE * FGD_SELU_ALPHA));
    return V(select)(V(lt)(V(zero)(), a), V(set1)((REAL)FGD_SELU_SCALE), V(add)(a, scale_alpha));
}

/* a = z Phi(z) = max(z, 0) - |z| Phi(-|z|), Phi the normal distribution.  4 ULP.
 * Slope from z: Phi(z) + z phi(z), which is h for z < 0 and 1 - h for z > 0,
 * h = Phi(-|z|) - |z| phi(z).  3 units. */
FGD_INLINE VF V(gelu_bounded)(VF z) { return V(min)(V(set1)(FGD_PICK(13.5, 38)), V(abs)(z)); }
FGD_INLINE VF V(gelu_act)(VF z, VF param)
{
    (void)param;
    const VF x = V(gelu_bounded)(z), u = V(div)(x, V(add)(x, V(normal_k)()));
    const VF product = V(mul)(V(normal_tail)(u), u);
    const VF a = V(fnma)(product, V(normal_density)(x), V(max)(V(zero)(), z));
    /* Next to the smallest normal, u is below it before a is. */
    const VM is_tiny = V(lt)(x, V(set1)(FGD_PICK(0x1p-120, 0x1p-1016)));
    return V(select)(is_tiny, V(mul)(V(set1)((REAL)0.5), z), a);
}
FGD_INLINE VF V(gelu_slope)(VF z, VF param)
{
    (void)param;
    const VF one = V(set1)(1), inv_sqrt_2pi = V(set1)((REAL)0.3989422804014326779399461);
    const VF x = V(gelu_bounded)(z), inv = V(div)(one, V(add)(x, V(normal_k)()));
    const VF tail = V(mul)(V(normal_tail)(V(mul)(x, inv)), inv);
    const VF h = V(mul)(V(fnma)(x, inv_sqrt_2pi, tail), V(normal_density)(x));
    return V(select)(V(le)(z, V(zero)()), h, V(sub)(one, h));
}

/* exp(z) = p 2^n for silu and mish, z held within [low, high]: a factor of 2^n applied last
 * lets z exp(z) underflow no sooner than its value does. */
FGD_INLINE VF V(exp_parts)(VF z, REAL high, VF *n)
{
    return V(exp_reduced)(V(exp_reduce)(V(min)(V(set1)(high), z), n));
}
/* Below this z exp(z) is 0. */
FGD_INLINE VF V(hold_low)(VF z) { return V(max)(V(set1)(FGD_PICK(-104, -750)), z); }

/* a = z / (1 + exp(-z)).  3.5 ULP.  With e = exp(z), slope from z:
 * e (1 + e + z) / (1 + e)^2, 1 + e with what its rounding loses.  4 units. */
FGD_INLINE VF V(silu_act)(VF z, VF param)
{
    (void)param;
    VF n;
    z = V(hold_low)(z);
    const VF p = V(exp_parts)(z, 40, &n);
    const VF q = V(div)(p, V(add)(V(set1)(1), V(ldexp)(p, n)));
    return V(ldexp)(V(mul)(q, z), n);
}
FGD_INLINE VF V(silu_slope)(VF z, VF param)
{
    (void)param;
    VF n;
    z = V(min)(V(set1)(40), V(hold_low)(z));
    const VF one = V(set1)(1), p = V(exp_parts)(z, 40, &n), e = V(ldexp)(p, n);
    const VF e1 = V(add)(one, e);
    const VF lost = V(sub)(e, V(sub)(e1, one)); /* exactly 1 + e - e1, below 2^24 or 2^53 */
    const VF square = V(fma)(e1, e1, V(mul)(e1, V(add)(lost, lost)));
    return V(ldexp)(V(div)(V(mul)(p, V(add)(e1, V(add)(z, lost))), square), n);
}

/* a = z tanh(log(1 + e)) = z (1 - t) with e = exp(z), d = e (e + 2) + 2, t = 2 / d, for z > 0;
 * for z <= 0, where that would cancel, a = z e (1 - t) with t = e (e + 1) / d.  4 ULP.
 * Slope from z: e ((e + 2) d + 4 z (e + 1)) / d^2.  5 units. */
FGD_INLINE VF V(mish_act)(VF z, VF param)
{
    (void)param;
    VF n;
    z = V(hold_low)(z);
    const VF one = V(set1)(1), two = V(set1)(2);
    const VF p = V(exp_parts)(z, FGD_PICK(20, 40), &n), e = V(ldexp)(p, n);
    const VF d = V(fma)(e, V(add)(e, two), two);
    const VM above = V(lt)(V(zero)(), z);
    const VF t = V(div)(V(select)(above, two, V(fma)(e, e, e)), d);
    const VF factor = V(mul)(z, V(select)(above, one, p));
    return V(ldexp)(V(mul)(factor, V(sub)(one, t)), V(select)(above, V(zero)(), n));
}
FGD_INLINE VF V(mish_slope)(VF z, VF param)
{
    (void)param;
    VF n;
    z = V(min)(V(set1)(FGD_PICK(20, 40)), V(hold_low)(z));
    const VF two = V(set1)(2), p = V(exp_parts)(z, FGD_PICK(20, 40), &n), e = V(ldexp)(p, n);
    const VF e2 = V(add)(e, two), d = V(fma)(e, e2, two);
    const VF z4 = V(mul)(V(set1)(4), z);
    const VF top = V(fma)(e2, d, V(fma)(z4, e, z4));
    return V(ldexp)(V(div)(V(mul)(p, top), V(mul)(d, d)), n);
}

/* a = log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|)).  2.5 ULP.  Slope from z: sigmoid(z).
 * Where param is not 0, a = z with slope 1 for z above it. */
FGD_INLINE VM V(beyond)(VF z, VF param)
{
    return V(mand)(V(lt)(param, z), V(lt)(V(zero)(), param));
}
FGD_INLINE VF V(softplus_act)(VF z, VF param)
{
    const VF a = V(add)(V(max)(V(zero)(), z), V(log1p_unit)(V(exp)(V(neg)(V(abs)(z)))));
    return V(select)(V(beyond)(z, param), z, a);
}
FGD_INLINE VF V(softplus_slope)(VF z, VF param)
{
    return V(select)(V(beyond)(z, param), V(set1)(1), V(sigmoid)(z));
}

/* a = z / (1 + |z|).  1.5 ULP.  Slope from z: 1 / (1 + |z|)^2.  3.5 ULP. */
FGD_INLINE VF V(softsign_act)(VF z, VF param)
{
    (void)param;
    const VF x = V(min)(V(set1)((REAL)0x1p60), V(abs)(z)); /* inf / inf is no limit */
    return V(copysign)(V(div)(x, V(add)(x, V(set1)(1))), z);
}
FGD_INLINE VF V(softsign_slope)(VF z, VF param)
{
    (void)param;
    const VF d = V(add)(V(abs)(z), V(set1)(1));
    return V(div)(V(set1)(1), V(mul)(d, d));
}

/* a = tanh(z).  3 ULP.  Slope from a: 1 - a^2. */
FGD_INLINE VF V(tanh_act)(VF z, VF param) { return (void)param, V(tanh)(z); }
FGD_INLINE VF V(tanh_slope)(VF a, VF param) { return (void)param, V(fnma)(a, a, V(set1)(1)); }

/* a = 1 / (1 + exp(-z)).  2.5 ULP.  Slope from a: a (1 - a). */
FGD_INLINE VF V(sigmoid_act)(VF z, VF param) { return (void)param, V(sigmoid)(z); }
FGD_INLINE VF V(sigmoid_slope)(VF a, VF param)
{
    (void)param;
    return V(mul)(a, V(sub)(V(set1)(1), a));
}

/* a = min(max(z + 3, 0), 6) * (1/6).  1.5 units.  Slope from z: -3 < z < 3 ? 1/6 : 0, where param
 * is not 0 that in place of 1/6. */
FGD_INLINE VF V(hard_sigmoid_act)(VF z, VF param)
{
    (void)param;
    const VF t = V(min)(V(set1)(6), V(max)(V(zero)(), V(add)(z, V(set1)(3))));
    return V(mul)(t, V(set1)((REAL)(1.0 / 6.0)));
}
FGD_INLINE VF V(hard_sigmoid_slope)(VF z, VF param)
{
    const VF given = V(select)(V(lt)(V(zero)(), param), param, V(set1)((REAL)(1.0 / 6.0)));
    return V(select)(V(lt)(V(abs)(z), V(set1)(3)), given, V(zero)());
}

/* a = exp(z).  1 ULP.  Slope from a: a. */
FGD_INLINE VF V(exp_act)(VF z, VF param) { return (void)param, V(exp)(z); }
FGD_INLINE VF V(exp_slope)(VF a, VF param) { return (void)param, a; }

/* a[i][j] = f(z[i][j], param), i < rows, j < n; n a multiple of LANES.  z == a is allowed. */
FGD_INLINE void FN(map)(size_t rows, size_t n, const REAL *z, size_t ldz, REAL *a, size_t lda,
                        REAL param, VF (*f)(VF, VF))
{
    const VF p = V(set1)(param);
    if (ldz == n && lda == n) {
        n *= rows;
        rows = 1;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j += LANES)
            V(store)(a + i * lda + j, f(V(load)(z + i * ldz + j), p));
}
/* d[i][j] *= slope(x[i][j], param). */
FGD_INLINE void FN(map_grad)(size_t rows, size_t n, const REAL *x, size_t ldx, REAL *d, size_t ldd,
                             REAL param, VF (*slope)(VF, VF))
{
    const VF p = V(set1)(param);
    if (ldx == n && ldd == n) {
        n *= rows;
        rows = 1;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j += LANES) {
            REAL *const to = d + i * ldd + j;
            V(store)(to, V(mul)(V(load)(to), slope(V(load)(x + i * ldx + j), p)));
        }
}

/* act_<name>: a = activation of z, [rows][n] each, n a multiple of UNIT; z == a is allowed.
 * act_<name>_grad: d *= slope at x, x being z or a; x and d do not overlap. */
#define FGD_ACTIVATION(name)                                                                     \
    static void FN(act_##name)(size_t rows, size_t n, const REAL *z, size_t ldz, REAL *a,        \
                               size_t lda, REAL param)                                           \
    {                                                                                            \
        FN(map)(rows, n, z, ldz, a, lda, param, V(name##_act));                                  \
    }                                                                                            \
    static void FN(act_##name##_grad)(size_t rows, size_t n, const REAL *x, size_t ldx, REAL *d, \
                                      size_t ldd, REAL param)                                    \
    {                                                                                            \
        FN(map_grad)(rows, n, x, ldx, d, ldd, param, V(name##_slope));                           \
    }
FGD_ACTIVATION(relu)
FGD_ACTIVATION(leaky_relu)
FGD_ACTIVATION(elu)
FGD_ACTIVATION(selu)
FGD_ACTIVATION(gelu)
FGD_ACTIVATION(silu)
FGD_ACTIVATION(mish)
FGD_ACTIVATION(softplus)
FGD_ACTIVATION(softsign)
FGD_ACTIVATION(tanh)
FGD_ACTIVATION(sigmoid)
FGD_ACTIVATION(hard_sigmoid)
FGD_ACTIVATION(exp)
#undef FGD_ACTIVATION

static void FN(act_identity)(size_t rows, size_t n, const REAL *z, size_t ldz, REAL *a, size_t lda,
                             REAL param)
{
    if (z != a) FN(map)(rows, n, z, ldz, a, lda, param, V(identity_act));
}
static void FN(act_identity_grad)(size_t rows, size_t n, const REAL *x, size_t ldx, REAL *d,
                                  size_t ldd, REAL param)
{
    (void)rows, (void)n, (void)x, (void)ldx, (void)d, (void)ldd, (void)param;
}

/* Largest value of one block of LANES columns over the units; NaN is passed over. */
FGD_INLINE VF FN(column_max)(size_t units, const REAL *z, size_t ldz)
{
    VF m = V(load)(z);
    for (size_t k = 1; k < units; k++) m = V(max)(V(load)(z + k * ldz), m);
    return m;
}

/* a[k][j] = exp(z[k][j] - max_k z) / sum over k ascending, each sample a column.  z == a is
 * allowed.  NaN or +inf in a column gives NaN in the whole column. */
static void FN(act_softmax)(size_t units, size_t n, const REAL *z, size_t ldz, REAL *a, size_t lda)
{
    for (size_t j = 0; j < n; j += LANES) {
        const VF m = FN(column_max)(units, z + j, ldz);
        VF sum = V(zero)();
        for (size_t k = 0; k < units; k++) {
            const VF e = V(exp)(V(sub)(V(load)(z + k * ldz + j), m));
            V(store)(a + k * lda + j, e);
            sum = V(add)(sum, e);
        }
        const VF inv = V(div)(V(set1)(1), sum);
        for (size_t k = 0; k < units; k++)
            V(store)(a + k * lda + j, V(mul)(V(load)(a + k * lda + j), inv));
    }
}
/* d[k][j] = a[k][j] (d[k][j] - sum_k d a), the sum one fma chain over k ascending. */
static void FN(act_softmax_grad)(size_t units, size_t n, const REAL *a, size_t lda, REAL *d,
                                 size_t ldd)
{
    for (size_t j = 0; j < n; j += LANES) {
        VF sum = V(zero)();
        for (size_t k = 0; k < units; k++)
            sum = V(fma)(V(load)(d + k * ldd + j), V(load)(a + k * lda + j), sum);
        for (size_t k = 0; k < units; k++) {
            REAL *const to = d + k * ldd + j;
            V(store)(to, V(mul)(V(load)(a + k * lda + j), V(sub)(V(load)(to), sum)));
        }
    }
}
