/* Transposes.
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

/* dst[cols][ldd] = transpose of src[rows][lds]; rows and cols are multiples of LANES.  Several threads
 * that turn delta for each other have all read what was in dst: the next block's lines are asked for to be
 * written, which costs little elsewhere. */
static void FN(transpose)(size_t rows, size_t cols, const REAL *src, size_t lds, REAL *dst,
                          size_t ldd)
{
    for (size_t i = 0; i < rows; i += LANES) {
        const REAL *row[LANES];
        for (size_t r = 0; r < LANES; r++) row[r] = src + (i + r) * lds;
        for (size_t j = 0; j < cols; j += LANES) {
            REAL *const to = dst + j * ldd + i;
            if (i * sizeof(REAL) % FGD_ALIGN_BYTES == 0 && j + LANES < cols) { /* once a line */
                FGD_UNROLL(16)
                for (size_t q = 0; q < LANES; q++) __builtin_prefetch(to + (LANES + q) * ldd, 1);
            }
            FN(transpose_block)(row, NULL, j, to, ldd);
        }
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
