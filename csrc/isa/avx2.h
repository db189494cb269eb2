/* Vector vocabulary for AVX2 + FMA, 16 registers of 32 bytes: the same names in every isa/ header, so that the
 * templates are written once.  Every header is included inside its target region.
 * max and min return the second operand when either is NaN, as x86 does. */
#ifndef FGD_ISA_AVX2_H
#define FGD_ISA_AVX2_H

#include "../fgd_common.h"
#include <immintrin.h>
#include "first_elements.h"
#define VF32_LANES 8
#define VF32_TURNED 4
#define VF64_LANES 4
#define VF64_TURNED 2
#define FGD_VECTOR_REGISTERS 16

/* Whether a load takes an address of a pointer and a multiple of a register. */
#define FGD_INDEXED_LOADS 1

/* Micro-kernel tiles, X(rows, vectors): FGD_TILE_ROWS lists the most rows that keep the tile,
 * the vectors of B and a broadcast in registers, for 1, 2, ... vectors. */
#define FGD_MAX_TILE_VECTORS 2 /* one cache line of B: a third vector waits for a second line */
#define FGD_TILE_ROWS 12, 6
/* Laid out by hand: the formatter does not settle on such lists. */
/* clang-format off */
#define FGD_TILES(X)                                                                           \
    X(1, 1)                                                                                    \
    X(2, 1)                                                                                    \
    X(3, 1)                                                                                    \
    X(4, 1)                                                                                    \
    X(5, 1)                                                                                    \
    X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1) X(1, 2) X(2, 2) X(3, 2) X(4, 2) \
        X(5, 2) X(6, 2)
/* clang-format on */

typedef __m256 vf32;
typedef __m256 vm32;
FGD_INLINE vf32 vf32_load(const float *p) { return _mm256_loadu_ps(p); }
FGD_INLINE void vf32_store(float *p, vf32 a) { _mm256_storeu_ps(p, a); }
FGD_INLINE vf32 vf32_set1(float x) { return _mm256_set1_ps(x); }
FGD_INLINE vf32 vf32_zero(void) { return _mm256_setzero_ps(); }
FGD_INLINE vf32 vf32_set1_bits(uint32_t x)
{
    return _mm256_castsi256_ps(_mm256_set1_epi32((int)x));
}
FGD_INLINE vf32 vf32_add(vf32 a, vf32 b) { return _mm256_add_ps(a, b); }
FGD_INLINE vf32 vf32_sub(vf32 a, vf32 b) { return _mm256_sub_ps(a, b); }
FGD_INLINE vf32 vf32_mul(vf32 a, vf32 b) { return _mm256_mul_ps(a, b); }
FGD_INLINE vf32 vf32_div(vf32 a, vf32 b) { return _mm256_div_ps(a, b); }
FGD_INLINE vf32 vf32_sqrt(vf32 a) { return _mm256_sqrt_ps(a); }
FGD_INLINE vf32 vf32_fma(vf32 a, vf32 b, vf32 c) { return _mm256_fmadd_ps(a, b, c); }
/* fma(a, b, sum) in sum's register: with 12 sums in 16 registers gcc otherwise lets results change
 * places, and runs out of registers. */
FGD_INLINE vf32 vf32_accumulate(vf32 a, vf32 b, vf32 sum)
{
    __asm__("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}
/* The same with *a in every lane of a, which is not used again. */
FGD_INLINE vf32 vf32_accumulate_one(const float *a, vf32 b, vf32 sum)
{
    return vf32_accumulate(vf32_set1(*a), b, sum);
}
FGD_INLINE vf32 vf32_fnma(vf32 a, vf32 b, vf32 c) { return _mm256_fnmadd_ps(a, b, c); }
FGD_INLINE vf32 vf32_max(vf32 a, vf32 b) { return _mm256_max_ps(a, b); }
FGD_INLINE vf32 vf32_min(vf32 a, vf32 b) { return _mm256_min_ps(a, b); }
FGD_INLINE vf32 vf32_and(vf32 a, vf32 b)
{
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
FGD_INLINE vf32 vf32_or(vf32 a, vf32 b)
{
    return _mm256_castsi256_ps(_mm256_or_si256(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
FGD_INLINE vf32 vf32_xor(vf32 a, vf32 b)
{
    return _mm256_castsi256_ps(_mm256_xor_si256(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
FGD_INLINE vf32 vf32_andnot(vf32 a, vf32 b)
{
    return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
FGD_INLINE vf32 vf32_iadd(vf32 a, vf32 b)
{
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
FGD_INLINE vf32 vf32_isub(vf32 a, vf32 b)
{
    return _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
FGD_INLINE vf32 vf32_shl(vf32 a, const int n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), n));
}
FGD_INLINE vf32 vf32_shr(vf32 a, const int n)
{
    return _mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(a), n));
}
FGD_INLINE vm32 vf32_lt(vf32 a, vf32 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
FGD_INLINE vm32 vf32_le(vf32 a, vf32 b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
FGD_INLINE vm32 vf32_eq(vf32 a, vf32 b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
FGD_INLINE vm32 vf32_mand(vm32 a, vm32 b) { return _mm256_and_ps(a, b); }
FGD_INLINE vm32 vf32_mor(vm32 a, vm32 b) { return _mm256_or_ps(a, b); }
FGD_INLINE vm32 vf32_mnot(vm32 a)
{
    return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
}
FGD_INLINE int vf32_any(vm32 a) { return _mm256_movemask_ps(a) != 0; }
FGD_INLINE vf32 vf32_select(vm32 k, vf32 yes, vf32 no) { return _mm256_blendv_ps(no, yes, k); }
/* a * 2^n rounded once, n whole and within +-252, by two factors of about 2^(n/2) each. */
FGD_INLINE vf32 vf32_ldexp(vf32 a, vf32 n)
{
    const vf32 t = vf32_add(n, vf32_set1(0x1.8p23f + 254.0f)); /* n + 254 in the low bits */
    const vf32 half = vf32_shr(t, 1);
    return vf32_mul(vf32_mul(a, vf32_shl(half, 23)), vf32_shl(vf32_isub(t, half), 23));
}

/* In every lane: the lanes' sum in the tree that adds lane r + h to lane r for h = LANES / 2, ...,
 * 1, a lane below h and the one above it adding the same two. */
FGD_INLINE vf32 vf32_tree(vf32 a)
{
    a = vf32_add(a, _mm256_permute2f128_ps(a, a, 1));
    a = vf32_add(a, _mm256_permute_ps(a, 0x4e));
    return vf32_add(a, _mm256_permute_ps(a, 0xb1));
}
FGD_INLINE float vf32_first(vf32 a) { return _mm256_cvtss_f32(a); }
/* The first n elements, n below LANES or not, and zeros; nothing behind them is read. */
FGD_INLINE vf32 vf32_load_first(const float *p, size_t n) { return f32_first_of_8(p, n); }

typedef __m256d vf64;
typedef __m256d vm64;
FGD_INLINE vf64 vf64_load(const double *p) { return _mm256_loadu_pd(p); }
FGD_INLINE void vf64_store(double *p, vf64 a) { _mm256_storeu_pd(p, a); }
FGD_INLINE vf64 vf64_set1(double x) { return _mm256_set1_pd(x); }
FGD_INLINE vf64 vf64_zero(void) { return _mm256_setzero_pd(); }
FGD_INLINE vf64 vf64_set1_bits(uint64_t x)
{
    return _mm256_castsi256_pd(_mm256_set1_epi64x((long long)x));
}
FGD_INLINE vf64 vf64_add(vf64 a, vf64 b) { return _mm256_add_pd(a, b); }
FGD_INLINE vf64 vf64_sub(vf64 a, vf64 b) { return _mm256_sub_pd(a, b); }
FGD_INLINE vf64 vf64_mul(vf64 a, vf64 b) { return _mm256_mul_pd(a, b); }
FGD_INLINE vf64 vf64_div(vf64 a, vf64 b) { return _mm256_div_pd(a, b); }
FGD_INLINE vf64 vf64_sqrt(vf64 a) { return _mm256_sqrt_pd(a); }
FGD_INLINE vf64 vf64_fma(vf64 a, vf64 b, vf64 c) { return _mm256_fmadd_pd(a, b, c); }
FGD_INLINE vf64 vf64_accumulate(vf64 a, vf64 b, vf64 sum)
{
    __asm__("vfmadd231pd {%2, %1, %0|%0, %1, %2}" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}
FGD_INLINE vf64 vf64_accumulate_one(const double *a, vf64 b, vf64 sum)
{
    return vf64_accumulate(vf64_set1(*a), b, sum);
}
FGD_INLINE vf64 vf64_fnma(vf64 a, vf64 b, vf64 c) { return _mm256_fnmadd_pd(a, b, c); }
FGD_INLINE vf64 vf64_max(vf64 a, vf64 b) { return _mm256_max_pd(a, b); }
FGD_INLINE vf64 vf64_min(vf64 a, vf64 b) { return _mm256_min_pd(a, b); }
FGD_INLINE vf64 vf64_and(vf64 a, vf64 b)
{
    return _mm256_castsi256_pd(_mm256_and_si256(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
FGD_INLINE vf64 vf64_or(vf64 a, vf64 b)
{
    return _mm256_castsi256_pd(_mm256_or_si256(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
FGD_INLINE vf64 vf64_xor(vf64 a, vf64 b)
{
    return _mm256_castsi256_pd(_mm256_xor_si256(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
FGD_INLINE vf64 vf64_andnot(vf64 a, vf64 b)
{
    return _mm256_castsi256_pd(_mm256_andnot_si256(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
FGD_INLINE vf64 vf64_iadd(vf64 a, vf64 b)
{
    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
FGD_INLINE vf64 vf64_isub(vf64 a, vf64 b)
{
    return _mm256_castsi256_pd(_mm256_sub_epi64(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
FGD_INLINE vf64 vf64_shl(vf64 a, const int n)
{
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a), n));
}
FGD_INLINE vf64 vf64_shr(vf64 a, const int n)
{
    return _mm256_castsi256_pd(_mm256_srli_epi64(_mm256_castpd_si256(a), n));
}
FGD_INLINE vm64 vf64_lt(vf64 a, vf64 b) { return _mm256_cmp_pd(a, b, _CMP_LT_OQ); }
FGD_INLINE vm64 vf64_le(vf64 a, vf64 b) { return _mm256_cmp_pd(a, b, _CMP_LE_OQ); }
FGD_INLINE vm64 vf64_eq(vf64 a, vf64 b) { return _mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
FGD_INLINE vm64 vf64_mand(vm64 a, vm64 b) { return _mm256_and_pd(a, b); }
FGD_INLINE vm64 vf64_mor(vm64 a, vm64 b) { return _mm256_or_pd(a, b); }
FGD_INLINE vm64 vf64_mnot(vm64 a)
{
    return _mm256_xor_pd(a, _mm256_castsi256_pd(_mm256_set1_epi32(-1)));
}
FGD_INLINE int vf64_any(vm64 a) { return _mm256_movemask_pd(a) != 0; }
FGD_INLINE vf64 vf64_select(vm64 k, vf64 yes, vf64 no) { return _mm256_blendv_pd(no, yes, k); }
/* a * 2^n rounded once, n whole and within +-2044, by two factors of about 2^(n/2) each. */
FGD_INLINE vf64 vf64_ldexp(vf64 a, vf64 n)
{
    const vf64 t = vf64_add(n, vf64_set1(0x1.8p52 + 2046.0)); /* n + 2046 in the low bits */
    const vf64 half = vf64_shr(t, 1);
    return vf64_mul(vf64_mul(a, vf64_shl(half, 52)), vf64_shl(vf64_isub(t, half), 52));
}
/* widen: VF64_LANES floats as doubles; umul: product of the low 32 bits of each lane, as integers;
 * zip_lo, zip_hi: first and second half of a0 b0 a1 b1 ... */
FGD_INLINE vf64 vf64_widen(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
FGD_INLINE vf64 vf64_umul(vf64 a, vf64 b)
{
    return _mm256_castsi256_pd(_mm256_mul_epu32(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
FGD_INLINE vf64 vf64_zip_lo(vf64 a, vf64 b)
{
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x20);
}
FGD_INLINE vf64 vf64_zip_hi(vf64 a, vf64 b)
{
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x31);
}

FGD_INLINE vf64 vf64_tree(vf64 a)
{
    a = vf64_add(a, _mm256_permute2f128_pd(a, a, 1));
    return vf64_add(a, _mm256_permute_pd(a, 5));
}
FGD_INLINE double vf64_first(vf64 a) { return _mm256_cvtsd_f64(a); }
FGD_INLINE vf64 vf64_load_first(const double *p, size_t n) { return f64_first_of_4(p, n); }

/* Some columns of LANES rows, V..._TURNED of them: columns[j][i] = FGD_ROW(i)[j]. */
FGD_INLINE void vf32_turned(const float *const *rows, const float *at, size_t ld, vf32 *columns)
{
    __m256 r[4]; /* its halves hold the columns of rows i and i + 4 */
    FGD_UNROLL(4)
    for (int i = 0; i < 4; i++)
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(FGD_ROW(i))),
                                    _mm_loadu_ps(FGD_ROW(i + 4)), 1);
    const __m256 t0 = _mm256_unpacklo_ps(r[0], r[1]), t1 = _mm256_unpackhi_ps(r[0], r[1]);
    const __m256 t2 = _mm256_unpacklo_ps(r[2], r[3]), t3 = _mm256_unpackhi_ps(r[2], r[3]);
    columns[0] = _mm256_shuffle_ps(t0, t2, 0x44);
    columns[1] = _mm256_shuffle_ps(t0, t2, 0xee);
    columns[2] = _mm256_shuffle_ps(t1, t3, 0x44);
    columns[3] = _mm256_shuffle_ps(t1, t3, 0xee);
}
FGD_INLINE void vf64_turned(const double *const *rows, const double *at, size_t ld, vf64 *columns)
{
    __m256d r[2]; /* its halves hold the columns of rows i and i + 2 */
    FGD_UNROLL(2)
    for (int i = 0; i < 2; i++)
        r[i] = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(FGD_ROW(i))),
                                    _mm_loadu_pd(FGD_ROW(i + 2)), 1);
    columns[0] = _mm256_unpacklo_pd(r[0], r[1]);
    columns[1] = _mm256_unpackhi_pd(r[0], r[1]);
}

#endif
