/* Instantiates every template for one ISA and both element types and defines its table.
 * Included by kernels_<isa>.c inside the target region, with FGD_ISA defined and the
 * vector vocabulary of that ISA included. */

#include "real32.h"
#include "instantiate.h"
#include "real_end.h"

#include "real64.h"
#include "instantiate.h"
#include "real_end.h"

#define FGD_ACTS(X)                                                                                \
    X(IDENTITY, identity), X(RELU, relu), X(LEAKY_RELU, leaky_relu), X(ELU, elu), X(SELU, selu),   \
        X(GELU, gelu), X(SILU, silu), X(MISH, mish), X(SOFTPLUS, softplus), X(SOFTSIGN, softsign), \
        X(TANH, tanh), X(SIGMOID, sigmoid), X(HARD_SIGMOID, hard_sigmoid), X(EXP, exp)

const fgd_kernels FGD_CAT(fgd_kernels_, FGD_ISA) = {
#include "real32.h"
    .f32 =
#include "table.h"
#include "real_end.h"
#include "real64.h"
        .f64 =
#include "table.h"
#include "real_end.h"
#ifdef FGD_NARROW
        .narrow = &FGD_NARROW,
#endif
};
