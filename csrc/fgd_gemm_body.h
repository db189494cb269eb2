/* The loops around the micro-kernels, for REAL, TYPE(name); included by fgd_net.c.  No SIMD
 * here.  Rows and columns of C are divided freely; blocks of k continue from the stored C, so
 * each element stays one chain over k ascending, whatever the sizes of the blocks. */

/* What is done with finished elements of C: rows i .. i + rows - 1, columns j .. j + n - 1. */
typedef void (*TYPE(epilogue_fn))(void *context, size_t i, size_t rows, size_t j, size_t n,
                                  const REAL *c, size_t ldc);

/* C[m][n] = bias (a value a row; NULL: zero) + A[m][k] B[k][n]; n is a multiple of the unit. */
typedef struct {
    size_t m, n, k;
    int by_column; /* A is a[k * as + i], else a[i * as + k] */
    const REAL *a;
    size_t as;
    const REAL *b;
    size_t ldb;
    REAL *c; /* NULL: C is never stored whole, only the epilogue sees it, in scratch */
    size_t ldc;
    const REAL *bias;
    int starts_from_c;          /* C is there already: instead of bias */
    size_t most_m, most_k;      /* 0, or smaller blocks than usual */
    REAL *scratch;              /* FGD_SCRATCH_BYTES, used if c is NULL */
    TYPE(epilogue_fn) epilogue; /* NULL: none */
    TYPE(epilogue_fn) announce; /* NULL: none; called, with c NULL, before the last block of k */
    void *context;
} TYPE(product);

/* Block sizes of a product; those of k are counted so that a panel of B stays in the first cache. */
static size_t TYPE(most_k)(const TYPE(table) * t, const TYPE(product) * p)
{
    if (p->most_k) return p->most_k < p->k ? p->most_k : p->k;
    const size_t panel_row = t->max_vectors * t->lanes * sizeof(REAL);
    const size_t kc = FGD_PANEL_BYTES / panel_row;
    return p->k <= kc + kc / 2 ? p->k : kc < FGD_MOST_KC ? kc : FGD_MOST_KC;
}

/* What of A and B the block with rows ic .. and indices pc .. of k will read. */
static void TYPE(plan_prefetch)(const TYPE(product) * p, size_t ic, size_t mc, size_t pc, size_t kc,
                                size_t jc, size_t nc, size_t tiles, fgd_prefetch *a,
                                fgd_prefetch *b)
{
    *a = *b = (fgd_prefetch){0};
    const size_t a_lines = p->by_column ? p->k : p->m;
    if (a_lines * p->as * sizeof(REAL) > FGD_RESIDENT_BYTES)
        *a = p->by_column
                 ? fgd_plan_prefetch(p->a + ic + pc * p->as, kc, mc * sizeof(REAL),
                                     p->as * sizeof(REAL), tiles)
                 : fgd_plan_prefetch(p->a + ic * p->as + pc, mc, kc * sizeof(REAL),
                                     p->as * sizeof(REAL), tiles);
    if (p->k * p->ldb * sizeof(REAL) > FGD_RESIDENT_BYTES)
        *b = fgd_plan_prefetch(p->b + pc * p->ldb + jc, kc, nc * sizeof(REAL),
                               p->ldb * sizeof(REAL), tiles);
}

/* All k of one block of rows and columns that is small enough for the second-level cache.
 * next_mc rows, or none, follow after these. */
static void TYPE(gemm_block)(const TYPE(table) * t, const TYPE(product) * p, size_t ic, size_t mc,
                             size_t next_mc, size_t jc, size_t nc)
{
    const size_t vectors = nc / t->lanes;
    const size_t pieces = (vectors + t->max_vectors - 1) / t->max_vectors;
    const size_t most_k = TYPE(most_k)(t, p);
    const int one_block = most_k == p->k;
    const TYPE(ukr_fn)(*const ukrs)[25] = p->by_column ? t->ukr_by_column : t->ukr_by_row;
    const size_t tiles = pieces * (mc / t->tile_rows[(vectors + pieces - 1) / pieces] + 1);
    FOR_BLOCKS(pc, k_cur, p->k, most_k)
    {
        const size_t k_next = pc + k_cur;
        const int is_last = k_next == p->k;
        const REAL *bias = pc == 0 && p->bias ? p->bias + ic : NULL;
        fgd_prefetch next_a = {0}, next_b = {0};
        if (!is_last)
            TYPE(plan_prefetch)(p, ic, mc, k_next, k_cur < p->k - k_next ? k_cur : p->k - k_next,
                                jc, nc, tiles, &next_a, &next_b);
        else if (next_mc)
            TYPE(plan_prefetch)(p, ic + mc, next_mc, 0, k_cur, jc, nc, tiles, &next_a, &next_b);
        for (size_t piece = 0, jr = 0; piece < pieces; piece++) {
            const size_t nv = vectors / pieces + (piece < vectors % pieces), n = nv * t->lanes;
            const REAL *b = p->b + pc * p->ldb + jc + jr;
            size_t group = 0; /* rows finished since the last epilogue */
            FOR_BLOCKS(ir, rows, mc, t->tile_rows[nv])
            {
                const size_t i = ic + ir;
                const REAL *a = p->a + (p->by_column ? i + pc * p->as : i * p->as + pc);
                REAL *c;
                size_t ldc;
                if (p->c) {
                    ldc = p->ldc;
                    c = p->c + i * ldc + jc + jr;
                } else if (one_block) {
                    ldc = n;
                    c = p->scratch + group * n;
                } else {
                    ldc = nc;
                    c = p->scratch + ir * nc + jr;
                }
                fgd_prefetch_some(&next_a);
                fgd_prefetch_some(&next_b);
                if (is_last && p->announce) p->announce(p->context, i, rows, jc + jr, n, NULL, 0);
                ukrs[nv][rows](k_cur, a, (ptrdiff_t)p->as, b, (ptrdiff_t)p->ldb, c, (ptrdiff_t)ldc,
                               bias ? bias + ir : NULL, pc > 0 || p->starts_from_c);
                group += rows;
                if (group >= FGD_GROUP_ROWS || ir + rows == mc) {
                    if (is_last && p->epilogue)
                        p->epilogue(p->context, i + rows - group, group, jc + jr, n,
                                    c - (group - rows) * ldc, ldc);
                    group = 0;
                }
            }
            jr += n;
        }
    }
}

static void TYPE(gemm)(const TYPE(table) * t, const TYPE(product) * p)
{
    /* Rows of W that stream by need not fit a cache. */
    const size_t nc = p->most_k ? p->n : FGD_ROW_BYTES / sizeof(REAL);
    const size_t mc = p->most_m ? p->most_m : p->c ? FGD_BLOCK_ROWS : FGD_SCRATCH_ROWS;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    FOR_BLOCKS(ju, units, p->n / unit, nc / unit)
    FOR_BLOCKS(ic, rows, p->m, mc)
    {
        const size_t left = p->m - ic - rows;
        TYPE(gemm_block)(t, p, ic, rows, left < rows ? left : rows, ju * unit, units * unit);
    }
}
