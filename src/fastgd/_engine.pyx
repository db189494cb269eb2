# The engine behind Network: owns weights, optimiser states and work buffers, and runs whole
# fits without the GIL.  Arguments are validated by the callers; names come as they are public.

import itertools
from _thread import allocate_lock

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.float cimport DBL_MAX
from libc.string cimport memcpy, memset

from fastgd cimport _kernels as k

import numpy as np

from fastgd._numbers import held
from fastgd._threads import fork_safe_lock

# A run of steps returns to Python this often, to look for Ctrl-C and to report progress.
cdef double SLICE_SECONDS = 0.04
# Samples of a forward pass at a time where no fit has set the size.
cdef size_t PREDICT_BLOCK = 256  # FGD_PIECE_SAMPLES of the C core
# Calls of fewer multiply-adds in a pass keep the GIL: they last some microseconds.
cdef double BRIEF = 1e5
# Multiplications of a call of some 20 ms on one thread.
cdef double CALL_WEIGHTS = 2e9
# Whole numbers up to this are float32 numbers, in which labels are compared.
cdef size_t MOST_CLASSES = 1 << 24
# Steps with one learning rate that a native call gets at once.
cdef size_t FIXED_RATES = 8192
# Weights and states that verification keeps a copy of at a time, unless one row has more.
cdef size_t COPIED_BYTES = 3 << 20
cdef size_t FEW_ROWS = 24  # of W, for one call of a reference

cdef object ndarray = np.ndarray
cdef object empty = np.empty
cdef object INT64 = np.dtype(np.int64)
cdef object UINT8 = np.dtype(np.uint8)

BUSY = "the network is being fitted; wait until fit has returned"

cdef dict STATE_NAMES = {
    k.FGD_OPT_SGD: (), k.FGD_OPT_MOMENTUM: ("velocity",),
    k.FGD_OPT_ADAM: ("exp_avg", "exp_avg_sq"), k.FGD_OPT_ADAMW: ("exp_avg", "exp_avg_sq"),
    k.FGD_OPT_RMSPROP: ("square_avg", "momentum_buffer"), k.FGD_OPT_ADAGRAD: ("sum",),
}


cdef extern from *:
    """
    #include <stdint.h>
    /* NumPy's bitgen_t, as its C API has it: declared here, so that no build needs NumPy. */
    typedef struct {
        void *state;
        uint64_t (*next_uint64)(void *state);
        uint32_t (*next_uint32)(void *state);
        double (*next_double)(void *state);
        uint64_t (*next_raw)(void *state);
    } fgd_bitgen;
    """
    ctypedef struct fgd_bitgen:
        void *state
        uint32_t (*next_uint32)(void *state) noexcept nogil


def shuffle_in_turn(random_state, const int64_t[::1] before, int64_t[:, ::1] orders):
    """Fill each row of orders with the one before it, shuffled, from the random numbers that
    ``RandomState.shuffle`` would take, and in its way: a swap for each position from the last down,
    with a number drawn below a power of two until it is small enough.

    Parameters
    ----------
    random_state : numpy.random.RandomState
    before : ndarray of int64, shape (n,)
        What the first row is made from.
    orders : ndarray of int64, shape (n_orders, n), fewer than 2**32 columns
    """
    bit_generator = random_state._bit_generator
    cdef fgd_bitgen *bits = <fgd_bitgen *>PyCapsule_GetPointer(
        bit_generator.capsule, "BitGenerator")
    cdef const int64_t *source
    cdef int64_t *order
    cdef size_t n = orders.shape[1], row, i, j, is_small
    cdef uint32_t mask, drawn
    if n == 0 or <size_t>before.shape[0] != n:
        raise ValueError(f"before has {before.shape[0]} entries for rows of {n}")
    source = &before[0]
    with bit_generator.lock, nogil:
        for row in range(<size_t>orders.shape[0]):
            order = &orders[row, 0]
            memcpy(order, source, n * sizeof(int64_t))
            source = order
            mask = 0xffffffff
            i = n - 1
            while i > 0:
                while mask >> 1 >= i:
                    mask >>= 1
                # A number that is too large swaps nothing: no branch, which nobody could foresee.
                drawn = bits.next_uint32(bits.state) & mask
                is_small = drawn <= i
                j = drawn if is_small else i
                order[i], order[j] = order[j], order[i]
                i -= is_small


class Divergence(ArithmeticError):
    """Training met a loss or a weight that is not finite; each keeps its last finite value.

    Attributes
    ----------
    epoch_in_call, step_in_call : int
        Counted from 0 within the call of `Engine.run_epochs`.
    what : str
        ``"loss"`` or ``"weight"``.
    lr : float or None
        The learning rate of the step where the engine has asked for it itself.
    """

    def __init__(self, epoch_in_call, step_in_call, what, lr=None):
        super().__init__(f"{what} is not finite at step {step_in_call}")
        self.epoch_in_call = epoch_in_call
        self.step_in_call = step_in_call
        self.what = what
        self.lr = lr


cdef tuple custom_sums(values, weights, size_t n):
    # (sum of losses, sum of weights) from what the value of a custom loss returned.
    if values.ndim == 0:
        if weights is not None:
            raise ValueError("sample_weight needs a custom loss whose value returns one loss a "
                             f"sample, shape ({n},); got a scalar")
        return float(values) * n, float(n)
    if values.shape != (n,):
        raise ValueError("the custom loss's value must return a scalar or one loss a sample, "
                         f"shape ({n},); got shape {values.shape}")
    if weights is None:
        return float(values.sum()), float(n)
    return float(values @ weights), float(weights.sum())


# What the targets of a loss must be besides finite.
cdef enum Targets:
    ANY, NOT_NEGATIVE, PROBABILITIES, LABELS


ctypedef fused real:
    float
    double


cdef bint in_range(const real *y, size_t n, double highest) noexcept nogil:
    # Comparisons with NaN fail.
    cdef size_t i
    for i in range(n):
        if not 0 <= y[i] <= highest:
            return False
    return True


cdef bint labels_fit(const int64_t *y, size_t n, int64_t units) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if not 0 <= y[i] < units:
            return False
    return True


cdef bint finite_rows(k.fgd_dtype dtype, const k.fgd_matrix *x) noexcept nogil:
    # Whether all elements are finite; False also where a row's elements are not side by side.
    cdef size_t i
    cdef Py_ssize_t size = k.element_size(dtype)
    if x.col_stride != size:
        return False
    if x.row_stride == <Py_ssize_t>x.cols * size:
        return k.all_finite_block(dtype, x.rows * x.cols, x.data)
    for i in range(x.rows):
        if not k.all_finite_block(dtype, x.cols,
                                  <const char *>x.data + <Py_ssize_t>i * x.row_stride):
            return False
    return True


cdef void describe(k.fgd_matrix *matrix, k.fgd_dtype dtype, const Py_buffer *buffer) noexcept:
    # A buffer of one or two dimensions in the C core's terms.
    matrix.data = buffer.buf
    matrix.dtype = dtype
    matrix.rows = buffer.shape[0]
    matrix.row_stride = buffer.strides[0]
    matrix.cols = buffer.shape[1] if buffer.ndim == 2 else 1
    matrix.col_stride = buffer.strides[1] if buffer.ndim == 2 else buffer.itemsize


# No comprehensions in what follows: those of Cython 3.3 free an element twice if there is no memory
# for the list.
cdef list copies(list arrays):
    cdef list copied = []
    for array in arrays:
        copied.append(None if array is None else array.copy())
    return copied


cdef int fill_own(k.fgd_own_update *own, dict params) except -1:
    memset(own, 0, sizeof(own[0]))
    own.is_frozen = params is None
    if params is not None:
        k.fill_params(&own.params, params)
        own.lr_decay, own.ahead = params.get("lr_decay", 0.0), params.get("ahead", 0)
    return 0


cdef class Claim:
    """What one thread at a time may do; for others entering raises RuntimeError, without a wait.

    Entering and leaving are single calls for the interpreter: no Ctrl-C can come between the lock
    and the block that would release it.
    """
    cdef object lock

    def __cinit__(self):
        self.lock = allocate_lock()

    def __enter__(self):
        if not self.lock.acquire(False):
            raise RuntimeError(BUSY)

    def __exit__(self, *exception):
        self.lock.release()

    def check(self):
        """Raise RuntimeError while a thread has it."""
        if self.lock.locked():
            raise RuntimeError(BUSY)


cdef class Attempt:
    """Attributes that are put back if the block fails before it says `keep`.

    Putting back is a single call for the interpreter, within which no Ctrl-C can come.
    """
    cdef dict attributes, before
    cdef object others
    cdef list undo

    def __cinit__(self, dict attributes, others):
        self.attributes, self.others = attributes, others

    def __enter__(self):
        self.undo = []
        self.before = self.attributes.copy()
        return self

    def __exit__(self, kind, error, traceback):
        cdef dict attributes = self.attributes, before = self.before
        cdef list undo = self.undo
        # The attributes are those of whoever may have this among them.
        self.before = self.undo = self.attributes = None
        if kind is None or before is None:
            return
        for name in before:
            if name not in self.others:
                attributes[name] = before[name]
        for name in list(attributes):
            if name not in before and name not in self.others:
                del attributes[name]
        for call in undo:
            call()

    @property
    def is_active(self):
        return self.attributes is not None

    def when_undone(self, undo):
        """Call this after the attributes have been put back."""
        if self.before is not None:
            self.undo.append(undo)

    def keep(self):
        """Leave what has changed, and what comes, as it is."""
        self.before = self.undo = None


cdef class Turn:
    """A re-entrant lock: one thread at a time, and a long call lets the others in now and then.

    Entered by `enter` and `leave` rather than a with statement, which crashes in Cython where
    memory is too short for a traceback.
    """
    cdef object lock, door, acquire, release
    cdef Py_ssize_t waiting

    def __cinit__(self):
        self.lock, self.door = fork_safe_lock(), fork_safe_lock()
        self.acquire, self.release = self.lock.acquire, self.lock.release

    cdef int enter(self) except -1:
        if self.acquire(False):
            return 0
        self.waiting += 1
        try:
            self.door.acquire()
            try:
                self.acquire()
            finally:
                self.door.release()
        finally:
            self.waiting -= 1
        return 0

    cdef int leave(self) except -1:
        if self.lock._is_owned():
            self.release()
        return 0

    cdef int let_in(self) except -1:
        # Whoever waits holds the door, which opens once the lock is theirs.  Ctrl-C may come while
        # it is, and leave this thread without the lock.
        if self.waiting > 0:
            self.release()
            self.door.acquire()
            try:
                self.acquire()
            finally:
                self.door.release()
        return 0

    cdef int call(self, function, tuple arguments) except -1:
        # Without the lock: the function may wait for another thread that waits for its turn.
        self.release()
        try:
            function(*arguments)
        finally:
            self.enter()
        return 0

    def __enter__(self):
        self.enter()

    def __exit__(self, *exception):
        self.leave()


cdef class StateBlock:
    """An optimiser state array; its memory lives as long as someone looks at it."""
    cdef void *data

    def __dealloc__(self):
        k.free_block(self.data)


cdef class ArrayView:
    """Exports memory of the engine as a writable strided array; keeps `owner` alive."""
    cdef object owner
    cdef void *data
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]
    cdef int ndim
    cdef bint is_float32

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef bint contiguous = self.ndim == 1 or (
            self.strides[0] == self.shape[1] * self.strides[1])
        if not contiguous and not flags & PyBUF_STRIDES == PyBUF_STRIDES:
            raise BufferError("weights have padded rows: a strided buffer must be asked for")
        buffer.obj = self
        buffer.buf = self.data
        buffer.itemsize = 4 if self.is_float32 else 8
        buffer.len = self.shape[0] * (self.shape[1] if self.ndim == 2 else 1) * buffer.itemsize
        buffer.readonly = 0
        buffer.ndim = self.ndim
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = b"f" if self.is_float32 else b"d"
        buffer.shape = self.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL


cdef object array_of(exporter, int ndim):
    # NumPy passes over any error of a buffer, such as want of memory, and makes of the exporter an
    # object in an array without dimensions.
    array = np.asarray(exporter)
    if array.ndim != ndim:
        raise MemoryError("no memory for the view of an array")
    return array


cdef class Data:
    """A caller's X, y and weights in the C core's terms; keeps them alive, copies nothing."""
    cdef k.fgd_data c
    cdef object X, y, sample_weight
    cdef k.Matrix x_matrix, y_matrix, w_matrix
    cdef size_t n
    cdef bint labels

    def __cinit__(self, X, y, sample_weight, double x_scale):
        memset(&self.c, 0, sizeof(self.c))
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.x_matrix = k.Matrix(X)
        self.c.x = self.x_matrix.c
        self.c.x.scale = x_scale
        self.n = self.c.x.rows
        if sample_weight is not None:
            self.sample_weight = np.require(sample_weight, requirements=("C", "A"))
            self.w_matrix = k.Matrix(self.sample_weight)
            self.c.weights = <const double *>self.w_matrix.c.data

    cdef int attach_target(self, bint as_labels) except -1:
        if self.y is None:
            return 0
        self.y_matrix = k.Matrix(self.y)
        self.labels = as_labels and self.y_matrix.buffer.ndim == 1
        if self.labels:
            if (self.y_matrix.c.row_stride != sizeof(int64_t)
                    or <size_t>self.y_matrix.c.data % sizeof(int64_t) != 0):
                self.y = np.require(self.y, requirements=("C", "A"))
                self.y_matrix = k.Matrix(self.y)
            self.c.labels = <const int64_t *>self.y_matrix.c.data
        else:
            self.c.y = self.y_matrix.c
        return 0


cdef int is_interrupted(void *context) noexcept with gil:
    # Asked in the middle of a long step: whether a signal's handler has raised.
    cdef Engine engine = <Engine>context
    try:
        engine.let_handlers_run()
    except BaseException as error:
        if engine.interruption is None:
            engine.interruption = error
        return 1
    return 0


cdef class Engine:
    """Weights, states and work buffers of a dense network, and the loops that train it.

    Calls from several threads on one engine wait for each other; a long run of steps lets them in
    between two steps, but for those that would train, which raise RuntimeError.

    Parameters
    ----------
    n_inputs : int
    units : list of int
    activations : list of (str, float)
        Name and parameter of every layer's activation.
    use_bias : list of bool
    dtype : {"float32", "float64"}
    seed : int
        Of shuffling and dropout.
    """

    cdef k.fgd_net net
    cdef readonly object dtype
    cdef readonly list units
    cdef readonly list activations
    cdef public object custom_loss
    # The path of the last step that has gone the long way; short_step takes no other.
    cdef public int short_path
    # By which X is multiplied, in the network's dtype, as a batch is gathered.
    cdef public double input_scale
    cdef bint in_step, running
    cdef object interruption
    cdef readonly Turn lock
    cdef int threads
    cdef str loss_kind
    cdef double loss_param
    cdef Targets target_kind
    cdef int short_loss  # of short_step
    cdef double weights  # how many the network has
    cdef str optimizer_name
    cdef dict optimizer_params
    cdef list own_updates  # of set_own_updates
    cdef list state_blocks
    # The data of a fit, between bind and unbind:
    cdef Data data
    cdef size_t batch_size
    cdef object order
    cdef bint draws_order  # anew in every epoch
    cdef size_t n_bound  # samples of an epoch
    cdef readonly uint64_t n_run  # steps of all calls of run_epochs, whatever `step` was set to

    def __cinit__(self, size_t n_inputs, list units, list activations, list use_bias, str dtype,
                  seed):
        cdef size_t i, n_layers = len(units)
        self.lock = Turn()
        self.dtype = np.dtype(dtype)
        self.units, self.activations = list(units), list(activations)
        self.threads = 1
        self.input_scale = 1.0
        sizes = np.array(units, dtype=np.uintp)
        cdef size_t[::1] view = sizes
        if k.net_init(&self.net, k.FGD_F32 if dtype == "float32" else k.FGD_F64, n_inputs,
                      n_layers, &view[0]) != k.FGD_OK:
            raise MemoryError(f"no memory for the weights of {n_inputs} inputs and layers of "
                              f"{units} units")
        for i in range(n_layers):
            name, param = activations[i]
            self.net.layers[i].act = k.activation_number(name)
            self.net.layers[i].act_param = param
            self.net.layers[i].use_bias = use_bias[i]
            self.weights += <double>self.net.layers[i].fan_in * <double>self.net.layers[i].fan_out
        self.net.seed = seed
        self.net.poll.is_interrupted = is_interrupted
        self.net.poll.context = <void *>self
        self.state_blocks = []
        self.set_loss("squared_error", 0.0)
        self.set_optimizer("sgd", {})

    def __dealloc__(self):
        self.detach_states()
        k.net_free(&self.net)

    # ---- shape and state --------------------------------------------------------------------

    @property
    def n_layers(self):
        return self.net.n_layers

    @property
    def n_inputs(self):
        return self.net.n_inputs

    @property
    def step(self):
        return k.net_steps(&self.net)

    @step.setter
    def step(self, value):
        self.net.step = value

    @property
    def epoch(self):
        return self.net.epoch

    @epoch.setter
    def epoch(self, value):
        self.net.epoch = value

    @property
    def seed(self):
        return self.net.seed

    @seed.setter
    def seed(self, value):
        self.net.seed = value

    @property
    def n_threads(self):
        return self.threads

    @n_threads.setter
    def n_threads(self, value):
        self.threads = max(1, min(value, 256))

    @property
    def serial_flop(self):
        """Operations of a step below which one thread is used: see fgd_net.h."""
        return self.net.serial_flop

    @serial_flop.setter
    def serial_flop(self, double value):
        self.net.serial_flop = value

    @property
    def has_gradient(self):
        """Whether there is memory for the gradient of all weights."""
        return self.net.layers[0].dw != NULL

    @property
    def long_flop(self):
        """Arithmetic of a step, in operations, above which it looks for Ctrl-C while it runs."""
        return self.net.long_flop

    @long_flop.setter
    def long_flop(self, double value):
        self.net.long_flop = value

    cdef object view(self, object owner, void *data, k.fgd_layer *layer, bint is_weight):
        cdef ArrayView exporter
        cdef size_t size = k.element_size(self.net.dtype)
        if is_weight:
            return self.matrix_view(owner, data, layer.fan_in, layer.fan_out, layer.ldw * size,
                                    size)
        exporter = ArrayView.__new__(ArrayView)
        exporter.owner = owner
        exporter.data = data
        exporter.is_float32 = self.net.dtype == k.FGD_F32
        exporter.ndim = 1
        exporter.shape[0], exporter.strides[0] = layer.fan_out, size
        return array_of(exporter, 1)

    cdef object matrix_view(self, object owner, void *data, size_t rows, size_t cols,
                            Py_ssize_t row_stride, Py_ssize_t col_stride):
        cdef ArrayView exporter = ArrayView.__new__(ArrayView)
        exporter.owner = owner
        exporter.data = data
        exporter.is_float32 = self.net.dtype == k.FGD_F32
        exporter.ndim = 2
        exporter.shape[0], exporter.shape[1] = rows, cols
        exporter.strides[0], exporter.strides[1] = row_stride, col_stride
        return array_of(exporter, 2)

    cdef k.fgd_layer *layer(self, Py_ssize_t i) except NULL:
        if i < 0 or <size_t>i >= self.net.n_layers:
            raise IndexError(f"layer {i} of {self.net.n_layers}")
        return &self.net.layers[i]

    def weight(self, Py_ssize_t i):
        """Return a live view of W of layer i, shape (fan_in, fan_out)."""
        cdef k.fgd_layer *layer = self.layer(i)
        return self.view(self, layer.w, layer, True)

    def bias(self, Py_ssize_t i):
        """Return a live view of the bias of layer i, shape (fan_out,), or None."""
        cdef k.fgd_layer *layer = self.layer(i)
        return self.view(self, layer.b, layer, False) if layer.use_bias else None

    def set_penalties(self, l1, l2):
        self.lock.enter()
        try:
            self.check_not_in_step()
            for i in range(self.net.n_layers):
                self.net.layers[i].l1, self.net.layers[i].l2 = l1[i], l2[i]
        finally:
            self.lock.leave()

    def set_dropout(self, rates):
        self.lock.enter()
        try:
            self.check_not_in_step()
            for i in range(self.net.n_layers):
                self.net.layers[i].dropout = rates[i]
        finally:
            self.lock.leave()

    def set_loss(self, str kind, double param):
        cdef Targets target_kind = {"cross_entropy": LABELS, "log_loss": PROBABILITIES,
                                    "poisson": NOT_NEGATIVE}.get(kind, ANY)
        self.loss_kind, self.loss_param, self.target_kind = kind, param, target_kind
        self.short_loss = k.loss_number(kind, self.net.layers[self.net.n_layers - 1].act,
                                        self.target_kind == LABELS)

    def set_account(self, str account, double loss_scale, double grad_scale=1.0):
        """Choose what the losses that training reports are, and what penalties weigh.

        Parameters
        ----------
        account : {"mean", "sklearn", "sum"}
            "mean": the weighted mean over all samples, and penalties. "sklearn": the penalties of
            a step are divided by the sum of its weights, and an epoch's loss is the mean of its
            steps' losses by their numbers of samples. "sum": losses and gradients are weighted
            sums over the samples of a step, and an epoch's loss is the sum of its steps'. Not for
            a custom loss.
        loss_scale : float
            By which the samples' losses, but not their gradients, are multiplied.
        grad_scale : float
            By which their gradients are.
        """
        self.lock.enter()
        try:
            self.check_not_in_step()
            if self.loss_kind == "custom" and (account == "sum" or grad_scale != 1):
                raise ValueError("a custom loss scales its own gradients")
            self.net.account = {"mean": k.FGD_ACCOUNT_MEAN, "sklearn": k.FGD_ACCOUNT_SKLEARN,
                                "sum": k.FGD_ACCOUNT_SUM}[account]
            self.net.loss_scale, self.net.grad_scale = loss_scale, grad_scale
        finally:
            self.lock.leave()

    # ---- optimiser --------------------------------------------------------------------------

    cdef void detach_states(self) noexcept:
        # The blocks own the memory; the C core must not free it.
        cdef size_t i
        for i in range(self.net.n_layers):
            self.net.layers[i].w_s1 = self.net.layers[i].w_s2 = NULL
            self.net.layers[i].b_s1 = self.net.layers[i].b_s2 = NULL

    def set_optimizer(self, str name, dict params):
        """Choose the optimiser; its states begin as zeros, and steps are counted from there."""
        cdef k.fgd_opt opt
        cdef k.fgd_update_params filled
        cdef double clip_norm, lr_decay
        cdef bint has_buffer = False
        cdef size_t i
        cdef list blocks = []
        cdef k.fgd_layer *layer
        if name == "sgd":
            opt = k.FGD_OPT_MOMENTUM if params.get("momentum", 0.0) != 0 else k.FGD_OPT_SGD
        elif name == "rmsprop":
            opt = k.FGD_OPT_RMSPROP
            has_buffer = params.get("momentum", 0.0) != 0
        else:
            opt = {"adam": k.FGD_OPT_ADAM, "adamw": k.FGD_OPT_ADAMW,
                   "adagrad": k.FGD_OPT_ADAGRAD}[name]
        self.lock.enter()
        try:
            self.check_not_in_step()
            # What may fail comes first: hyper-parameters and empty owners of the states.
            self.check_optimizer_params(params)
            k.fill_params(&filled, params)
            clip_norm, lr_decay = params.get("clip_norm") or 0.0, params.get("lr_decay", 0.0)
            kept = dict(params)
            for _ in range(self.net.n_layers):
                blocks.append([StateBlock(), StateBlock(), StateBlock(), StateBlock()])
            self.detach_states()
            if k.net_set_optimizer(&self.net, opt, has_buffer) != k.FGD_OK:
                self.attach_states()
                raise MemoryError(f"no memory for the states of optimizer {name!r}")
            for i in range(self.net.n_layers):
                layer = &self.net.layers[i]
                (<StateBlock>blocks[i][0]).data = layer.w_s1
                (<StateBlock>blocks[i][1]).data = layer.b_s1
                (<StateBlock>blocks[i][2]).data = layer.w_s2
                (<StateBlock>blocks[i][3]).data = layer.b_s2
            self.state_blocks = blocks
            self.optimizer_name = name
            self.take_optimizer_params(&filled, kept, clip_norm, lr_decay)
            self.net.step = 0  # which bias corrections and schedules go by
        finally:
            self.lock.leave()

    cdef void attach_states(self) noexcept:
        cdef size_t i
        for i in range(<size_t>len(self.state_blocks)):
            w_s1, b_s1, w_s2, b_s2 = self.state_blocks[i]
            self.net.layers[i].w_s1 = (<StateBlock>w_s1).data
            self.net.layers[i].b_s1 = (<StateBlock>b_s1).data
            self.net.layers[i].w_s2 = (<StateBlock>w_s2).data
            self.net.layers[i].b_s2 = (<StateBlock>b_s2).data

    cdef int check_optimizer_params(self, dict params) except -1:
        if params.get("eps", 1.0) == 0:  # zeroed pads would give 0 / 0
            raise ValueError("optimizer: eps must be greater than 0, not 0")
        # The learning rate of an own update may be anything, as those that steps are given.
        held("optimizer", {key: params[key] for key in params if key != "lr"}, self.dtype)
        return 0

    cdef void take_optimizer_params(self, k.fgd_update_params *filled, dict kept,
                                    double clip_norm, double lr_decay) noexcept:
        self.net.params = filled[0]
        self.net.clip_norm, self.net.lr_decay = clip_norm, lr_decay
        self.net.has_own = False
        self.optimizer_params, self.own_updates = kept, None

    def set_own_updates(self, list updates):
        """Give every array an update of its own, until the optimiser is set or updated again.

        Parameters
        ----------
        updates : list of (dict or None, dict or None)
            For each layer those of its weights and of its biases: the optimiser's parameters, and
            beside them ``lr``, which stands for the learning rates that steps are given; ``scale``,
            a factor of the gradient (-1 climbs the loss); and ``ahead``, the steps that the array
            has taken beyond `step`. None for an array that keeps its values.
        """
        cdef size_t i
        cdef list kept = []
        cdef k.fgd_own_update tried
        self.lock.enter()
        try:
            self.check_not_in_step()
            if <size_t>len(updates) != self.net.n_layers:
                raise ValueError(f"{len(updates)} pairs of updates were given for "
                                 f"{self.net.n_layers} layers")
            if self.net.clip_norm > 0:
                raise ValueError("arrays with updates of their own cannot be clipped by their norm")
            for pair in updates:
                for own in pair:
                    if own is not None:
                        self.check_optimizer_params(own)
                    fill_own(&tried, own)
            for pair in updates:
                kept.append(tuple(pair))
            for i in range(self.net.n_layers):
                fill_own(&self.net.layers[i].own_w, updates[i][0])
                fill_own(&self.net.layers[i].own_b, updates[i][1])
            self.own_updates = kept
            self.net.has_own = True
        finally:
            self.lock.leave()

    def update_optimizer(self, dict params):
        """Change hyper-parameters; the states stay.

        Momentum cannot be switched on or off this way, since the states depend on it.
        """
        cdef k.fgd_update_params filled
        cdef double clip_norm, lr_decay
        self.lock.enter()
        try:
            self.check_not_in_step()
            before = self.optimizer_params.get("momentum", 0.0) != 0
            if (params.get("momentum", 0.0) != 0) != before:
                raise ValueError("momentum cannot change between zero and nonzero while the "
                                 "optimiser's states are kept")
            self.check_optimizer_params(params)
            k.fill_params(&filled, params)
            clip_norm, lr_decay = params.get("clip_norm") or 0.0, params.get("lr_decay", 0.0)
            self.take_optimizer_params(&filled, dict(params), clip_norm, lr_decay)
        finally:
            self.lock.leave()

    def optimizer_state(self):
        """Return live views of the states: name -> [(state of W, state of b or None), ...]."""
        cdef dict states = {}
        cdef size_t i
        cdef k.fgd_layer *layer
        cdef StateBlock block
        for number, name in enumerate(STATE_NAMES[self.net.opt]):
            views = []
            for i in range(self.net.n_layers):
                layer = &self.net.layers[i]
                w_block = self.state_blocks[i][2 * number]
                b_block = self.state_blocks[i][2 * number + 1]
                block = w_block
                if block.data == NULL:
                    break
                w_view = self.view(w_block, block.data, layer, True)
                block = b_block
                b_view = self.view(b_block, block.data, layer, False) if layer.use_bias else None
                views.append((w_view, b_view))
            if views:
                states[name] = views
        return states

    # ---- training ---------------------------------------------------------------------------

    cdef int reserve(self, size_t n, int threads, bint store_gradient) except -1:
        if k.net_reserve(&self.net, n, threads, store_gradient) != k.FGD_OK:
            if self.interruption is not None:
                raise self.failure(k.FGD_INTERRUPTED, 0, 0)
            raise MemoryError(f"no memory for the work buffers of {n} samples")
        return 0

    cdef int reserve_step(self, size_t n, int threads) except -1:
        # Of all passes only steps may need a gradient of all weights.
        return self.reserve(n, threads, k.net_needs_gradient(&self.net, n))

    cdef object failure(self, k.fgd_outcome outcome, size_t epoch, size_t step, lr=None):
        # The exception for a run that did not end as a run should.
        if outcome == k.FGD_INTERRUPTED:
            interruption, self.interruption = self.interruption, None
            return interruption
        return Divergence(epoch, step,
                          "loss" if outcome == k.FGD_LOSS_NOT_FINITE else "weight", lr)

    cdef int check_may_train(self) except -1:
        # From its first to its last step the weights are those of the fit.
        self.check_not_in_step()
        if self.data is not None:
            raise RuntimeError(BUSY)
        return 0

    cdef int check_not_in_step(self) except -1:
        # Within a step the work buffers hold its batch.
        if self.in_step:
            raise RuntimeError("the network is in the middle of a step: a custom loss, or the "
                               "handler of a signal that comes then, must not train, predict, "
                               "evaluate, set weights or change the optimizer of the network")
        return 0

    cdef int let_handlers_run(self) except -1:
        # In the middle of a call whose work buffers, loss and weights they must not change.
        cdef bint before = self.in_step
        self.in_step = True
        try:
            PyErr_CheckSignals()
        finally:
            self.in_step = before
        return 0

    cdef int use_data(self, Data data) except -1:
        # The loss kernel depends on whether y holds labels.
        data.attach_target(self.loss_kind == "cross_entropy")
        self.net.loss = k.loss_number(
            self.loss_kind, self.net.layers[self.net.n_layers - 1].act, data.labels)
        self.net.loss_param = self.loss_param
        if self.loss_kind == "custom":
            # Python computes this loss from the caller's y; the C core has no target to load.
            data.c.labels = NULL
            memset(&data.c.y, 0, sizeof(data.c.y))
        self.check_shapes(data)
        return 0

    cdef int check_shapes(self, Data data) except -1:
        # Callers have checked, but another thread may have given the network its inputs since.
        cdef size_t units = self.net.layers[self.net.n_layers - 1].fan_out
        # y is empty without a target, beside labels, and where the loss is computed in Python.
        cdef bint has_target = data.c.y.data != NULL
        if data.c.x.cols != self.net.n_inputs or (has_target and data.c.y.cols != units):
            raise ValueError(f"X has {data.c.x.cols} features and y {data.c.y.cols} columns, but "
                             f"the network takes {self.net.n_inputs} and gives {units}")
        return 0

    def bind(self, X, y, sample_weight, batch_size, bint shuffle, order=None):
        """Attach the data of a fit: borrowed, not copied.

        Parameters
        ----------
        order : ndarray of int64, shape (n_epochs, n), optional
            The rows that make up each epoch of a call of `run_epochs`; their owner may fill it anew
            between two calls. Without it each epoch draws an order of all rows if `shuffle`, else
            they come as they lie.

        Raises
        ------
        RuntimeError
            From a callback of `run_epochs`, which counts on what it began with.
        """
        self.lock.enter()
        try:
            if self.running:
                raise RuntimeError(BUSY)
            data = Data(X, y, sample_weight, self.input_scale)
            self.draws_order = order is None and shuffle
            self.order = np.empty((1, data.n), dtype=np.int64) if self.draws_order else order
            self.data = data
            self.n_bound = data.n if self.order is None else self.order.shape[1]
            self.batch_size = min(<size_t>batch_size, self.n_bound)
        finally:
            self.lock.leave()

    def unbind(self):
        # Without the lock: it must not wait for another thread's call, nor end by Ctrl-C.
        self.data = None
        self.order = None

    @property
    def n_steps_per_epoch(self):
        return (self.n_bound + self.batch_size - 1) // self.batch_size

    def draw_order(self, int64_t[::1] order, seed):
        """Fill order with the permutation that belongs to a seed and the number of the epoch."""
        cdef uint64_t key = seed
        cdef size_t done = 0, n = order.shape[0]
        while done < n:
            with nogil:
                done = k.permutation(&order[0], n, key, self.net.epoch, done)
            PyErr_CheckSignals()

    def run_epochs(self, lrs, size_t n_epochs, *, losses=None, outputs=None, on_slice=None,
                   on_batch=None, verify=None, bint verify_all=False, sums=None):
        """Train whole epochs on the bound data.

        Parameters
        ----------
        lrs : float or ndarray of float64, shape (n_epochs * n_steps_per_epoch,)
            The learning rate of all steps, or of each.
        n_epochs : int
        losses : ndarray of float64, shape (n_epochs,), optional
            What is returned; after an exception it holds the losses of the epochs before.
        outputs : ndarray, shape (n_samples, units), optional
            Receives every sample's output as it was when the sample was trained on.
        on_slice : callable, optional
            Called with the steps done so far at least every 100 ms.
        on_batch : callable, optional
            Called after every step with its number in this call and its loss.
        verify : callable, optional
            As of `checked_step`, for the first step, or for all if `verify_all`.
        sums : ndarray of float64, shape (2,), optional
            The bound data are a part of one epoch, which is not counted as done. Sums of losses and
            of weights over the parts before it, which those of this part are added to.

        Returns
        -------
        losses : ndarray of float64, shape (n_epochs,)
            Mean loss of every epoch, penalties included.

        Raises
        ------
        Divergence
            If a loss or a weight became non-finite.
        """
        self.lock.enter()
        try:
            self.check_not_in_step()
            if self.data is None:
                raise RuntimeError("no data is bound: another thread has ended this fit")
            if self.running:
                raise RuntimeError(BUSY)
            self.running = True
            try:
                return self.run_epochs_locked(lrs, n_epochs, losses, outputs, on_slice, on_batch,
                                              verify, verify_all, sums)
            finally:
                self.running = False
        finally:
            self.lock.leave()

    cdef object run_epochs_locked(self, lrs, size_t n_epochs, result, outputs, on_slice, on_batch,
                                  verify, bint verify_all, sums):
        cdef Data data = self.data
        cdef bint fixed = isinstance(lrs, float)
        cdef double[::1] rates
        cdef double[::1] losses
        cdef double[::1] of_parts
        cdef const int64_t[:, ::1] orders
        cdef const int64_t *order = NULL
        cdef size_t n = self.n_bound
        cdef k.Matrix output_matrix
        cdef k.fgd_progress progress
        cdef size_t n_steps = self.n_steps_per_epoch, epoch, done, chunk, first, total = 0
        cdef double polled = k.seconds_now()
        cdef int threads = self.threads
        cdef bint stepwise
        cdef bint custom = self.loss_kind == "custom"
        # One rate for all steps is repeated for as many as a native call gets at once.
        rates = np.full(min(n_epochs * n_steps, FIXED_RATES), lrs) if fixed else lrs
        if not fixed and <size_t>rates.shape[0] < n_epochs * n_steps:
            raise ValueError(f"lrs holds {rates.shape[0]} rates for {n_epochs * n_steps} steps")
        if self.order is not None:
            orders = self.order
            if not self.draws_order and <size_t>orders.shape[0] < n_epochs:
                raise ValueError(f"order has {orders.shape[0]} rows for {n_epochs} epochs")
        data.c.outputs = NULL
        if outputs is not None:
            output_matrix = k.Matrix(outputs, True)
            if (output_matrix.c.rows != data.n
                    or output_matrix.c.cols != self.net.layers[self.net.n_layers - 1].fan_out):
                raise ValueError(f"outputs of shape {outputs.shape} do not fit the bound data")
            data.c.outputs = <void *>output_matrix.c.data
            data.c.output_stride = output_matrix.c.cols
        if result is None:
            result = np.empty(n_epochs, dtype=np.float64)
        losses = result
        if sums is not None:
            of_parts = sums
            if n_epochs != 1 or of_parts.shape[0] != 2:
                raise ValueError("sums are two numbers, of a part of one epoch")
        for epoch in range(n_epochs):
            memset(&progress, 0, sizeof(progress))
            if sums is not None:
                progress.loss_sum, progress.weight_sum = of_parts[0], of_parts[1]
            done = 0
            if self.order is not None:
                order = &orders[0 if self.draws_order else epoch, 0]
            while self.draws_order and done < n:
                with nogil:
                    done = k.permutation(<int64_t *>order, n, self.net.seed, self.net.epoch, done)
                if k.seconds_now() - polled > SLICE_SECONDS / 2:
                    polled = k.seconds_now()
                    PyErr_CheckSignals()
            done = 0
            while done < n_steps:
                # A callback may have predicted, evaluated or changed the optimiser: what a step
                # needs is looked at anew, and allocated if it is missing.
                self.use_data(data)
                self.reserve_step(self.batch_size, threads)
                first = done * self.batch_size
                stepwise = custom or (verify is not None and (verify_all or total == 0))
                if stepwise:
                    self.operate_step(data, order, first, min(self.batch_size, n - first),
                                      rates[0 if fixed else total],
                                      verify if verify_all or total == 0 else None, True,
                                      &progress)
                else:
                    chunk = 1 if on_batch is not None else n_steps - done
                    if fixed:
                        chunk = min(chunk, <size_t>rates.shape[0])
                    with nogil:
                        k.net_train(&self.net, &data.c, order, first, n - first,
                                    self.batch_size, chunk, &rates[0 if fixed else total], threads,
                                    SLICE_SECONDS, &progress)
                total += progress.n_steps - done
                self.n_run += progress.n_steps - done
                done = progress.n_steps
                if progress.outcome != k.FGD_TRAINED:
                    # A step that met a weight counts as done, one that met a loss does not.
                    at = progress.n_steps - (progress.outcome == k.FGD_WEIGHT_NOT_FINITE)
                    raise self.failure(progress.outcome, epoch, epoch * n_steps + at)
                if on_batch is not None:
                    self.lock.call(on_batch, (total - 1, progress.last_loss))
                if k.seconds_now() - polled > SLICE_SECONDS / 2:
                    polled = k.seconds_now()
                    PyErr_CheckSignals()
                    if on_slice is not None:
                        self.lock.call(on_slice, (total,))
                    self.lock.let_in()
            if sums is not None:
                of_parts[0], of_parts[1] = progress.loss_sum, progress.weight_sum
            else:
                self.net.epoch += 1
            losses[epoch] = progress.loss_sum
            if self.net.account != k.FGD_ACCOUNT_SUM:
                losses[epoch] = k.mean_loss(progress.loss_sum, progress.weight_sum)
        if on_slice is not None:
            self.lock.call(on_slice, (total,))
        PyErr_CheckSignals()
        return result

    def train_step(self, X, y, sample_weight, double lr):
        """Train one mini-batch; return its mean loss, penalties included."""
        cdef Data data
        cdef k.fgd_progress progress
        cdef int threads
        self.lock.enter()
        try:
            self.check_may_train()
            threads = self.threads
            data = Data.__new__(Data, X, y, sample_weight, self.input_scale)
            self.use_data(data)
            self.reserve_step(data.n, threads)
            memset(&progress, 0, sizeof(progress))
            if self.loss_kind == "custom":
                self.operate_step(data, NULL, 0, data.n, lr, None, True, &progress)
            else:
                with nogil:
                    k.net_train(&self.net, &data.c, NULL, 0, data.n, data.n, 1, &lr, threads,
                                SLICE_SECONDS, &progress)
            if progress.outcome != k.FGD_TRAINED:
                raise self.failure(progress.outcome, 0, 0)
            return progress.last_loss
        finally:
            self.lock.leave()

    @property
    def forms(self):
        """What steps have beside their operations: by it, as by `path`, they are verified once."""
        return (self.net.account == k.FGD_ACCOUNT_SUM, self.net.grad_scale != 1,
                bool(self.net.has_own))

    def path(self, size_t n, bint is_plain):
        """Return a number for the kernels of their own that steps on n samples have.

        is_plain: the samples have no weights, and their outputs are not asked for.
        """
        cdef k.fgd_data data
        memset(&data, 0, sizeof(data))
        data.y.data = &data if is_plain else NULL
        return k.net_path(&self.net, &data, n)

    def short_step(self, X, y, optimizer):
        """Check and train a mini-batch of plain arrays; None, and nothing done, for any other.

        Parameters
        ----------
        X : object
            Taken if it is an ndarray, shape (n_samples, n_inputs), whose rows are contiguous, of
            uint8 or of finite numbers of the network's dtype that input_scale cannot enlarge.
        y : object
            Taken if it is a contiguous ndarray that the loss accepts as it is: int64 labels for
            cross_entropy, else of the network's dtype, shape (n_samples, units).
        optimizer : Optimizer
            Asked for the learning rate once the arrays are taken.

        Returns
        -------
        float or None
            The mean loss, penalties included.
        """
        cdef k.fgd_data data
        cdef Py_buffer x_buffer, y_buffer
        cdef bint labels = self.target_kind == LABELS
        if type(X) is not ndarray or type(y) is not ndarray or self.loss_kind == "custom":
            return None
        if (y.dtype is not (INT64 if labels else self.dtype)
                or not self.takes_dtype(X.dtype, &data)):
            return None
        PyObject_GetBuffer(X, &x_buffer, PyBUF_STRIDES)
        try:
            PyObject_GetBuffer(y, &y_buffer, PyBUF_STRIDES)
            try:
                if not self.takes(&x_buffer, &data) or not self.takes_target(&y_buffer, &data):
                    return None
                if k.net_path(&self.net, &data, data.x.rows) != self.short_path:
                    return None
                return self.step_of(&data, optimizer)
            finally:
                PyBuffer_Release(&y_buffer)
        finally:
            PyBuffer_Release(&x_buffer)

    cdef bint takes_dtype(self, dtype, k.fgd_data *data) noexcept:
        # Whether short_step and short_predict take X of this dtype; begins to describe it.
        if self.input_scale > 1 or (dtype is not self.dtype and dtype is not UINT8):
            return False
        memset(data, 0, sizeof(data[0]))
        data.x.dtype = self.net.dtype if dtype is self.dtype else k.FGD_U8
        return True

    cdef bint takes(self, const Py_buffer *buffer, k.fgd_data *data) noexcept:
        # Whether X is as short_step and short_predict want it; describes it in data.
        if (buffer.ndim != 2 or <size_t>buffer.shape[1] != self.net.n_inputs
                or buffer.shape[0] == 0
                or (<size_t>buffer.buf | <size_t>buffer.strides[0]) % <size_t>buffer.itemsize):
            return False
        describe(&data.x, data.x.dtype, buffer)
        data.x.scale = self.input_scale
        return data.x.dtype == k.FGD_U8 or finite_rows(self.net.dtype, &data.x)

    cdef bint takes_target(self, const Py_buffer *buffer, k.fgd_data *data) noexcept:
        # Whether y is as short_step wants it beside data.x; describes it in data.
        cdef size_t n = data.x.rows, units = self.net.layers[self.net.n_layers - 1].fan_out
        cdef double highest
        # In this order: without dimensions there are neither shape nor strides.
        if (buffer.ndim != (1 if self.target_kind == LABELS else 2)
                or <size_t>buffer.shape[0] != n
                or buffer.strides[buffer.ndim - 1] != buffer.itemsize
                or <size_t>buffer.buf % <size_t>buffer.itemsize != 0):
            return False
        if self.target_kind == LABELS:
            data.labels = <const int64_t *>buffer.buf
            # The long way refuses more classes than a float has numbers for.
            return units <= MOST_CLASSES and labels_fit(data.labels, n, <int64_t>units)
        if (<size_t>buffer.shape[1] != units
                or buffer.strides[0] != <Py_ssize_t>units * buffer.itemsize):
            return False
        describe(&data.y, self.net.dtype, buffer)
        if not k.all_finite_block(self.net.dtype, n * units, buffer.buf):
            return False
        if self.target_kind == ANY:
            return True
        highest = 1.0 if self.target_kind == PROBABILITIES else DBL_MAX
        if self.net.dtype == k.FGD_F32:
            return in_range[float](<const float *>buffer.buf, n * units, highest)
        return in_range[double](<const double *>buffer.buf, n * units, highest)

    cdef object step_of(self, k.fgd_data *data, optimizer):
        cdef k.fgd_progress progress
        cdef size_t n = data.x.rows
        cdef int threads
        cdef double lr
        cdef uint64_t step
        fixed = optimizer.fixed_lr
        while True:
            step = self.net.step
            # Without the lock: a function may wait for another thread that waits for its turn.
            lr = optimizer.learning_rates(step, 1)[0] if fixed is None else fixed
            self.lock.enter()
            if fixed is not None or self.net.step == step:
                break
            self.lock.leave()
        try:
            self.check_may_train()
            threads = self.threads
            self.net.loss = self.short_loss
            self.net.loss_param = self.loss_param
            self.reserve_step(n, threads)
            memset(&progress, 0, sizeof(progress))
            if self.weights * <double>n < BRIEF:
                k.net_train(&self.net, data, NULL, 0, n, n, 1, &lr, threads, SLICE_SECONDS,
                            &progress)
            else:
                with nogil:
                    k.net_train(&self.net, data, NULL, 0, n, n, 1, &lr, threads, SLICE_SECONDS,
                                &progress)
        finally:
            self.lock.leave()
        if progress.outcome != k.FGD_TRAINED:
            raise self.failure(progress.outcome, 0, 0, lr)
        return progress.last_loss

    def checked_step(self, X, y, sample_weight, double lr, verify):
        """Train one mini-batch operation by operation, to the same bits as `train_step`.

        Parameters
        ----------
        verify : callable
            ``verify(op, layer, inputs, outputs)`` after each operation, with sample-major views
            of what it read and wrote, which last as long as the call. A gradient or an update of
            many weights comes in several calls, each for the rows of W from
            ``inputs["first_row"]`` on; the biases come with the first, and are None in the others.
            No weight has changed before all calls have returned.
        """
        cdef Data data
        cdef k.fgd_progress progress
        self.lock.enter()
        try:
            self.check_may_train()
            data = Data(X, y, sample_weight, self.input_scale)
            self.use_data(data)
            self.reserve_step(data.n, self.threads)
            memset(&progress, 0, sizeof(progress))
            self.operate_step(data, NULL, 0, data.n, lr, verify, True, &progress)
            if progress.outcome != k.FGD_TRAINED:
                raise self.failure(progress.outcome, 0, 0)
            return progress.last_loss
        finally:
            self.lock.leave()

    def loss_and_grad(self, X, y, sample_weight):
        """Return the mean loss with penalties and [(dW, db), ...]; nothing is updated."""
        cdef Data data
        cdef k.fgd_progress progress
        cdef size_t i
        cdef int threads
        cdef bint drops = False
        cdef k.fgd_layer *layer
        self.lock.enter()
        try:
            self.check_not_in_step()
            threads = self.threads
            data = Data(X, y, sample_weight, self.input_scale)
            self.use_data(data)
            self.reserve(data.n, threads, True)
            memset(&progress, 0, sizeof(progress))
            for i in range(self.net.n_layers):
                drops |= self.net.layers[i].dropout > 0
            # Single operations can leave dropout out.
            if drops or self.loss_kind == "custom":
                self.operate_unclipped(data, None, &progress)
            else:
                clip_value, self.net.params.clip_value = self.net.params.clip_value, 0.0
                try:
                    with nogil:
                        k.net_find_gradient(&self.net, &data.c, data.n, threads, &progress)
                finally:
                    self.net.params.clip_value = clip_value
            if progress.outcome != k.FGD_TRAINED:
                raise self.failure(progress.outcome, 0, 0)
            grads = []
            for i in range(self.net.n_layers):
                layer = &self.net.layers[i]
                grads.append((self.view(self, layer.dw, layer, True).copy(),
                              self.view(self, layer.db, layer, False).copy()
                              if layer.use_bias else None))
            return progress.last_loss, grads
        finally:
            self.lock.leave()

    def look(self, X, y, sample_weight, watch):
        """Go through a step without dropout for `watch` to see; nothing is updated.

        Parameters
        ----------
        watch : callable
            As `verify` of `checked_step`, for "forward", "loss" (not of a custom one), "backward"
            and "weight_grad"; then ``watch("gradient", layer, {"W", "b"}, {"dW", "db"})`` for each
            layer, penalties included, not clipped.

        Returns
        -------
        float
            The mean loss with penalties; NaN if it is not finite, and there are no gradients then.
        """
        cdef Data data
        cdef k.fgd_progress progress
        cdef k.fgd_layer *layer
        self.lock.enter()
        try:
            self.check_not_in_step()
            data = Data(X, y, sample_weight, self.input_scale)
            self.use_data(data)
            self.reserve(data.n, 1, True)
            memset(&progress, 0, sizeof(progress))
            self.in_step = True  # until the last look
            try:
                self.operate_unclipped(data, watch, &progress)
                if progress.outcome != k.FGD_TRAINED:
                    return float("nan")
                for l in range(self.net.n_layers):
                    layer = &self.net.layers[l]
                    watch("gradient", l, {"W": self.weight(l), "b": self.bias(l)},
                          {"dW": self.view(self, layer.dw, layer, True),
                           "db": self.view(self, layer.db, layer, False)
                           if layer.use_bias else None})
            finally:
                self.in_step = False
            return progress.last_loss
        finally:
            self.lock.leave()

    cdef int operate_unclipped(self, Data data, verify, k.fgd_progress *progress) except -1:
        # All of a step but the update, which leaves the gradient as it is before clipping.
        clip_value, self.net.params.clip_value = self.net.params.clip_value, 0.0
        try:
            self.operate_step(data, NULL, 0, data.n, 0.0, verify, False, progress)
        finally:
            self.net.params.clip_value = clip_value
        return 0

    cdef int operate(self, const k.fgd_batch *batch, k.fgd_op op, size_t l) except -1:
        cdef int is_done
        with nogil:
            is_done = k.net_operate(&self.net, batch, op, l)
        return self.go_on(is_done)

    cdef int find_gradient(self, const k.fgd_batch *batch, size_t l, size_t r0, size_t r1,
                           void *dw, void *db) except -1:
        cdef int is_done
        with nogil:
            is_done = k.net_gradient(&self.net, batch, l, r0, r1, dw, db)
        return self.go_on(is_done)

    cdef int go_on(self, bint is_done) except -1:
        # After a part of a step; Ctrl-C ends it.
        if not is_done:
            raise self.failure(k.FGD_INTERRUPTED, 0, 0)
        return self.let_handlers_run()

    # One step operation by operation on the calling thread: for verification, for losses that
    # Python computes, and (without update) for gradients.  All Python code is within the step:
    # see check_not_in_step.
    cdef int operate_step(self, Data data, const int64_t *order, size_t first, size_t n,
                          double lr, verify, bint update,
                          k.fgd_progress *progress) except -1:
        cdef bint before = self.in_step
        self.in_step = True
        try:
            return self.operate_all(data, order, first, n, lr, verify, update, progress)
        finally:
            self.in_step = before

    cdef int operate_all(self, Data data, const int64_t *order, size_t first, size_t n, double lr,
                         verify, bint update, k.fgd_progress *progress) except -1:
        cdef k.fgd_batch batch
        cdef k.fgd_update_params params
        cdef size_t last = self.net.n_layers - 1, l
        cdef double loss_sum, weight_sum, penalty
        cdef bint by_norm = self.net.clip_norm > 0
        # The gradient, which also lets Ctrl-C in while it is found.
        cdef bint is_stored = by_norm or not update or k.net_needs_gradient(&self.net, n)
        cdef bint custom = self.loss_kind == "custom"
        cdef k.fgd_layer *layer
        cdef int diverged = 0
        batch.data = &data.c
        batch.order = order
        batch.first = first
        batch.n = n
        batch.lr = lr
        batch.dropout = update
        rows = slice(first, first + n)
        if order != NULL:
            rows = array_of(<int64_t[:n]><int64_t *>(order + first), 1)
        self.operate(&batch, k.FGD_OP_LOAD, 0)
        for l in range(last + 1):
            self.operate(&batch, k.FGD_OP_FORWARD, l)
            if verify is not None:
                self.verify_forward(verify, &batch, l)
            if self.net.layers[l].dropout > 0 and update:
                self.operate(&batch, k.FGD_OP_DROPOUT, l)
                if verify is not None:
                    verify("dropout", l,
                           {"a": self.look_at(k.FGD_BUFFER_A, l, n),
                            "p": self.net.layers[l].dropout, "seed": self.net.seed,
                            "step": self.net.step},
                           {"a": self.look_at(k.FGD_BUFFER_DROPPED, l, n),
                            "mask": self.look_at(k.FGD_BUFFER_MASK, l, n)})
        if data.c.outputs != NULL:
            (<object>self.output_array(data))[rows] = self.look_at(k.FGD_BUFFER_A, last, n)
        if custom:
            loss_sum, weight_sum = self.apply_custom_loss(&batch, data, rows)
        else:
            self.operate(&batch, k.FGD_OP_LOSS, last)
            k.net_batch_loss(&self.net, &batch, &loss_sum, &weight_sum)
            if verify is not None:
                self.verify_loss(verify, data, rows, n, k.mean_loss(loss_sum, weight_sum))
        for l in range(last, -1, -1):
            self.operate(&batch, k.FGD_OP_TRANSPOSE, l)
            if l > 0:
                self.operate(&batch, k.FGD_OP_BACKWARD, l)
                if verify is not None:
                    self.verify_backward(verify, &batch, l)
        penalty = k.net_penalty(&self.net)
        if not np.isfinite(loss_sum) or (self.net.account == k.FGD_ACCOUNT_SKLEARN
                                         and weight_sum == 0):
            progress.outcome = k.FGD_LOSS_NOT_FINITE
            return 0
        k.net_add_loss(&self.net, n, loss_sum, weight_sum, penalty, progress)
        for l in range(last + 1):
            if verify is not None:
                self.verify_gradient(verify, &batch, l, is_stored)
            elif is_stored:
                layer = &self.net.layers[l]
                self.find_gradient(&batch, l, 0, layer.fan_in, layer.dw, layer.db)
            if is_stored:
                self.operate(&batch, k.FGD_OP_FINISH, l)
        if update:
            params = k.step_params(&self.net, self.net.step, lr, weight_sum)
            if by_norm:
                params.norm_scale = k.net_norm_scale(&self.net)
            if verify is not None:
                diverged = self.verify_updates(verify, &batch, &params, is_stored)
                if not diverged and k.net_is_online(&self.net, &data.c, n):
                    self.verify_online(verify, &batch, progress.last_loss)
            for l in range(last + 1):
                diverged |= self.update_rows(&batch, l, 0, self.net.layers[l].fan_in, &params,
                                             is_stored)
            self.net.step += 1
            progress.n_steps += 1
            if diverged:
                progress.outcome = k.FGD_WEIGHT_NOT_FINITE
        return 0

    cdef int update_rows(self, const k.fgd_batch *batch, size_t l, size_t r0, size_t r1,
                         const k.fgd_update_params *params, bint is_stored) noexcept:
        # Rows [r0, r1) of W, and with the first one b; whether a weight would not be finite.
        cdef k.fgd_update_params own = params[0]
        if is_stored:
            return k.net_apply_gradient(&self.net, l, r0, r1, params)
        own.l1 = self.net.layers[l].l1 * own.penalty_share
        own.l2 = self.net.layers[l].l2 * own.penalty_share
        return k.net_update(&self.net, batch, l, r0, r1, &own)

    cdef object output_array(self, Data data):
        cdef size_t size = k.element_size(self.net.dtype)
        return self.matrix_view(None, data.c.outputs, data.n, data.c.output_stride,
                                data.c.output_stride * size, size)

    cdef tuple apply_custom_loss(self, k.fgd_batch *batch, Data data, rows):
        # Leaves delta = dL/dz in the last layer; returns (sum of losses, sum of weights).
        cdef size_t last = self.net.n_layers - 1
        cdef k.Matrix matrix
        output = self.look_at(k.FGD_BUFFER_A, last, batch.n).copy()
        values, grad = self.custom_loss(output, data.y[rows])
        values = np.asarray(values, dtype=np.float64)
        grad = np.asarray(grad)
        if grad.shape != output.shape:
            raise ValueError(f"the custom loss's delta must have the output's shape "
                             f"{output.shape}, got {grad.shape}")
        weights = None if data.sample_weight is None else data.sample_weight[rows]
        loss_sum, weight_sum = custom_sums(values, weights, batch.n)
        if values.ndim == 1:
            weights = np.ones(batch.n) if weights is None else weights
            grad = grad * (weights / (weight_sum if weight_sum != 0 else 1.0))[:, None]
        matrix = k.Matrix(np.ascontiguousarray(grad, dtype=self.dtype))
        k.net_put(&self.net, k.FGD_BUFFER_DELTA, last, &matrix.c)
        self.operate(batch, k.FGD_OP_OUTPUT_GRAD, last)
        return loss_sum, weight_sum

    # ---- what verification looks at ---------------------------------------------------------

    cdef object look_at(self, k.fgd_buffer which, size_t l, size_t n):
        # A view of a work buffer, sample-major.
        cdef k.fgd_matrix matrix
        k.net_look_at(&self.net, which, l, n, &matrix)
        view = self.matrix_view(self, <void *>matrix.data, n, matrix.cols, matrix.row_stride,
                                matrix.col_stride)
        view.flags.writeable = False
        return view

    cdef object look_at_input(self, size_t l, const k.fgd_batch *batch):
        if l == 0:
            return self.look_at(k.FGD_BUFFER_INPUT, 0, batch.n)
        if batch.dropout and self.net.layers[l - 1].dropout > 0:
            return self.look_at(k.FGD_BUFFER_DROPPED, l - 1, batch.n)
        return self.look_at(k.FGD_BUFFER_A, l - 1, batch.n)

    cdef list numbers(self, size_t l, size_t r0, size_t r1):
        # Live views [W, b, state of W, state of b, ...]: rows of W, and with the first of them b.
        arrays = [self.weight(l)[r0:r1], self.bias(l) if r0 == 0 else None]
        for pairs in self.optimizer_state().values():
            arrays += [pairs[l][0][r0:r1], pairs[l][1] if r0 == 0 else None]
        return arrays

    cdef dict named(self, list numbers):
        W, b, *states = numbers
        pairs = zip(states[::2], states[1::2], strict=True)
        return {"W": W, "b": b, "state": dict(zip(self.optimizer_state(), pairs, strict=True))}

    cdef list row_blocks(self, size_t l, size_t most, size_t n_arrays, bint is_even=True):
        # [(r0, r1), ...] of W: blocks as the C core divides its rows, four at a time where they are
        # of a few rows; fewer rows where so many arrays of its width would be large.  Not even: the
        # last block has what is left.
        cdef size_t fan_in = self.net.layers[l].fan_in
        cdef size_t row = self.net.layers[l].ldw * k.element_size(self.net.dtype)
        cdef size_t room = max(<size_t>1, <size_t>(COPIED_BYTES // (n_arrays * row)))
        cdef size_t step = 4 if 4 * most <= min(room, FEW_ROWS) else 1
        most = min(most, room)
        if not is_even:
            return list(itertools.pairwise([*range(0, fan_in, most), fan_in]))
        n_blocks = (fan_in + most - 1) // most
        size, larger = divmod(fan_in, n_blocks)
        starts = []
        for i in range(n_blocks + 1):
            starts.append(i * size + min(i, larger))
        return list(itertools.pairwise(starts[:n_blocks:step] + [fan_in]))

    cdef dict activation_of(self, size_t l):
        name, param = self.activations[l]
        return {"activation": name, "param": param}

    cdef int verify_forward(self, verify, k.fgd_batch *batch, size_t l) except -1:
        cdef k.fgd_layer *layer = &self.net.layers[l]
        if layer.z != NULL:
            z = self.look_at(k.FGD_BUFFER_Z, l, batch.n)
        else:
            self.operate(batch, k.FGD_OP_PRE_ACTIVATION, l)
            z = self.look_at(k.FGD_BUFFER_DELTA, l, batch.n)
        verify("forward", l,
               {"X": self.look_at_input(l, batch), "W": self.weight(l),
                "b": self.view(self, layer.b, layer, False), **self.activation_of(l)},
               {"z": z, "a": self.look_at(k.FGD_BUFFER_A, l, batch.n)})
        return 0

    cdef int verify_loss(self, verify, Data data, rows, size_t n, double value) except -1:
        cdef size_t last = self.net.n_layers - 1
        verify("loss", last,
               {"z": self.look_at(k.FGD_BUFFER_Z, last, n),
                "a": self.look_at(k.FGD_BUFFER_A, last, n),
                "y": np.asarray(data.y[rows]),
                "sample_weight": None if data.sample_weight is None else data.sample_weight[rows],
                "kind": self.loss_kind, "loss_param": self.loss_param,
                "scale": self.net.grad_scale, "is_sum": self.net.account == k.FGD_ACCOUNT_SUM,
                **self.activation_of(last)},
               {"value": value, "delta": self.look_at(k.FGD_BUFFER_DELTA, last, n)})
        return 0

    cdef int verify_backward(self, verify, k.fgd_batch *batch, size_t l) except -1:
        cdef bint from_z = k.act_consumes_z(self.net.layers[l - 1].act)
        cdef bint drops = batch.dropout and self.net.layers[l - 1].dropout > 0
        verify("backward", l,
               {"delta": self.look_at(k.FGD_BUFFER_DELTA, l, batch.n), "W": self.weight(l),
                "x": self.look_at(k.FGD_BUFFER_Z if from_z else k.FGD_BUFFER_A, l - 1, batch.n),
                "mask": self.look_at(k.FGD_BUFFER_MASK, l - 1, batch.n) if drops else None,
                **self.activation_of(l - 1)},
               {"delta": self.look_at(k.FGD_BUFFER_DELTA, l - 1, batch.n)})
        return 0

    cdef int verify_gradient(self, verify, const k.fgd_batch *batch, size_t l,
                             bint is_stored) except -1:
        # A gradient that the step does not store is here for a few rows at a time.
        cdef k.fgd_layer *layer = &self.net.layers[l]
        cdef size_t size = k.element_size(self.net.dtype), row_bytes = layer.ldw * size
        cdef size_t r0, r1, rows
        cdef char *dw = <char *>layer.dw
        cdef char *db = <char *>layer.db
        cdef k.Matrix scratch
        owner, blocks = self, [(0, layer.fan_in)]
        if not is_stored:
            blocks = self.row_blocks(l, k.net_block_rows(&self.net, l, batch.n, True), 1)
            rows = blocks[0][1]  # the largest
            owner = scratch = k.Matrix(np.empty((rows + 1, layer.ldw), dtype=self.dtype), True)
            dw = <char *>scratch.c.data
            db = dw + rows * row_bytes
        A_prev, delta = self.look_at_input(l, batch), self.look_at(k.FGD_BUFFER_DELTA, l, batch.n)
        for r0, r1 in blocks:
            self.find_gradient(batch, l, r0, r1, dw, db)
            verify("weight_grad", l,
                   {"A_prev": A_prev[:, r0:r1], "delta": delta, "first_row": r0},
                   {"dW": self.matrix_view(owner, dw, r1 - r0, layer.fan_out, row_bytes, size),
                    "db": self.view(owner, db, layer, False) if r0 == 0 else None})
        return 0

    cdef int verify_updates(self, verify, const k.fgd_batch *batch,
                            const k.fgd_update_params *params, bint is_stored) except -1:
        # Updates a few rows at a time, and takes each back once it is verified: nothing is left of
        # a wrong one, and nobody needs a copy of all weights.  Returns whether one diverged.
        cdef size_t l, r0, r1, most, read_once
        cdef k.Assignment put_back
        cdef int diverged = 0
        scale = self.reference_norm_scale() if self.net.clip_norm > 0 else 1.0
        n_arrays = 1 + len(self.optimizer_state())
        for l in range(self.net.n_layers):
            most = k.net_block_rows(&self.net, l, batch.n, False)
            read_once = 0 if is_stored else k.net_rows_read_once(&self.net, l, batch.n)
            for r0, r1 in self.row_blocks(l, read_once or most, n_arrays, not read_once):
                numbers = self.numbers(l, r0, r1)
                before = copies(numbers)
                put_back = k.Assignment(numbers, before)
                try:
                    diverged |= self.update_rows(batch, l, r0, r1, params, is_stored)
                    self.verify_update(verify, batch, l, r0, scale, params.penalty_share, before,
                                       numbers)
                finally:
                    put_back.assign()
        return diverged

    cdef int verify_online(self, verify, const k.fgd_batch *batch, double loss) except -1:
        # The same step again, by the kernel that other steps of this kind will use.
        cdef k.fgd_progress progress
        cdef k.Assignment put_back
        cdef double lr = batch.lr
        numbers = self.numbers(0, 0, self.net.layers[0].fan_in)
        before = copies(numbers)
        put_back = k.Assignment(numbers, before)
        memset(&progress, 0, sizeof(progress))
        try:
            k.net_train(&self.net, batch.data, batch.order, batch.first, 1, 1, 1, &lr, 1,
                        SLICE_SECONDS, &progress)
            self.net.step -= progress.n_steps
            if progress.outcome != k.FGD_TRAINED or progress.last_loss != loss:
                numbers[0][...] = np.nan  # shows in the comparison
            self.verify_update(verify, batch, 0, 0, 1.0, 1.0, before, numbers)
        finally:
            put_back.assign()
        return 0

    cdef object reference_norm_scale(self):
        # Stored gradients are finished by now: penalties in, clipped by value.
        cdef k.fgd_layer *layer
        total = 0.0
        with np.errstate(over="ignore"):  # a norm that overflows gives a scale of 0, as in C
            for l in range(self.net.n_layers):
                layer = &self.net.layers[l]
                dW = self.view(self, layer.dw, layer, True)
                for r0, r1 in self.row_blocks(l, layer.fan_in, 2):  # in float64 up to two
                    total += float(np.sum(np.square(dW[r0:r1], dtype=np.float64)))
                if layer.use_bias:
                    db = self.view(self, layer.db, layer, False)
                    total += float(np.sum(np.square(db, dtype=np.float64)))
            return min(1.0, self.net.clip_norm / (np.sqrt(total) + 1e-6))

    cdef int verify_update(self, verify, const k.fgd_batch *batch, size_t l, size_t r0,
                           double norm_scale, double penalty_share, list before,
                           list after) except -1:
        params = dict(self.optimizer_params, l1=self.net.layers[l].l1 * penalty_share,
                      l2=self.net.layers[l].l2 * penalty_share, norm_scale=norm_scale)
        A_prev = self.look_at_input(l, batch)[:, r0:r0 + len(after[0])]
        verify("update", l,
               {**self.named(before), "A_prev": A_prev,
                "delta": self.look_at(k.FGD_BUFFER_DELTA, l, batch.n), "lr": batch.lr,
                "step": self.net.step, "optimizer": self.optimizer_name, "params": params,
                "own": None if self.own_updates is None else self.own_updates[l],
                "first_row": r0},
               self.named(after))
        return 0

    # ---- inference --------------------------------------------------------------------------

    def predict(self, X, out):
        """Fill `out`, shape (n_samples, units), with the outputs of X.

        Return False, and leave some of it as it was, if X in the network's dtype is not finite.
        """
        self.lock.enter()
        try:
            return self.infer(Data(X, None, None, self.input_scale), out, None, True)
        finally:
            self.lock.leave()

    def short_predict(self, X):
        """Return the outputs of a small batch that `short_step` would take, or None."""
        cdef k.fgd_data data
        cdef Py_buffer x_buffer, out_buffer
        cdef size_t n
        if type(X) is not ndarray or not self.takes_dtype(X.dtype, &data):
            return None
        PyObject_GetBuffer(X, &x_buffer, PyBUF_STRIDES)
        try:
            # More is worth threads, and Ctrl-C must be looked for.
            n = <size_t>x_buffer.shape[0] if x_buffer.ndim == 2 else 0
            if n > PREDICT_BLOCK or self.weights * <double>n > BRIEF:
                return None
            if not self.takes(&x_buffer, &data):
                return None
            data.output_stride = self.net.layers[self.net.n_layers - 1].fan_out
            out = empty((n, data.output_stride), self.dtype)
            PyObject_GetBuffer(out, &out_buffer, PyBUF_WRITABLE)
            data.outputs = out_buffer.buf
            try:
                self.lock.enter()
                try:
                    self.check_not_in_step()
                    # The long way names the weights that are not finite.
                    if not self.weights_are_finite():
                        return None
                    self.reserve(n, 1, False)
                    k.net_infer(&self.net, &data, 0, n, 1, NULL, False)
                finally:
                    self.lock.leave()
            finally:
                PyBuffer_Release(&out_buffer)
            return out
        finally:
            PyBuffer_Release(&x_buffer)

    cdef bint infer(self, Data data, out, losses, bint checks_input=False) except -1:
        cdef k.Matrix target = None if out is None else k.Matrix(out, True)
        cdef k.Matrix loss_matrix = None if losses is None else k.Matrix(losses, True)
        cdef size_t first = 0, n, block
        cdef int threads = self.threads
        cdef char *loss_at = NULL
        cdef double polled = k.seconds_now()
        cdef bint is_done
        self.check_not_in_step()
        self.check_shapes(data)
        # Not all of the capacity: a batch of the whole data may have set it, and Ctrl-C is looked
        # for between blocks.
        block = PREDICT_BLOCK * <size_t>threads
        self.reserve(min(data.n, block), threads, False)
        # Several blocks a call, for which threads are called together once.
        block *= <size_t>max(1.0, min(32.0, CALL_WEIGHTS / (self.weights * <double>block)))
        if target is not None:
            data.c.outputs = <void *>target.c.data
            data.c.output_stride = target.c.cols
        while first < data.n:
            n = min(block, data.n - first)
            if loss_matrix is not None:
                loss_at = (<char *>loss_matrix.c.data
                           + first * k.element_size(self.net.dtype))
            with nogil:
                is_done = k.net_infer(&self.net, &data.c, first, n, threads, loss_at,
                                      checks_input)
            if not is_done:
                if self.interruption is not None:
                    raise self.failure(k.FGD_INTERRUPTED, 0, 0)
                return False
            first += n
            if k.seconds_now() - polled > SLICE_SECONDS:
                polled = k.seconds_now()
                self.let_handlers_run()
        return True

    def evaluate(self, X, y, sample_weight, outputs=None):
        """Return (weighted sum of losses, sum of weights), without penalties and dropout."""
        cdef Data data
        cdef k.Matrix losses, weights = None
        self.lock.enter()
        try:
            self.check_not_in_step()
            data = Data(X, y, sample_weight, self.input_scale)
            self.use_data(data)
            if self.loss_kind == "custom":
                return self.evaluate_custom(data, outputs)
            values = np.empty(data.n, dtype=self.dtype)
            self.infer(data, outputs, values)
            losses = k.Matrix(values)
            weight_sum = <double>data.n
            if sample_weight is not None:
                cast = np.ascontiguousarray(data.sample_weight, dtype=self.dtype)
                weights = k.Matrix(cast)
                weight_sum = k.weighted_sum(self.net.dtype, data.n, weights.c.data, NULL)
            if weights is None:
                loss_sum = k.weighted_sum(self.net.dtype, data.n, losses.c.data, NULL)
            else:
                loss_sum = k.weighted_sum(self.net.dtype, data.n, losses.c.data, weights.c.data)
            return loss_sum, weight_sum
        finally:
            self.lock.leave()

    cdef tuple evaluate_custom(self, Data data, outputs):
        out = outputs
        if out is None:
            out = np.empty((data.n, self.net.layers[self.net.n_layers - 1].fan_out),
                           dtype=self.dtype)
        self.infer(data, out, None)
        values = np.asarray(self.custom_loss(out, data.y)[0], dtype=np.float64)
        return custom_sums(values, data.sample_weight, data.n)

    def all_finite(self):
        """Return whether every weight and bias is finite."""
        self.lock.enter()
        try:
            return self.weights_are_finite()
        finally:
            self.lock.leave()

    def assign(self, list views, list values):
        """Fill live views, for all other threads and for Ctrl-C in one step."""
        cdef k.Assignment assignment = k.Assignment(views, values)
        self.lock.enter()
        try:
            self.check_not_in_step()
            assignment.assign()
        finally:
            self.lock.leave()

    cdef bint weights_are_finite(self) noexcept:
        cdef size_t i
        cdef k.fgd_layer *layer
        for i in range(self.net.n_layers):
            layer = &self.net.layers[i]
            if not (k.all_finite_block(self.net.dtype, layer.fan_in * layer.ldw, layer.w)
                    and k.all_finite_block(self.net.dtype, layer.fan_out, layer.b)):
                return False
        return True
