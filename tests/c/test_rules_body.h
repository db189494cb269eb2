/* The body of test_rules.c for one element type. */

enum { NAME(MAX_UNITS) = 11, NAME(N) = 96, NAME(LD) = 112 };
#define SIZE (NAME(MAX_UNITS) * NAME(LD))

/* Value and dL/dx of one sample, and the sizes to which their errors are relative. */
typedef struct {
    long double value, size, slope[NAME(MAX_UNITS)], slope_size[NAME(MAX_UNITS)];
} NAME(answer);

static NAME(answer)
    NAME(reference_loss)(fgd_loss loss, size_t units, const REAL *x, const REAL *y, REAL param)
{
    NAME(answer) r = {0};
    long double top = -INFINITY, bottom = INFINITY, sum = 0, total = 0;
    for (size_t k = 0; k < units; k++) {
        top = fmaxl(top, x[k * NAME(LD)]);
        bottom = fminl(bottom, x[k * NAME(LD)]);
    }
    for (size_t k = 0; k < units; k++) {
        sum += expl(x[k * NAME(LD)] - top);
        if (loss == FGD_LOSS_CROSS_ENTROPY_ROWS_Z) total += y[k * NAME(LD)];
    }
    for (size_t k = 0; k < units; k++) {
        const long double v = x[k * NAME(LD)];
        const int labels = loss == FGD_LOSS_CROSS_ENTROPY_LABELS_Z;
        const long double t = labels ? (long double)((REAL)k == y[0]) : y[k * NAME(LD)];
        const long double e = v - t, eps = EPSILON;
        long double first = 0, second = 0, slope = 0, slope_size = 0;
        switch (loss) {
        case FGD_LOSS_SQUARED_ERROR_A: first = e * e / 2, slope = e; break;
        case FGD_LOSS_ABSOLUTE_ERROR_A: first = fabsl(e), slope = (e > 0) - (e < 0); break;
        case FGD_LOSS_HUBER_A:
            first = fabsl(e) <= param ? e * e / 2 : param * (fabsl(e) - (long double)param / 2);
            slope = fmaxl(-param, fminl(param, e));
            break;
        case FGD_LOSS_LOG_LOSS_Z:
            first = fmaxl(v, 0) - t * v;
            second = log1pl(expl(-fabsl(v)));
            slope = v < 0 ? 1 / (1 + expl(-v)) - t : 1 - t - 1 / (1 + expl(v));
            /* Full relative accuracy where the target is 0 or 1. */
            slope_size = t == 0 || t == 1 ? 0 : 1;
            break;
        case FGD_LOSS_LOG_LOSS_A: {
            const long double p = fmaxl(eps, fminl(1 - eps, v));
            first = -t * logl(p), second = -(1 - t) * log1pl(-p);
            slope = (p - t) / (p * (1 - p)), slope_size = (p + t) / (p * (1 - p));
            break;
        }
        case FGD_LOSS_POISSON_Z:
            first = expl(v), second = -t * v, slope = expl(v) - t, slope_size = expl(v) + t;
            break;
        case FGD_LOSS_POISSON_A: {
            const long double p = fmaxl(REAL_MIN, v);
            first = v, second = -t * logl(p), slope = 1 - t / p, slope_size = 1 + t / p;
            break;
        }
        default: /* cross entropy; the rounding of z - max z counts as one of z's range */
            first = t * (top - v), second = t * logl(sum);
            slope = expl(v - top) / sum * (labels ? 1 : total) - t;
            slope_size = fabsl(t) + expl(v - top) / sum * (1 + (top - bottom));
            if (t != 0) r.size += logl(sum) + expl(bottom - top) + 1;
        }
        r.value += first + second;
        r.size += fabsl(first) + fabsl(second);
        r.slope[k] = slope;
        r.slope_size[k] = fmaxl(slope_size, fabsl(slope));
    }
    return r;
}

static void NAME(fill_loss)(fgd_loss loss, size_t units, REAL *x, REAL *y, REAL *coef)
{
    for (size_t i = 0; i < SIZE; i++) {
        const uint64_t kind = random_bits() % 4;
        const double u = random_between(0, 1);
        switch (loss) {
        case FGD_LOSS_LOG_LOSS_Z:
            x[i] = (REAL)random_between(-20, 20);
            y[i] = (REAL)(kind == 0 ? 0 : kind == 1 ? 1 : u);
            break;
        case FGD_LOSS_LOG_LOSS_A:
            x[i] = (REAL)(kind == 0 ? 0 : kind == 1 ? 1 : kind == 2 ? exp2(-40 * u) : u);
            y[i] = (REAL)(random_bits() % 2 ? u : kind > 1);
            break;
        case FGD_LOSS_POISSON_A:
            x[i] = (REAL)exp2(random_between(-20, 10));
            y[i] = (REAL)(random_bits() % 20);
            break;
        case FGD_LOSS_POISSON_Z:
            x[i] = (REAL)random_between(-10, 10);
            y[i] = (REAL)(random_bits() % 20);
            break;
        case FGD_LOSS_CROSS_ENTROPY_LABELS_Z:
            x[i] = (REAL)random_between(-20, 20);
            y[i] = (REAL)(random_bits() % units);
            break;
        default:
            x[i] = (REAL)random_between(-20, 20);
            y[i] = kind == 0 ? x[i] : (REAL)random_between(0, 1);
        }
        coef[i % NAME(N)] = (REAL)(kind == 3 ? 0 : u);
    }
}

static void NAME(test_losses)(const TABLE_TYPE *first, const TABLE_TYPE *t)
{
    static REAL x[SIZE], y[SIZE], coef[NAME(N)], delta[2][SIZE], value[3][NAME(N)];
    for (size_t l = 0; l < sizeof losses / sizeof losses[0]; l++)
        for (size_t units = 1; units <= NAME(MAX_UNITS); units += 5) {
            const fgd_loss loss = losses[l].loss;
            const REAL param = loss == FGD_LOSS_HUBER_A ? (REAL)1.5 : 0;
            const size_t n = NAME(N), ld = NAME(LD);
            NAME(fill_loss)(loss, units, x, y, coef);
            memset(delta, 0, sizeof delta);
            first->loss[loss](units, n, x, ld, y, ld, coef, delta[0], ld, value[0], param);
            t->loss[loss](units, n, x, ld, y, ld, coef, delta[1], ld, value[1], param);
            t->loss[loss](units, n, x, ld, y, ld, coef, NULL, 0, value[2], param);
            expect(!memcmp(value[0], value[1], sizeof value[0]) &&
                       !memcmp(value[0], value[2], sizeof value[0]) &&
                       !memcmp(delta[0], delta[1], sizeof delta[0]),
                   TYPE, t->isa, losses[l].name);
            int close = 1;
            for (size_t j = 0; j < n; j++) {
                const NAME(answer) r = NAME(reference_loss)(loss, units, x + j, y + j, param);
                const long double unit = (4 + (long double)units / 2) * EPSILON;
                close &= fabsl(value[1][j] - r.value) <= unit * r.size + REAL_MIN;
                for (size_t k = 0; k < units; k++)
                    close &= fabsl(delta[1][k * ld + j] - r.slope[k] * coef[j]) <=
                             unit * r.slope_size[k] * coef[j] + REAL_MIN;
            }
            expect(close || !has_reference(sizeof(REAL)), TYPE, t->isa, losses[l].name);
        }
}

static void NAME(test_softmax)(const TABLE_TYPE *first, const TABLE_TYPE *t)
{
    static REAL z[SIZE], a[2][SIZE], d[2][SIZE];
    for (size_t units = 1; units <= NAME(MAX_UNITS); units += 5) {
        const size_t n = NAME(N), ld = NAME(LD);
        for (size_t i = 0; i < SIZE; i++) {
            z[i] = a[1][i] = (REAL)random_between(-20, 20);
            d[0][i] = d[1][i] = (REAL)random_between(-1, 1);
        }
        memcpy(a[0], z, sizeof z);
        first->softmax(units, n, z, ld, a[0], ld);
        t->softmax(units, n, a[1], ld, a[1], ld); /* in place */
        expect(!memcmp(a[0], a[1], units * ld * sizeof(REAL)), TYPE, t->isa, "bits of softmax");
        int close = 1;
        for (size_t j = 0; j < n; j++) {
            long double sum = 0, dot = 0;
            for (size_t k = 0; k < units; k++) {
                sum += expl((long double)z[k * ld + j] - z[j]);
                dot += (long double)a[0][k * ld + j] * d[0][k * ld + j];
            }
            for (size_t k = 0; k < units; k++) {
                const long double want = expl((long double)z[k * ld + j] - z[j]) / sum;
                close &= fabsl(a[1][k * ld + j] - want) <= 30 * EPSILON * want;
                const long double got = a[0][k * ld + j], slope = got * (d[0][k * ld + j] - dot);
                d[0][k * ld + j] = (REAL)slope; /* at most some epsilon off */
            }
        }
        t->softmax_grad(units, n, a[1], ld, d[1], ld);
        for (size_t k = 0; k < units; k++)
            for (size_t j = 0; j < n; j++)
                close &=
                    FABS(d[0][k * ld + j] - d[1][k * ld + j]) <= 8 * EPSILON * a[0][k * ld + j];
        expect(close || !has_reference(sizeof(REAL)), TYPE, t->isa, "softmax");
    }
}

/* One weight's update by the formulas of optimizers.h. */
static void NAME(reference_update)(fgd_opt opt, const fgd_update_params *p, REAL *w, REAL *s1,
                                   REAL *s2, int has_s2, REAL g)
{
    const REAL lr = (REAL)p->lr, eps = (REAL)p->eps, old[3] = {*w, *s1, *s2};
    const REAL clip = p->clip_value > 0 ? (REAL)p->clip_value : (REAL)INFINITY;
    const REAL mu = (REAL)p->momentum, beta2 = (REAL)p->beta2, rest2 = (REAL)(1 - p->beta2);
    const int sklearn = p->variant == FGD_VARIANT_SKLEARN;
    g = FMA((REAL)p->l2, *w, (REAL)p->scale * g);
    g += *w > 0 ? (REAL)p->l1 : *w < 0 ? -(REAL)p->l1 : 0;
    g = g > clip ? clip : g < -clip ? -clip : g;
    g *= (REAL)p->norm_scale;
    if (opt != FGD_OPT_ADAMW) g = FMA((REAL)p->weight_decay, *w, g);
    switch (opt) {
    case FGD_OPT_MOMENTUM:
        if (sklearn) {
            *s1 = FMA(mu, *s1, -lr * g);
            *w += p->nesterov ? FMA(mu, *s1, -lr * g) : *s1;
        } else {
            *s1 = FMA(mu, *s1, g);
            *w = FMA(-lr, p->nesterov ? FMA(mu, *s1, g) : *s1, *w);
        }
        break;
    case FGD_OPT_ADAM:
    case FGD_OPT_ADAMW: {
        const double root = sqrt(p->bias2), rate = sklearn ? p->lr * root : p->lr;
        *s1 = FMA((REAL)p->beta1, *s1, (REAL)(1 - p->beta1) * g);
        *s2 = FMA(beta2, *s2, rest2 * g * g);
        const REAL denominator = sklearn ? SQRT(*s2) + eps : FMA(SQRT(*s2), (REAL)(1 / root), eps);
        if (opt == FGD_OPT_ADAMW) *w *= (REAL)(1 - p->lr * p->weight_decay);
        *w = FMA(-(REAL)(rate / p->bias1), *s1 / denominator, *w);
        break;
    }
    case FGD_OPT_RMSPROP: {
        *s1 = FMA(beta2, *s1, rest2 * g * g);
        REAL step = g / (SQRT(*s1) + eps);
        if (has_s2) step = *s2 = FMA(mu, *s2, step);
        *w = FMA(-lr, step, *w);
        break;
    }
    case FGD_OPT_ADAGRAD:
        *s1 = FMA(g, g, *s1);
        *w = FMA(-lr, g / (SQRT(*s1) + eps), *w);
        break;
    default: *w = FMA(-lr, g, *w);
    }
    if (!isfinite(*w)) *w = old[0], *s1 = old[1], *s2 = old[2];
}

static void NAME(test_optimizers)(const TABLE_TYPE *t)
{
    enum { ROWS = 3, COLUMNS = 48 };
    static REAL want[3][SIZE], got[3][SIZE], stored[3][SIZE], g[SIZE];
    for (size_t o = 0; o < sizeof optimizers / sizeof optimizers[0]; o++)
        for (int trial = 0; trial < 32; trial++) {
            const fgd_opt opt = optimizers[o].opt;
            const int full = trial & 1, bad = trial & 16, has_s2 = trial & 8;
            const fgd_update_params p = {
                .lr = 0.03,
                .scale = full ? 0.125 : 1,
                .l1 = full ? 0.01 : 0,
                .l2 = full ? 0.02 : 0,
                .clip_value = full ? 0.4 : 0,
                .norm_scale = full ? 0.7 : 1,
                .weight_decay = full || opt == FGD_OPT_ADAMW ? 0.05 : 0,
                .momentum = 0.9,
                .beta1 = 0.9,
                .beta2 = 0.99,
                .eps = 1e-8,
                .bias1 = 0.271,
                .bias2 = 0.0297,
                .nesterov = trial & 2,
                .variant = trial & 4 ? FGD_VARIANT_SKLEARN : FGD_VARIANT_TORCH,
            };
            for (size_t i = 0; i < SIZE; i++) {
                want[0][i] = (REAL)random_between(-1, 1);
                want[1][i] = (REAL)random_between(0, 0.1);
                want[2][i] = (REAL)random_between(0, 0.1);
                g[i] = (REAL)random_between(-4, 4);
                if (random_bits() % 16 == 0) want[0][i] = g[i] = 0; /* a pad */
            }
            if (bad) g[NAME(LD) + 5] = (REAL)NAN;
            memcpy(got, want, sizeof got);
            memcpy(stored, want, sizeof got);
            const int state_free = opt == FGD_OPT_RMSPROP && !has_s2;
            const int raised =
                t->update[opt](ROWS, COLUMNS, got[0], got[1], state_free ? NULL : got[2], NAME(LD),
                               g, NAME(LD), &p);
            for (size_t i = 0; i < ROWS; i++)
                for (size_t j = 0; j < COLUMNS; j++) {
                    const size_t at = i * NAME(LD) + j;
                    NAME(reference_update)(opt, &p, &want[0][at], &want[1][at], &want[2][at],
                                           has_s2, g[at]);
                }
            int equal = !raised == !bad;
            for (size_t i = 0; i < 3 * SIZE; i++) equal &= (&want[0][0])[i] == (&got[0][0])[i];
            expect(equal, TYPE, t->isa, optimizers[o].name);
            /* The same by way of a finished gradient. */
            fgd_update_params rest = p;
            t->finish_grad(ROWS, COLUMNS, stored[0], NAME(LD), g, NAME(LD), &p);
            rest.scale = 1, rest.l1 = rest.l2 = rest.clip_value = 0;
            t->update[opt](ROWS, COLUMNS, stored[0], stored[1], state_free ? NULL : stored[2],
                           NAME(LD), g, NAME(LD), &rest);
            expect(!memcmp(stored, got, sizeof got), TYPE, t->isa, "finish_grad");
        }
}

static double NAME(chains)(size_t n, const REAL *x, const REAL *w, int what)
{
    double c[16] = {0};
    for (size_t i = 0; i < n; i++) {
        const double v = x[i];
        c[i % 16] = what == 0   ? (w ? fma(w[i], v, c[i % 16]) : c[i % 16] + v)
                    : what == 1 ? fma(v, v, c[i % 16])
                                : c[i % 16] + fabs(v);
    }
    for (size_t h = 8; h; h /= 2)
        for (size_t r = 0; r < h; r++) c[r] += c[r + h];
    return c[0];
}
static void NAME(test_sums)(const TABLE_TYPE *t)
{
    REAL x[131], w[131];
    for (size_t n = 0; n < 130; n++) {
        for (size_t i = 0; i < 131; i++) {
            x[i] = (REAL)random_between(-1, 1);
            w[i] = (REAL)random_between(0, 1);
        }
        const REAL *const from = x + n % 2, *const weight = w + n % 2; /* unaligned too */
        expect(t->sum16(n, from, NULL) == NAME(chains)(n, from, NULL, 0) &&
                   t->sum16(n, from, weight) == NAME(chains)(n, from, weight, 0),
               TYPE, t->isa, "sum16");
        expect(t->row_sumsq(n, from) == NAME(chains)(n, from, NULL, 1), TYPE, t->isa, "row_sumsq");
        expect(t->row_sumabs(n, from) == NAME(chains)(n, from, NULL, 2), TYPE, t->isa,
               "row_sumabs");
        int finite = t->all_finite(n, from);
        for (size_t i = 0; i < n; i++) {
            const REAL kept = x[n % 2 + i];
            x[n % 2 + i] = (REAL)(i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY);
            finite &= !t->all_finite(n, from);
            x[n % 2 + i] = kept;
        }
        expect(finite, TYPE, t->isa, "all_finite");
    }
}

static void NAME(test_dropout)(const TABLE_TYPE *t)
{
    enum { ROWS = 5 };
    static REAL a[SIZE], out[SIZE], mask[SIZE];
    static const double chances[] = {0, 0.1, 0.5, 0.999};
    for (int trial = 0; trial < 24; trial++) {
        const size_t n = 16 * (size_t)(1 + trial % 6), row0 = 3 * (size_t)trial;
        const size_t col0 = 4 * (random_bits() % 1000), ld = NAME(LD);
        const uint64_t seed = random_bits(), step = random_bits() >> (trial % 2 ? 40 : 0);
        const double p = chances[trial % 4];
        const uint32_t layer = (uint32_t)(trial % 3), threshold = (uint32_t)(p * 4294967296.0);
        for (size_t i = 0; i < SIZE; i++) a[i] = (REAL)random_between(-1, 1);
        t->dropout(ROWS, n, row0, col0, a, ld, out, ld, mask, ld, seed, step, layer, p);
        int equal = 1;
        for (size_t i = 0; i < ROWS; i++)
            for (size_t j = 0; j < n; j++) {
                const uint32_t counter[4] = {(uint32_t)((col0 + j) / 4), (uint32_t)(row0 + i),
                                             layer, (uint32_t)step};
                uint32_t words[4];
                philox(counter, (uint32_t)seed ^ 0x44524F50u,
                       (uint32_t)(seed >> 32) ^ (uint32_t)(step >> 32), words);
                const REAL m = words[(col0 + j) % 4] >= threshold ? (REAL)(1 / (1 - p)) : 0;
                equal &= mask[i * ld + j] == m && out[i * ld + j] == a[i * ld + j] * m;
            }
        expect(equal, TYPE, t->isa, "dropout");
    }
}
#undef SIZE
