/* Reads rows of a caller's matrix of any real type, converts them to REAL and lays them
 * feature-major into a work buffer.  The only place that touches a caller's X or y during
 * training; pads of the work buffer are filled with zeros. */

#define FGD_CONVERT(T)                                  \
    for (size_t i = 0; i < count; i++, src += stride) { \
        T value;                                        \
        __builtin_memcpy(&value, src, sizeof value);    \
        dst[i] = (REAL)value * scale;                   \
    }                                                   \
    break
#define FGD_CONVERT_EITHER(T)                                                             \
    if (stride == (ptrdiff_t)sizeof(T)) {                                                 \
        const ptrdiff_t stride = (ptrdiff_t)sizeof(T); /* known here, so it vectorises */ \
        FGD_CONVERT(T);                                                                   \
    }                                                                                     \
    FGD_CONVERT(T)

/* dst[count] = scale * count elements of type dtype at src, stride bytes apart. */
static void FN(convert)(fgd_dtype dtype, size_t count, const char *src, ptrdiff_t stride,
                        REAL scale, REAL *FGD_RESTRICT dst)
{
    switch (dtype) {
    case FGD_F32: FGD_CONVERT_EITHER(float);
    case FGD_F64: FGD_CONVERT_EITHER(double);
    case FGD_U8: FGD_CONVERT_EITHER(uint8_t);
    case FGD_I8: FGD_CONVERT_EITHER(int8_t);
    case FGD_U16: FGD_CONVERT_EITHER(uint16_t);
    case FGD_I16: FGD_CONVERT_EITHER(int16_t);
    case FGD_U32: FGD_CONVERT_EITHER(uint32_t);
    case FGD_I32: FGD_CONVERT_EITHER(int32_t);
    case FGD_U64: FGD_CONVERT_EITHER(uint64_t);
    case FGD_I64: FGD_CONVERT_EITHER(int64_t);
    default: assert(0);
    }
}
#undef FGD_CONVERT
#undef FGD_CONVERT_EITHER

/* By what the elements are multiplied. */
static REAL FN(scale_of)(const fgd_matrix *x) { return x->scale != 0 ? (REAL)x->scale : 1; }

/* Whether rows can be read as they are: REAL, unscaled, aligned, neighbours side by side. */
static int FN(is_direct)(const fgd_matrix *x)
{
    return x->dtype == (REAL_BITS == 32 ? FGD_F32 : FGD_F64) &&
           x->col_stride == (ptrdiff_t)sizeof(REAL) && (x->scale == 0 || x->scale == 1) &&
           ((uintptr_t)x->data | (uintptr_t)x->row_stride) % sizeof(REAL) == 0;
}

/* dst[features][ldd], columns col0 .. col0 + n - 1, from matrix rows
 * order[first + column] (or first + column if order is NULL); columns from n_samples on are
 * zero.  col0 and n are multiples of LANES; dst has features rounded up to LANES rows. */
static void FN(gather)(const fgd_matrix *matrix, const int64_t *order, size_t first,
                       size_t n_samples, size_t col0, size_t n, REAL *dst, size_t ldd)
{
    enum { CHUNK = 64 };
    const size_t features = matrix->cols;
    const int direct = FN(is_direct)(matrix);
    const REAL scale = FN(scale_of)(matrix);
    REAL buffer[LANES][CHUNK];
    const char *source[LANES];
    for (size_t j = col0; j < col0 + n; j += LANES) {
        int whole = 1; /* all lanes hold a sample */
        for (size_t r = 0; r < LANES; r++) {
            const size_t s = j + r;
            source[r] = NULL;
            if (s < n_samples) {
                const int64_t row = order ? order[first + s] : (int64_t)(first + s);
                source[r] = (const char *)matrix->data + row * matrix->row_stride;
            } else {
                whole = 0;
            }
        }
        size_t f = 0;
        if (direct && whole) {
            const REAL *row[LANES];
            for (size_t r = 0; r < LANES; r++) row[r] = (const REAL *)(const void *)source[r];
            for (; f + LANES <= features; f += LANES)
                FN(transpose_block)(row, NULL, f, dst + f * ldd + j, ldd);
        }
        for (; direct && f < features; f += LANES) {
            for (size_t r = 0; r < LANES; r++) {
                const REAL *from = (const REAL *)(const void *)source[r];
                V(store)(buffer[r], from ? V(load_first)(from + f, features - f) : V(zero)());
            }
            FN(transpose_block)(NULL, buffer[0], CHUNK, dst + f * ldd + j, ldd);
        }
        for (; f < features; f += CHUNK) {
            const size_t count = features - f < CHUNK ? features - f : CHUNK;
            const size_t padded = (count + LANES - 1) / LANES * LANES;
            for (size_t r = 0; r < LANES; r++) {
                const size_t have = source[r] ? count : 0;
                if (have)
                    FN(convert)(matrix->dtype, count, source[r] + (ptrdiff_t)f * matrix->col_stride,
                                matrix->col_stride, scale, buffer[r]);
                for (size_t i = have; i < padded; i++) buffer[r][i] = 0;
            }
            for (size_t i = 0; i < padded; i += LANES)
                FN(transpose_block)(NULL, buffer[0] + i, CHUNK, dst + (f + i) * ldd + j, ldd);
        }
    }
}
