/* A dense network: its layers, work buffers and mini-batch steps.  The arrays of weights,
 * states and work belong to the network; caller's data is only read.
 *
 * Shapes: W[fan_in][ldw] row-major; states as W; biases and their states [fan_out padded].
 * Work buffers are feature-major, [features][ldb], one column a sample; pads of rows are
 * zero, pads of columns hold finite rubbish that no sum over samples reads. */
#ifndef FGD_NET_H
#define FGD_NET_H

#include "fgd_pace.h"
#include "fgd_types.h"

typedef enum { FGD_OK, FGD_NO_MEMORY } fgd_status;

typedef struct {
    size_t fan_in, fan_out, padded; /* padded: fan_out rounded up to 64 bytes */
    size_t ldw;
    int act; /* fgd_act */
    double act_param;
    int use_bias;
    double l1, l2, dropout;
    void *w, *b; /* b is zero, and never updated, without use_bias */
    void *w_s1, *w_s2, *b_s1, *b_s2; /* optimiser states, NULL if it has none */
    fgd_own_update own_w, own_b;     /* read if the network's has_own is set */
    void *dw;                        /* stored gradient, NULL while updates are fused */
    void *db;                        /* [padded] the bias's gradient */
    double *penalty_rows, *norm_rows; /* [fan_in] row results of fixed-order sums */
    void *z, *a, *delta;             /* [padded][ldb]; z NULL if nothing consumes it */
    void *dropped, *mask;            /* [padded][ldb], NULL without dropout */
    void *delta_t;                   /* [batch][ldw] delta sample-major */
} fgd_layer;

/* Asked by the calling thread, in the caller's floating-point mode, some 20 times a second in
 * the middle of a long step: nonzero abandons the step before any weight has changed. */
typedef struct {
    int (*is_interrupted)(void *context); /* NULL: nobody asks */
    void *context;
} fgd_poll;

typedef struct {
    fgd_dtype dtype; /* FGD_F32 or FGD_F64 */
    size_t n_inputs, n_layers;
    fgd_layer *layers;
    int loss; /* fgd_loss, or -1: delta comes from outside (a custom loss) */
    double loss_param;
    int account;       /* fgd_account */
    double loss_scale; /* by which the samples' losses, not their gradients, are multiplied */
    double grad_scale; /* by which their gradients are */
    int opt;           /* fgd_opt */
    fgd_update_params params; /* lr, bias1, bias2 and penalties are filled in step by step */
    double lr_decay, clip_norm; /* clip_norm 0 = off */
    int has_own;                /* every array has an update of its own; not with clip_norm */
    uint64_t seed, step, epoch;
    double serial_flop; /* steps of less arithmetic use one thread, and of 64 times as much all;
                           in between, whichever is faster.  Predictions and gradients alone use
                           all from seven times as much on */
    fgd_pace pace;      /* as measured */
    double long_flop;   /* steps of more arithmetic can be abandoned throughout: see fgd_poll */
    fgd_poll poll;
    /* Work buffers for mini-batches of up to capacity samples: */
    size_t capacity, ldb;
    void *target; /* [units padded][ldb], or labels [ldb] in its first row */
    void *coef, *weight, *sample_loss; /* [ldb] */
    void **scratch; /* one block a thread */
    void **input;   /* [n_inputs padded][ldb]: the first for all threads, or one a thread where
                       they divide the first layer by its units */
    int n_threads;  /* that scratch and input have room for */
} fgd_net;

/* The data of a fit or a prediction.  y is used unless labels is given; weights may be NULL. */
typedef struct {
    fgd_matrix x, y;
    const int64_t *labels;
    const double *weights;
    void *outputs; /* NULL, or [n][output_stride]: receives each sample's output */
    size_t output_stride;
} fgd_data;

/* Rows of weights and work buffers are rounded up to this many elements. */
size_t fgd_unit(fgd_dtype dtype);

/* Whether the derivative of act is computed from z (else from a). */
int fgd_act_consumes_z(int act);

/* IN: dtype, n_inputs, n_layers, of every layer fan_out, act, act_param, use_bias.  Allocates
 * the layers' weights (zero).  On failure nothing stays allocated. */
fgd_status fgd_net_init(fgd_net *net, fgd_dtype dtype, size_t n_inputs, size_t n_layers,
                        const size_t *units);
void fgd_net_free(fgd_net *net);

/* Frees an array of states whose pointer has been taken out of its layer. */
void fgd_free_block(void *block);

/* Gives every layer the zeroed states that opt needs and makes it the optimiser.
 * has_buffer: RMSprop with momentum.  On failure the network is as before. */
fgd_status fgd_net_set_optimizer(fgd_net *net, fgd_opt opt, int has_buffer);

/* Makes room for mini-batches of n samples and for n_threads; grows, never shrinks, and
 * allocates what dropout and store_gradient ask for; steps may need the latter, see
 * fgd_net_needs_gradient.  FGD_NO_MEMORY also if it was interrupted. */
fgd_status fgd_net_reserve(fgd_net *net, size_t n, int n_threads, int store_gradient);

/* What a run of steps did. */
typedef struct {
    fgd_outcome outcome;
    size_t n_steps;            /* steps completed */
    double loss_sum;           /* += weighted sum of losses and penalties of the steps */
    double weight_sum;         /* += sum of their weights: see fgd_account */
    double last_loss;          /* mean loss of the last step, penalties included */
} fgd_progress;

/* Trains n_steps mini-batches of batch_size rows order[first ..] of data (order NULL: rows in
 * place; the last may be shorter, n_rows rows in all).  lrs: one learning rate a step.  Stops
 * before the update of a step whose loss is not finite, and after one in which a weight would
 * have become non-finite (such weights keep their last finite value), and early, but after at
 * least one step, when seconds have passed. */
void fgd_net_train(fgd_net *net, const fgd_data *data, const int64_t *order, size_t first,
                   size_t n_rows, size_t batch_size, size_t n_steps, const double *lrs,
                   int n_threads, double seconds, fgd_progress *progress);

/* Steps taken so far; any thread may ask while another one trains. */
uint64_t fgd_net_steps(const fgd_net *net);

/* Computes the gradient, with penalties and clipping by value but without dropout, of rows 0 .. n-1
 * of data (as many as capacity) into every layer's dw and db, for which memory is reserved; no
 * weight changes.  Adds to progress as one step does, but for n_steps. */
void fgd_net_find_gradient(fgd_net *net, const fgd_data *data, size_t n, int n_threads,
                           fgd_progress *progress);

/* Whether steps on n samples keep their gradient until it is complete: to measure its norm, or
 * so that a long step can be abandoned while it is computed. */
int fgd_net_needs_gradient(const fgd_net *net, size_t n);

/* Whether steps on n samples of data are those of template/online.h. */
int fgd_net_is_online(const fgd_net *net, const fgd_data *data, size_t n);

/* Which kernels of their own have steps on n samples of data: equal numbers, the same kernels. */
int fgd_net_path(const fgd_net *net, const fgd_data *data, size_t n);

/* Seconds of a clock that only goes forward. */
double fgd_seconds(void);

/* Forward pass of rows first .. first + n - 1 without dropout, n of any size; outputs and, if
 * losses is given, each sample's loss (in the network's type).  Returns 0 if it was interrupted, or
 * if checks_input and the input is not finite. */
int fgd_net_infer(fgd_net *net, const fgd_data *data, size_t first, size_t n, int n_threads,
                  void *losses, int checks_input);

/* Single operations over the whole batch, on the calling thread, for checked steps, custom
 * losses and stored gradients.  A step is LOAD, (FORWARD, DROPOUT) of each layer, LOSS,
 * BACKWARD and TRANSPOSE of each layer from the last on, fgd_net_update of each layer. */
typedef enum {
    FGD_OP_LOAD,          /* gathers the batch: input, target, weights                    */
    FGD_OP_PRE_ACTIVATION,/* z of the layer into its delta buffer, for looking at         */
    FGD_OP_FORWARD,       /* z and a of the layer                                         */
    FGD_OP_ACTIVATE,      /* a of the layer from its z, which is kept                     */
    FGD_OP_DROPOUT,       /* a * mask                                                     */
    FGD_OP_LOSS,          /* delta of the last layer and the samples' losses              */
    FGD_OP_OUTPUT_GRAD,   /* delta of the last layer, given as dL/da, becomes dL/dz       */
    FGD_OP_BACKWARD,      /* delta of the layer below                                     */
    FGD_OP_TRANSPOSE,     /* delta_t of the layer                                         */
    FGD_OP_FINISH         /* penalties and clipping by value join the layer's dw, db      */
} fgd_op;

typedef struct {
    const fgd_data *data;
    const int64_t *order;
    size_t first, n;
    double lr;
    int dropout; /* whether dropout acts */
} fgd_batch;

/* Returns 0 if it was interrupted. */
int fgd_net_operate(fgd_net *net, const fgd_batch *batch, fgd_op op, size_t layer);

/* Parameters of the update of step (counted from 0) of samples whose weights have this sum, without
 * penalties. */
fgd_update_params fgd_step_params(const fgd_net *net, uint64_t step, double lr, double weight_sum);

/* Adds a step of n samples to progress: the weighted sum of their losses, the sum of their weights,
 * and the penalties of all layers. */
void fgd_net_add_loss(const fgd_net *net, size_t n, double loss_sum, double weight_sum,
                      double penalty, fgd_progress *progress);

/* loss_sum / weight_sum, or 0 without weights, in the mode of the engine. */
double fgd_mean_loss(double loss_sum, double weight_sum);

/* Gradients and updates work on rows [r0, r1) of W, and with its first row on the biases.  Calls
 * for blocks of nearly equal size, none above this and the larger ones first, compute the same
 * tiles as one call for all rows. */
size_t fgd_net_block_rows(const fgd_net *net, size_t layer, size_t n, int is_gradient);

/* 0, or for how many rows of W at a time, the last block having what is left, steps on n samples
 * that store no gradient find delta of the layer below and update. */
size_t fgd_net_rows_read_once(const fgd_net *net, size_t layer, size_t n);

/* dw[r1 - r0][ldw] = sums over samples of input and delta_t; db[padded].  Returns 0 if it was
 * interrupted. */
int fgd_net_gradient(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                     void *dw, void *db);

/* The fused update of weights (with the penalties of params) and biases (without) from the
 * layer's input and delta_t.  Returns nonzero if a weight was kept because its new value was
 * not finite. */
int fgd_net_update(fgd_net *net, const fgd_batch *batch, size_t layer, size_t r0, size_t r1,
                   const fgd_update_params *params);

/* The same from the layer's stored gradient, which FINISH has finished. */
int fgd_net_apply_gradient(fgd_net *net, size_t layer, size_t r0, size_t r1,
                           const fgd_update_params *params);

/* The factor that clips all stored gradients, finished, by their global norm: norm_scale. */
double fgd_net_norm_scale(fgd_net *net);

/* Work buffers as sample-major arrays. */
typedef enum {
    FGD_BUFFER_INPUT,
    FGD_BUFFER_Z,
    FGD_BUFFER_A,
    FGD_BUFFER_DROPPED,
    FGD_BUFFER_MASK,
    FGD_BUFFER_DELTA
} fgd_buffer;

/* Copies matrix (n samples) into a work buffer; n <= capacity. */
void fgd_net_put(fgd_net *net, fgd_buffer buffer, size_t layer, const fgd_matrix *matrix);

/* Describes n samples of a work buffer where they lie; OUT: matrix. */
void fgd_net_look_at(const fgd_net *net, fgd_buffer buffer, size_t layer, size_t n,
                     fgd_matrix *matrix);

/* Copies n samples of a work buffer to out[n][features], the network's type, contiguous. */
void fgd_net_get(const fgd_net *net, fgd_buffer buffer, size_t layer, size_t n, void *out);

/* Elementwise kernels over n contiguous elements of any alignment: a = f(z), d *= f'(x). */
void fgd_activate(fgd_dtype dtype, fgd_act act, double param, size_t n, const void *z, void *a);
void fgd_activate_grad(fgd_dtype dtype, fgd_act act, double param, size_t n, const void *x,
                       void *d);

/* Whether n contiguous elements of F32 or F64 are all finite. */
int fgd_all_finite(fgd_dtype dtype, size_t n, const void *x);

/* sum of x[i] (times weights[i] unless NULL), in the contract's order, in double. */
double fgd_weighted_sum(fgd_dtype dtype, size_t n, const void *x, const void *weights);

/* Fused multiply-adds on the calling thread, rounds times 48 vectors; returns the
 * floating-point operations done. */
double fgd_fma_burn(fgd_dtype dtype, size_t rounds);

/* The mean data loss of the batch whose LOSS was computed last: sum and sum of weights. */
void fgd_net_batch_loss(const fgd_net *net, const fgd_batch *batch, double *loss_sum,
                        double *weight_sum);

/* Sum of the penalties l1 * sum |W| + l2 / 2 * sum W^2 over all layers. */
double fgd_net_penalty(const fgd_net *net);

/* order[n] = the permutation of 0 .. n-1 that belongs to (seed, epoch), some swaps at a time:
 * done is 0 at first and then what the call before returned, until that is n. */
size_t fgd_permutation(int64_t *order, size_t n, uint64_t seed, uint64_t epoch, size_t done);

/* base^n by repeated squaring: the same bits everywhere, which pow() does not promise. */
double fgd_power(double base, uint64_t n);

#endif
