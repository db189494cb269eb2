/* For the C tests: the exact value and slope of every activation, in double (..._wide, enough for
 * float) and in long double (..._widest), and the bounds that the kernels are held to.
 * Slopes are those of what the derivative consumes.  Include after math.h. */
#ifndef FGD_TEST_EXACT_H
#define FGD_TEST_EXACT_H

#include "fgd_common.h"
#include "fgd_types.h"

/* alpha of leaky_relu and of elu in these tests. */
static const float leaky_alpha = 0.01f, elu_alpha = 0.75f;

#define WIDE double
#define M(f) f
#define E(name) name##_wide
#include "exact_body.h"
#undef WIDE
#undef M
#undef E
#define WIDE long double
#define M(f) f##l
#define E(name) name##_widest
#include "exact_body.h"
#undef WIDE
#undef M
#undef E

/* Bounds, the same for both types.  UNITS is in units of the last place of 1 for a result
 * that crosses zero, ULP in those of the result itself. */
enum { ULP, UNITS };
static const struct {
    fgd_act act;
    const char *name;
    double act_bound;
    int act_kind;
    double slope_bound;
    int slope_kind, slope_of_a;
    double least_a, most_a; /* of the slope, the bound holds between these */
} table[] = {
    {FGD_ACT_IDENTITY, "identity", 0, ULP, 0, ULP, 0, -INFINITY, INFINITY},
    {FGD_ACT_RELU, "relu", 0, ULP, 0, ULP, 1, -INFINITY, INFINITY},
    {FGD_ACT_LEAKY_RELU, "leaky_relu", 0.5, ULP, 0, ULP, 1, -INFINITY, INFINITY},
    {FGD_ACT_ELU, "elu", 2.5, ULP, 0.5, UNITS, 1, -1, INFINITY},
    {FGD_ACT_SELU, "selu", 2.5, ULP, 1, UNITS, 1, -2, INFINITY},
    {FGD_ACT_GELU, "gelu", 4, ULP, 3, UNITS, 0, -INFINITY, INFINITY},
    {FGD_ACT_SILU, "silu", 3.5, ULP, 4, UNITS, 0, -INFINITY, INFINITY},
    {FGD_ACT_MISH, "mish", 4, ULP, 5, UNITS, 0, -INFINITY, INFINITY},
    {FGD_ACT_SOFTPLUS, "softplus", 2.5, ULP, 2.5, ULP, 0, -INFINITY, INFINITY},
    {FGD_ACT_SOFTSIGN, "softsign", 1.5, ULP, 3.5, ULP, 0, -INFINITY, INFINITY},
    {FGD_ACT_TANH, "tanh", 3, ULP, 0.5, UNITS, 1, -1, 1},
    {FGD_ACT_SIGMOID, "sigmoid", 2.5, ULP, 0.5, UNITS, 1, 0, 1},
    {FGD_ACT_HARD_SIGMOID, "hard_sigmoid", 1.5, UNITS, 0.5, ULP, 0, -INFINITY, INFINITY},
    {FGD_ACT_EXP, "exp", 1, ULP, 0, ULP, 1, -INFINITY, INFINITY},
};
enum { N_ACTS = sizeof table / sizeof table[0] };

/* The parameter that these tests give an activation. */
static double param_of(fgd_act act)
{
    return act == FGD_ACT_ELU          ? (double)elu_alpha
           : act == FGD_ACT_LEAKY_RELU ? (double)leaky_alpha
                                       : 0;
}

#endif
