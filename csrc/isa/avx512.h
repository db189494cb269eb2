/* Vector vocabulary for AVX-512 F/DQ/BW/VL, 32 registers of 64 bytes: the same names in every isa/ header, so that the
 * templates are written once.  Every header is included inside its target region.
 * max and min return the second operand when either is NaN, as x86 does. */
#ifndef FGD_ISA_AVX512_H
#define FGD_ISA_AVX512_H

#include "../fgd_common.h"
#include <immintrin.h>
#include "first_elements.h"
#define VF32_LANES 16
#define VF32_TURNED 8
#define VF64_LANES 8
#define VF64_TURNED 4
#define FGD_VECTOR_REGISTERS 32

/* Whether a load takes an address of a pointer and a multiple of a register. */
#define FGD_INDEXED_LOADS 1

/* Micro-kernel tiles, X(rows, vectors): FGD_TILE_ROWS lists the most rows that keep the tile,
 * the vectors of B and a broadcast in registers, for 1, 2, ... vectors. */
#define FGD_MAX_TILE_VECTORS 4
#define FGD_TILE_ROWS 24, 12, 8, 6
/* Laid out by hand: the formatter does not settle on such lists. */
/* clang-format off */
#define FGD_TILES(X)                                                                               \
    X(1, 1)                                                                                        \
    X(2, 1)                                                                                        \
    X(3, 1)                                                                                        \
    X(4, 1)                                                                                        \
    X(5, 1)                                                                                        \
    X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1) X(13, 1) X(14, 1) X(15, 1) X(16, 1) \
        X(17, 1) X(18, 1) X(19, 1) X(20, 1) X(21, 1) X(22, 1) X(23, 1) X(24, 1) X(1, 2) X(2, 2)    \
            X(3, 2) X(4, 2) X(5, 2) X(6, 2) X(7, 2) X(8, 2) X(9, 2) X(10, 2) X(11, 2) X(12, 2)     \
                X(1, 3) X(2, 3) X(3, 3) X(4, 3) X(5, 3) X(6, 3) X(7, 3) X(8, 3) X(1, 4) X(2, 4)    \
                    X(3, 4) X(4, 4) X(5, 4) X(6, 4)
/* clang-format on */

typedef __m512 vf32;
typedef __mmask16 vm32;
FGD_INLINE vf32 vf32_load(const float *p) { return _mm512_loadu_ps(p); }
FGD_INLINE void vf32_store(float *p, vf32 a) { _mm512_storeu_ps(p, a); }
FGD_INLINE vf32 vf32_set1(float x) { return _mm512_set1_ps(x); }
FGD_INLINE vf32 vf32_zero(void) { return _mm512_setzero_ps(); }
FGD_INLINE vf32 vf32_set1_bits(uint32_t x)
{
    return _mm512_castsi512_ps(_mm512_set1_epi32((int)x));
}
FGD_INLINE vf32 vf32_add(vf32 a, vf32 b) { return _mm512_add_ps(a, b); }
FGD_INLINE vf32 vf32_sub(vf32 a, vf32 b) { return _mm512_sub_ps(a, b); }
FGD_INLINE vf32 vf32_mul(vf32 a, vf32 b) { return _mm512_mul_ps(a, b); }
FGD_INLINE vf32 vf32_div(vf32 a, vf32 b) { return _mm512_div_ps(a, b); }
FGD_INLINE vf32 vf32_sqrt(vf32 a) { return _mm512_sqrt_ps(a); }
FGD_INLINE vf32 vf32_fma(vf32 a, vf32 b, vf32 c) { return _mm512_fmadd_ps(a, b, c); }
/* fma(a, b, sum) in sum's register: gcc else lets sums change places. */
FGD_INLINE vf32 vf32_accumulate(vf32 a, vf32 b, vf32 sum)
{
    __asm__("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
/* The same with *a in every lane of a, which is not used again; the instruction reads it itself. */
FGD_INLINE vf32 vf32_accumulate_one(const float *a, vf32 b, vf32 sum)
{
    return vf32_fma(vf32_set1(*a), b, sum);
}
FGD_INLINE vf32 vf32_fnma(vf32 a, vf32 b, vf32 c) { return _mm512_fnmadd_ps(a, b, c); }
FGD_INLINE vf32 vf32_max(vf32 a, vf32 b) { return _mm512_max_ps(a, b); }
FGD_INLINE vf32 vf32_min(vf32 a, vf32 b) { return _mm512_min_ps(a, b); }
FGD_INLINE vf32 vf32_and(vf32 a, vf32 b)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
FGD_INLINE vf32 vf32_or(vf32 a, vf32 b)
{
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
FGD_INLINE vf32 vf32_xor(vf32 a, vf32 b)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
FGD_INLINE vf32 vf32_andnot(vf32 a, vf32 b)
{
    return _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
FGD_INLINE vf32 vf32_iadd(vf32 a, vf32 b)
{
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
FGD_INLINE vf32 vf32_isub(vf32 a, vf32 b)
{
    return _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
FGD_INLINE vf32 vf32_shl(vf32 a, const int n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), n));
}
FGD_INLINE vf32 vf32_shr(vf32 a, const int n)
{
    return _mm512_castsi512_ps(_mm512_srli_epi32(_mm512_castps_si512(a), n));
}
FGD_INLINE vm32 vf32_lt(vf32 a, vf32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FGD_INLINE vm32 vf32_le(vf32 a, vf32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
FGD_INLINE vm32 vf32_eq(vf32 a, vf32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
FGD_INLINE vm32 vf32_mand(vm32 a, vm32 b) { return (__mmask16)(a & b); }
FGD_INLINE vm32 vf32_mor(vm32 a, vm32 b) { return (__mmask16)(a | b); }
FGD_INLINE vm32 vf32_mnot(vm32 a) { return (__mmask16)~a; }
FGD_INLINE int vf32_any(vm32 a) { return a != 0; }
/* To clang a selection by a mask is no instruction, but a choice that it knows: see FGD_OPAQUE in
 * scalar.h.  (With AVX2 and NEON masks are numbers, and the choice is theirs.) */
#ifdef __clang__
#define FGD_CHOSEN(x) __asm__("" : "+v"(x))
#else
#define FGD_CHOSEN(x) (void)0
#endif
FGD_INLINE vf32 vf32_select(vm32 k, vf32 yes, vf32 no)
{
    vf32 chosen = _mm512_mask_blend_ps(k, no, yes);
    FGD_CHOSEN(chosen);
    return chosen;
}
/* a * 2^n rounded once, n whole. */
FGD_INLINE vf32 vf32_ldexp(vf32 a, vf32 n) { return _mm512_scalef_ps(a, n); }

/* In every lane: the lanes' sum in the tree that adds lane r + h to lane r for h = LANES / 2, ...,
 * 1, a lane below h and the one above it adding the same two. */
FGD_INLINE vf32 vf32_tree(vf32 a)
{
    a = vf32_add(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    a = vf32_add(a, _mm512_shuffle_f32x4(a, a, 0xb1));
    a = vf32_add(a, _mm512_permute_ps(a, 0x4e));
    return vf32_add(a, _mm512_permute_ps(a, 0xb1));
}
FGD_INLINE float vf32_first(vf32 a) { return _mm512_cvtss_f32(a); }
/* The first n elements, n below LANES or not, and zeros; nothing behind them is read. */
FGD_INLINE vf32 vf32_load_first(const float *p, size_t n)
{
    if (n >= 16) return _mm512_loadu_ps(p);
    if (n <= 8) return _mm512_insertf32x8(_mm512_setzero_ps(), f32_first_of_8(p, n), 0);
    /* Two pieces, of which the second ends with the elements; then it moves down. */
    const __m512d low = _mm512_castpd256_pd512(_mm256_castps_pd(_mm256_loadu_ps(p)));
    const __m256d high = _mm256_castps_pd(_mm256_loadu_ps(p + n - 8));
    const __m512 both = _mm512_castpd_ps(_mm512_insertf64x4(low, high, 1));
    const __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i from = _mm512_mask_add_epi32(at, 0xff00, at, _mm512_set1_epi32(16 - (int)n));
    return _mm512_maskz_permutexvar_ps((__mmask16)((1u << n) - 1), from, both);
}

typedef __m512d vf64;
typedef __mmask8 vm64;
FGD_INLINE vf64 vf64_load(const double *p) { return _mm512_loadu_pd(p); }
FGD_INLINE void vf64_store(double *p, vf64 a) { _mm512_storeu_pd(p, a); }
FGD_INLINE vf64 vf64_set1(double x) { return _mm512_set1_pd(x); }
FGD_INLINE vf64 vf64_zero(void) { return _mm512_setzero_pd(); }
FGD_INLINE vf64 vf64_set1_bits(uint64_t x)
{
    return _mm512_castsi512_pd(_mm512_set1_epi64((long long)x));
}
FGD_INLINE vf64 vf64_add(vf64 a, vf64 b) { return _mm512_add_pd(a, b); }
FGD_INLINE vf64 vf64_sub(vf64 a, vf64 b) { return _mm512_sub_pd(a, b); }
FGD_INLINE vf64 vf64_mul(vf64 a, vf64 b) { return _mm512_mul_pd(a, b); }
FGD_INLINE vf64 vf64_div(vf64 a, vf64 b) { return _mm512_div_pd(a, b); }
FGD_INLINE vf64 vf64_sqrt(vf64 a) { return _mm512_sqrt_pd(a); }
FGD_INLINE vf64 vf64_fma(vf64 a, vf64 b, vf64 c) { return _mm512_fmadd_pd(a, b, c); }
FGD_INLINE vf64 vf64_accumulate(vf64 a, vf64 b, vf64 sum)
{
    __asm__("vfmadd231pd {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
FGD_INLINE vf64 vf64_accumulate_one(const double *a, vf64 b, vf64 sum)
{
    return vf64_fma(vf64_set1(*a), b, sum);
}
FGD_INLINE vf64 vf64_fnma(vf64 a, vf64 b, vf64 c) { return _mm512_fnmadd_pd(a, b, c); }
FGD_INLINE vf64 vf64_max(vf64 a, vf64 b) { return _mm512_max_pd(a, b); }
FGD_INLINE vf64 vf64_min(vf64 a, vf64 b) { return _mm512_min_pd(a, b); }
FGD_INLINE vf64 vf64_and(vf64 a, vf64 b)
{
    return _mm512_castsi512_pd(_mm512_and_si512(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
FGD_INLINE vf64 vf64_or(vf64 a, vf64 b)
{
    return _mm512_castsi512_pd(_mm512_or_si512(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
FGD_INLINE vf64 vf64_xor(vf64 a, vf64 b)
{
    return _mm512_castsi512_pd(_mm512_xor_si512(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
FGD_INLINE vf64 vf64_andnot(vf64 a, vf64 b)
{
    return _mm512_castsi512_pd(_mm512_andnot_si512(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
FGD_INLINE vf64 vf64_iadd(vf64 a, vf64 b)
{
    return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
FGD_INLINE vf64 vf64_isub(vf64 a, vf64 b)
{
    return _mm512_castsi512_pd(_mm512_sub_epi64(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
FGD_INLINE vf64 vf64_shl(vf64 a, const int n)
{
    return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a), n));
}
FGD_INLINE vf64 vf64_shr(vf64 a, const int n)
{
    return _mm512_castsi512_pd(_mm512_srli_epi64(_mm512_castpd_si512(a), n));
}
FGD_INLINE vm64 vf64_lt(vf64 a, vf64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
FGD_INLINE vm64 vf64_le(vf64 a, vf64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
FGD_INLINE vm64 vf64_eq(vf64 a, vf64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
FGD_INLINE vm64 vf64_mand(vm64 a, vm64 b) { return (__mmask8)(a & b); }
FGD_INLINE vm64 vf64_mor(vm64 a, vm64 b) { return (__mmask8)(a | b); }
FGD_INLINE vm64 vf64_mnot(vm64 a) { return (__mmask8)~a; }
FGD_INLINE int vf64_any(vm64 a) { return a != 0; }
FGD_INLINE vf64 vf64_select(vm64 k, vf64 yes, vf64 no)
{
    vf64 chosen = _mm512_mask_blend_pd(k, no, yes);
    FGD_CHOSEN(chosen);
    return chosen;
}
/* a * 2^n rounded once, n whole. */
FGD_INLINE vf64 vf64_ldexp(vf64 a, vf64 n) { return _mm512_scalef_pd(a, n); }
/* widen: VF64_LANES floats as doubles; umul: product of the low 32 bits of each lane, as integers;
 * zip_lo, zip_hi: first and second half of a0 b0 a1 b1 ... */
FGD_INLINE vf64 vf64_widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
FGD_INLINE vf64 vf64_umul(vf64 a, vf64 b)
{
    return _mm512_castsi512_pd(_mm512_mul_epu32(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}
FGD_INLINE vf64 vf64_zip_lo(vf64 a, vf64 b)
{
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), b);
}
FGD_INLINE vf64 vf64_zip_hi(vf64 a, vf64 b)
{
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), b);
}

FGD_INLINE vf64 vf64_tree(vf64 a)
{
    a = vf64_add(a, _mm512_shuffle_f64x2(a, a, 0x4e));
    a = vf64_add(a, _mm512_shuffle_f64x2(a, a, 0xb1));
    return vf64_add(a, _mm512_permute_pd(a, 0x55));
}
FGD_INLINE double vf64_first(vf64 a) { return _mm512_cvtsd_f64(a); }
FGD_INLINE vf64 vf64_load_first(const double *p, size_t n)
{
    if (n >= 8) return _mm512_loadu_pd(p);
    if (n <= 4) return _mm512_insertf64x4(_mm512_setzero_pd(), f64_first_of_4(p, n), 0);
    const __m512d low = _mm512_castpd256_pd512(_mm256_loadu_pd(p));
    const __m512d both = _mm512_insertf64x4(low, _mm256_loadu_pd(p + n - 4), 1);
    const __m512i at = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i from = _mm512_mask_add_epi64(at, 0xf0, at, _mm512_set1_epi64(8 - (int)n));
    return _mm512_maskz_permutexvar_pd((__mmask8)((1u << n) - 1), from, both);
}

/* Some columns of LANES rows, V..._TURNED of them: columns[j][i] = FGD_ROW(i)[j].  Halves of registers
 * are loaded: with quarters there are fewer shuffles, and twice as many loads. */
FGD_INLINE void vf32_turned(const float *const *rows, const float *at, size_t ld, vf32 *columns)
{
    __m512 t[8]; /* its 128-bit lanes hold columns q and q + 4 of four rows, and of the next four */
    FGD_UNROLL(2)
    for (int h = 0; h < 8; h += 4) {
        __m512 r[4]; /* its halves hold the columns of rows 2h + i and 2h + 4 + i */
        FGD_UNROLL(4)
        for (int i = 0; i < 4; i++) {
            const __m256d lower = _mm256_castps_pd(_mm256_loadu_ps(FGD_ROW(2 * h + i)));
            const __m256d upper = _mm256_castps_pd(_mm256_loadu_ps(FGD_ROW(2 * h + 4 + i)));
            r[i] = _mm512_castpd_ps(_mm512_insertf64x4(_mm512_castpd256_pd512(lower), upper, 1));
        }
        const __m512 t0 = _mm512_unpacklo_ps(r[0], r[1]), t1 = _mm512_unpackhi_ps(r[0], r[1]);
        const __m512 t2 = _mm512_unpacklo_ps(r[2], r[3]), t3 = _mm512_unpackhi_ps(r[2], r[3]);
        t[h] = _mm512_shuffle_ps(t0, t2, 0x44);
        t[h + 1] = _mm512_shuffle_ps(t0, t2, 0xee);
        t[h + 2] = _mm512_shuffle_ps(t1, t3, 0x44);
        t[h + 3] = _mm512_shuffle_ps(t1, t3, 0xee);
    }
    FGD_UNROLL(4)
    for (int q = 0; q < 4; q++) {
        columns[q] = _mm512_shuffle_f32x4(t[q], t[q + 4], 0x88);
        columns[q + 4] = _mm512_shuffle_f32x4(t[q], t[q + 4], 0xdd);
    }
}
FGD_INLINE void vf64_turned(const double *const *rows, const double *at, size_t ld, vf64 *columns)
{
    __m512d t[4]; /* its 128-bit lanes hold columns q and q + 2 of two rows, and of the next two */
    FGD_UNROLL(2)
    for (int h = 0; h < 4; h += 2) {
        __m512d r[2]; /* its halves hold the columns of rows 2h + i and 2h + 2 + i */
        FGD_UNROLL(2)
        for (int i = 0; i < 2; i++)
            r[i] = _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_loadu_pd(FGD_ROW(2 * h + i))),
                                      _mm256_loadu_pd(FGD_ROW(2 * h + 2 + i)), 1);
        t[h] = _mm512_unpacklo_pd(r[0], r[1]);
        t[h + 1] = _mm512_unpackhi_pd(r[0], r[1]);
    }
    FGD_UNROLL(2)
    for (int q = 0; q < 2; q++) {
        columns[q] = _mm512_shuffle_f64x2(t[q], t[q + 2], 0x88);
        columns[q + 2] = _mm512_shuffle_f64x2(t[q], t[q + 2], 0xdd);
    }
}

#endif
