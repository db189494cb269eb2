/* The loops around the micro-kernels, for REAL, TYPE(name); included by fgd_net.c.  No SIMD
 * here.  Only rows and columns of C are ever divided, never k: each element stays one chain. */

/* Rows of the tile that suits a product with n columns. */
static size_t TYPE(band_rows)(const TYPE(table) * t, size_t n)
{
    const size_t vectors = n / t->lanes;
    const size_t pieces = (vectors + t->max_vectors - 1) / t->max_vectors;
    return t->tile_rows[(vectors + pieces - 1) / pieces];
}

/* C[rows][n] of one band of rows, rows <= band_rows(n): columns in equally wide tiles. */
static void TYPE(gemm_band)(const TYPE(table) * t, int by_column, size_t rows, size_t n, size_t k,
                            const REAL *a, size_t as, const REAL *b, size_t ldb, REAL *c,
                            size_t ldc, const REAL *bias)
{
    const size_t vectors = n / t->lanes;
    const size_t pieces = (vectors + t->max_vectors - 1) / t->max_vectors;
    for (size_t piece = 0, j = 0; piece < pieces; piece++) {
        const size_t nv = vectors / pieces + (piece < vectors % pieces);
        const TYPE(ukr_fn) ukr = by_column ? t->ukr_by_column[nv][rows] : t->ukr_by_row[nv][rows];
        ukr(k, a, (ptrdiff_t)as, b + j, (ptrdiff_t)ldb, c + j, (ptrdiff_t)ldc, bias, 0);
        j += nv * t->lanes;
    }
}

/* Columns of B that are worked on at a time: their k rows stay in the second-level cache
 * while all rows of A pass by. */
static size_t TYPE(block_columns)(size_t n, size_t k)
{
    const size_t cache = 512 * 1024, unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const size_t fitting = cache / sizeof(REAL) / (k ? k : 1) / unit * unit;
    const size_t least = 4 * unit;
    if (n <= fitting) return n;
    return fitting > least ? fitting : least;
}

/* The loop over bands of m rows in bands of nearly equal height, none above most. */
#define FOR_BANDS(i, rows, m, most)                                                          \
    for (size_t i##_bands = ((m) + (most) - 1) / (most), i##_band = 0, i = 0, rows;          \
         i##_band < i##_bands && (rows = (m) / i##_bands + (i##_band < (m) % i##_bands), 1); \
         i += rows, i##_band++)
