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
    int ends_in_relu;           /* what is stored is relu of the sums */
    const REAL *gate;           /* NULL, or a as C: sums are multiplied by relu's slope there */
    TYPE(sgd) * sgd; /* NULL, or the update by C, which is not stored, of the weights at */
    REAL *weights;  /* the first row and column of C */
    size_t most_m;              /* 0, or smaller blocks than usual */
    REAL *scratch; /* FGD_SCRATCH_BYTES, used if c is NULL */
    TYPE(epilogue_fn) epilogue; /* NULL: none */
    TYPE(epilogue_fn) announce; /* NULL: none; called, with c NULL, before the last block of k */
    const REAL *updated[3]; /* laid out as C, ldu apart: what an update reads and writes, */
    size_t ldu; /* where that is too large for the second-level cache */
    void *context;
    const fgd_look *look; /* NULL, or where to look around between two blocks */
    fgd_ahead *ahead; /* NULL, or rows of a later batch, some asked for after each group of tiles */
    int far_a, far_b; /* set by gemm: too large to be in the second-level cache already */
} TYPE(product);

/* Block sizes of a product; those of k are counted so that a panel of B stays in a cache. */
static size_t TYPE(most_k)(const TYPE(table) * t, const TYPE(product) * p)
{
    const size_t panel_row = t->max_vectors * t->lanes * sizeof(REAL);
    const fgd_blocking *blocking = fgd_active_blocking;
    if (p->k * panel_row <= blocking->whole_bytes) return p->k; /* without a division */
    const size_t kc = blocking->panel_bytes / panel_row;
    return kc < blocking->most_k ? kc : blocking->most_k;
}

/* Rows ic .. ic + mc - 1 and columns jc .. jc + nc - 1 of C. */
typedef struct {
    size_t ic, mc, jc, nc;
} TYPE(block);

/* Adds what of A and B a block needs for indices pc .. pc + kc - 1 of k, where it is not in the
 * second-level cache by then: all k of B's columns stay there, if they are few enough, from one
 * block of rows to the next. */
static void TYPE(add_operands)(const TYPE(product) * p, const TYPE(block) * block, int has_b,
                               size_t pc, size_t kc, fgd_areas *areas)
{
    if (p->far_a && p->by_column)
        fgd_add_area(areas, (fgd_area){(const char *)(p->a + block->ic + pc * p->as), kc,
                                       block->mc * sizeof(REAL), p->as * sizeof(REAL), 0, 0});
    else if (p->far_a)
        fgd_add_area(areas, (fgd_area){(const char *)(p->a + block->ic * p->as + pc), block->mc,
                                       kc * sizeof(REAL), p->as * sizeof(REAL), 0, 0});
    if (p->far_b && !has_b)
        fgd_add_area(areas, (fgd_area){(const char *)(p->b + pc * p->ldb + block->jc), kc,
                                       block->nc * sizeof(REAL), p->ldb * sizeof(REAL), 0, 0});
}

/* Adds rows from .. end - 1 of a block of what the epilogue reads and writes. */
static void TYPE(add_updated)(const TYPE(product) * p, const TYPE(block) * block, size_t from,
                              size_t end, fgd_areas *areas)
{
    if (!p->updated[0] || end == from) return;
    const char *base = (const char *)(p->updated[0] + (block->ic + from) * p->ldu + block->jc);
    ptrdiff_t distance[2];
    for (int i = 0; i < 2; i++)
        distance[i] = p->updated[i + 1]
                          ? (ptrdiff_t)((uintptr_t)p->updated[i + 1] - (uintptr_t)p->updated[0])
                          : 0;
    fgd_add_area(areas, (fgd_area){base, end - from, block->nc * sizeof(REAL),
                                   p->ldu * sizeof(REAL), distance[0], distance[1]});
}

/* All k of one block of rows and columns that is small enough for the second-level cache; next
 * comes after it, or nothing if it is NULL. */
static void TYPE(gemm_block)(const TYPE(table) * t, const TYPE(product) * p,
                             const TYPE(block) * block, const TYPE(block) * next)
{
    const size_t ic = block->ic, mc = block->mc, jc = block->jc, nc = block->nc;
    const size_t most_k = TYPE(most_k)(t, p);
    const int keeps_b = p->k * nc * sizeof(REAL) <= FGD_KEPT_BYTES;
    const int one_block = most_k == p->k, is_far = p->far_a || p->far_b || p->updated[0];
    const TYPE(ukr_fn)(*const ukrs)[25] = p->by_column ? t->ukr_by_column : t->ukr_by_row;
    FOR_BLOCKS(pc, k_cur, p->k, most_k)
    {
        const size_t k_next = pc + k_cur;
        const int is_last = k_next == p->k;
        const int flags =
            (pc > 0 ? FGD_UKR_LOAD_C : 0) | (is_last && p->ends_in_relu ? FGD_UKR_RELU : 0);
        fgd_areas areas; /* no initialiser: it would cost small products more than the rest */
        areas.n_areas = areas.area = areas.row = areas.offset = areas.lines = 0;
        if (is_far) {
            if (!is_last)
                TYPE(add_operands)(p, block, keeps_b && ic > 0, k_next,
                                   k_cur < p->k - k_next ? k_cur : p->k - k_next, &areas);
            else if (next)
                TYPE(add_operands)(p, next, keeps_b && next->jc == jc, 0, k_cur, &areas);
            if (!one_block)
                TYPE(add_updated)(p, block, mc * pc / p->k, mc * k_next / p->k, &areas);
            else if (next)
                TYPE(add_updated)(p, next, 0, next->mc, &areas);
            const size_t panel = t->max_vectors * t->lanes, rows = t->tile_rows[t->max_vectors];
            const size_t asks =
                ((nc + panel - 1) / panel) * ((mc + rows - 1) / rows) * (k_cur / FGD_UKR_STEPS);
            areas.columns = areas.lines <= asks ? 1 : areas.lines <= 2 * asks ? 2 : 3;
        }
        FOR_BLOCKS(jv, nv, nc >> __builtin_ctzll(t->lanes), t->max_vectors)
        {
            const size_t jr = jv * t->lanes, n = nv * t->lanes;
            const REAL *b = p->b + pc * p->ldb + jc + jr;
            size_t group = 0; /* rows finished since the last epilogue */
            FOR_BLOCKS(ir, rows, mc, t->tile_rows[nv])
            {
                const size_t i = ic + ir;
                const REAL *a = p->a + (p->by_column ? i + pc * p->as : i * p->as + pc);
                const REAL *bias = pc == 0 && p->bias ? p->bias + i : NULL, *gate = NULL;
                TYPE(sgd) *sgd = NULL;
                REAL *c;
                size_t ldc;
                if (p->c) {
                    ldc = p->ldc;
                    c = p->c + i * ldc + jc + jr;
                    if (is_last && p->gate) gate = p->gate + i * ldc + jc + jr;
                } else if (one_block) {
                    ldc = n;
                    c = p->scratch + group * n;
                } else {
                    ldc = nc;
                    c = p->scratch + ir * nc + jr;
                }
                if (is_last && p->sgd) {
                    sgd = p->sgd;
                    sgd->w = p->weights + (ptrdiff_t)i * sgd->ldw + jc + jr;
                }
                const fgd_ask ask = fgd_next_ask(&areas, k_cur, b);
                if (is_last && p->announce) p->announce(p->context, i, rows, jc + jr, n, NULL, 0);
                ukrs[nv][rows](k_cur, a, (ptrdiff_t)p->as, b, (ptrdiff_t)p->ldb, c, (ptrdiff_t)ldc,
                               bias, gate, sgd, flags, &ask);
                group += rows;
                if (group >= FGD_GROUP_ROWS || ir + rows == mc) {
                    if (is_last && p->epilogue)
                        p->epilogue(p->context, i + rows - group, group, jc + jr, n,
                                    c - (group - rows) * ldc, ldc);
                    if (is_last && p->ahead) fgd_look_ahead(p->ahead);
                    group = 0;
                }
            }
        }
    }
}

static void TYPE(gemm)(const TYPE(table) * t, TYPE(product) * p)
{
    /* Rows of W that stream by, few samples having passed, need not fit a cache. */
    const size_t nc = p->announce ? p->n : FGD_ROW_BYTES / sizeof(REAL);
    const size_t mc = p->most_m ? p->most_m : p->c ? FGD_BLOCK_ROWS : FGD_SCRATCH_ROWS;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    p->far_a = (p->by_column ? p->k : p->m) * p->as * sizeof(REAL) > FGD_RESIDENT_BYTES;
    p->far_b = p->k * p->ldb * sizeof(REAL) > FGD_RESIDENT_BYTES;
    TYPE(block) block = {.mc = 0}; /* a step behind the loops, so that its successor is known */
    FOR_BLOCKS(ju, units, p->n / unit, nc / unit)
    FOR_BLOCKS(ic, rows, p->m, mc)
    {
        const TYPE(block) next = {ic, rows, ju * unit, units * unit};
        if (p->look && fgd_is_abandoned(p->look)) return;
        if (block.mc) TYPE(gemm_block)(t, p, &block, &next);
        block = next;
    }
    if (block.mc) TYPE(gemm_block)(t, p, &block, NULL);
}
