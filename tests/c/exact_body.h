/* The exact activations and derivatives in the type WIDE, M(f) being libm's f for it; included by
 * exact.h. */

/* z / sqrt(2) as a rounded value and what it lost, without which erfc of a large argument
 * would be less exact than a double.  high + low is 1 / sqrt(2); z * high is exact. */
FGD_INLINE WIDE E(over_sqrt2)(WIDE z, WIDE *lost)
{
    const WIDE high = (WIDE)0x1.6ap-1, low = (WIDE)7.553118654752440084436210484903928e-5L;
    const WIDE t = z * high, rest = z * low, sum = t + rest;
    *lost = rest - (sum - t);
    return sum;
}
FGD_INLINE WIDE E(normal_density)(WIDE z)
{
    if (sizeof z == sizeof(double)) /* its rounding of z^2 is nothing beside float's epsilon */
        return M(exp)(-z * z / 2) * (WIDE)0.398942280401432677939946059934381868L;
    WIDE lost;
    const WIDE t = E(over_sqrt2)(z, &lost), high = (WIDE)(float)t, low = t - high;
    return M(exp)(-high * high) * M(exp)(-(2 * high + low) * low - 2 * t * lost) *
           (WIDE)0.398942280401432677939946059934381868L;
}
FGD_INLINE WIDE E(normal_below)(WIDE z)
{
    if (sizeof z == sizeof(double))
        return M(erfc)(-z * (WIDE)0.707106781186547524400844362104849039L) / 2;
    WIDE lost;
    const WIDE t = E(over_sqrt2)(-z, &lost);
    return M(erfc)(t) / 2 -
           (WIDE)1.41421356237309504880168872420969808L * lost * E(normal_density)(z);
}
FGD_INLINE WIDE E(sigmoid)(WIDE z) { return 1 / (1 + M(exp)(-z)); }

/* Selu's constants as rounded to a type of so many bits. */
FGD_INLINE WIDE E(rounded)(double x, int bits) { return bits == 32 ? (WIDE)(float)x : (WIDE)x; }

FGD_INLINE WIDE E(activation)(fgd_act act, WIDE z, int bits)
{
    const WIDE scale = E(rounded)(1.0507009873554805, bits);
    const WIDE scale_alpha = E(rounded)(1.0507009873554805 * 1.6732632423543772, bits);
    switch (act) {
    case FGD_ACT_RELU: return z <= 0 ? 0 : z;
    case FGD_ACT_LEAKY_RELU: return z > 0 ? z : leaky_alpha * z;
    case FGD_ACT_ELU: return z > 0 ? z : elu_alpha * M(expm1)(z);
    case FGD_ACT_SELU: return z > 0 ? scale * z : scale_alpha * M(expm1)(z);
    case FGD_ACT_GELU:
        return M(fabs)(z) > 100 ? M(fmax)(z, 0) : z * E(normal_below)(z);
    case FGD_ACT_SILU: return z == -INFINITY ? 0 : z * E(sigmoid)(z);
    case FGD_ACT_MISH: {
        if (z == -INFINITY) return 0;
        if (z > 50) return z;
        const WIDE e = M(exp)(z), n = e * (e + 2);
        return z * n / (n + 2);
    }
    case FGD_ACT_SOFTPLUS: return M(fmax)(z, 0) + M(log1p)(M(exp)(-M(fabs)(z)));
    case FGD_ACT_SOFTSIGN:
        return isinf(z) ? M(copysign)(1, z) : z / (1 + M(fabs)(z));
    case FGD_ACT_TANH: return M(tanh)(z);
    case FGD_ACT_SIGMOID: return E(sigmoid)(z);
    case FGD_ACT_HARD_SIGMOID: return z < -3 ? 0 : z > 3 ? 1 : (z + 3) / 6;
    case FGD_ACT_EXP: return M(exp)(z);
    default: return z;
    }
}

/* The derivative from what the kernel consumes. */
FGD_INLINE WIDE E(slope)(fgd_act act, WIDE x, int bits)
{
    const WIDE scale = E(rounded)(1.0507009873554805, bits);
    const WIDE scale_alpha = E(rounded)(1.0507009873554805 * 1.6732632423543772, bits);
    switch (act) {
    case FGD_ACT_RELU: return x > 0;
    case FGD_ACT_LEAKY_RELU: return x > 0 ? 1 : leaky_alpha;
    case FGD_ACT_ELU: return x > 0 ? 1 : x + elu_alpha;
    case FGD_ACT_SELU: return x > 0 ? scale : x + scale_alpha;
    case FGD_ACT_GELU:
        return M(fabs)(x) > 100 ? x > 0 : E(normal_below)(x) + x * E(normal_density)(x);
    case FGD_ACT_SILU:
        return M(fabs)(x) > 9000 ? x > 0 : E(sigmoid)(x) * (1 + x * E(sigmoid)(-x));
    case FGD_ACT_MISH: {
        if (x == -INFINITY) return 0;
        if (x > 50) return 1;
        const WIDE e = M(exp)(x), d = e * (e + 2) + 2;
        return e * ((e + 2) * d + 4 * x * (e + 1)) / (d * d);
    }
    case FGD_ACT_SOFTPLUS: return E(sigmoid)(x);
    case FGD_ACT_SOFTSIGN: return 1 / ((1 + M(fabs)(x)) * (1 + M(fabs)(x)));
    case FGD_ACT_TANH: return 1 - x * x;
    case FGD_ACT_SIGMOID: return x * (1 - x);
    case FGD_ACT_HARD_SIGMOID: return M(fabs)(x) < 3 ? (WIDE)1 / 6 : 0;
    case FGD_ACT_EXP: return x;
    default: return 1;
    }
}
