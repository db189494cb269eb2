/* exp, expm1, log, log1p, tanh, sigmoid and the tail of the normal distribution on vectors:
 * our own polynomials, one fma order for every ISA, no libm, no tables, no branches.
 * Everywhere: NaN gives NaN, denormal arguments count as 0 (DAZ) and results below the
 * smallest normal are 0 (FTZ).  In min(bound, x) and max(bound, x) the x stands second, so
 * that NaN passes.  ULP bounds are upper ends of what was measured for float and double. */
#include "math_coefs.h"

#define FGD_PICK(f32, f64) ((REAL)(REAL_BITS == 32 ? (f32) : (f64)))
#define FGD_MANTISSA_BITS (REAL_BITS == 32 ? 23 : 52)
#define FGD_COEFS(name) {FGD_CAT4(FGD_, name, _F, REAL_BITS)}
#define FGD_POLY(name, x, x2) V(poly)(x, x2, FN(name), sizeof FN(name) / sizeof(REAL))

static const REAL FN(exp_poly)[] = FGD_COEFS(EXP_POLY);
static const REAL FN(log_poly)[] = FGD_COEFS(LOG_POLY);
static const REAL FN(log1p_poly)[] = FGD_COEFS(LOG1P_POLY);
static const REAL FN(normal_tail_poly)[] = FGD_COEFS(NORMAL_TAIL_POLY);

/* c[first] + c[first + step] x + ... below c[n]. */
FGD_INLINE VF V(horner)(VF x, const REAL *c, size_t first, size_t step, size_t n)
{
    size_t i = first + (n - 1 - first) / step * step;
    VF p = V(set1)(c[i]);
    for (; i > first; i -= step) p = V(fma)(p, x, V(set1)(c[i - step]));
    return p;
}
/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1), x2 = x^2, n >= 2: even and odd powers apart, and
 * apart once more when long, because Horner's single chain would wait for itself. */
FGD_INLINE VF V(poly)(VF x, VF x2, const REAL *c, size_t n)
{
    if (n < 12) return V(fma)(V(horner)(x2, c, 1, 2, n), x, V(horner)(x2, c, 0, 2, n));
    const VF x4 = V(mul)(x2, x2);
    const VF low = V(fma)(V(horner)(x4, c, 1, 4, n), x, V(horner)(x4, c, 0, 4, n));
    const VF high = V(fma)(V(horner)(x4, c, 3, 4, n), x, V(horner)(x4, c, 2, 4, n));
    return V(fma)(high, x2, low);
}

FGD_INLINE VF V(abs_mask)(void)
{
    return V(set1_bits)(REAL_BITS == 32 ? 0x7fffffffu : 0x7fffffffffffffffu);
}
FGD_INLINE VF V(abs)(VF x) { return V(andnot)(V(set1)(-(REAL)0), x); }
FGD_INLINE VF V(neg)(VF x) { return V(xor)(V(set1)(-(REAL)0), x); }
FGD_INLINE VF V(copysign)(VF magnitude, VF sign)
{
    return V(or)(magnitude, V(andnot)(V(abs_mask)(), sign));
}
FGD_INLINE VF V(infinity)(void)
{
    return V(set1_bits)(REAL_BITS == 32 ? 0x7f800000u : 0x7ff0000000000000u);
}

FGD_INLINE VF V(ln2_high)(void) { return V(set1)(FGD_PICK(0x1.62e43p-1, 0x1.62e42fefa39efp-1)); }
FGD_INLINE VF V(ln2_low)(void) { return V(set1)(FGD_PICK(-0x1.05c61p-29, 0x1.abc9e3b39803fp-56)); }

/* The whole n next to x / ln 2, |x| < 2000; the low bits of *biased hold n + bias. */
FGD_INLINE VF V(exp_round)(VF x, VF *biased, REAL bias)
{
    const VF magic = V(set1)(FGD_PICK(0x1.8p23, 0x1.8p52) + bias); /* no room for fractions */
    *biased = V(fma)(x, V(set1)((REAL)0x1.71547652b82fep0), magic);
    return V(sub)(*biased, magic);
}
/* x = n ln 2 + r with |r| <= ln(2) / 2. */
FGD_INLINE VF V(exp_reduce)(VF x, VF *n)
{
    VF biased;
    *n = V(exp_round)(x, &biased, 0);
    return V(fnma)(*n, V(ln2_low)(), V(fnma)(*n, V(ln2_high)(), x));
}
/* The same with *scale = 2^n, which must be a normal number. */
FGD_INLINE VF V(exp_reduce_scale)(VF x, VF *scale)
{
    VF biased;
    const VF n = V(exp_round)(x, &biased, FGD_PICK(127, 1023));
    *scale = V(shl)(biased, FGD_MANTISSA_BITS);
    return V(fnma)(n, V(ln2_low)(), V(fnma)(n, V(ln2_high)(), x));
}
/* exp(r) - 1 and exp(r) for |r| <= ln(2) / 2. */
FGD_INLINE VF V(expm1_reduced)(VF r)
{
    const VF r2 = V(mul)(r, r);
    return V(fma)(FGD_POLY(exp_poly, r, r2), r2, r);
}
FGD_INLINE VF V(exp_reduced)(VF r)
{
    const VF one = V(set1)(1);
    return V(fma)(V(fma)(FGD_POLY(exp_poly, r, V(mul)(r, r)), r, one), r, one);
}

/* exp(x); inf from the overflow threshold on.  1 ULP. */
FGD_INLINE VF V(exp)(VF x)
{
    x = V(min)(V(set1)(FGD_PICK(89, 710)), V(max)(V(set1)(FGD_PICK(-104, -746)), x));
    VF n;
    const VF r = V(exp_reduce)(x, &n);
    return V(ldexp)(V(exp_reduced)(r), n);
}

/* exp(x) - 1 for -80 <= x <= 80. */
FGD_INLINE VF V(expm1_bounded)(VF x)
{
    VF scale;
    const VF q = V(expm1_reduced)(V(exp_reduce_scale)(x, &scale));
    return V(fma)(scale, q, V(sub)(scale, V(set1)(1)));
}
/* exp(x) - 1 for x <= 0.  2.5 ULP. */
FGD_INLINE VF V(expm1_neg)(VF x)
{
    return V(expm1_bounded)(V(max)(V(set1)(FGD_PICK(-20, -40)), x)); /* -1 at the bound */
}

/* tanh(x) = e / (e + 2) with e = exp(2 |x|) - 1, then the sign.  3 ULP. */
FGD_INLINE VF V(tanh)(VF x)
{
    const VF a = V(min)(V(set1)(FGD_PICK(10, 20)), V(abs)(x)); /* 1 at the bound */
    const VF e = V(expm1_bounded)(V(add)(a, a));
    return V(copysign)(V(div)(e, V(add)(e, V(set1)(2))), x);
}

/* 1 / (1 + exp(-x)).  2.5 ULP. */
FGD_INLINE VF V(sigmoid)(VF x)
{
    /* At the lower bound the result is below the smallest normal. */
    x = V(min)(V(set1)(40), V(max)(V(set1)(FGD_PICK(-88, -709)), x));
    VF scale;
    const VF p = V(exp_reduced)(V(exp_reduce_scale)(V(neg)(x), &scale));
    return V(div)(V(set1)(1), V(fma)(p, scale, V(set1)(1)));
}

/* log(1 + f) + low, with s = f / (2 + f) as f - s (f - R), R = 2 atanh(s) / s - 2 = s^2 tail. */
FGD_INLINE VF V(log1p_core)(VF f, VF s, VF s2, VF tail, VF low)
{
    return V(add)(f, V(fnma)(s, V(fnma)(s2, tail, f), low));
}

/* log(x (1 + c)) for x >= the smallest normal and a correction |c| < epsilon.  1 ULP. */
FGD_INLINE VF V(log_corrected)(VF x, VF c)
{
    /* x = 2^e m, sqrt(1/2) <= m < sqrt(2); e from the exponent field of x / sqrt(1/2). */
    const VF one = V(set1)(1);
    const VF offset = V(isub)(one, V(set1)((REAL)0x1.6a09e667f3bcdp-1));
    const VF field = V(shr)(V(iadd)(x, offset), FGD_MANTISSA_BITS);
    const VF m = V(iadd)(V(isub)(x, V(shl)(field, FGD_MANTISSA_BITS)), one);
    const VF magic = V(set1)(FGD_PICK(0x1p23, 0x1p52));
    const VF e = V(sub)(V(or)(field, magic), V(set1)(FGD_PICK(0x1p23 + 127, 0x1p52 + 1023)));
    const VF f = V(sub)(m, one);
    const VF s = V(div)(f, V(add)(f, V(set1)(2)));
    const VF low = V(fma)(e, V(ln2_low)(), c);
    const VF s2 = V(mul)(s, s);
    const VF y = V(log1p_core)(f, s, s2, FGD_POLY(log_poly, s2, V(mul)(s2, s2)), low);
    return V(select)(V(lt)(x, V(infinity)()), V(fma)(e, V(ln2_high)(), y), x);
}
/* log(x) for x >= the smallest normal; inf gives inf. */
FGD_INLINE VF V(log)(VF x) { return V(log_corrected)(x, V(zero)()); }
/* log(1 - x) for 0 <= x <= 1 - epsilon.  1 ULP. */
FGD_INLINE VF V(log1m)(VF x)
{
    const VF one = V(set1)(1), u = V(sub)(one, x);
    const VF lost = V(sub)(V(sub)(one, u), x); /* exact */
    return V(log_corrected)(u, V(div)(lost, u));
}
/* log(1 + x) for 0 <= x <= 1.  1.5 ULP. */
FGD_INLINE VF V(log1p_unit)(VF x)
{
    const VF s = V(div)(x, V(add)(x, V(set1)(2)));
    const VF s2 = V(mul)(s, s), tail = FGD_POLY(log1p_poly, s2, V(mul)(s2, s2));
    return V(log1p_core)(x, s, s2, tail, V(zero)());
}

/* For 0 <= x <= 13.5 (38 in double), where the density is 0 already: the pieces of
 * Phi(-x) = inv P density with density = exp(-x^2 / 2), inv = 1 / (x + k), given u = x / (x + k)
 * from which P's argument y = (x - k) / (x + k) = 2 u - 1 is exact to a unit of 1. */
FGD_INLINE VF V(normal_k)(void)
{
    return V(set1)(FGD_PICK(FGD_NORMAL_TAIL_K_F32, FGD_NORMAL_TAIL_K_F64));
}
FGD_INLINE VF V(normal_tail)(VF u)
{
    const VF y = V(fma)(V(set1)(2), u, V(set1)(-1));
    /* The leading terms by Horner's rule alone: for large x they cancel, and even and odd ones
     * summed apart would cancel more. */
    enum { HEAD = 6, N = sizeof FN(normal_tail_poly) / sizeof(REAL) };
    VF p = V(poly)(y, V(mul)(y, y), FN(normal_tail_poly) + HEAD, N - HEAD);
    for (size_t i = HEAD; i-- > 0;) p = V(fma)(p, y, V(set1)(FN(normal_tail_poly)[i]));
    return p;
}
FGD_INLINE VF V(normal_density)(VF x)
{
    /* x^2 = square + rest exactly: the rounding of the square would cost x^2 / 4 ULP. */
    const VF half = V(set1)((REAL)-0.5), square = V(mul)(x, x);
    const VF rest = V(fma)(x, x, V(neg)(square)), y = V(mul)(half, square);
    VF biased;
    const VF n = V(exp_round)(y, &biased, 0);
    const VF low = V(fnma)(n, V(ln2_low)(), V(mul)(half, rest));
    const VF r = V(add)(V(fnma)(n, V(ln2_high)(), y), low);
    return V(ldexp)(V(exp_reduced)(r), n);
}
