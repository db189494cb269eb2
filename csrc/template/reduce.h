/* Sums in one fixed order, in double whatever REAL is: 16 chains (chain r takes the elements
 * r, r + 16, ...), then c[r] += c[r + h] for h = 8, 4, 2, 1.  Chains map to vector lanes, so
 * every vector width gives the same bits.  n is any; no alignment is needed. */

FGD_INLINE vf64 FN(load_wide)(const REAL *x)
{
#if REAL_BITS == 32
    return vf64_widen(x);
#else
    return vf64_load(x);
#endif
}

enum { FN(CHAINS) = 16 / VF64_LANES };

/* What one element x, with its weight w or none, adds to its chain. */
typedef vf64 (*FN(add_term))(vf64 x, vf64 w, vf64 chain);
FGD_INLINE vf64 FN(plain_term)(vf64 x, vf64 w, vf64 c) { return (void)w, vf64_add(c, x); }
FGD_INLINE vf64 FN(weighted_term)(vf64 x, vf64 w, vf64 c) { return vf64_fma(w, x, c); }
FGD_INLINE vf64 FN(square_term)(vf64 x, vf64 w, vf64 c) { return (void)w, vf64_fma(x, x, c); }
FGD_INLINE vf64 FN(abs_term)(vf64 x, vf64 w, vf64 c)
{
    (void)w;
    return vf64_add(c, vf64_and(vf64_set1_bits(0x7fffffffffffffffu), x));
}

FGD_INLINE void FN(add_block)(const REAL *x, const REAL *w, const FN(add_term) term, vf64 *chain)
{
    for (size_t v = 0; v < FN(CHAINS); v++) {
        const vf64 weight = w ? FN(load_wide)(w + v * VF64_LANES) : vf64_zero();
        chain[v] = term(FN(load_wide)(x + v * VF64_LANES), weight, chain[v]);
    }
}
FGD_INLINE double FN(sum_terms)(size_t n, const REAL *x, const REAL *w, const FN(add_term) term)
{
    vf64 chain[FN(CHAINS)];
    for (size_t v = 0; v < FN(CHAINS); v++) chain[v] = vf64_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) FN(add_block)(x + i, w ? w + i : NULL, term, chain);
    if (i < n) { /* zeros leave a chain as it is: no chain is ever -0 */
        REAL x_end[16] = {0}, w_end[16] = {0};
        for (size_t r = 0; i + r < n; r++) {
            x_end[r] = x[i + r];
            w_end[r] = w ? w[i + r] : 0;
        }
        FN(add_block)(x_end, w ? w_end : NULL, term, chain);
    }
    double c[16];
    for (size_t v = 0; v < FN(CHAINS); v++) vf64_store(c + v * VF64_LANES, chain[v]);
    for (size_t h = 8; h > 0; h /= 2)
        for (size_t r = 0; r < h; r++) c[r] += c[r + h];
    return c[0];
}

/* Sum of x [n], or of w x with weights w [n]. */
static double FN(sum16)(size_t n, const REAL *x, const REAL *w)
{
    return w ? FN(sum_terms)(n, x, w, FN(weighted_term))
             : FN(sum_terms)(n, x, NULL, FN(plain_term));
}
/* Sum of x^2, a chain being fma(x, x, c). */
static double FN(row_sumsq)(size_t n, const REAL *x)
{
    return FN(sum_terms)(n, x, NULL, FN(square_term));
}
/* Sum of |x|. */
static double FN(row_sumabs)(size_t n, const REAL *x)
{
    return FN(sum_terms)(n, x, NULL, FN(abs_term));
}

/* Nonzero if no element of x [n] is inf or NaN. */
static int FN(all_finite)(size_t n, const REAL *x)
{
    enum { VECTORS = 4, BLOCK = VECTORS * LANES };
    VF poison[VECTORS]; /* 0 until an inf or a NaN, times 0, makes it NaN for good */
    for (size_t v = 0; v < VECTORS; v++) poison[v] = V(zero)();
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (size_t v = 0; v < VECTORS; v++)
            poison[v] = V(fma)(V(load)(x + i + v * LANES), V(zero)(), poison[v]);
    for (; i + LANES <= n; i += LANES) poison[0] = V(fma)(V(load)(x + i), V(zero)(), poison[0]);
    REAL rest = 0;
    for (; i < n; i++) rest += x[i] * 0;
    const VF all = V(add)(V(add)(poison[0], poison[1]), V(add)(poison[2], poison[3]));
    return rest == 0 && !V(any)(V(mnot)(V(eq)(all, all)));
}
