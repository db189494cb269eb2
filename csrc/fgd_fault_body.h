/* Wrong kernels for the tests of the validation; included by fgd_dispatch.c for REAL and
 * TYPE(name), TABLE being the member of fgd_kernels. */

static void TYPE(faulty_ukr)(size_t k, const REAL *a, ptrdiff_t as, const REAL *b, ptrdiff_t ldb,
                             REAL *c, ptrdiff_t ldc, const REAL *bias, const REAL *gate,
                             TYPE(sgd) * sgd, int flags, const fgd_ask *ask)
{
    sound->TABLE.ukr_by_row[1][1](k, a, as, b, ldb, c, ldc, bias, gate, sgd, flags, ask);
    SPOIL(c[0]);
}

static void TYPE(faulty_ukr_by_column)(size_t k, const REAL *a, ptrdiff_t as, const REAL *b,
                                       ptrdiff_t ldb, REAL *c, ptrdiff_t ldc, const REAL *bias,
                                       const REAL *gate, TYPE(sgd) * sgd, int flags,
                                       const fgd_ask *ask)
{
    sound->TABLE.ukr_by_column[1][1](k, a, as, b, ldb, c, ldc, bias, gate, sgd, flags, ask);
    SPOIL(c[0]);
}

static void TYPE(faulty_chain16)(size_t units, size_t fan_in, size_t n, const REAL *x, size_t ldx,
                                 const REAL *w, size_t ldw, const REAL *bias, REAL *z, size_t ldz)
{
    sound->TABLE.chain16(units, fan_in, n, x, ldx, w, ldw, bias, z, ldz);
    SPOIL(z[0]);
}

static void TYPE(faulty_turned_product)(size_t rows, size_t n, size_t k, const REAL *w, size_t ldw,
                                        const REAL *x, size_t ldx, REAL *sums, size_t lds)
{
    sound->TABLE.turned_product(rows, n, k, w, ldw, x, ldx, sums, lds);
    SPOIL(sums[0]);
}

static void TYPE(faulty_streamed_product)(size_t n, size_t k, size_t cols, const REAL *x,
                                          size_t ldx, const REAL *w, size_t ldw, REAL *sums,
                                          size_t lds, const REAL *next, fgd_purpose purpose)
{
    sound->TABLE.streamed_product(n, k, cols, x, ldx, w, ldw, sums, lds, next, purpose);
    SPOIL(sums[0]);
}

static void TYPE(faulty_streamed_update)(size_t rows, size_t n, size_t cols, const REAL *x,
                                         size_t ldx, const REAL *delta, size_t ldd, TYPE(sgd) * sgd,
                                         const REAL *next, fgd_purpose purpose)
{
    REAL *const w = sgd->w;
    sound->TABLE.streamed_update(rows, n, cols, x, ldx, delta, ldd, sgd, next, purpose);
    SPOIL(w[0]);
}

#define FAULTY_ACT(i, ID)                                                                       \
    static void TYPE(faulty_act_##i)(size_t rows, size_t n, const REAL *z, size_t ldz, REAL *a, \
                                     size_t lda, REAL param)                                    \
    {                                                                                           \
        sound->TABLE.act[FGD_ACT_##ID](rows, n, z, ldz, a, lda, param);                         \
        SPOIL(a[0]);                                                                            \
    }                                                                                           \
    static void TYPE(faulty_act_grad_##i)(size_t rows, size_t n, const REAL *x, size_t ldx,     \
                                          REAL *d, size_t ldd, REAL param)                      \
    {                                                                                           \
        sound->TABLE.act_grad[FGD_ACT_##ID](rows, n, x, ldx, d, ldd, param);                    \
        SPOIL(d[0]);                                                                            \
    }
#define FAULTY_LOSS(ID)                                                                           \
    static void TYPE(faulty_loss_##ID)(size_t units, size_t n, const REAL *x, size_t ldx,         \
                                       const REAL *y, size_t ldy, const REAL *coef, REAL *delta,  \
                                       size_t ldd, REAL *sample_loss, REAL param)                 \
    {                                                                                             \
        sound->TABLE.loss[FGD_LOSS_##ID](units, n, x, ldx, y, ldy, coef, delta, ldd, sample_loss, \
                                         param);                                                  \
        SPOIL(sample_loss[0]);                                                                    \
        if (delta) SPOIL(delta[0]);                                                               \
    }
#define FAULTY_UPDATE(ID)                                                                   \
    static int TYPE(faulty_update_##ID)(size_t rows, size_t n, REAL *w, REAL *s1, REAL *s2, \
                                        size_t ldw, const REAL *g, size_t ldg,              \
                                        const fgd_update_params *p)                         \
    {                                                                                       \
        const int diverged =                                                                \
            sound->TABLE.update[FGD_OPT_##ID](rows, n, w, s1, s2, ldw, g, ldg, p);          \
        SPOIL(w[0]);                                                                        \
        return diverged;                                                                    \
    }
/* Laid out by hand: the formatter does not settle on such lists. */
/* clang-format off */
#define EACH_ACT(X)                                                                       \
    X(identity, IDENTITY)                                                                 \
    X(relu, RELU)                                                                         \
    X(leaky_relu, LEAKY_RELU)                                                             \
    X(elu, ELU)                                                                           \
    X(selu, SELU)                                                                         \
    X(gelu, GELU) X(silu, SILU) X(mish, MISH) X(softplus, SOFTPLUS) X(softsign, SOFTSIGN) \
        X(tanh, TANH) X(sigmoid, SIGMOID) X(hard_sigmoid, HARD_SIGMOID) X(exp, EXP)
#define EACH_LOSS(X)    \
    X(SQUARED_ERROR_A)  \
    X(ABSOLUTE_ERROR_A) \
    X(HUBER_A)          \
    X(LOG_LOSS_Z)       \
    X(LOG_LOSS_A) X(CROSS_ENTROPY_LABELS_Z) X(CROSS_ENTROPY_ROWS_Z) X(POISSON_Z) X(POISSON_A)
#define EACH_UPDATE(X) X(SGD) X(MOMENTUM) X(ADAM) X(ADAMW) X(RMSPROP) X(ADAGRAD)
/* clang-format on */

EACH_ACT(FAULTY_ACT)
EACH_LOSS(FAULTY_LOSS)
EACH_UPDATE(FAULTY_UPDATE)

#define PUT_ACT(i, ID) faulty.TABLE.act[FGD_ACT_##ID] = TYPE(faulty_act_##i);
#define PUT_ACT_GRAD(i, ID) faulty.TABLE.act_grad[FGD_ACT_##ID] = TYPE(faulty_act_grad_##i);
#define PUT_LOSS(ID) faulty.TABLE.loss[FGD_LOSS_##ID] = TYPE(faulty_loss_##ID);
#define PUT_UPDATE(ID) faulty.TABLE.update[FGD_OPT_##ID] = TYPE(faulty_update_##ID);

static void TYPE(faulty_softmax)(size_t units, size_t n, const REAL *z, size_t ldz, REAL *a,
                                 size_t lda)
{
    sound->TABLE.softmax(units, n, z, ldz, a, lda);
    SPOIL(a[0]);
}

static void TYPE(faulty_softmax_grad)(size_t units, size_t n, const REAL *a, size_t lda, REAL *d,
                                      size_t ldd)
{
    sound->TABLE.softmax_grad(units, n, a, lda, d, ldd);
    SPOIL(d[0]);
}

static void TYPE(faulty_online)(TYPE(online_run) * run, size_t n_steps)
{
    sound->TABLE.online(run, n_steps);
    SPOIL(run->w[0]);
}

static int TYPE(inject)(const char *kernel)
{
    const int fuses = faulty.TABLE.fuses;
    faulty.TABLE.fuses = 0; /* so that the kernels of their own are in use */
    if (strcmp(kernel, "gemm") == 0) {
        /* One-by-one tiles only, so that a single wrapper a side serves every shape. */
        faulty.TABLE.max_vectors = 1;
        faulty.TABLE.tile_rows[1] = 1;
        faulty.TABLE.ukr_by_row[1][1] = TYPE(faulty_ukr);
        faulty.TABLE.ukr_by_column[1][1] = TYPE(faulty_ukr_by_column);
        faulty.TABLE.chain16 = TYPE(faulty_chain16);
    } else if (strcmp(kernel, "activation") == 0) {
        EACH_ACT(PUT_ACT)
        faulty.TABLE.softmax = TYPE(faulty_softmax);
    } else if (strcmp(kernel, "activation_grad") == 0) {
        EACH_ACT(PUT_ACT_GRAD)
        faulty.TABLE.softmax_grad = TYPE(faulty_softmax_grad);
    } else if (strcmp(kernel, "loss") == 0) {
        EACH_LOSS(PUT_LOSS)
    } else if (strcmp(kernel, "update") == 0) {
        EACH_UPDATE(PUT_UPDATE)
    } else if (strcmp(kernel, "turned_product") == 0) {
        faulty.TABLE.turned_product = TYPE(faulty_turned_product);
    } else if (strcmp(kernel, "streamed_product") == 0) {
        faulty.TABLE.streamed_product = TYPE(faulty_streamed_product);
    } else if (strcmp(kernel, "streamed_update") == 0) {
        faulty.TABLE.streamed_update = TYPE(faulty_streamed_update);
        faulty.TABLE.fuses = fuses;
    } else if (strcmp(kernel, "online") == 0) {
        faulty.TABLE.online = TYPE(faulty_online);
    } else {
        return 0;
    }
    return 1;
}

#undef FAULTY_ACT
#undef FAULTY_LOSS
#undef FAULTY_UPDATE
#undef EACH_ACT
#undef EACH_LOSS
#undef EACH_UPDATE
#undef PUT_ACT
#undef PUT_ACT_GRAD
#undef PUT_LOSS
#undef PUT_UPDATE
