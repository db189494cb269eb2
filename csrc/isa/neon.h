/* Vector vocabulary for AArch64 Advanced SIMD, 32 registers of 16 bytes: the same names in every isa/ header, so that the
 * templates are written once.  Every header is included inside its target region.
 * max and min return the second operand when either is NaN, as x86 does. */
#ifndef FGD_ISA_NEON_H
#define FGD_ISA_NEON_H

#include "../fgd_common.h"
#include <arm_neon.h>
#define VF32_LANES 4
#define VF32_TURNED 4
#define VF64_LANES 2
#define VF64_TURNED 2
#define FGD_VECTOR_REGISTERS 32

/* Whether a load takes an address of a pointer and a multiple of a register. */
#define FGD_INDEXED_LOADS 0

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

typedef float32x4_t vf32;
typedef uint32x4_t vm32;
FGD_INLINE vf32 vf32_load(const float *p) { return vld1q_f32(p); }
FGD_INLINE void vf32_store(float *p, vf32 a) { vst1q_f32(p, a); }
FGD_INLINE vf32 vf32_set1(float x) { return vdupq_n_f32(x); }
FGD_INLINE vf32 vf32_zero(void) { return vdupq_n_f32(0); }
FGD_INLINE vf32 vf32_set1_bits(uint32_t x) { return vreinterpretq_f32_u32(vdupq_n_u32(x)); }
FGD_INLINE vf32 vf32_add(vf32 a, vf32 b) { return vaddq_f32(a, b); }
FGD_INLINE vf32 vf32_sub(vf32 a, vf32 b) { return vsubq_f32(a, b); }
FGD_INLINE vf32 vf32_mul(vf32 a, vf32 b) { return vmulq_f32(a, b); }
FGD_INLINE vf32 vf32_div(vf32 a, vf32 b) { return vdivq_f32(a, b); }
FGD_INLINE vf32 vf32_sqrt(vf32 a) { return vsqrtq_f32(a); }
FGD_INLINE vf32 vf32_fma(vf32 a, vf32 b, vf32 c) { return vfmaq_f32(c, a, b); }
FGD_INLINE vf32 vf32_accumulate(vf32 a, vf32 b, vf32 sum) { return vf32_fma(a, b, sum); }
/* The same with *a in every lane of a, which is not used again. */
FGD_INLINE vf32 vf32_accumulate_one(const float *a, vf32 b, vf32 sum)
{
    return vf32_accumulate(vf32_set1(*a), b, sum);
}
FGD_INLINE vf32 vf32_fnma(vf32 a, vf32 b, vf32 c) { return vfmsq_f32(c, a, b); }
FGD_INLINE vf32 vf32_max(vf32 a, vf32 b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
FGD_INLINE vf32 vf32_min(vf32 a, vf32 b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
FGD_INLINE vf32 vf32_and(vf32 a, vf32 b)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
}
FGD_INLINE vf32 vf32_or(vf32 a, vf32 b)
{
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
}
FGD_INLINE vf32 vf32_xor(vf32 a, vf32 b)
{
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
}
FGD_INLINE vf32 vf32_andnot(vf32 a, vf32 b)
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(b), vreinterpretq_u32_f32(a)));
}
FGD_INLINE vf32 vf32_iadd(vf32 a, vf32 b)
{
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
}
FGD_INLINE vf32 vf32_isub(vf32 a, vf32 b)
{
    return vreinterpretq_f32_u32(vsubq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
}
FGD_INLINE vf32 vf32_shl(vf32 a, const int n)
{
    return vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(a), vdupq_n_s32(n)));
}
FGD_INLINE vf32 vf32_shr(vf32 a, const int n)
{
    return vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(a), vdupq_n_s32(-n)));
}
FGD_INLINE vm32 vf32_lt(vf32 a, vf32 b) { return vcltq_f32(a, b); }
FGD_INLINE vm32 vf32_le(vf32 a, vf32 b) { return vcleq_f32(a, b); }
FGD_INLINE vm32 vf32_eq(vf32 a, vf32 b) { return vceqq_f32(a, b); }
FGD_INLINE vm32 vf32_mand(vm32 a, vm32 b) { return vandq_u32(a, b); }
FGD_INLINE vm32 vf32_mor(vm32 a, vm32 b) { return vorrq_u32(a, b); }
FGD_INLINE vm32 vf32_mnot(vm32 a) { return vmvnq_u32(a); }
FGD_INLINE int vf32_any(vm32 a) { return vmaxvq_u32(a) != 0; }
FGD_INLINE vf32 vf32_select(vm32 k, vf32 yes, vf32 no) { return vbslq_f32(k, yes, no); }
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
    a = vaddq_f32(a, vextq_f32(a, a, 2));
    return vaddq_f32(a, vrev64q_f32(a));
}
FGD_INLINE float vf32_first(vf32 a) { return vgetq_lane_f32(a, 0); }
/* The first n elements, n below LANES or not, and zeros; nothing behind them is read. */
FGD_INLINE vf32 vf32_load_first(const float *p, size_t n)
{
    const vf32 none = vdupq_n_f32(0);
    if (n >= 4) return vld1q_f32(p);
    if (n < 2) return n ? vld1q_lane_f32(p, none, 0) : none;
    const vf32 two = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
    return n == 2 ? two : vld1q_lane_f32(p + 2, two, 2);
}

typedef float64x2_t vf64;
typedef uint64x2_t vm64;
FGD_INLINE vf64 vf64_load(const double *p) { return vld1q_f64(p); }
FGD_INLINE void vf64_store(double *p, vf64 a) { vst1q_f64(p, a); }
FGD_INLINE vf64 vf64_set1(double x) { return vdupq_n_f64(x); }
FGD_INLINE vf64 vf64_zero(void) { return vdupq_n_f64(0); }
FGD_INLINE vf64 vf64_set1_bits(uint64_t x) { return vreinterpretq_f64_u64(vdupq_n_u64(x)); }
FGD_INLINE vf64 vf64_add(vf64 a, vf64 b) { return vaddq_f64(a, b); }
FGD_INLINE vf64 vf64_sub(vf64 a, vf64 b) { return vsubq_f64(a, b); }
FGD_INLINE vf64 vf64_mul(vf64 a, vf64 b) { return vmulq_f64(a, b); }
FGD_INLINE vf64 vf64_div(vf64 a, vf64 b) { return vdivq_f64(a, b); }
FGD_INLINE vf64 vf64_sqrt(vf64 a) { return vsqrtq_f64(a); }
FGD_INLINE vf64 vf64_fma(vf64 a, vf64 b, vf64 c) { return vfmaq_f64(c, a, b); }
FGD_INLINE vf64 vf64_accumulate(vf64 a, vf64 b, vf64 sum) { return vf64_fma(a, b, sum); }
FGD_INLINE vf64 vf64_accumulate_one(const double *a, vf64 b, vf64 sum)
{
    return vf64_accumulate(vf64_set1(*a), b, sum);
}
FGD_INLINE vf64 vf64_fnma(vf64 a, vf64 b, vf64 c) { return vfmsq_f64(c, a, b); }
FGD_INLINE vf64 vf64_max(vf64 a, vf64 b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
FGD_INLINE vf64 vf64_min(vf64 a, vf64 b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
FGD_INLINE vf64 vf64_and(vf64 a, vf64 b)
{
    return vreinterpretq_f64_u64(vandq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b)));
}
FGD_INLINE vf64 vf64_or(vf64 a, vf64 b)
{
    return vreinterpretq_f64_u64(vorrq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b)));
}
FGD_INLINE vf64 vf64_xor(vf64 a, vf64 b)
{
    return vreinterpretq_f64_u64(veorq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b)));
}
FGD_INLINE vf64 vf64_andnot(vf64 a, vf64 b)
{
    return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(b), vreinterpretq_u64_f64(a)));
}
FGD_INLINE vf64 vf64_iadd(vf64 a, vf64 b)
{
    return vreinterpretq_f64_u64(vaddq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b)));
}
FGD_INLINE vf64 vf64_isub(vf64 a, vf64 b)
{
    return vreinterpretq_f64_u64(vsubq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b)));
}
FGD_INLINE vf64 vf64_shl(vf64 a, const int n)
{
    return vreinterpretq_f64_u64(vshlq_u64(vreinterpretq_u64_f64(a), vdupq_n_s64(n)));
}
FGD_INLINE vf64 vf64_shr(vf64 a, const int n)
{
    return vreinterpretq_f64_u64(vshlq_u64(vreinterpretq_u64_f64(a), vdupq_n_s64(-n)));
}
FGD_INLINE vm64 vf64_lt(vf64 a, vf64 b) { return vcltq_f64(a, b); }
FGD_INLINE vm64 vf64_le(vf64 a, vf64 b) { return vcleq_f64(a, b); }
FGD_INLINE vm64 vf64_eq(vf64 a, vf64 b) { return vceqq_f64(a, b); }
FGD_INLINE vm64 vf64_mand(vm64 a, vm64 b) { return vandq_u64(a, b); }
FGD_INLINE vm64 vf64_mor(vm64 a, vm64 b) { return vorrq_u64(a, b); }
FGD_INLINE vm64 vf64_mnot(vm64 a) { return veorq_u64(a, vdupq_n_u64(~(uint64_t)0)); }
FGD_INLINE int vf64_any(vm64 a) { return vmaxvq_u32(vreinterpretq_u32_u64(a)) != 0; }
FGD_INLINE vf64 vf64_select(vm64 k, vf64 yes, vf64 no) { return vbslq_f64(k, yes, no); }
/* a * 2^n rounded once, n whole and within +-2044, by two factors of about 2^(n/2) each. */
FGD_INLINE vf64 vf64_ldexp(vf64 a, vf64 n)
{
    const vf64 t = vf64_add(n, vf64_set1(0x1.8p52 + 2046.0)); /* n + 2046 in the low bits */
    const vf64 half = vf64_shr(t, 1);
    return vf64_mul(vf64_mul(a, vf64_shl(half, 52)), vf64_shl(vf64_isub(t, half), 52));
}
/* widen: VF64_LANES floats as doubles; umul: product of the low 32 bits of each lane, as integers;
 * zip_lo, zip_hi: first and second half of a0 b0 a1 b1 ... */
FGD_INLINE vf64 vf64_widen(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
FGD_INLINE vf64 vf64_umul(vf64 a, vf64 b)
{
    return vreinterpretq_f64_u64(
        vmull_u32(vmovn_u64(vreinterpretq_u64_f64(a)), vmovn_u64(vreinterpretq_u64_f64(b))));
}
FGD_INLINE vf64 vf64_zip_lo(vf64 a, vf64 b) { return vzip1q_f64(a, b); }
FGD_INLINE vf64 vf64_zip_hi(vf64 a, vf64 b) { return vzip2q_f64(a, b); }

FGD_INLINE vf64 vf64_tree(vf64 a) { return vaddq_f64(a, vextq_f64(a, a, 1)); }
FGD_INLINE double vf64_first(vf64 a) { return vgetq_lane_f64(a, 0); }
FGD_INLINE vf64 vf64_load_first(const double *p, size_t n)
{
    const vf64 none = vdupq_n_f64(0);
    if (n >= 2) return vld1q_f64(p);
    return n ? vld1q_lane_f64(p, none, 0) : none;
}

/* Some columns of LANES rows, V..._TURNED of them: columns[j][i] = FGD_ROW(i)[j]. */
FGD_INLINE void vf32_turned(const float *const *rows, const float *at, size_t ld, vf32 *columns)
{
    const float32x4_t r0 = vld1q_f32(FGD_ROW(0)), r1 = vld1q_f32(FGD_ROW(1));
    const float32x4_t r2 = vld1q_f32(FGD_ROW(2)), r3 = vld1q_f32(FGD_ROW(3));
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r0, r1));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(r0, r1));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r2, r3));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(r2, r3));
    columns[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    columns[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    columns[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    columns[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}
FGD_INLINE void vf64_turned(const double *const *rows, const double *at, size_t ld, vf64 *columns)
{
    const float64x2_t a = vld1q_f64(FGD_ROW(0)), b = vld1q_f64(FGD_ROW(1));
    columns[0] = vtrn1q_f64(a, b);
    columns[1] = vtrn2q_f64(a, b);
}

#endif
