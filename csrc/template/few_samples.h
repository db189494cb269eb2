/* Products of many weights with few samples, whose time is that of reading the weights: W is read as it
 * lies, once, and lanes without a sample cost nothing.
 * Parameters: REAL, VF, V(op), LANES, TURNED, FN(name), FGD_VECTOR_REGISTERS (see real32.h, isa/). */

/* Where in rows of weights the next lines are that are asked for.  One row after the other, as they lie,
 * they come sooner than in the order of their use, a panel of every row at a time.  Addresses beyond the
 * last row do no harm. */
typedef struct {
    uintptr_t at, row_end;
    size_t row_bytes, stride;
} FN(asked_rows);

FGD_INLINE void FN(ask_lines)(const int lines, const fgd_purpose purpose, FN(asked_rows) * ask)
{
    if (lines == 0) return; /* of one vector that is shorter than a line */
    FGD_UNROLL(4)
    for (int i = 0; i < lines; i++) {
        const void *const line = (const void *)(ask->at + (uintptr_t)(i * FGD_ALIGN_BYTES));
        if (purpose == FGD_TO_WRITE)
            __builtin_prefetch(line, 1);
        else if (purpose == FGD_TO_SECOND_LEVEL)
            __builtin_prefetch(line, 0, 2);
        else
            __builtin_prefetch(line);
    }
    ask->at += (uintptr_t)(lines * FGD_ALIGN_BYTES);
    if (ask->at < ask->row_end) return;
    ask->row_end += ask->stride;
    ask->at = ask->row_end - ask->row_bytes;
}

/* n rows of sums, nv vectors wide, while lines are asked for if asks. */
FGD_INLINE void FN(streamed_tile)(const int n, const int nv, const int asks,
                                  const fgd_purpose purpose, size_t k, const REAL *x, size_t ldx,
                                  const REAL *w, size_t ldw, REAL *sums, size_t lds,
                                  FN(asked_rows) * ask)
{
    FN(asked_rows) asked = *ask; /* in registers */
    VF acc[24];
    FGD_UNROLL(6)
    for (int s = 0; s < n; s++) FGD_UNROLL(4)
    for (int j = 0; j < nv; j++) acc[s * nv + j] = V(load)(sums + (size_t)s * lds + j * LANES);
    for (size_t p = 0; p < k; p++) {
        if (asks) FN(ask_lines)(nv * LANES * (int)sizeof(REAL) / FGD_ALIGN_BYTES, purpose, &asked);
        VF wv[4];
        FGD_UNROLL(4)
        for (int j = 0; j < nv; j++) wv[j] = V(load)(w + j * LANES);
        FGD_UNROLL(6)
        for (int s = 0; s < n; s++) {
            const VF xv = V(set1)(x[s]);
            FGD_UNROLL(4)
            for (int j = 0; j < nv; j++)
                acc[s * nv + j] = V(accumulate)(xv, wv[j], acc[s * nv + j]);
        }
        x += ldx;
        w += ldw;
    }
    __asm__("" : "+r"(sums), "+r"(lds)); /* not the addresses of all rows before the loop */
    FGD_UNROLL(6)
    for (int s = 0; s < n; s++) FGD_UNROLL(4)
    for (int j = 0; j < nv; j++) V(store)(sums + (size_t)s * lds + j * LANES, acc[s * nv + j]);
    *ask = asked;
}

/* Up to six samples at a time, in tiles of nearly equal height.  All but the first find W in the
 * first-level cache; the last one asks for what comes next. */
FGD_INLINE void FN(streamed_panel)(const int nv, const fgd_purpose purpose, size_t n, size_t k,
                                   const REAL *x, size_t ldx, const REAL *w, size_t ldw, REAL *sums,
                                   size_t lds, FN(asked_rows) * ask)
{
#define FGD_TILE(n, asks)                                                                        \
    FN(streamed_tile)(n, nv, asks, asks ? purpose : FGD_TO_FIRST_LEVEL, k, x, ldx, w, ldw, sums, \
                      lds, ask)
    for (size_t tiles = (n + 5) / 6; tiles > 1; tiles--) {
        const size_t rows = (n + tiles - 1) / tiles;
        switch (rows) {
        case 4: FGD_TILE(4, 0); break;
        case 5: FGD_TILE(5, 0); break;
        case 6: FGD_TILE(6, 0); break;
        default: assert(0);
        }
        n -= rows;
        x += rows;
        sums += rows * lds;
    }
    switch (n) {
    case 1: FGD_TILE(1, 1); return;
    case 2: FGD_TILE(2, 1); return;
    case 3: FGD_TILE(3, 1); return;
    case 4: FGD_TILE(4, 1); return;
    case 5: FGD_TILE(5, 1); return;
    case 6: FGD_TILE(6, 1); return;
    default: assert(0);
    }
#undef FGD_TILE
}

FGD_INLINE void FN(streamed_panels)(const fgd_purpose purpose, size_t n, size_t k, size_t cols,
                                    const REAL *x, size_t ldx, const REAL *w, size_t ldw,
                                    REAL *sums, size_t lds, const REAL *next)
{
    enum { WIDE = FGD_VECTOR_REGISTERS >= 32 ? 4 : 2 };
    const size_t row_bytes = cols * sizeof(REAL);
    FN(asked_rows)
    ask = {(uintptr_t)next, (uintptr_t)next + row_bytes, row_bytes, ldw * sizeof(REAL)};
    size_t j = 0;
    for (; j + WIDE * LANES <= cols; j += WIDE * LANES)
        FN(streamed_panel)(WIDE, purpose, n, k, x, ldx, w + j, ldw, sums + j, lds, &ask);
    for (; j < cols; j += LANES)
        FN(streamed_panel)(1, purpose, n, k, x, ldx, w + j, ldw, sums + j, lds, &ask);
}

/* sums[s][j] = fma(x[p][s], w[p][j], sums[s][j]) for p ascending, n samples s, k rows p of w, and cols
 * columns j, of whole lines.  Meanwhile about k rows from next on are asked for. */
static void FN(streamed_product)(size_t n, size_t k, size_t cols, const REAL *x, size_t ldx,
                                 const REAL *w, size_t ldw, REAL *sums, size_t lds,
                                 const REAL *next, fgd_purpose purpose)
{
    assert(purpose != FGD_TO_WRITE);
    if (purpose == FGD_TO_SECOND_LEVEL)
        FN(streamed_panels)(FGD_TO_SECOND_LEVEL, n, k, cols, x, ldx, w, ldw, sums, lds, next);
    else
        FN(streamed_panels)(FGD_TO_FIRST_LEVEL, n, k, cols, x, ldx, w, ldw, sums, lds, next);
}

/* The sums of mr rows of weights over n samples, nv vectors wide, and the update by them. */
FGD_INLINE void FN(streamed_update_tile)(const int mr, const int nv, const fgd_purpose purpose,
                                         size_t n, const REAL *x, size_t ldx, const REAL *delta,
                                         size_t ldd, TYPE(sgd) * sgd, FN(asked_rows) * ask)
{
    FGD_UNROLL(4)
    for (int i = 0; i < mr; i++)
        FN(ask_lines)(nv * LANES * (int)sizeof(REAL) / FGD_ALIGN_BYTES, purpose, ask);
    VF acc[24];
    FGD_UNROLL(24)
    for (int i = 0; i < mr * nv; i++) acc[i] = V(zero)();
    for (size_t s = 0; s < n; s++) {
        VF dv[4];
        FGD_UNROLL(4)
        for (int j = 0; j < nv; j++) dv[j] = V(load)(delta + j * LANES);
        FGD_UNROLL(4)
        for (int i = 0; i < mr; i++) {
            const VF xv = V(set1)(x[(size_t)i * ldx]);
            FGD_UNROLL(4)
            for (int j = 0; j < nv; j++)
                acc[i * nv + j] = V(accumulate)(xv, dv[j], acc[i * nv + j]);
        }
        x++;
        delta += ldd;
    }
    FN(sgd_tile)(mr, nv, acc, sgd);
    sgd->w += nv * LANES;
}

FGD_INLINE void FN(streamed_update_rows)(const int mr, const fgd_purpose purpose, size_t n,
                                         size_t cols, const REAL *x, size_t ldx, const REAL *delta,
                                         size_t ldd, TYPE(sgd) * sgd, FN(asked_rows) * ask)
{
    size_t j = 0;
    for (; j + 4 * LANES <= cols; j += 4 * LANES)
        FN(streamed_update_tile)(mr, 4, purpose, n, x, ldx, delta + j, ldd, sgd, ask);
    for (; j < cols; j += LANES)
        FN(streamed_update_tile)(mr, 1, purpose, n, x, ldx, delta + j, ldd, sgd, ask);
}

/* The update of rows of weights at sgd->w, cols columns of whole lines, by their gradient, x [rows][n]
 * delta [n][cols], n > 0.  Few rows at a time: they are written as they lie, for as many columns as leave
 * their part of delta in the first-level cache until all rows have used it.  Meanwhile about as many
 * rows from next on are asked for. */
static void FN(streamed_update)(size_t rows, size_t n, size_t cols, const REAL *x, size_t ldx,
                                const REAL *delta, size_t ldd, TYPE(sgd) * sgd, const REAL *next,
                                fgd_purpose purpose)
{
    enum {
        ROWS = FGD_VECTOR_REGISTERS >= 32 ? 4 : 2,
        DELTA_BYTES = 8 * 1024 /* measured: with more, what is asked for displaces them */
    };
    REAL *const w = sgd->w;
    const size_t row_bytes = cols * sizeof(REAL), unit = 4 * LANES;
    const size_t units = DELTA_BYTES / sizeof(REAL) / unit / n, piece = (units ? units : 1) * unit;
    FN(asked_rows)
    ask = {(uintptr_t)next, (uintptr_t)next + row_bytes, row_bytes,
           (size_t)sgd->ldw * sizeof(REAL)};
#define FGD_ROWS(mr) \
    FN(streamed_update_rows)(mr, purpose, n, width, x + r * ldx, ldx, delta + j, ldd, sgd, &ask)
    for (size_t j = 0; j < cols; j += piece) {
        const size_t width = cols - j < piece ? cols - j : piece;
        for (size_t r = 0; r < rows; r += ROWS) {
            sgd->w = w + (ptrdiff_t)r * sgd->ldw + j;
            const size_t left = rows - r;
            if (left >= ROWS)
                FGD_ROWS(ROWS);
            else if (left == 1)
                FGD_ROWS(1);
            else if (left == 2)
                FGD_ROWS(2);
            else
                FGD_ROWS(3);
        }
    }
#undef FGD_ROWS
}

/* LANES rows of w times n columns of x, rows across the lanes. */
FGD_INLINE void FN(turned_rows)(const int n, size_t k, const REAL *w, size_t ldw, const REAL *x,
                                size_t ldx, REAL *sums, size_t lds)
{
    VF acc[8];
    FGD_UNROLL(8)
    for (int s = 0; s < n; s++) acc[s] = V(zero)();
    const size_t whole = k / TURNED * TURNED;
    for (size_t p = 0; p < whole; p += TURNED) {
        VF columns[TURNED];
        V(turned)(NULL, w, ldw, columns);
        FGD_UNROLL(8)
        for (size_t q = 0; q < TURNED; q++) {
            FGD_UNROLL(8)
            for (int s = 0; s < n; s++) acc[s] = V(accumulate_one)(x + s, columns[q], acc[s]);
            x += ldx;
        }
        w += TURNED;
        __asm__("" : "+r"(w), "+r"(x)); /* not the addresses of all rows before the loop */
    }
    if (whole < k) {
        VF columns[TURNED];
        V(turned)(NULL, w, ldw, columns);
        for (size_t q = 0; q < k - whole; q++) {
            FGD_UNROLL(8)
            for (int s = 0; s < n; s++) acc[s] = V(accumulate_one)(x + s, columns[q], acc[s]);
            x += ldx;
        }
    }
    FGD_UNROLL(8)
    for (int s = 0; s < n; s++) V(store)(sums + s * lds, acc[s]);
}

/* sums[s][r] = sum over k ascending, from zero, of w[r][k] * x[k][s], for rows r, a multiple of LANES,
 * and n columns s, 1 to 8 in float32 and 1 to 4 in float64.  W is read as it lies, once; its rows are
 * turned in registers, so that lanes without a sample cost nothing.  Columns of w up to a multiple of
 * TURNED can be read. */
static void FN(turned_product)(size_t rows, size_t n, size_t k, const REAL *w, size_t ldw,
                               const REAL *x, size_t ldx, REAL *sums, size_t lds)
{
    for (size_t r = 0; r < rows; r += LANES, w += LANES * ldw, sums += LANES) {
        switch (n) {
        case 1: FN(turned_rows)(1, k, w, ldw, x, ldx, sums, lds); break;
        case 2: FN(turned_rows)(2, k, w, ldw, x, ldx, sums, lds); break;
        case 3: FN(turned_rows)(3, k, w, ldw, x, ldx, sums, lds); break;
        case 4: FN(turned_rows)(4, k, w, ldw, x, ldx, sums, lds); break;
#if REAL_BITS == 32
        case 5: FN(turned_rows)(5, k, w, ldw, x, ldx, sums, lds); break;
        case 6: FN(turned_rows)(6, k, w, ldw, x, ldx, sums, lds); break;
        case 7: FN(turned_rows)(7, k, w, ldw, x, ldx, sums, lds); break;
        case 8: FN(turned_rows)(8, k, w, ldw, x, ldx, sums, lds); break;
#endif
        default: assert(0);
        }
    }
}
