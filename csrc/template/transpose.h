/* Transposes, and the product with a transpose of few rows at a time.
 * Parameters: REAL, VF, V(op), LANES, TURNED, FN(name) (see real32.h, isa/). */

/* dst[j][i] = the element j of row i, for one block of LANES x LANES: see FGD_ROW. */
FGD_INLINE void FN(transpose_block)(const REAL *const *rows, const REAL *at, size_t ld, REAL *dst,
                                    size_t ldd)
{
    FGD_UNROLL(8)
    for (size_t j = 0; j < LANES; j += TURNED) {
        VF columns[TURNED];
        if (rows)
            V(turned)(rows, NULL, ld + j, columns);
        else
            V(turned)(NULL, at + j, ld, columns);
        FGD_UNROLL(8)
        for (size_t q = 0; q < TURNED; q++) V(store)(dst + (j + q) * ldd, columns[q]);
    }
}

/* dst[cols][ldd] = transpose of src[rows][lds]; rows and cols are multiples of LANES. */
static void FN(transpose)(size_t rows, size_t cols, const REAL *src, size_t lds, REAL *dst,
                          size_t ldd)
{
    for (size_t i = 0; i < rows; i += LANES) {
        const REAL *row[LANES];
        for (size_t r = 0; r < LANES; r++) row[r] = src + (i + r) * lds;
        for (size_t j = 0; j < cols; j += LANES)
            FN(transpose_block)(row, NULL, j, dst + j * ldd + i, ldd);
    }
}

/* The same with sums[rows] = sum over the first n_summed of cols columns, ascending from zero: as
 * `column_sums` of dst, at no price, since the stores are what takes time. */
static void FN(transpose_and_sum)(size_t rows, size_t cols, const REAL *src, size_t lds, REAL *dst,
                                  size_t ldd, size_t n_summed, REAL *sums)
{
    for (size_t i = 0; i < rows; i += LANES) {
        const REAL *row[LANES];
        for (size_t r = 0; r < LANES; r++) row[r] = src + (i + r) * lds;
        VF sum = V(zero)();
        for (size_t j = 0; j < cols; j += LANES) {
            REAL *to = dst + j * ldd + i;
            FN(transpose_block)(row, NULL, j, to, ldd);
            for (size_t r = 0; r < LANES && j + r < n_summed; r++)
                sum = V(add)(sum, V(load)(to + r * ldd));
        }
        V(store)(sums + i, sum);
    }
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
            for (int s = 0; s < n; s++) acc[s] = V(accumulate)(V(set1)(x[s]), columns[q], acc[s]);
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
            for (int s = 0; s < n; s++) acc[s] = V(accumulate)(V(set1)(x[s]), columns[q], acc[s]);
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
