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
enum { FN(PLAIN_TERM), FN(WEIGHTED_TERM), FN(SQUARE_TERM), FN(ABS_TERM) };

FGD_INLINE vf64 FN(add_terms)(const int term, vf64 x, vf64 w, vf64 chain)
{
    if (term == FN(WEIGHTED_TERM)) return vf64_fma(w, x, chain);
    if (term == FN(SQUARE_TERM)) return vf64_fma(x, x, chain);
    if (term == FN(ABS_TERM)) x = vf64_and(vf64_set1_bits(0x7fffffffffffffffu), x);
    return vf64_add(chain, x);
}
/* Adds a term for each of 16 elements. */
FGD_INLINE void FN(add_block)(const int term, const REAL *x, const REAL *w, vf64 *chain)
{
    for (size_t v = 0; v < FN(CHAINS); v++) {
        const size_t at = v * VF64_LANES;
        const vf64 weight = w ? FN(load_wide)(w + at) : vf64_zero();
        chain[v] = FN(add_terms)(term, FN(load_wide)(x + at), weight, chain[v]);
    }
}
/* The n < 16 elements at x, and zeros. */
FGD_INLINE void FN(copy_first)(const REAL *x, size_t n, REAL *to)
{
    for (size_t v = 0; v < 16; v += LANES)
        V(store)(to + v, V(load_first)(x + v, n > v ? n - v : 0));
}

FGD_INLINE double FN(sum_terms)(size_t n, const REAL *x, const REAL *w, const int term)
{
    vf64 chain[FN(CHAINS)];
    for (size_t v = 0; v < FN(CHAINS); v++) chain[v] = vf64_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) FN(add_block)(term, x + i, w ? w + i : NULL, chain);
    if (i < n) { /* zeros leave a chain as it is: no chain is ever -0 */
        REAL x_end[16], w_end[16];
        FN(copy_first)(x + i, n - i, x_end);
        if (w) FN(copy_first)(w + i, n - i, w_end);
        FN(add_block)(term, x_end, w ? w_end : NULL, chain);
    }
    for (size_t h = FN(CHAINS) / 2; h > 0; h /= 2)
        for (size_t v = 0; v < h; v++) chain[v] = vf64_add(chain[v], chain[v + h]);
    return vf64_first(vf64_tree(chain[0]));
}

/* Sum of x [n], or of w x with weights w [n]. */
static double FN(sum16)(size_t n, const REAL *x, const REAL *w)
{
    return w ? FN(sum_terms)(n, x, w, FN(WEIGHTED_TERM))
             : FN(sum_terms)(n, x, NULL, FN(PLAIN_TERM));
}
/* Sum of x^2, a chain being fma(x, x, c). */
static double FN(row_sumsq)(size_t n, const REAL *x)
{
    return FN(sum_terms)(n, x, NULL, FN(SQUARE_TERM));
}
/* Sum of |x|. */
static double FN(row_sumabs)(size_t n, const REAL *x)
{
    return FN(sum_terms)(n, x, NULL, FN(ABS_TERM));
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
