/* The body of sweep.c for one element type: REAL, of BITS, its errors taken in WIDE. */

static UINT NAME(bits)(REAL x)
{
    UINT u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static REAL NAME(number)(UINT u)
{
    REAL x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Denormals count as zero, also for the exact value, whatever the floating-point mode. */
static REAL NAME(flushed)(REAL x)
{
    const UINT sign = (UINT)1 << (BITS - 1), u = NAME(bits)(x);
    return (u & ~sign) < NAME(bits)(REAL_MIN) ? NAME(number)(u & sign) : x;
}

/* NaN, infinity with its sign, or finite.  Where an exact value rounds to infinity, that is right;
 * where it is below the smallest normal, zero is. */
static int NAME(is_right_class)(REAL got, WIDE want)
{
    if (isnan(want)) return isnan(got) != 0;
    const WIDE limit = (WIDE)REAL_MAX_ * (1 + (WIDE)EPSILON / 4);
    if (want >= limit) return got == (REAL)INFINITY;
    if (want <= -limit) return got == -(REAL)INFINITY;
    return isfinite(got);
}

/* The error of a finite result in units of the last place of want, or of 1. */
static double NAME(error)(REAL got, WIDE want, int kind)
{
    const WIDE size = want < 0 ? -want : want;
    /* What is below the smallest normal may be 0, or lost where it was a difference. */
    if (size < REAL_MIN && (got < 0 ? -got : got) < 2 * REAL_MIN) return 0;
    WIDE unit = (WIDE)EPSILON / 2;
    if (kind == ULP) {
        const double near = (double)(size < REAL_MIN ? (WIDE)REAL_MIN : size);
        uint64_t u;
        memcpy(&u, &near, sizeof u);
        u &= (uint64_t)0x7ff << 52;
        double power; /* the largest power of two that size is not below */
        memcpy(&power, &u, sizeof power);
        if ((WIDE)power > size && size >= REAL_MIN) power /= 2; /* near was rounded up */
        unit = (WIDE)power * EPSILON;
    }
    const WIDE error = (WIDE)got - want;
    return (double)((error < 0 ? -error : error) / unit);
}

/* The inputs of a chunk.  float: numbers at equal distances, with any low bits.  double: ordinary
 * ones, whole-range ones, tiny ones, any bits, a fifth each. */
static void NAME(fill)(uint64_t first, REAL *x)
{
    for (uint64_t i = 0; i < CHUNK; i++) {
        const uint64_t index = first + i;
#if BITS == 32
        const uint64_t step = ((uint64_t)1 << 32) / n_inputs, low = index * 0x9E3779B97F4A7C15u >> 32;
        x[i] = NAME(number)((UINT)(index * step + (low & (step - 1))));
#else
        const uint64_t h = mixed((index + 1) * 0x9E3779B97F4A7C15u);
        const double u = (double)(mixed(h) >> 11) * 0x1p-53, sign = h & 1 ? 1 : -1;
        switch ((h >> 1) % 5) {
        case 0: x[i] = sign * 6 * u; break;
        case 1: x[i] = sign * 760 * u; break;
        case 2: x[i] = sign * 20 * u; break;
        case 3: x[i] = sign * ldexp(1 + u, 12 - (int)((h >> 32) % 80)); break;
        default: x[i] = NAME(number)(mixed(h ^ 0x5555555555555555u)); break;
        }
#endif
    }
#if BITS == 64
    if (!is_slope || !table[number].slope_of_a) return;
    REAL a[CHUNK]; /* most are what the activation gives */
    const fgd_act act = table[number].act;
    isas[n_isas - 1]->TABLE.act[act](1, CHUNK, x, CHUNK, a, CHUNK, (REAL)param_of(act));
    for (size_t i = 0; i < CHUNK; i++)
        if (i % 5 != 0) x[i] = a[i];
#endif
}

/* All bits of the results of one instruction set: slopes times 1. */
static void NAME(compute)(const fgd_kernels *isa, const REAL *x, REAL *out)
{
    const fgd_act act = table[number].act;
    const REAL param = (REAL)param_of(act);
    if (!is_slope) {
        isa->TABLE.act[act](1, CHUNK, x, CHUNK, out, CHUNK, param);
        return;
    }
    for (size_t i = 0; i < CHUNK; i++) out[i] = 1;
    isa->TABLE.act_grad[act](1, CHUNK, x, CHUNK, out, CHUNK, param);
}

static void NAME(compare)(const REAL *x, const REAL *a, const REAL *b, found *f)
{
    if (memcmp(a, b, CHUNK * sizeof *a) == 0) return;
    for (size_t i = 0; i < CHUNK; i++)
        if (NAME(bits)(a[i]) != NAME(bits)(b[i]) && !(isnan(a[i]) && isnan(b[i]))) {
            f->n_unequal++;
            f->unequal_at = (double)x[i];
        }
}

/* Whether all results of a chunk are finite, exact ones are well within the range, and no error is
 * above most: what is so in nearly all chunks, and quickly seen. */
static int NAME(is_plain)(const WIDE *want, const REAL *got, int kind, double most)
{
    /* 1 / unit: the exponent is mirrored at that of 1, and by 23 or 52 higher. */
    const uint64_t mantissa = BITS == 32 ? 23 : 52;
    const uint64_t field = kind == ULP ? (uint64_t)0x7ff << 52 : 0;
    const uint64_t base = (kind == ULP ? 2 * 1023 + mantissa : 1023 + mantissa + 1) << 52;
    uint64_t worst = 0, n_odd = 0; /* bits of a number that is not negative, in its order */
    for (size_t i = 0; i < CHUNK; i++) {
        const double w = (double)want[i], g = (double)got[i];
        const double size = fabs(w), near = size > (double)REAL_MIN ? size : (double)REAL_MIN;
        uint64_t u;
        memcpy(&u, &near, sizeof u);
        u = base - (u & field);
        double inverse;
        memcpy(&inverse, &u, sizeof inverse);
        const double scale = size < (double)REAL_MIN && fabs(g) < 2 * (double)REAL_MIN ? 0 : inverse;
        const double error = fabs(g - w) * scale;
        memcpy(&u, &error, sizeof u);
        n_odd += !(size <= (double)REAL_MAX_ / 2 && fabs(g) <= (double)REAL_MAX_);
        worst = u > worst ? u : worst;
    }
    double most_found;
    memcpy(&most_found, &worst, sizeof most_found);
    return n_odd == 0 && most_found <= most;
}

static void NAME(look)(uint64_t first, const REAL *x, const REAL *got, found *f)
{
    const fgd_act act = table[number].act;
    const int kind = is_slope ? table[number].slope_kind : table[number].act_kind;
    const double least = is_slope ? table[number].least_a : -INFINITY;
    const double most = is_slope ? table[number].most_a : INFINITY;
    WIDE want[CHUNK];
    for (size_t i = 0; i < CHUNK; i++) {
        const REAL z = NAME(flushed)(x[i]);
        want[i] = is_slope ? E(slope)(act, z, BITS) : E(activation)(act, z, BITS);
    }
    for (size_t i = 0; i < CHUNK; i++) {
        const UINT bits = isnan(got[i]) ? NAME(bits)((REAL)INFINITY) + 1 : NAME(bits)(got[i]);
        f->sum += (uint64_t)bits * (2 * (uint64_t)NAME(bits)(x[i]) + 1);
    }
    if (BITS == 32 && NAME(is_plain)(want, got, kind, f->worst)) return;
    for (size_t i = 0; i < CHUNK; i++) {
        if (!NAME(is_right_class)(got[i], want[i])) {
            f->n_wrong_class++;
            f->wrong_at = (double)x[i];
        } else if (isfinite(got[i]) && (double)x[i] >= least && (double)x[i] <= most) {
            const double error = NAME(error)(got[i], want[i], kind);
            if (error > f->worst) {
                f->worst = error;
                f->at = (double)NAME(flushed)(x[i]);
                f->worst_index = first + i;
            }
        }
    }
}

static void *NAME(sweep)(void *argument)
{
    REAL x[CHUNK], got[CHUNK], other[CHUNK];
    found mine = {.worst_index = UINT64_MAX};
    flush_denormals();
    for (;;) {
        const uint64_t first = CHUNK * (uint64_t)atomic_fetch_add(&next_chunk, 1);
        if (first >= n_inputs) break;
        NAME(fill)(first, x);
        NAME(compute)(isas[n_isas - 1], x, got);
        for (size_t k = 0; k + 1 < n_isas; k++) {
            NAME(compute)(isas[k], x, other);
            NAME(compare)(x, got, other, &mine);
        }
        NAME(look)(first, x, got, &mine);
    }
    *(found *)argument = mine;
    return NULL;
}
