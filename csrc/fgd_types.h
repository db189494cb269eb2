/* Enumerations and parameter structs shared by every part of the C core and by the
 * Cython layer.  No code, no Python.h.  The numbers are internal: model files and the
 * Python API use names, never these values. */
#ifndef FGD_TYPES_H
#define FGD_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* Element types of caller's arrays.  Networks compute in F32 or F64; the others are
 * accepted as input data and converted while a mini-batch is gathered. */
typedef enum {
    FGD_F32,
    FGD_F64,
    FGD_U8,
    FGD_I8,
    FGD_U16,
    FGD_I16,
    FGD_U32,
    FGD_I32,
    FGD_U64,
    FGD_I64,
    FGD_N_DTYPES
} fgd_dtype;

/* A caller's matrix, read only: element (i, j) is at data + i * row_stride + j * col_stride,
 * strides in bytes, of any alignment and sign. */
typedef struct {
    const void *data;
    fgd_dtype dtype;
    size_t rows, cols;
    ptrdiff_t row_stride, col_stride;
    double scale; /* gathered as REAL(element) * REAL(scale); 0 means 1 */
} fgd_matrix;

/* Activations.  SOFTMAX couples the units of a sample, so it has kernels of its own. */
typedef enum {
    FGD_ACT_IDENTITY,
    FGD_ACT_RELU,
    FGD_ACT_LEAKY_RELU,
    FGD_ACT_ELU,
    FGD_ACT_SELU,
    FGD_ACT_GELU,
    FGD_ACT_SILU,
    FGD_ACT_MISH,
    FGD_ACT_SOFTPLUS,
    FGD_ACT_SOFTSIGN,
    FGD_ACT_TANH,
    FGD_ACT_SIGMOID,
    FGD_ACT_HARD_SIGMOID,
    FGD_ACT_EXP,
    FGD_N_ELEMENTWISE_ACTS,
    FGD_ACT_SOFTMAX = FGD_N_ELEMENTWISE_ACTS,
    FGD_N_ACTS
} fgd_act;

/* Loss kernels.  The _Z forms take the pre-activation of their canonical output and give
 * delta = dL/dz; the _A forms take the output activation and give dL/da. */
typedef enum {
    FGD_LOSS_SQUARED_ERROR_A,        /* 0.5 * (a - y)^2                                    */
    FGD_LOSS_ABSOLUTE_ERROR_A,       /* |a - y|                                            */
    FGD_LOSS_HUBER_A,                /* 0.5 e^2 if |e| <= d else d * (|e| - d / 2)         */
    FGD_LOSS_LOG_LOSS_Z,             /* output sigmoid: max(z, 0) - y z + log1p(exp(-|z|)) */
    FGD_LOSS_LOG_LOSS_A,             /* -y log a - (1 - y) log(1 - a)                      */
    FGD_LOSS_CROSS_ENTROPY_LABELS_Z, /* output softmax, y one class label a sample         */
    FGD_LOSS_CROSS_ENTROPY_ROWS_Z,   /* output softmax, y one probability a unit           */
    FGD_LOSS_POISSON_Z,              /* output exp: exp(z) - y z                           */
    FGD_LOSS_POISSON_A,              /* a - y log(a + d)                                   */
    FGD_N_LOSSES
} fgd_loss;

typedef enum {
    FGD_OPT_SGD,      /* no state                                                     */
    FGD_OPT_MOMENTUM, /* s1 = velocity; plain or Nesterov                             */
    FGD_OPT_ADAM,     /* s1 = exp_avg, s2 = exp_avg_sq; weight decay joins the gradient */
    FGD_OPT_ADAMW,    /* as Adam; weight decay shrinks the weight instead             */
    FGD_OPT_RMSPROP,  /* s1 = square_avg, s2 = momentum buffer (NULL without momentum) */
    FGD_OPT_ADAGRAD,  /* s1 = sum                                                     */
    FGD_N_OPTS
} fgd_opt;

/* Which published form of an optimiser's formula is meant where they differ. */
typedef enum { FGD_VARIANT_TORCH, FGD_VARIANT_SKLEARN } fgd_variant;

/* What a loss is worth that goes with the penalties of a step.  MEAN: the weighted mean of the
 * samples' losses and the penalties; a run's is the mean over all its samples.  SKLEARN: penalties
 * are divided by the sum of the step's weights, and a run's loss is the mean of its steps' losses
 * by their numbers of samples, whatever their weights.  SUM: losses and gradients are weighted sums,
 * and so is a run's loss, of its steps'. */
typedef enum { FGD_ACCOUNT_MEAN, FGD_ACCOUNT_SKLEARN, FGD_ACCOUNT_SUM } fgd_account;

/* What a micro-kernel does beside its sums, see template/gemm.h. */
enum { FGD_UKR_LOAD_C = 1, FGD_UKR_RELU = 2 };

/* Where lines of memory that are asked for are wanted.  To be written: no other core keeps them then, which
 * a store would have to wait for. */
typedef enum { FGD_TO_FIRST_LEVEL, FGD_TO_SECOND_LEVEL, FGD_TO_WRITE } fgd_purpose;

/* Lines of memory that a later kernel will need.  A micro-kernel asks for those at `at` and two
 * distances from there, which may be 0, before every FGD_UKR_STEPS steps of k.  In bytes. */
enum { FGD_UKR_STEPS = 4 };
typedef struct {
    const char *at;
    ptrdiff_t stride, second, third;
} fgd_ask;

/* How a run of training steps ended. */
typedef enum {
    FGD_TRAINED,
    FGD_LOSS_NOT_FINITE,
    FGD_WEIGHT_NOT_FINITE,
    FGD_INTERRUPTED
} fgd_outcome;

/* One update of one array of weights.  Everything is kept in double and rounded once to the
 * kernel's type.  Order: g = scale * sum over samples; + l2 * w + l1 * sign(w);
 * clip to [-clip_value, clip_value]; * norm_scale; + weight_decay * w (all but AdamW);
 * then the optimiser's formula. */
typedef struct {
    double lr;
    double scale;        /* factor of the summed gradient; 1 inside the engine          */
    double l1, l2;       /* penalties; 0 for biases                                     */
    double penalty_share; /* what part of a layer's l1 and l2 holds in this step: see
                             fgd_account                                                */
    double clip_value;   /* 0 = off                                                     */
    double norm_scale;   /* factor from clipping by the global norm; 1 = off            */
    double weight_decay;
    double momentum;
    double dampening;    /* v = momentum v + (1 - dampening) g; 0 in an array's first step */
    double beta1, beta2; /* Adam; beta2 is RMSprop's alpha as well                      */
    double eps;
    double bias1, bias2; /* 1 - beta1^t, 1 - beta2^t, t counted from 1                  */
    uint64_t step;       /* of the array, counted from 0                                */
    int nesterov;
    int variant;         /* fgd_variant                                                 */
} fgd_update_params;

/* The update of one array by settings of its own, where those of a network differ. */
typedef struct {
    int is_frozen;            /* it keeps its values, and the rest is not read              */
    int64_t ahead;            /* steps that it has taken beyond those of the network        */
    double lr_decay;
    fgd_update_params params; /* lr included; scale is a factor of the step's; penalties, clipping
                                 and what depends on the step are the step's                 */
} fgd_own_update;

#endif
