/* The kernel table of one element type; fgd_kernel_table.h includes this twice with
 * REAL (float, double) and TYPE(name) (fgd_s<name>, fgd_d<name>) defined. */

/* SGD of the weights at w, rows ldw apart, that a tile is the gradient of. */
typedef struct {
    REAL *w;
    ptrdiff_t ldw;
    REAL neg_lr;
    int has_terms;    /* of the gradient, which is else taken as it is: */
    REAL clip, decay; /* it is clipped to +-clip, which may be inf, then decay * w is added */
    int asks_to_write; /* before a tile's sums for its part of w, which another core may have */
    int diverged; /* OUT: set if a weight keeps its value, since the new one is not finite */
} TYPE(sgd);

typedef void (*TYPE(ukr_fn))(size_t k, const REAL *a, ptrdiff_t as, const REAL *b, ptrdiff_t ldb,
                             REAL *c, ptrdiff_t ldc, const REAL *bias, const REAL *gate,
                             TYPE(sgd) * sgd, int flags, const fgd_ask *ask);
typedef void (*TYPE(act_fn))(size_t rows, size_t n, const REAL *z, size_t ldz, REAL *a, size_t lda,
                             REAL param);
typedef void (*TYPE(act_grad_fn))(size_t rows, size_t n, const REAL *x, size_t ldx, REAL *d,
                                  size_t ldd, REAL param);
typedef void (*TYPE(loss_fn))(size_t units, size_t n, const REAL *x, size_t ldx, const REAL *y,
                              size_t ldy, const REAL *coef, REAL *delta, size_t ldd,
                              REAL *sample_loss, REAL param);
typedef int (*TYPE(update_fn))(size_t rows, size_t n, REAL *w, REAL *s1, REAL *s2, size_t ldw,
                               const REAL *g, size_t ldg, const fgd_update_params *p);

/* A run of single-sample steps of a model with one unit, see template/online.h. */
typedef struct {
    const fgd_matrix *x, *y;
    const int64_t *order; /* NULL: rows in place */
    size_t first; /* position of the first step's row */
    size_t end;   /* of the positions that there are */
    const double *lrs;
    TYPE(act_fn) act; /* NULL: identity */
    TYPE(act_grad_fn) act_grad; /* NULL: identity */
    TYPE(loss_fn) loss;
    REAL act_param, loss_param;
    int loss_from_z, grad_from_z, use_bias;
    REAL *w, *new_w, *b, *buffer;
    size_t done; /* steps */
    double loss_sum, last_loss;
    fgd_outcome outcome;
} TYPE(online_run);

typedef struct {
    const char *isa;
    size_t lanes;
    size_t turned; /* columns that turned_product reads at once */
    /* Tiles: ukr_by_row[nv][mr], 1 <= nv <= max_vectors, 1 <= mr <= tile_rows[nv]. */
    int fuses; /* micro-kernels may do the work of relu's act and act_grad, and of SGD */
    size_t max_vectors;
    size_t tile_rows[5];
    TYPE(ukr_fn) ukr_by_row[5][25]; /* A is a[i * as + k] */
    TYPE(ukr_fn) ukr_by_column[5][25]; /* A is a[k * as + i] */
    void (*chain16)(size_t units, size_t fan_in, size_t n, const REAL *x, size_t ldx, const REAL *w,
                    size_t ldw, const REAL *bias, REAL *z, size_t ldz);
    void (*column_sums)(size_t k, size_t n, const REAL *x, size_t ldx, REAL *sums);
    void (*multiply)(size_t rows, size_t n, REAL *a, size_t lda, const REAL *b, size_t ldb);
    void (*transpose)(size_t rows, size_t cols, const REAL *src, size_t lds, REAL *dst, size_t ldd);
    void (*transpose_and_sum)(size_t rows, size_t cols, const REAL *src, size_t lds, REAL *dst,
                              size_t ldd, size_t n_summed, REAL *sums);
    void (*streamed_product)(size_t n, size_t k, size_t cols, const REAL *x, size_t ldx,
                             const REAL *w, size_t ldw, REAL *sums, size_t lds, const REAL *next,
                             fgd_purpose purpose);
    void (*streamed_update)(size_t rows, size_t n, size_t cols, const REAL *x, size_t ldx,
                            const REAL *delta, size_t ldd, TYPE(sgd) * sgd, const REAL *next,
                            fgd_purpose purpose);
    void (*turned_product)(size_t rows, size_t n, size_t k, const REAL *w, size_t ldw,
                           const REAL *x, size_t ldx, REAL *sums, size_t lds);
    void (*gather)(const fgd_matrix *matrix, const int64_t *order, size_t first, size_t n_samples,
                   size_t col0, size_t n, REAL *dst, size_t ldd);
    TYPE(act_fn) act[FGD_N_ELEMENTWISE_ACTS];
    TYPE(act_grad_fn) act_grad[FGD_N_ELEMENTWISE_ACTS];
    void (*softmax)(size_t units, size_t n, const REAL *z, size_t ldz, REAL *a, size_t lda);
    void (*softmax_grad)(size_t units, size_t n, const REAL *a, size_t lda, REAL *d, size_t ldd);
    TYPE(loss_fn) loss[FGD_N_LOSSES];
    TYPE(update_fn) update[FGD_N_OPTS];
    void (*finish_grad)(size_t rows, size_t n, const REAL *w, size_t ldw, REAL *g, size_t ldg,
                        const fgd_update_params *p);
    double (*sum16)(size_t n, const REAL *x, const REAL *w);
    double (*row_sumsq)(size_t n, const REAL *x);
    double (*row_sumabs)(size_t n, const REAL *x);
    int (*all_finite)(size_t n, const REAL *x);
    void (*dropout)(size_t rows, size_t n, size_t row0, size_t col0, REAL *a, size_t lda,
                    REAL *a_out, size_t ldo, REAL *mask, size_t ldm, uint64_t seed, uint64_t step,
                    uint32_t layer, double p);
    void (*online)(TYPE(online_run) * run, size_t n_steps);
    void (*fma_burn)(size_t rounds, REAL *sink);
} TYPE(table);
