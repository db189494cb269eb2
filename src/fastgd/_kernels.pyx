# The C core as Python sees it: the choice of instruction set, and the raw operations on plain
# arrays behind fastgd.kernels.  Arguments are validated by the callers; nothing here is public.

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memcpy, memset

import os
from time import perf_counter

import numpy as np

cdef extern from "fgd_cpu.h" nogil:
    uint64_t fgd_fp_enter_ordinary()
    void fgd_fp_leave(uint64_t mode)

cdef extern from "fgd_dispatch.h" nogil:
    ctypedef enum fgd_isa_status:
        FGD_ISA_OK, FGD_ISA_UNKNOWN, FGD_ISA_NOT_BUILT, FGD_ISA_NOT_SUPPORTED
    enum:
        FGD_N_ISAS
    const char *fgd_isa_names[]
    fgd_isa_status fgd_isa_check(const char *name)
    fgd_isa_status fgd_isa_select(const char *name)
    void fgd_isa_select_best()
    const char *fgd_isa_active()
    int fgd_inject_fault(const char *kernel)

cdef extern from "fgd_rows.h" nogil:
    void fgd_rows_from_columns(size_t, void *, size_t, const void *const *, size_t, size_t)

cdef extern from "fgd_team.h" nogil:
    int fastgd_get_num_threads()

cdef extern from "fgd_net.h" nogil:
    fgd_status fgd_net_init(fgd_net *, fgd_dtype, size_t, size_t, const size_t *)
    void fgd_net_free(fgd_net *)
    void fgd_free_block(void *)
    fgd_status fgd_net_set_optimizer(fgd_net *, fgd_opt, int)
    fgd_status fgd_net_reserve(fgd_net *, size_t, int, int)
    void fgd_net_train(fgd_net *, const fgd_data *, const int64_t *, size_t, size_t, size_t,
                       size_t, const double *, int, double, fgd_progress *)
    int fgd_net_needs_gradient(const fgd_net *, size_t)
    int fgd_net_is_online(const fgd_net *, const fgd_data *, size_t)
    int fgd_net_path(const fgd_net *, const fgd_data *, size_t)
    double fgd_seconds()
    int fgd_net_infer(fgd_net *, const fgd_data *, size_t, size_t, int, void *, int)
    int fgd_net_operate(fgd_net *, const fgd_batch *, fgd_op, size_t)
    size_t fgd_net_block_rows(const fgd_net *, size_t, size_t, int)
    size_t fgd_net_rows_read_once(const fgd_net *, size_t, size_t)
    int fgd_net_gradient(fgd_net *, const fgd_batch *, size_t, size_t, size_t, void *, void *)
    int fgd_net_update(fgd_net *, const fgd_batch *, size_t, size_t, size_t,
                       const fgd_update_params *)
    int fgd_net_apply_gradient(fgd_net *, size_t, size_t, size_t, const fgd_update_params *)
    double fgd_net_norm_scale(fgd_net *)
    uint64_t fgd_net_steps(const fgd_net *)
    fgd_update_params fgd_step_params(const fgd_net *, uint64_t, double, double)
    void fgd_net_add_loss(const fgd_net *, size_t, double, double, double, fgd_progress *)
    double fgd_mean_loss(double, double)
    void fgd_net_find_gradient(fgd_net *, const fgd_data *, size_t, int, fgd_progress *)
    void fgd_net_put(fgd_net *, fgd_buffer, size_t, const fgd_matrix *)
    void fgd_net_look_at(const fgd_net *, fgd_buffer, size_t, size_t, fgd_matrix *)
    void fgd_net_get(const fgd_net *, fgd_buffer, size_t, size_t, void *)
    void fgd_net_batch_loss(const fgd_net *, const fgd_batch *, double *, double *)
    double fgd_net_penalty(const fgd_net *)
    size_t fgd_permutation(int64_t *, size_t, uint64_t, uint64_t, size_t)
    void fgd_activate(fgd_dtype, fgd_act, double, size_t, const void *, void *)
    void fgd_activate_grad(fgd_dtype, fgd_act, double, size_t, const void *, void *)
    int fgd_act_consumes_z(int)
    int fgd_all_finite(fgd_dtype, size_t, const void *)
    double fgd_weighted_sum(fgd_dtype, size_t, const void *, const void *)
    double fgd_fma_burn(fgd_dtype, size_t)
    char *FGD_BUILD_FLAGS
    char *__VERSION__

# ---- wrappers for the engine ----------------------------------------------------------------

cdef fgd_status net_init(fgd_net *net, fgd_dtype dtype, size_t n_inputs, size_t n_layers,
                         const size_t *units) noexcept nogil:
    return fgd_net_init(net, dtype, n_inputs, n_layers, units)

cdef void net_free(fgd_net *net) noexcept nogil:
    fgd_net_free(net)

cdef void free_block(void *block) noexcept nogil:
    fgd_free_block(block)

cdef fgd_status net_set_optimizer(fgd_net *net, fgd_opt opt, int has_buffer) noexcept nogil:
    return fgd_net_set_optimizer(net, opt, has_buffer)

cdef fgd_status net_reserve(fgd_net *net, size_t n, int n_threads,
                            int store_gradient) noexcept nogil:
    return fgd_net_reserve(net, n, n_threads, store_gradient)

cdef void net_train(fgd_net *net, const fgd_data *data, const int64_t *order, size_t first,
                    size_t n_rows, size_t batch_size, size_t n_steps, const double *lrs,
                    int n_threads, double seconds, fgd_progress *progress) noexcept nogil:
    fgd_net_train(net, data, order, first, n_rows, batch_size, n_steps, lrs, n_threads, seconds,
                  progress)

cdef int net_needs_gradient(const fgd_net *net, size_t n) noexcept nogil:
    return fgd_net_needs_gradient(net, n)

cdef int net_is_online(const fgd_net *net, const fgd_data *data, size_t n) noexcept nogil:
    return fgd_net_is_online(net, data, n)

cdef int net_path(const fgd_net *net, const fgd_data *data, size_t n) noexcept nogil:
    return fgd_net_path(net, data, n)

cdef double seconds_now() noexcept nogil:
    return fgd_seconds()

cdef int net_infer(fgd_net *net, const fgd_data *data, size_t first, size_t n, int n_threads,
                   void *losses, int checks_input) noexcept nogil:
    return fgd_net_infer(net, data, first, n, n_threads, losses, checks_input)

cdef int net_operate(fgd_net *net, const fgd_batch *batch, fgd_op op,
                     size_t layer) noexcept nogil:
    return fgd_net_operate(net, batch, op, layer)

cdef size_t net_block_rows(const fgd_net *net, size_t l, size_t n, int is_gradient) noexcept nogil:
    return fgd_net_block_rows(net, l, n, is_gradient)

cdef size_t net_rows_read_once(const fgd_net *net, size_t l, size_t n) noexcept nogil:
    return fgd_net_rows_read_once(net, l, n)

cdef int net_gradient(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                      void *dw, void *db) noexcept nogil:
    return fgd_net_gradient(net, batch, layer, r0, r1, dw, db)

cdef int net_update(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                    const fgd_update_params *params) noexcept nogil:
    return fgd_net_update(net, batch, layer, r0, r1, params)

cdef int net_apply_gradient(fgd_net *net, size_t layer, size_t r0, size_t r1,
                            const fgd_update_params *params) noexcept nogil:
    return fgd_net_apply_gradient(net, layer, r0, r1, params)

cdef double net_norm_scale(fgd_net *net) noexcept nogil:
    return fgd_net_norm_scale(net)

cdef uint64_t net_steps(const fgd_net *net) noexcept nogil:
    return fgd_net_steps(net)

cdef fgd_update_params step_params(const fgd_net *net, uint64_t step, double lr,
                                   double weight_sum) noexcept nogil:
    return fgd_step_params(net, step, lr, weight_sum)

cdef void net_add_loss(const fgd_net *net, size_t n, double loss_sum, double weight_sum,
                       double penalty, fgd_progress *progress) noexcept nogil:
    fgd_net_add_loss(net, n, loss_sum, weight_sum, penalty, progress)

cdef double mean_loss(double loss_sum, double weight_sum) noexcept nogil:
    return fgd_mean_loss(loss_sum, weight_sum)

cdef void net_find_gradient(fgd_net *net, const fgd_data *data, size_t n, int n_threads,
                            fgd_progress *progress) noexcept nogil:
    fgd_net_find_gradient(net, data, n, n_threads, progress)

cdef void net_put(fgd_net *net, fgd_buffer buffer, size_t layer,
                  const fgd_matrix *matrix) noexcept nogil:
    fgd_net_put(net, buffer, layer, matrix)

cdef void net_look_at(const fgd_net *net, fgd_buffer buffer, size_t layer, size_t n,
                      fgd_matrix *matrix) noexcept nogil:
    fgd_net_look_at(net, buffer, layer, n, matrix)

cdef void net_batch_loss(const fgd_net *net, const fgd_batch *batch, double *loss_sum,
                         double *weight_sum) noexcept nogil:
    fgd_net_batch_loss(net, batch, loss_sum, weight_sum)

cdef double net_penalty(const fgd_net *net) noexcept nogil:
    return fgd_net_penalty(net)

cdef size_t permutation(int64_t *order, size_t n, uint64_t seed, uint64_t epoch,
                        size_t done) noexcept nogil:
    return fgd_permutation(order, n, seed, epoch, done)

cdef double weighted_sum(fgd_dtype dtype, size_t n, const void *x,
                         const void *weights) noexcept nogil:
    return fgd_weighted_sum(dtype, n, x, weights)

cdef int all_finite_block(fgd_dtype dtype, size_t n, const void *x) noexcept nogil:
    return fgd_all_finite(dtype, n, x)

cdef int act_consumes_z(int act) noexcept nogil:
    return fgd_act_consumes_z(act)

# ---- names and numbers ----------------------------------------------------------------------

# In the order of fgd_act.
ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus",
    "softsign", "tanh", "sigmoid", "hard_sigmoid", "exp", "softmax",
)
# kind -> (loss on its canonical output's z or None, canonical output, loss on any output's a).
cdef dict LOSSES = {
    "squared_error": (None, "identity", FGD_LOSS_SQUARED_ERROR_A),
    "absolute_error": (None, "identity", FGD_LOSS_ABSOLUTE_ERROR_A),
    "huber": (None, "identity", FGD_LOSS_HUBER_A),
    "log_loss": (FGD_LOSS_LOG_LOSS_Z, "sigmoid", FGD_LOSS_LOG_LOSS_A),
    "cross_entropy": (FGD_LOSS_CROSS_ENTROPY_ROWS_Z, "softmax", None),
    "poisson": (FGD_LOSS_POISSON_Z, "exp", FGD_LOSS_POISSON_A),
    "custom": (None, "identity", -1),
}
cdef dict ACTIVATION_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}

cdef int activation_number(str name) except -1:
    return ACTIVATION_NUMBERS[name]

cdef int loss_number(str kind, int act, bint labels) except -2:
    from_z, canonical, from_a = LOSSES[kind]
    if from_z is not None and ACTIVATIONS[act] == canonical:
        return FGD_LOSS_CROSS_ENTROPY_LABELS_Z if labels else from_z
    return from_a

cdef object loss_from_number(int loss):
    for kind, (from_z, _, from_a) in LOSSES.items():
        if loss == from_z or loss == from_a:
            return kind
    return "cross_entropy"  # on labels

cdef size_t element_size(fgd_dtype dtype) noexcept nogil:
    return 4 if dtype == FGD_F32 else 8

cdef void copy_rows(fgd_dtype dtype, size_t rows, size_t cols, const void *src, size_t src_stride,
                    void *dst, size_t dst_stride) noexcept nogil:
    # Strides in elements.
    cdef size_t size = element_size(dtype), i
    for i in range(rows):
        memcpy(<char *>dst + i * dst_stride * size, <const char *>src + i * src_stride * size,
               cols * size)

cdef int fill_params(fgd_update_params *p, dict values) except -1:
    memset(p, 0, sizeof(p[0]))
    p.lr = values.get("lr", 0.0)
    p.scale = values.get("scale", 1.0)
    p.l1 = values.get("l1", 0.0)
    p.l2 = values.get("l2", 0.0)
    p.clip_value = values.get("clip_value") or 0.0
    p.norm_scale = 1.0
    p.weight_decay = values.get("weight_decay", 0.0)
    p.momentum = values.get("momentum", 0.0)
    p.dampening = values.get("dampening", 0.0)
    p.beta1 = values.get("beta1", 0.9)
    p.beta2 = values.get("alpha", values.get("beta2", 0.999))
    p.eps = values.get("eps", 1e-8)
    p.bias1 = values.get("bias1", 1.0)
    p.bias2 = values.get("bias2", 1.0)
    p.nesterov = values.get("nesterov", False)
    p.variant = (FGD_VARIANT_SKLEARN if values.get("variant", "torch") == "sklearn"
                 else FGD_VARIANT_TORCH)
    return 0

cdef dict OPTIMIZER_NUMBERS = {
    "sgd": FGD_OPT_SGD, "momentum": FGD_OPT_MOMENTUM, "adam": FGD_OPT_ADAM,
    "adamw": FGD_OPT_ADAMW, "rmsprop": FGD_OPT_RMSPROP, "adagrad": FGD_OPT_ADAGRAD,
}

# ---- arrays ---------------------------------------------------------------------------------

cdef class Matrix:
    """A borrowed 1-D or 2-D array in the C core's terms; releases it when collected.

    Parameters
    ----------
    array : buffer of a native real or boolean type, any strides
    writable : bool
    """

    def __cinit__(self, array, bint writable=False):
        self.held = False
        PyObject_GetBuffer(array, &self.buffer,
                           PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        self.held = True
        self.c.dtype = format_dtype(self.buffer.format, self.buffer.itemsize)
        self.c.data = self.buffer.buf
        self.c.rows = self.buffer.shape[0]
        self.c.row_stride = self.buffer.strides[0]
        if self.buffer.ndim == 1:
            self.c.cols = 1
            self.c.col_stride = self.buffer.itemsize
        else:
            self.c.cols = self.buffer.shape[1]
            self.c.col_stride = self.buffer.strides[1]

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)


cdef class Assignment:
    """Values that are to replace those of arrays, all of them or none: once this is made, nothing
    can fail any more, not even for want of memory.

    Parameters
    ----------
    arrays : list of (ndarray or None)
        Float32 or float64, of one or two dimensions and any strides.
    values : list of (ndarray or None)
        For each array one of its shape and dtype; those that lie in any of the arrays are copied.
    """

    def __cinit__(self, list arrays, list values):
        self.targets, self.sources = [], []
        for array, value in zip(arrays, values, strict=True):
            if array is None:
                continue
            if array.shape != value.shape or array.dtype != value.dtype:
                raise ValueError(f"values of {value.dtype} {value.shape} are not those of an array "
                                 f"of {array.dtype} {array.shape}")
            for other in arrays:
                if other is not None and np.may_share_memory(value, other):
                    value = value.copy()
                    break
            self.targets.append(Matrix(array, True))
            self.sources.append(Matrix(value))

    cpdef void assign(self) noexcept:
        """Replace the values of all arrays."""
        cdef Py_ssize_t i
        for i in range(len(self.targets)):
            copy_matrix(&(<Matrix>self.sources[i]).c, &(<Matrix>self.targets[i]).c)


cdef void copy_matrix(const fgd_matrix *source, const fgd_matrix *target) noexcept nogil:
    # Of one shape and dtype, any strides.
    cdef Py_ssize_t size = element_size(source.dtype)
    cdef size_t i, j
    cdef const char *row
    cdef char *to
    for i in range(source.rows):
        row = <const char *>source.data + <Py_ssize_t>i * source.row_stride
        to = <char *>target.data + <Py_ssize_t>i * target.row_stride
        if source.col_stride == size and target.col_stride == size:
            memcpy(to, row, source.cols * size)
        else:
            for j in range(source.cols):
                memcpy(to + <Py_ssize_t>j * target.col_stride,
                       row + <Py_ssize_t>j * source.col_stride, size)


cdef fgd_dtype format_dtype(const char *format, Py_ssize_t size) except *:
    cdef char kind = format[0]
    if kind == c"@" or kind == c"=":
        kind = format[1]
    if kind == c"f":
        return FGD_F32
    if kind == c"d":
        return FGD_F64
    if kind in b"?BHILQ":
        if size == 1:
            return FGD_U8
        if size == 2:
            return FGD_U16
        return FGD_U32 if size == 4 else FGD_U64
    if kind in b"bhilq":
        if size == 1:
            return FGD_I8
        if size == 2:
            return FGD_I16
        return FGD_I32 if size == 4 else FGD_I64
    raise TypeError(f"arrays of format {format.decode()!r} are not supported here; "
                    "expected a native real dtype")


def all_finite(array):
    """Return whether a float32 or float64 array of any strides holds no NaN and no infinity."""
    cdef Py_buffer buffer
    cdef fgd_dtype dtype
    cdef size_t n
    cdef Py_ssize_t i
    cdef int finite
    try:
        PyObject_GetBuffer(array, &buffer, PyBUF_STRIDES | PyBUF_FORMAT)
    except (ValueError, BufferError):
        return bool(np.isfinite(array).all())
    try:
        dtype = format_dtype(buffer.format, buffer.itemsize)
        if dtype != FGD_F32 and dtype != FGD_F64:
            return True
        if is_contiguous(&buffer) and <size_t>buffer.buf % <size_t>buffer.itemsize == 0:
            n = buffer.len // buffer.itemsize
            with nogil:
                finite = fgd_all_finite(dtype, n, buffer.buf)
            return bool(finite)
        if (buffer.ndim == 2 and buffer.strides[1] == buffer.itemsize and
                (<size_t>buffer.buf | <size_t>buffer.strides[0]) % <size_t>buffer.itemsize == 0):
            finite = 1
            for i in range(buffer.shape[0]):
                finite = finite and fgd_all_finite(dtype, buffer.shape[1],
                                                   <char *>buffer.buf + i * buffer.strides[0])
            return bool(finite)
    finally:
        PyBuffer_Release(&buffer)
    return bool(np.isfinite(array).all())


def rows_from_columns(rows, list columns):
    """Write contiguous columns, each (n_rows,), into rows (n_rows, n_columns) of the same dtype.

    An element may have 1, 2, 4 or 8 bytes, and lies at a multiple of that. The rows go forward in
    memory. Of the dtype only its size is looked at.
    """
    cdef Py_ssize_t n_columns = len(columns), n_held = 0, size
    cdef Py_buffer to
    cdef Py_buffer *of = NULL
    cdef const void **places = NULL
    PyObject_GetBuffer(rows, &to, PyBUF_STRIDES | PyBUF_WRITABLE)
    try:
        size = to.itemsize
        if to.ndim != 2 or size not in (1, 2, 4, 8) or to.shape[1] != n_columns or (
                to.strides[1] != size or to.strides[0] < 0 or to.strides[0] % size or
                <size_t>to.buf % <size_t>size):
            raise ValueError("rows must be contiguous in each row, one element for each column, "
                             "aligned and forward")
        of = <Py_buffer *>PyMem_Calloc(n_columns + 1, sizeof(Py_buffer))
        places = <const void **>PyMem_Calloc(n_columns + 1, sizeof(void *))
        if of == NULL or places == NULL:
            raise MemoryError
        for column in columns:
            PyObject_GetBuffer(column, &of[n_held], PyBUF_STRIDES)
            n_held += 1
            if of[n_held - 1].itemsize != size or not is_contiguous(&of[n_held - 1]) or (
                    of[n_held - 1].len != to.shape[0] * size or
                    <size_t>of[n_held - 1].buf % <size_t>size):
                raise ValueError("columns must be contiguous, aligned, and like rows")
            places[n_held - 1] = of[n_held - 1].buf
        with nogil:
            fgd_rows_from_columns(size, to.buf, to.strides[0] // size, places, to.shape[0],
                                  n_columns)
    finally:
        while n_held:
            n_held -= 1
            PyBuffer_Release(&of[n_held])
        PyMem_Free(places)
        PyMem_Free(of)
        PyBuffer_Release(&to)


cdef bint is_contiguous(Py_buffer *buffer) noexcept:
    # C or Fortran order: the elements are one block either way.
    cdef Py_ssize_t expected = buffer.itemsize
    cdef int i
    cdef bint c_order = True, f_order = True
    for i in range(buffer.ndim - 1, -1, -1):
        c_order = c_order and (buffer.strides[i] == expected or buffer.shape[i] <= 1)
        expected *= buffer.shape[i]
    expected = buffer.itemsize
    for i in range(buffer.ndim):
        f_order = f_order and (buffer.strides[i] == expected or buffer.shape[i] <= 1)
        expected *= buffer.shape[i]
    return c_order or f_order

# ---- raw operations -------------------------------------------------------------------------
# Each runs the engine's own operation on a temporary network of one or two layers, so that
# what is tested here is what trains there.  Arrays are C-contiguous, aligned and of one dtype.

cdef class TemporaryNet:
    """A network that lives for one operation."""
    cdef fgd_net net
    cdef fgd_data data
    cdef fgd_batch batch

    def __cinit__(self, fgd_dtype dtype, size_t n_inputs, list units, list acts, list params):
        cdef size_t sizes[2]
        cdef size_t i
        for i in range(<size_t>len(units)):
            sizes[i] = units[i]
        if net_init(&self.net, dtype, n_inputs, len(units), sizes) != FGD_OK:
            raise MemoryError(f"no memory for layers of {units} units and {n_inputs} inputs")
        for i in range(<size_t>len(units)):
            self.net.layers[i].act = activation_number(acts[i])
            self.net.layers[i].act_param = params[i]
        self.batch.data = &self.data

    def __dealloc__(self):
        net_free(&self.net)

    cdef int reserve(self, size_t n, bint store_gradient) except -1:
        self.batch.n = n
        if net_reserve(&self.net, n, 1, store_gradient) != FGD_OK:
            raise MemoryError(f"no memory for work buffers of {n} samples")
        return 0

    cdef void set_weights(self, size_t layer, Matrix W, Matrix b) noexcept:
        cdef fgd_layer *target = &self.net.layers[layer]
        copy_rows(self.net.dtype, target.fan_in, target.fan_out, W.c.data, target.fan_out,
                  target.w, target.ldw)
        if b is not None:
            copy_rows(self.net.dtype, 1, target.fan_out, b.c.data, 0, target.b, 0)


def forward(X, W, b, str act, double param, out, z_out):
    cdef Matrix x = Matrix(X), w = Matrix(W), bias = None if b is None else Matrix(b)
    cdef Matrix a = Matrix(out, True), z = None if z_out is None else Matrix(z_out, True)
    cdef TemporaryNet t = TemporaryNet(x.c.dtype, x.c.cols, [w.c.cols], [act], [param])
    t.set_weights(0, w, bias)
    t.reserve(x.c.rows, False)
    with nogil:
        net_put(&t.net, FGD_BUFFER_INPUT, 0, &x.c)
        net_operate(&t.net, &t.batch, FGD_OP_FORWARD, 0)
        fgd_net_get(&t.net, FGD_BUFFER_A, 0, x.c.rows, <void *>a.c.data)
        if z is not None:
            fgd_net_get(&t.net, FGD_BUFFER_Z, 0, x.c.rows, <void *>z.c.data)


def activation(str act, double param, z, out):
    cdef Matrix source = Matrix(z), target = Matrix(out, True)
    cdef int number = activation_number(act)
    cdef TemporaryNet t
    cdef size_t n = source.buffer.len // source.buffer.itemsize
    if number < FGD_N_ELEMENTWISE_ACTS:
        with nogil:
            fgd_activate(source.c.dtype, <fgd_act>number, param, n, source.c.data,
                         <void *>target.c.data)
        return
    t = TemporaryNet(source.c.dtype, 1, [source.c.cols], [act], [param])
    t.reserve(source.c.rows, False)
    net_put(&t.net, FGD_BUFFER_Z, 0, &source.c)
    net_operate(&t.net, &t.batch, FGD_OP_ACTIVATE, 0)
    fgd_net_get(&t.net, FGD_BUFFER_A, 0, source.c.rows, <void *>target.c.data)


def activation_grad(str act, double param, da, x, out):
    cdef Matrix upstream = Matrix(da), source = Matrix(x), target = Matrix(out, True)
    cdef int number = activation_number(act)
    cdef TemporaryNet t
    cdef size_t n = source.buffer.len // source.buffer.itemsize
    if number < FGD_N_ELEMENTWISE_ACTS:
        with nogil:
            if upstream.c.data != target.c.data:
                memcpy(<void *>target.c.data, upstream.c.data, upstream.buffer.len)
            fgd_activate_grad(source.c.dtype, <fgd_act>number, param, n, source.c.data,
                              <void *>target.c.data)
        return
    t = TemporaryNet(source.c.dtype, 1, [source.c.cols], [act], [param])
    t.reserve(source.c.rows, False)
    net_put(&t.net, FGD_BUFFER_A, 0, &source.c)
    net_put(&t.net, FGD_BUFFER_DELTA, 0, &upstream.c)
    net_operate(&t.net, &t.batch, FGD_OP_OUTPUT_GRAD, 0)
    fgd_net_get(&t.net, FGD_BUFFER_DELTA, 0, source.c.rows, <void *>target.c.data)


def backward(delta, W, str act, double param, x, out):
    cdef Matrix d = Matrix(delta), w = Matrix(W), source = None if x is None else Matrix(x)
    cdef Matrix target = Matrix(out, True)
    cdef TemporaryNet t = TemporaryNet(d.c.dtype, 1, [w.c.rows, w.c.cols], [act, "identity"],
                                       [param, 0.0])
    t.set_weights(1, w, None)
    t.reserve(d.c.rows, False)
    with nogil:
        if source is not None:
            net_put(&t.net, FGD_BUFFER_Z if act_consumes_z(t.net.layers[0].act)
                    else FGD_BUFFER_A, 0, &source.c)
        net_put(&t.net, FGD_BUFFER_DELTA, 1, &d.c)
        net_operate(&t.net, &t.batch, FGD_OP_BACKWARD, 1)
        fgd_net_get(&t.net, FGD_BUFFER_DELTA, 0, d.c.rows, <void *>target.c.data)


cdef TemporaryNet gradient_net(Matrix a, Matrix d, bint store_gradient):
    # A layer whose input and delta are in place, delta_t made.
    cdef TemporaryNet t = TemporaryNet(a.c.dtype, a.c.cols, [d.c.cols], ["identity"], [0.0])
    t.reserve(a.c.rows, store_gradient)
    net_put(&t.net, FGD_BUFFER_INPUT, 0, &a.c)
    net_put(&t.net, FGD_BUFFER_DELTA, 0, &d.c)
    net_operate(&t.net, &t.batch, FGD_OP_TRANSPOSE, 0)
    return t


def weight_grad(A_prev, delta, dW, db):
    cdef Matrix a = Matrix(A_prev), d = Matrix(delta)
    cdef Matrix w = Matrix(dW, True), b = Matrix(db, True)
    cdef TemporaryNet t = gradient_net(a, d, True)
    cdef fgd_layer *layer = &t.net.layers[0]
    with nogil:
        net_gradient(&t.net, &t.batch, 0, 0, layer.fan_in, layer.dw, layer.db)
        copy_rows(t.net.dtype, layer.fan_in, layer.fan_out, layer.dw, layer.ldw,
                  <void *>w.c.data, layer.fan_out)
        copy_rows(t.net.dtype, 1, layer.fan_out, layer.db, 0, <void *>b.c.data, 0)


def loss(str kind, double param, str output_act, double act_param, z, y, sample_weight, delta_out):
    cdef Matrix source = Matrix(z), target = Matrix(y), delta = Matrix(delta_out, True)
    cdef Matrix weights = (None if sample_weight is None else
                           Matrix(np.require(sample_weight, np.float64, ("C", "A"))))
    cdef TemporaryNet t = TemporaryNet(source.c.dtype, 1, [source.c.cols], [output_act],
                                       [act_param])
    cdef bint labels = kind == "cross_entropy" and target.buffer.ndim == 1
    cdef double loss_sum, weight_sum
    t.net.loss = loss_number(kind, t.net.layers[0].act, labels)
    t.net.loss_param = param
    t.reserve(source.c.rows, False)
    t.data.x = source.c
    t.data.x.cols = 1  # of what no loss looks at
    if labels:
        t.data.labels = <const int64_t *>target.c.data
    else:
        t.data.y = target.c
    if weights is not None:
        t.data.weights = <const double *>weights.c.data
    with nogil:
        net_operate(&t.net, &t.batch, FGD_OP_LOAD, 0)
        net_put(&t.net, FGD_BUFFER_Z, 0, &source.c)
        net_operate(&t.net, &t.batch, FGD_OP_ACTIVATE, 0)
        net_operate(&t.net, &t.batch, FGD_OP_LOSS, 0)
        net_batch_loss(&t.net, &t.batch, &loss_sum, &weight_sum)
        fgd_net_get(&t.net, FGD_BUFFER_DELTA, 0, source.c.rows, <void *>delta.c.data)
    return mean_loss(loss_sum, weight_sum)


def update(str opt, W, b, A_prev, delta, s1, s2, dict params):
    """Apply one fused update in place; return whether a new weight was not finite."""
    cdef Matrix w = Matrix(W, True), bias = None if b is None else Matrix(b, True)
    cdef Matrix a = Matrix(A_prev), d = Matrix(delta)
    cdef Matrix w_s1 = None, b_s1 = None, w_s2 = None, b_s2 = None
    cdef TemporaryNet t = gradient_net(a, d, False)
    cdef fgd_layer *layer = &t.net.layers[0]
    cdef fgd_update_params p
    cdef int diverged
    cdef bint has_buffer = s2 is not None
    cdef str name = "momentum" if opt == "sgd" and s1 is not None else opt
    fill_params(&p, params)
    if net_set_optimizer(&t.net, OPTIMIZER_NUMBERS[name], has_buffer) != FGD_OK:
        raise MemoryError("no memory for the optimiser's states")
    t.set_weights(0, w, bias)
    layer.use_bias = bias is not None
    # All buffers before the first value changes: afterwards nothing can fail.
    if s1 is not None:
        w_s1, b_s1 = Matrix(s1[0], True), None if b is None else Matrix(s1[1], True)
    if s2 is not None:
        w_s2, b_s2 = Matrix(s2[0], True), None if b is None else Matrix(s2[1], True)
    move(t, w_s1, layer.w_s1, layer.fan_in, False)
    move(t, b_s1, layer.b_s1, 1, False)
    move(t, w_s2, layer.w_s2, layer.fan_in, False)
    move(t, b_s2, layer.b_s2, 1, False)
    with nogil:
        diverged = net_update(&t.net, &t.batch, 0, 0, layer.fan_in, &p)
    move(t, w_s1, layer.w_s1, layer.fan_in, True)
    move(t, b_s1, layer.b_s1, 1, True)
    move(t, w_s2, layer.w_s2, layer.fan_in, True)
    move(t, b_s2, layer.b_s2, 1, True)
    move(t, w, layer.w, layer.fan_in, True)
    move(t, bias, layer.b, 1, True)
    return bool(diverged)


cdef void move(TemporaryNet t, Matrix array, void *block, size_t rows, bint to_array) noexcept:
    # Between the rows of a layer's block and a caller's array, if there is one.
    cdef fgd_layer *layer = &t.net.layers[0]
    if array is None:
        return
    if to_array:
        copy_rows(t.net.dtype, rows, layer.fan_out, block, layer.ldw, <void *>array.c.data,
                  layer.fan_out)
    else:
        copy_rows(t.net.dtype, rows, layer.fan_out, array.c.data, layer.fan_out, block,
                  layer.ldw)


# ---- instruction sets -----------------------------------------------------------------------

def built_isas():
    """Return the names of the instruction sets in this build, slowest first."""
    return tuple(fgd_isa_names[i].decode() for i in range(FGD_N_ISAS)
                 if fgd_isa_check(fgd_isa_names[i]) != FGD_ISA_NOT_BUILT)


def available_isas():
    """Return the names of the instruction sets that this machine runs, slowest first.

    Examples
    --------
    >>> import fastgd
    >>> "scalar" in fastgd.available_isas()
    True
    """
    return tuple(fgd_isa_names[i].decode() for i in range(FGD_N_ISAS)
                 if fgd_isa_check(fgd_isa_names[i]) == FGD_ISA_OK)


def active_isa():
    """Return the name of the instruction set that kernels use now.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.active_isa() in fastgd.available_isas()
    True
    """
    return fgd_isa_active().decode()


def set_isa(name, str argument="name"):
    """Make kernels use an instruction set from now on, in the whole process.

    Parameters
    ----------
    name : str
        One of `available_isas()`.

    Raises
    ------
    ValueError
        If `name` is unknown, not in this build, or not supported by this machine.

    Examples
    --------
    >>> import fastgd
    >>> before = fastgd.active_isa()
    >>> fastgd.set_isa("scalar")
    >>> fastgd.set_isa(before)
    """
    select_isa(name, argument)


cdef select_isa(name, str argument):
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, got {type(name).__name__}")
    status = fgd_isa_select(name.encode())
    if status == FGD_ISA_OK:
        return
    choices = ", ".join(map(repr, available_isas()))
    if status == FGD_ISA_UNKNOWN:
        why = "is not an instruction set that fastgd knows"
    elif status == FGD_ISA_NOT_BUILT:
        why = "is not in this build of fastgd, which is for another processor architecture"
    else:
        why = "cannot run on this machine: the processor or the operating system lacks it"
    raise ValueError(f"{argument}={name!r} {why}; expected one of {choices}")


cdef class ordinary_fp_mode:
    """Context in which NumPy rounds to the nearest and keeps denormals, whatever the caller's mode.
    """
    cdef uint64_t mode

    def __enter__(self):
        self.mode = fgd_fp_enter_ordinary()

    def __exit__(self, *error):
        fgd_fp_leave(self.mode)


def thread_limit():
    """Return the most threads that a call may use whatever it asks for, or 0 without a limit."""
    return fastgd_get_num_threads()


def inject_fault(kernel):
    """Break one kernel of the active table, or heal it with None; for tests of the validation."""
    if kernel is None:
        fgd_inject_fault(NULL)
    elif not fgd_inject_fault(kernel.encode()):
        raise ValueError(f"kernel={kernel!r} is not one that can be broken")


def build_info():
    """Return what this build was made with: compiler, flags, instruction sets."""
    compiler = __VERSION__.decode()
    return {
        "compiler": compiler if "clang" in compiler.lower() else f"gcc {compiler}",
        "flags": FGD_BUILD_FLAGS.decode(),
        "isas": built_isas(),
    }


def fma_peak(str dtype, double seconds=0.05, double burst=1e-3):
    """Return the GFLOP/s of independent fused multiply-adds on one thread of the active ISA.

    The best of bursts that take so long at least, for so many seconds or one of them.
    """
    cdef fgd_dtype number = FGD_F32 if dtype == "float32" else FGD_F64
    cdef size_t rounds = 1000
    cdef double flop, best = 0.0, begin, elapsed
    stop = perf_counter() + seconds
    while True:
        begin = perf_counter()
        with nogil:
            flop = fgd_fma_burn(number, rounds)
        elapsed = perf_counter() - begin
        if elapsed < burst:
            rounds *= 2
        else:
            best = max(best, flop / elapsed)
        if perf_counter() > stop and best > 0:
            return best / 1e9


cdef choose_first_isa():
    fgd_isa_select_best()
    wanted = os.environ.get("FASTGD_ISA", "")
    if wanted:
        select_isa(wanted, "environment variable FASTGD_ISA")


choose_first_isa()
