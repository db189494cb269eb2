#ifndef FGD_ISA_FIRST_ELEMENTS_H
#define FGD_ISA_FIRST_ELEMENTS_H

/* The first n elements at p, of at most half a cache line, and zeros: for AVX2 and AVX-512.  Nothing
 * else is read.  A masked load would do it in one instruction, but where it reaches into the next
 * line it waits for that line, whose elements are all masked out. */

FGD_INLINE __m128 f32_first_of_4(const float *p, size_t n)
{
    if (n >= 4) return _mm_loadu_ps(p);
    if (n < 2) return n ? _mm_load_ss(p) : _mm_setzero_ps();
    const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return n == 2 ? two : _mm_insert_ps(two, _mm_load_ss(p + 2), 0x20);
}

FGD_INLINE __m256 f32_first_of_8(const float *p, size_t n)
{
    static const int32_t mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    if (n >= 8) return _mm256_loadu_ps(p);
    if (n <= 4) return _mm256_set_m128(_mm_setzero_ps(), f32_first_of_4(p, n));
    /* Two pieces, of which the second ends with the elements; then it moves down. */
    const __m256 both = _mm256_set_m128(_mm_loadu_ps(p + n - 4), _mm_loadu_ps(p));
    const int skip = 8 - (int)n;
    const __m256i from = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                          _mm256_setr_epi32(0, 0, 0, 0, skip, skip, skip, skip));
    return _mm256_and_ps(_mm256_permutevar8x32_ps(both, from),
                         _mm256_loadu_ps((const float *)(const void *)(mask + 8 - n)));
}

FGD_INLINE __m256d f64_first_of_4(const double *p, size_t n)
{
    if (n >= 4) return _mm256_loadu_pd(p);
    if (n == 3) return _mm256_set_m128d(_mm_load_sd(p + 2), _mm_loadu_pd(p));
    if (n == 2) return _mm256_set_m128d(_mm_setzero_pd(), _mm_loadu_pd(p));
    return _mm256_set_m128d(_mm_setzero_pd(), n ? _mm_load_sd(p) : _mm_setzero_pd());
}

#endif
