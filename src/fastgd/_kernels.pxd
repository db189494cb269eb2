# C declarations of csrc and the wrappers through which the engine, an extension of its own,
# reaches the C core that is linked into this one.

from libc.stdint cimport int64_t, uint64_t

cdef extern from "fgd_types.h" nogil:
    ctypedef enum fgd_dtype:
        FGD_F32, FGD_F64, FGD_U8, FGD_I8, FGD_U16, FGD_I16, FGD_U32, FGD_I32, FGD_U64, FGD_I64
    ctypedef struct fgd_matrix:
        const void *data
        fgd_dtype dtype
        size_t rows, cols
        ptrdiff_t row_stride, col_stride
        double scale
    ctypedef enum fgd_act:
        FGD_N_ELEMENTWISE_ACTS
    ctypedef enum fgd_loss:
        FGD_LOSS_SQUARED_ERROR_A, FGD_LOSS_ABSOLUTE_ERROR_A, FGD_LOSS_HUBER_A
        FGD_LOSS_LOG_LOSS_Z, FGD_LOSS_LOG_LOSS_A
        FGD_LOSS_CROSS_ENTROPY_LABELS_Z, FGD_LOSS_CROSS_ENTROPY_ROWS_Z
        FGD_LOSS_POISSON_Z, FGD_LOSS_POISSON_A
    ctypedef enum fgd_opt:
        FGD_OPT_SGD, FGD_OPT_MOMENTUM, FGD_OPT_ADAM, FGD_OPT_ADAMW, FGD_OPT_RMSPROP
        FGD_OPT_ADAGRAD
    ctypedef enum fgd_variant:
        FGD_VARIANT_TORCH, FGD_VARIANT_SKLEARN
    ctypedef enum fgd_account:
        FGD_ACCOUNT_MEAN, FGD_ACCOUNT_SKLEARN, FGD_ACCOUNT_SUM
    ctypedef struct fgd_update_params:
        double lr, scale, l1, l2, penalty_share, clip_value, norm_scale, weight_decay, momentum
        double dampening, beta1, beta2, eps, bias1, bias2
        uint64_t step
        int nesterov, variant
    ctypedef struct fgd_own_update:
        int is_frozen
        int64_t ahead
        double lr_decay
        fgd_update_params params

cdef extern from "fgd_net.h" nogil:
    ctypedef enum fgd_status:
        FGD_OK, FGD_NO_MEMORY
    ctypedef struct fgd_layer:
        size_t fan_in, fan_out, padded, ldw
        int act
        double act_param
        int use_bias
        double l1, l2, dropout
        void *w
        void *b
        void *w_s1
        void *w_s2
        void *b_s1
        void *b_s2
        fgd_own_update own_w, own_b
        void *dw
        void *db
        void *z
        void *a
    ctypedef struct fgd_poll:
        int (*is_interrupted)(void *context) noexcept nogil
        void *context
    ctypedef struct fgd_net:
        fgd_dtype dtype
        size_t n_inputs, n_layers
        fgd_layer *layers
        int loss
        double loss_param
        int account
        double loss_scale, grad_scale
        int opt
        fgd_update_params params
        double lr_decay, clip_norm
        int has_own
        uint64_t seed, step, epoch
        double serial_flop, long_flop
        fgd_poll poll
        size_t capacity, ldb
    ctypedef struct fgd_data:
        fgd_matrix x, y
        const int64_t *labels
        const double *weights
        void *outputs
        size_t output_stride
    ctypedef enum fgd_outcome:
        FGD_TRAINED, FGD_LOSS_NOT_FINITE, FGD_WEIGHT_NOT_FINITE, FGD_INTERRUPTED
    ctypedef struct fgd_progress:
        fgd_outcome outcome
        size_t n_steps
        double loss_sum, weight_sum, last_loss
    ctypedef enum fgd_op:
        FGD_OP_LOAD, FGD_OP_PRE_ACTIVATION, FGD_OP_FORWARD, FGD_OP_ACTIVATE, FGD_OP_DROPOUT
        FGD_OP_LOSS, FGD_OP_OUTPUT_GRAD, FGD_OP_BACKWARD, FGD_OP_TRANSPOSE, FGD_OP_FINISH
    ctypedef struct fgd_batch:
        const fgd_data *data
        const int64_t *order
        size_t first, n
        double lr
        int dropout
    ctypedef enum fgd_buffer:
        FGD_BUFFER_INPUT, FGD_BUFFER_Z, FGD_BUFFER_A, FGD_BUFFER_DROPPED, FGD_BUFFER_MASK
        FGD_BUFFER_DELTA

# Every function of fgd_net.h that the engine calls, under its own name without fgd_.
cdef fgd_status net_init(fgd_net *net, fgd_dtype dtype, size_t n_inputs, size_t n_layers,
                         const size_t *units) noexcept nogil
cdef void net_free(fgd_net *net) noexcept nogil
cdef void free_block(void *block) noexcept nogil
cdef fgd_status net_set_optimizer(fgd_net *net, fgd_opt opt, int has_buffer) noexcept nogil
cdef fgd_status net_reserve(fgd_net *net, size_t n, int n_threads,
                            int store_gradient) noexcept nogil
cdef void net_train(fgd_net *net, const fgd_data *data, const int64_t *order, size_t first,
                    size_t n_rows, size_t batch_size, size_t n_steps, const double *lrs,
                    int n_threads, double seconds, fgd_progress *progress) noexcept nogil
cdef double mean_loss(double loss_sum, double weight_sum) noexcept nogil
cdef void net_find_gradient(fgd_net *net, const fgd_data *data, size_t n, int n_threads,
                            fgd_progress *progress) noexcept nogil
cdef int net_needs_gradient(const fgd_net *net, size_t n) noexcept nogil
cdef int net_is_online(const fgd_net *net, const fgd_data *data, size_t n) noexcept nogil
cdef int net_path(const fgd_net *net, const fgd_data *data, size_t n) noexcept nogil
cdef double seconds_now() noexcept nogil
cdef int net_infer(fgd_net *net, const fgd_data *data, size_t first, size_t n, int n_threads,
                   void *losses, int checks_input) noexcept nogil
cdef int net_operate(fgd_net *net, const fgd_batch *batch, fgd_op op,
                     size_t layer) noexcept nogil
cdef size_t net_block_rows(const fgd_net *net, size_t l, size_t n, int is_gradient) noexcept nogil
cdef size_t net_rows_read_once(const fgd_net *net, size_t l, size_t n) noexcept nogil
cdef int net_gradient(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                      void *dw, void *db) noexcept nogil
cdef int net_update(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                    const fgd_update_params *params) noexcept nogil
cdef int net_apply_gradient(fgd_net *net, size_t layer, size_t r0, size_t r1,
                            const fgd_update_params *params) noexcept nogil
cdef double net_norm_scale(fgd_net *net) noexcept nogil
cdef uint64_t net_steps(const fgd_net *net) noexcept nogil
cdef fgd_update_params step_params(const fgd_net *net, uint64_t step, double lr,
                                   double weight_sum) noexcept nogil
cdef void net_add_loss(const fgd_net *net, size_t n, double loss_sum, double weight_sum,
                       double penalty, fgd_progress *progress) noexcept nogil
cdef void net_put(fgd_net *net, fgd_buffer buffer, size_t layer,
                  const fgd_matrix *matrix) noexcept nogil
cdef void net_look_at(const fgd_net *net, fgd_buffer buffer, size_t layer, size_t n,
                      fgd_matrix *matrix) noexcept nogil
cdef void net_batch_loss(const fgd_net *net, const fgd_batch *batch, double *loss_sum,
                         double *weight_sum) noexcept nogil
cdef double net_penalty(const fgd_net *net) noexcept nogil
cdef size_t permutation(int64_t *order, size_t n, uint64_t seed, uint64_t epoch,
                        size_t done) noexcept nogil
cdef double weighted_sum(fgd_dtype dtype, size_t n, const void *x,
                         const void *weights) noexcept nogil
cdef int all_finite_block(fgd_dtype dtype, size_t n, const void *x) noexcept nogil
cdef int act_consumes_z(int act) noexcept nogil

# Shared by the two extensions.
cdef int activation_number(str name) except -1
cdef int loss_number(str kind, int act, bint labels) except -2
cdef object loss_from_number(int loss)
cdef size_t element_size(fgd_dtype dtype) noexcept nogil
cdef void copy_rows(fgd_dtype dtype, size_t rows, size_t cols, const void *src, size_t src_stride,
                    void *dst, size_t dst_stride) noexcept nogil
cdef int fill_params(fgd_update_params *p, dict values) except -1


cdef class Assignment:
    """Values that are to replace those of arrays, all of them or none."""
    cdef list targets, sources
    cpdef void assign(self) noexcept

cdef class Matrix:
    """A borrowed 1-D or 2-D array in the C core's terms; releases it when collected."""
    cdef Py_buffer buffer
    cdef bint held
    cdef fgd_matrix c
