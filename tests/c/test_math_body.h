/* The body of test_math.c for one element type. */

/* Error of got in units of the last place of want (ULP), or of 1 (UNITS). */
static double NAME(error)(REAL got, long double want, int kind)
{
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got) ? 0 : INFINITY;
    const long double exact_limit = (long double)REAL_MAX_ * (1 + (long double)EPSILON / 4);
    if (fabsl(want) >= exact_limit) return isinf(got) && (got > 0) == (want > 0) ? 0 : INFINITY;
    /* What is below the smallest normal may be 0, or lost where it was a difference. */
    if (fabsl(want) < REAL_MIN && fabs(got) < 2 * (double)REAL_MIN) return 0;
    int exponent;
    frexpl(want, &exponent);
    if (kind == UNITS || want == 0) exponent = kind == UNITS ? 0 : MIN_EXPONENT;
    if (exponent - 1 < MIN_EXPONENT) exponent = MIN_EXPONENT + 1;
    return (double)(fabsl((long double)got - want) / ldexpl(1, exponent - MANTISSA));
}

/* n arguments: ordinary ones, whole-range ones, tiny ones, and the special values. */
static void NAME(fill)(REAL *z, size_t n)
{
    static const double special[] = {0.0,       -0.0,       1,       -1,       3,        -3,
                                     INFINITY,  -INFINITY,  NAN,     -NAN,     REAL_MIN, -REAL_MIN,
                                     REAL_MAX_, -REAL_MAX_, EPSILON, -EPSILON, 6,        -6,
                                     20,        -20,        40,      -40};
    const double far = BITS == 32 ? 110 : 760;
    for (size_t i = 0; i < n; i++) {
        const double u = random_unit(), sign = random_bits() & 1 ? 1 : -1;
        switch (i % 4) {
        case 0: z[i] = (REAL)(sign * 6 * u); break;
        case 1: z[i] = (REAL)(sign * far * u); break;
        case 2: z[i] = (REAL)(sign * 20 * u); break;
        default: z[i] = (REAL)(sign * ldexp(1 + u, 12 - (int)(random_bits() % 80))); break;
        }
    }
    memcpy(z, (REAL[8]){0}, sizeof(REAL[8]));
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) z[i] = (REAL)special[i];
}

static void NAME(report)(const char *name, const char *what, double bound, int kind, size_t n,
                         const REAL *x, const REAL *got, long double (*want)(fgd_act, long double, int),
                         fgd_act act)
{
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = NAME(error)(got[i], want(act, x[i], BITS), kind);
        if (e > worst) worst = e, at = i;
    }
    const int bad = !(worst <= bound + 1e-9);
    failures += bad;
    printf("f%d %-13s %-5s %8.3f %s (bound %.1f) at %.9g%s\n", BITS, name, what, worst,
           kind == ULP ? "ULP  " : "units", bound, (double)x[at], bad ? "  FAILED" : "");
}

/* Equal bits, or both NaN. */
static void NAME(compare)(const char *name, const char *isa, size_t n, const REAL *a, const REAL *b)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) && !(isnan(a[i]) && isnan(b[i]))) {
            printf("f%d %s: %s differs from scalar: %.17g, %.17g  FAILED\n", BITS, name, isa,
                   (double)b[i], (double)a[i]);
            failures++;
            return;
        }
}

static void NAME(accuracy)(const fgd_kernels **isas, size_t n_isas, size_t n)
{
    REAL *z = malloc(n * sizeof *z), *a = malloc(n * sizeof *a), *d = malloc(n * sizeof *d);
    REAL *other = malloc(n * sizeof *other);
    NAME(fill)(z, n);
    for (size_t t = 0; t < N_ACTS; t++) {
        const fgd_act act = table[t].act;
        const REAL param = (REAL)param_of(act);
        isas[0]->TABLE.act[act](1, n, z, n, a, n, param);
        const REAL *x = table[t].slope_of_a ? a : z;
        for (size_t i = 0; i < n; i++) d[i] = 1;
        isas[0]->TABLE.act_grad[act](1, n, x, n, d, n, param);
        NAME(report)(table[t].name, "value", table[t].act_bound, table[t].act_kind, n, z, a,
                     activation_widest, act);
        NAME(report)(table[t].name, "slope", table[t].slope_bound, table[t].slope_kind, n, x, d,
                     slope_widest, act);
        for (size_t k = 1; k < n_isas; k++) {
            memcpy(other, z, n * sizeof *z);
            isas[k]->TABLE.act[act](1, n, other, n, other, n, param); /* in place */
            NAME(compare)(table[t].name, isas[k]->TABLE.isa, n, a, other);
            for (size_t i = 0; i < n; i++) other[i] = 1;
            isas[k]->TABLE.act_grad[act](1, n, x, n, other, n, param);
            NAME(compare)(table[t].name, isas[k]->TABLE.isa, n, d, other);
        }
    }
    free(z), free(a), free(d), free(other);
}

static void NAME(speed)(const fgd_kernels **isas, size_t n_isas)
{
    enum { ROWS = 64, COLUMNS = 128, N = ROWS * COLUMNS, ROUNDS = 20 };
    static REAL z[N], a[N], d[N];
    for (size_t i = 0; i < N; i++) z[i] = (REAL)(8 * random_unit() - 4);
    for (size_t k = 1; k < n_isas; k++)
        for (size_t t = 0; t < N_ACTS; t++) {
            double best[2] = {1e9, 1e9};
            for (int round = 0; round < 2 * ROUNDS; round++) {
                struct timespec t0, t1;
                for (size_t i = 0; i < N; i++) d[i] = 1;
                clock_gettime(CLOCK_MONOTONIC, &t0);
                if (round & 1)
                    isas[k]->TABLE.act_grad[table[t].act](ROWS, COLUMNS, z, COLUMNS, d, COLUMNS, 1);
                else
                    isas[k]->TABLE.act[table[t].act](ROWS, COLUMNS, z, COLUMNS, a, COLUMNS, 1);
                clock_gettime(CLOCK_MONOTONIC, &t1);
                const double ns =
                    (double)(t1.tv_sec - t0.tv_sec) * 1e9 + (double)(t1.tv_nsec - t0.tv_nsec);
                if (ns / N < best[round & 1]) best[round & 1] = ns / N;
            }
            printf("f%d %-7s %-13s %6.3f ns per element, slope %6.3f\n", BITS, isas[k]->TABLE.isa,
                   table[t].name, best[0], best[1]);
        }
}
