/* Vector vocabulary for plain C, one lane; fma() may be a library call, slow, and for small numbers
 * in need of help (vf64_fma): the same names in every isa/ header, so that the templates are
 * written once.  Every header is included inside its target region.
 * max and min return the second operand when either is NaN, as x86 does. */
#ifndef FGD_ISA_SCALAR_H
#define FGD_ISA_SCALAR_H

#include "../fgd_common.h"

#define VF32_LANES 1
#define VF32_TURNED 1
#define VF64_LANES 1
#define VF64_TURNED 1
#define FGD_VECTOR_REGISTERS 16

/* Whether a load takes an address of a pointer and a multiple of a register. */
#define FGD_INDEXED_LOADS 0

/* Micro-kernel tiles, X(rows, vectors): FGD_TILE_ROWS lists the most rows that keep the tile,
 * the vectors of B and a broadcast in registers, for 1, 2, ... vectors. */
#define FGD_MAX_TILE_VECTORS 4
#define FGD_TILE_ROWS 8, 6, 4, 3
/* Laid out by hand: the formatter does not settle on such lists. */
/* clang-format off */
#define FGD_TILES(X)                                                                        \
    X(1, 1)                                                                                 \
    X(2, 1)                                                                                 \
    X(3, 1)                                                                                 \
    X(4, 1)                                                                                 \
    X(5, 1)                                                                                 \
    X(6, 1) X(7, 1) X(8, 1) X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2) X(1, 3) X(2, 3) \
        X(3, 3) X(4, 3) X(1, 4) X(2, 4) X(3, 4)
/* clang-format on */

FGD_INLINE uint32_t fgd_bits32(float x)
{
    uint32_t u;
    __builtin_memcpy(&u, &x, 4);
    return u;
}
FGD_INLINE float fgd_from_bits32(uint32_t u)
{
    float x;
    __builtin_memcpy(&x, &u, 4);
    return x;
}
FGD_INLINE uint64_t fgd_bits64(double x)
{
    uint64_t u;
    __builtin_memcpy(&u, &x, 8);
    return u;
}
FGD_INLINE double fgd_from_bits64(uint64_t u)
{
    double x;
    __builtin_memcpy(&x, &u, 8);
    return x;
}

/* What stands here is a number that the compiler knows nothing of.  After a selection it would else
 * leave out a product by a chosen 1, and with it that a denormal factor counts as zero. */
#if defined(__x86_64__)
#define FGD_OPAQUE(x) __asm__("" : "+x"(x))
#else
#define FGD_OPAQUE(x) __asm__("" : "+w"(x))
#endif

typedef float vf32;
typedef int vm32;
FGD_INLINE vf32 vf32_load(const float *p) { return *p; }
FGD_INLINE void vf32_store(float *p, vf32 a) { *p = a; }
FGD_INLINE vf32 vf32_set1(float x) { return x; }
FGD_INLINE vf32 vf32_zero(void) { return 0; }
FGD_INLINE vf32 vf32_set1_bits(uint32_t x) { return fgd_from_bits32(x); }
FGD_INLINE vf32 vf32_add(vf32 a, vf32 b) { return a + b; }
FGD_INLINE vf32 vf32_sub(vf32 a, vf32 b) { return a - b; }
FGD_INLINE vf32 vf32_mul(vf32 a, vf32 b) { return a * b; }
FGD_INLINE vf32 vf32_div(vf32 a, vf32 b) { return a / b; }
FGD_INLINE vf32 vf32_sqrt(vf32 a) { return __builtin_sqrtf(a); }
FGD_INLINE vf32 vf32_fma(vf32 a, vf32 b, vf32 c) { return __builtin_fmaf(a, b, c); }
FGD_INLINE vf32 vf32_accumulate(vf32 a, vf32 b, vf32 sum) { return vf32_fma(a, b, sum); }
/* The same with *a in every lane of a, which is not used again. */
FGD_INLINE vf32 vf32_accumulate_one(const float *a, vf32 b, vf32 sum)
{
    return vf32_accumulate(vf32_set1(*a), b, sum);
}
FGD_INLINE vf32 vf32_fnma(vf32 a, vf32 b, vf32 c) { return __builtin_fmaf(-a, b, c); }
FGD_INLINE vf32 vf32_max(vf32 a, vf32 b) { return a > b ? a : b; }
FGD_INLINE vf32 vf32_min(vf32 a, vf32 b) { return a < b ? a : b; }
FGD_INLINE vf32 vf32_and(vf32 a, vf32 b) { return fgd_from_bits32(fgd_bits32(a) & fgd_bits32(b)); }
FGD_INLINE vf32 vf32_or(vf32 a, vf32 b) { return fgd_from_bits32(fgd_bits32(a) | fgd_bits32(b)); }
FGD_INLINE vf32 vf32_xor(vf32 a, vf32 b) { return fgd_from_bits32(fgd_bits32(a) ^ fgd_bits32(b)); }
FGD_INLINE vf32 vf32_andnot(vf32 a, vf32 b)
{
    return fgd_from_bits32(~fgd_bits32(a) & fgd_bits32(b));
}
FGD_INLINE vf32 vf32_iadd(vf32 a, vf32 b) { return fgd_from_bits32(fgd_bits32(a) + fgd_bits32(b)); }
FGD_INLINE vf32 vf32_isub(vf32 a, vf32 b) { return fgd_from_bits32(fgd_bits32(a) - fgd_bits32(b)); }
FGD_INLINE vf32 vf32_shl(vf32 a, const int n) { return fgd_from_bits32(fgd_bits32(a) << n); }
FGD_INLINE vf32 vf32_shr(vf32 a, const int n) { return fgd_from_bits32(fgd_bits32(a) >> n); }
FGD_INLINE vm32 vf32_lt(vf32 a, vf32 b) { return a < b; }
FGD_INLINE vm32 vf32_le(vf32 a, vf32 b) { return a <= b; }
FGD_INLINE vm32 vf32_eq(vf32 a, vf32 b) { return a == b; }
FGD_INLINE vm32 vf32_mand(vm32 a, vm32 b) { return a & b; }
FGD_INLINE vm32 vf32_mor(vm32 a, vm32 b) { return a | b; }
FGD_INLINE vm32 vf32_mnot(vm32 a) { return !a; }
FGD_INLINE int vf32_any(vm32 a) { return a; }
FGD_INLINE vf32 vf32_select(vm32 k, vf32 yes, vf32 no)
{
    vf32 chosen = k ? yes : no;
    FGD_OPAQUE(chosen);
    return chosen;
}
/* a * 2^n rounded once, n whole and within +-252, by two factors of about 2^(n/2) each. */
FGD_INLINE vf32 vf32_ldexp(vf32 a, vf32 n)
{
    const vf32 t = vf32_add(n, vf32_set1(0x1.8p23f + 254.0f)); /* n + 254 in the low bits */
    const vf32 half = vf32_shr(t, 1);
    return vf32_mul(vf32_mul(a, vf32_shl(half, 23)), vf32_shl(vf32_isub(t, half), 23));
}

/* In every lane: the lanes' sum in the tree that adds lane r + h to lane r for h = LANES / 2, ...,
 * 1, a lane below h and the one above it adding the same two. */
FGD_INLINE vf32 vf32_tree(vf32 a) { return a; }
FGD_INLINE float vf32_first(vf32 a) { return a; }
/* The first n elements, n below LANES or not, and zeros; nothing behind them is read. */
FGD_INLINE vf32 vf32_load_first(const float *p, size_t n) { return n ? *p : 0; }

typedef double vf64;
typedef int vm64;
FGD_INLINE vf64 vf64_load(const double *p) { return *p; }
FGD_INLINE void vf64_store(double *p, vf64 a) { *p = a; }
FGD_INLINE vf64 vf64_set1(double x) { return x; }
FGD_INLINE vf64 vf64_zero(void) { return 0; }
FGD_INLINE vf64 vf64_set1_bits(uint64_t x) { return fgd_from_bits64(x); }
FGD_INLINE vf64 vf64_add(vf64 a, vf64 b) { return a + b; }
FGD_INLINE vf64 vf64_sub(vf64 a, vf64 b) { return a - b; }
FGD_INLINE vf64 vf64_mul(vf64 a, vf64 b) { return a * b; }
FGD_INLINE vf64 vf64_div(vf64 a, vf64 b) { return a / b; }
FGD_INLINE vf64 vf64_sqrt(vf64 a) { return __builtin_sqrt(a); }
#if defined(__x86_64__)
/* Where a processor lacks the instruction, C libraries split the factors in halves and take the
 * product's rounding error: numbers that may be denormal, and count as zero here, though the result
 * is not.  Then powers of 2, which change no bit, keep all of them in range. */
static __attribute__((noinline, unused)) vf64 vf64_fma_of_small(vf64 a, vf64 b, vf64 c)
{
    const double size_a = __builtin_fabs(a), size_b = __builtin_fabs(b);
    if (size_a * size_b < 0x1p-800) {
        if (!(__builtin_fabs(c) < 0x1p-700)) return __builtin_fma(a, b, c); /* c, or NaN */
        const double larger = size_a < size_b ? b : a, smaller = size_a < size_b ? a : b;
        return __builtin_fma(smaller * 0x1p300, larger, c * 0x1p300) * 0x1p-300;
    }
    if (size_a < 0x1p-900) return __builtin_fma(a * 0x1p300, b * 0x1p-300, c);
    if (size_b < 0x1p-900) return __builtin_fma(a * 0x1p-300, b * 0x1p300, c);
    return __builtin_fma(a, b, c); /* a factor or the product is NaN */
}
FGD_INLINE vf64 vf64_fma(vf64 a, vf64 b, vf64 c)
{
    const double size_a = __builtin_fabs(a), size_b = __builtin_fabs(b);
    if (size_a * size_b >= 0x1p-800 && size_a >= 0x1p-900 && size_b >= 0x1p-900)
        return __builtin_fma(a, b, c);
    return vf64_fma_of_small(a, b, c);
}
#else
FGD_INLINE vf64 vf64_fma(vf64 a, vf64 b, vf64 c) { return __builtin_fma(a, b, c); }
#endif
FGD_INLINE vf64 vf64_accumulate(vf64 a, vf64 b, vf64 sum) { return vf64_fma(a, b, sum); }
FGD_INLINE vf64 vf64_accumulate_one(const double *a, vf64 b, vf64 sum)
{
    return vf64_accumulate(vf64_set1(*a), b, sum);
}
FGD_INLINE vf64 vf64_fnma(vf64 a, vf64 b, vf64 c) { return vf64_fma(-a, b, c); }
FGD_INLINE vf64 vf64_max(vf64 a, vf64 b) { return a > b ? a : b; }
FGD_INLINE vf64 vf64_min(vf64 a, vf64 b) { return a < b ? a : b; }
FGD_INLINE vf64 vf64_and(vf64 a, vf64 b) { return fgd_from_bits64(fgd_bits64(a) & fgd_bits64(b)); }
FGD_INLINE vf64 vf64_or(vf64 a, vf64 b) { return fgd_from_bits64(fgd_bits64(a) | fgd_bits64(b)); }
FGD_INLINE vf64 vf64_xor(vf64 a, vf64 b) { return fgd_from_bits64(fgd_bits64(a) ^ fgd_bits64(b)); }
FGD_INLINE vf64 vf64_andnot(vf64 a, vf64 b)
{
    return fgd_from_bits64(~fgd_bits64(a) & fgd_bits64(b));
}
FGD_INLINE vf64 vf64_iadd(vf64 a, vf64 b) { return fgd_from_bits64(fgd_bits64(a) + fgd_bits64(b)); }
FGD_INLINE vf64 vf64_isub(vf64 a, vf64 b) { return fgd_from_bits64(fgd_bits64(a) - fgd_bits64(b)); }
FGD_INLINE vf64 vf64_shl(vf64 a, const int n) { return fgd_from_bits64(fgd_bits64(a) << n); }
FGD_INLINE vf64 vf64_shr(vf64 a, const int n) { return fgd_from_bits64(fgd_bits64(a) >> n); }
FGD_INLINE vm64 vf64_lt(vf64 a, vf64 b) { return a < b; }
FGD_INLINE vm64 vf64_le(vf64 a, vf64 b) { return a <= b; }
FGD_INLINE vm64 vf64_eq(vf64 a, vf64 b) { return a == b; }
FGD_INLINE vm64 vf64_mand(vm64 a, vm64 b) { return a & b; }
FGD_INLINE vm64 vf64_mor(vm64 a, vm64 b) { return a | b; }
FGD_INLINE vm64 vf64_mnot(vm64 a) { return !a; }
FGD_INLINE int vf64_any(vm64 a) { return a; }
FGD_INLINE vf64 vf64_select(vm64 k, vf64 yes, vf64 no)
{
    vf64 chosen = k ? yes : no;
    FGD_OPAQUE(chosen);
    return chosen;
}
/* a * 2^n rounded once, n whole and within +-2044, by two factors of about 2^(n/2) each. */
FGD_INLINE vf64 vf64_ldexp(vf64 a, vf64 n)
{
    const vf64 t = vf64_add(n, vf64_set1(0x1.8p52 + 2046.0)); /* n + 2046 in the low bits */
    const vf64 half = vf64_shr(t, 1);
    return vf64_mul(vf64_mul(a, vf64_shl(half, 52)), vf64_shl(vf64_isub(t, half), 52));
}
/* widen: VF64_LANES floats as doubles; umul: product of the low 32 bits of each lane, as integers;
 * zip_lo, zip_hi: first and second half of a0 b0 a1 b1 ... */
FGD_INLINE vf64 vf64_widen(const float *p) { return (double)*p; }
FGD_INLINE vf64 vf64_umul(vf64 a, vf64 b)
{
    return fgd_from_bits64((uint64_t)(uint32_t)fgd_bits64(a) * (uint32_t)fgd_bits64(b));
}
FGD_INLINE vf64 vf64_zip_lo(vf64 a, vf64 b)
{
    (void)b;
    return a;
}
FGD_INLINE vf64 vf64_zip_hi(vf64 a, vf64 b)
{
    (void)a;
    return b;
}

FGD_INLINE vf64 vf64_tree(vf64 a) { return a; }
FGD_INLINE double vf64_first(vf64 a) { return a; }
FGD_INLINE vf64 vf64_load_first(const double *p, size_t n) { return n ? *p : 0; }

/* Some columns of LANES rows, V..._TURNED of them: columns[j][i] = FGD_ROW(i)[j]. */
FGD_INLINE void vf32_turned(const float *const *rows, const float *at, size_t ld, vf32 *columns)
{
    columns[0] = FGD_ROW(0)[0];
}
FGD_INLINE void vf64_turned(const double *const *rows, const double *at, size_t ld, vf64 *columns)
{
    columns[0] = FGD_ROW(0)[0];
}

#endif
