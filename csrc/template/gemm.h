/* GEMM micro-kernels, the 16-chain kernel of narrow layers, and column sums.
 * Parameters: REAL, VF, V(op), LANES, FN(name), FGD_VECTOR_REGISTERS (see real32.h, isa/).
 * No loop over tiles here: fgd_gemm_body.h owns those. */

FGD_INLINE const REAL *FN(offset)(const void *base, ptrdiff_t bytes)
{
    return (const REAL *)(const void *)((const char *)base + bytes);
}

/* Where A and B of a tile are, in step with k; strides in bytes. */
typedef struct {
    const REAL *a[8]; /* by rows: every third one; by columns: the current one */
    ptrdiff_t as;
    const REAL *b;
    ptrdiff_t ldb, ldb_thrice;
} FN(operands);

/* Steps of k, at most FGD_UKR_STEPS of them: acc[mr][nv] += the column of A times the row of B.  Where
 * an instruction has room for it, an address is a pointer and a multiple of a stride, which is hidden after
 * each use, since the compiler else adds it up in an instruction of its own: where a core's other
 * hardware thread is at work, each one beside the multiply-adds costs time. */
FGD_INLINE void FN(ukr_steps)(const int steps, const int mr, const int nv, const int by_column,
                              FN(operands) * at, VF *acc)
{
    const int hides = FGD_INDEXED_LOADS && nv > 1 && mr > 3;
    FGD_UNROLL(4)
    for (int q = 0; q < steps; q++) {
        ptrdiff_t *const ldb = q == 3 ? &at->ldb_thrice : &at->ldb;
        VF bv[4];
        FGD_UNROLL(4)
        for (int j = 0; j < nv; j++) {
            bv[j] = V(load)(FN(offset)(at->b, (q == 3 ? 1 : q) * *ldb) + j * LANES);
            if (hides && j + 1 < nv) FGD_HIDE(*ldb);
        }
        FGD_UNROLL(24)
        for (int i = 0; i < mr; i++) {
            const REAL *const a =
                by_column ? at->a[0] + i : FN(offset)(at->a[i / 3], i % 3 * at->as) + q;
            if (nv == 1) {
                acc[i] = V(accumulate_one)(a, bv[0], acc[i]);
                continue;
            }
            const VF av = V(set1)(*a);
            if (hides && !by_column) FGD_HIDE(at->as);
            FGD_UNROLL(4)
            for (int j = 0; j < nv; j++)
                acc[i * nv + j] = V(accumulate)(av, bv[j], acc[i * nv + j]);
        }
        if (by_column) {
            /* The next elements of A lie a row of W apart: no processor foresees that. Eight
             * steps are the time that a line takes from the second-level cache. */
            __builtin_prefetch((const void *)((uintptr_t)at->a[0] + 8 * (uintptr_t)at->as));
            at->a[0] = FN(offset)(at->a[0], at->as);
            FGD_HIDE(at->a[0]);
        }
    }
    /* By columns it has moved on already. */
    const int n_moved = by_column ? 0 : (mr + 2) / 3;
    FGD_UNROLL(8)
    for (int i = 0; i < n_moved; i++) {
        at->a[i] += steps;
        FGD_HIDE(at->a[i]);
    }
    at->b = FN(offset)(at->b, steps * at->ldb);
    FGD_HIDE(at->b);
}

/* w = fma(-lr, g, w) of a tile whose gradient is g, which its terms change: as update_sgd does it with
 * a scale of 1 and without penalties.  A weight that would become inf or NaN keeps its value. */
FGD_INLINE void FN(sgd_tile)(const int mr, const int nv, VF *g, TYPE(sgd) * sgd)
{
    const VF neg_lr = V(set1)(sgd->neg_lr), infinity = V(infinity)();
    VM finite = V(eq)(V(zero)(), V(zero)());
    REAL *w = sgd->w;
    ptrdiff_t ldw = sgd->ldw;
    __asm__("" : "+r"(w), "+r"(ldw)); /* see the end of ukr_body */
    if (sgd->has_terms) {
        const VF zero = V(zero)(), clip = V(set1)(sgd->clip), decay = V(set1)(sgd->decay);
        FGD_UNROLL(24)
        for (int i = 0; i < mr; i++) FGD_UNROLL(4)
        for (int j = 0; j < nv; j++) {
            /* Penalties of zero have made +0 of -0 where that can still be told. */
            const VF terms = V(add)(g[i * nv + j], zero);
            g[i * nv + j] = V(fma)(decay, V(load)(w + i * ldw + j * LANES),
                                   V(min)(clip, V(max)(V(neg)(clip), terms)));
        }
    }
    FGD_UNROLL(24)
    for (int i = 0; i < mr; i++) FGD_UNROLL(4)
    for (int j = 0; j < nv; j++) {
        REAL *at = w + i * ldw + j * LANES;
        const VF old = V(load)(at), updated = V(fma)(neg_lr, g[i * nv + j], old);
        const VM ok = V(lt)(V(abs)(updated), infinity);
        V(store)(at, V(select)(ok, updated, old));
        finite = V(mand)(finite, ok);
    }
    sgd->diverged |= V(any)(V(mnot)(finite));
}

/* One tile: C[mr][nv * LANES], every element one chain c = fma(a_k, b_k, c), k > 0 ascending.
 * The chain starts from bias[i] if bias is given, else from C with FGD_UKR_LOAD_C, else from
 * zero (then C is not read).  In the end it is multiplied by relu's slope at gate, laid out as C,
 * if that is given, and goes through relu with FGD_UKR_RELU.  With sgd, by rows only, the
 * sums update weights: C is not written, gate and FGD_UKR_RELU are not looked at.
 * A is a[k * as + i] if by_column, else a[i * as + k]; B is b[k * ldb + j].  No alignment is asked for; A, B and C do not overlap.
 * mr, nv and by_column are compile-time constants in every use, so that the tile lives in
 * registers. */
FGD_INLINE void FN(ukr_body)(const int mr, const int nv, const int by_column, size_t k,
                             const REAL *a, ptrdiff_t as, const REAL *b, ptrdiff_t ldb, REAL *c,
                             ptrdiff_t ldc, const REAL *bias, const REAL *gate, TYPE(sgd) * sgd,
                             int flags, const fgd_ask *ask)
{
    VF acc[24];
    if (bias) {
        FGD_UNROLL(24)
        for (int i = 0; i < mr; i++) FGD_UNROLL(4)
        for (int j = 0; j < nv; j++) acc[i * nv + j] = V(set1)(bias[i]);
    } else if (flags & FGD_UKR_LOAD_C) {
        FGD_UNROLL(24)
        for (int i = 0; i < mr; i++) FGD_UNROLL(4)
        for (int j = 0; j < nv; j++) acc[i * nv + j] = V(load)(c + i * ldc + j * LANES);
    } else {
        FGD_UNROLL(24)
        for (int i = 0; i < mr * nv; i++) acc[i] = V(zero)();
    }
    if (!by_column && sgd && sgd->asks_to_write) {
        enum { LINE = FGD_ALIGN_BYTES / sizeof(REAL) };
        FGD_UNROLL(24)
        for (int i = 0; i < mr; i++) FGD_UNROLL(4)
        for (int j = 0; j < nv * LANES; j += LINE) __builtin_prefetch(sgd->w + i * sgd->ldw + j, 1);
    }
    FN(operands)
    at = {.as = as * (ptrdiff_t)sizeof(REAL),
          .b = b,
          .ldb = ldb * (ptrdiff_t)sizeof(REAL),
          .ldb_thrice = 3 * ldb * (ptrdiff_t)sizeof(REAL)};
    FGD_HIDE(at.as);
    FGD_HIDE(at.ldb);
    FGD_HIDE(at.ldb_thrice);
    const int n_pointers = by_column ? 1 : (mr + 2) / 3;
    FGD_UNROLL(8)
    for (int i = 0; i < n_pointers; i++) at.a[i] = FN(offset)(a, 3 * i * at.as);
    uintptr_t asked = (uintptr_t)ask->at;
    const uintptr_t second = (uintptr_t)ask->second, third = (uintptr_t)ask->third;
    for (size_t turns = k / FGD_UKR_STEPS; turns > 0; turns--) {
        __builtin_prefetch((const void *)asked, 0, 2);
        if (second) {
            __builtin_prefetch((const void *)(asked + second), 0, 2);
            __builtin_prefetch((const void *)(asked + third), 0, 2);
        }
        asked += (uintptr_t)ask->stride;
        FN(ukr_steps)(FGD_UKR_STEPS, mr, nv, by_column, &at, acc);
    }
    for (size_t left = k % FGD_UKR_STEPS; left > 0; left--)
        FN(ukr_steps)(1, mr, nv, by_column, &at, acc);
    if (!by_column && sgd) {
        FN(sgd_tile)(mr, nv, acc, sgd);
        return;
    }
    /* Else the compiler computes the address of every row before the loop, to keep it in memory. */
    __asm__("" : "+r"(c), "+r"(ldc));
    if (gate) {
        FGD_UNROLL(24)
        for (int i = 0; i < mr; i++) FGD_UNROLL(4)
        for (int j = 0; j < nv; j++) {
            const VF a_below = V(load)(gate + i * ldc + j * LANES);
            acc[i * nv + j] = V(mul)(acc[i * nv + j], V(relu_slope)(a_below, a_below));
        }
    } else if (flags & FGD_UKR_RELU) {
        FGD_UNROLL(24)
        for (int i = 0; i < mr * nv; i++) acc[i] = V(relu_act)(acc[i], acc[i]);
    }
    FGD_UNROLL(24)
    for (int i = 0; i < mr; i++) FGD_UNROLL(4)
    for (int j = 0; j < nv; j++) V(store)(c + i * ldc + j * LANES, acc[i * nv + j]);
}

/* One instance per tile height and width: fgd_s<by_column|by_row>_<mr>x<nv>v_<isa>. */
#define FGD_UKR(mr, nv)                                                                 \
    static void FN(gemm_by_row_ukr_##mr##x##nv##v)(                                     \
        size_t k, const REAL *a, ptrdiff_t as, const REAL *b, ptrdiff_t ldb, REAL *c,   \
        ptrdiff_t ldc, const REAL *bias, const REAL *gate, TYPE(sgd) * sgd, int flags,  \
        const fgd_ask *ask)                                                             \
    {                                                                                   \
        FN(ukr_body)(mr, nv, 0, k, a, as, b, ldb, c, ldc, bias, gate, sgd, flags, ask); \
    }                                                                                   \
    static void FN(gemm_by_column_ukr_##mr##x##nv##v)(                                  \
        size_t k, const REAL *a, ptrdiff_t as, const REAL *b, ptrdiff_t ldb, REAL *c,   \
        ptrdiff_t ldc, const REAL *bias, const REAL *gate, TYPE(sgd) * sgd, int flags,  \
        const fgd_ask *ask)                                                             \
    {                                                                                   \
        FN(ukr_body)(mr, nv, 1, k, a, as, b, ldb, c, ldc, bias, gate, sgd, flags, ask); \
    }
FGD_TILES(FGD_UKR)
#undef FGD_UKR

/* The first columns of `chain16`: nv vectors of each unit, all chains in registers, four at a time:
 * r, r + 4, r + 8 and r + 12 are what the tree adds first. */
FGD_INLINE void FN(chain16_columns)(const int units, const int nv, size_t fan_in, const REAL *x,
                                    size_t ldx, const REAL *w, size_t ldw, const REAL *bias,
                                    REAL *z, size_t ldz)
{
    const size_t whole = fan_in & ~(size_t)15;
    VF sums[4][6]; /* of chains r mod 4: one for each unit and vector */
    FGD_UNROLL(4)
    for (int r = 0; r < 4; r++) {
        VF acc[4][6];
        FGD_UNROLL(4)
        for (int q = 0; q < 4; q++) FGD_UNROLL(6)
        for (int i = 0; i < units * nv; i++)
            acc[q][i] = r == 0 && q == 0 ? V(set1)(bias[i / nv]) : V(zero)();
        const REAL *xp = x + r * ldx, *wp = w + r * ldw;
        for (size_t k = r; k < fan_in; k += 16) {
            /* Of the last, incomplete, 16 rows some chains have none. */
            const size_t rows = k < whole ? 16 : fan_in - k;
            FGD_UNROLL(4)
            for (int q = 0; q < 4; q++) {
                if ((size_t)(4 * q) >= rows) break;
                VF xv[4];
                FGD_UNROLL(4)
                for (int j = 0; j < nv; j++) xv[j] = V(load)(xp + 4 * q * ldx + j * LANES);
                FGD_UNROLL(4)
                for (int u = 0; u < units; u++) {
                    const VF wv = V(set1)(wp[4 * q * ldw + u]);
                    FGD_UNROLL(4)
                    for (int j = 0; j < nv; j++)
                        acc[q][u * nv + j] = V(fma)(wv, xv[j], acc[q][u * nv + j]);
                }
            }
            xp += 16 * ldx;
            wp += 16 * ldw;
        }
        FGD_UNROLL(6)
        for (int i = 0; i < units * nv; i++)
            sums[r][i] = V(add)(V(add)(acc[0][i], acc[2][i]), V(add)(acc[1][i], acc[3][i]));
    }
    FGD_UNROLL(6)
    for (int i = 0; i < units * nv; i++)
        V(store)(z + i / nv * ldz + i % nv * LANES,
                 V(add)(V(add)(sums[0][i], sums[2][i]), V(add)(sums[1][i], sums[3][i])));
}

FGD_INLINE void FN(chain16_units)(const int units, const int nv, size_t fan_in, size_t n,
                                  const REAL *x, size_t ldx, const REAL *w, size_t ldw,
                                  const REAL *bias, REAL *z, size_t ldz)
{
    size_t j = 0;
    for (; j + nv * LANES <= n; j += nv * LANES)
        FN(chain16_columns)(units, nv, fan_in, x + j, ldx, w, ldw, bias, z + j, ldz);
    for (; j < n; j += LANES)
        FN(chain16_columns)(units, 1, fan_in, x + j, ldx, w, ldw, bias, z + j, ldz);
}

/* Forward sums of a layer with at most four units: z[unit][n] from x[fan_in][ldx] and
 * w[k * ldw + unit].  16 chains by k mod 16, the first started from the bias, added in the
 * tree 8, 4, 2, 1: the latency of one long chain would otherwise bound a linear model. */
static void FN(chain16)(size_t units, size_t fan_in, size_t n, const REAL *x, size_t ldx,
                        const REAL *w, size_t ldw, const REAL *bias, REAL *z, size_t ldz)
{
    enum { MANY = FGD_VECTOR_REGISTERS >= 32 };
    switch (units) {
    case 1: FN(chain16_units)(1, MANY ? 4 : 2, fan_in, n, x, ldx, w, ldw, bias, z, ldz); return;
    case 2: FN(chain16_units)(2, MANY ? 2 : 1, fan_in, n, x, ldx, w, ldw, bias, z, ldz); return;
    case 3: FN(chain16_units)(3, MANY ? 2 : 1, fan_in, n, x, ldx, w, ldw, bias, z, ldz); return;
    }
    if (MANY) {
        FN(chain16_units)(4, 1, fan_in, n, x, ldx, w, ldw, bias, z, ldz);
    } else {
        FN(chain16_units)(2, 1, fan_in, n, x, ldx, w, ldw, bias, z, ldz);
        FN(chain16_units)(2, 1, fan_in, n, x, ldx, w + 2, ldw, bias + 2, z + 2 * ldz, ldz);
    }
}

/* sums[n] = sum over k rows of x[k][ldx], rows ascending, starting from zero. */
static void FN(column_sums)(size_t k, size_t n, const REAL *x, size_t ldx, REAL *sums)
{
    for (size_t j = 0; j < n; j += LANES) {
        VF acc = V(zero)();
        for (size_t p = 0; p < k; p++) acc = V(add)(acc, V(load)(x + p * ldx + j));
        V(store)(sums + j, acc);
    }
}

/* a[rows][n] *= b[rows][n]. */
static void FN(multiply)(size_t rows, size_t n, REAL *a, size_t lda, const REAL *b, size_t ldb)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j += LANES)
            V(store)(a + i * lda + j, V(mul)(V(load)(a + i * lda + j), V(load)(b + i * ldb + j)));
}

/* Multiply-adds in independent registers, the bound that benchmarks are measured against:
 * executes 48 * LANES * rounds of them.  More sums than latency asks for, as some come late. */
static void FN(fma_burn)(size_t rounds, REAL *sink)
{
    enum { SUMS = FGD_VECTOR_REGISTERS >= 32 ? 24 : 12 };
    VF acc[SUMS];
    const VF x = V(set1)((REAL)0.5), y = V(set1)((REAL)1);
    FGD_UNROLL(24)
    for (int i = 0; i < SUMS; i++) /* all different, and 0 in all */
        acc[i] = V(set1)((REAL)i - (REAL)(SUMS - 1) / 2);
    for (size_t p = 0; p < 48 / SUMS * rounds; p++) {
        FGD_UNROLL(24)
        for (int i = 0; i < SUMS; i++) acc[i] = V(accumulate)(x, y, acc[i]);
    }
    VF total = V(zero)();
    FGD_UNROLL(24)
    for (int i = 0; i < SUMS; i++) total = V(add)(total, acc[i]);
    V(store)(sink, total);
}
