/* The optimisers: one update of an array of weights from its summed gradient.  Each rule is
 * one function on vectors; FN(update) is the one loop around them, compiled once with the
 * gradient as it comes and once with scale, penalties, clipping and decay (see fgd_types.h).
 * Constants are computed in double and rounded once to REAL. */

/* What happens to a gradient before the rule sees it. */
typedef struct {
    VF scale, l1, l2, clip, norm_scale, decay;
} FN(grad_terms);

/* The constants of a rule; each sets what it uses. */
typedef struct {
    VF neg_lr, lr, momentum, undamped, keep1, new1, keep2, new2, eps, root_scale, shrink;
} FN(rule);

typedef VF (*FN(step))(VF w, VF g, VF *s1, VF *s2, const FN(rule) * rule);

FGD_INLINE FN(grad_terms) FN(make_grad_terms)(const fgd_update_params *p, double decay)
{
    FN(grad_terms) t;
    t.scale = V(set1)((REAL)p->scale);
    t.l1 = V(set1)((REAL)p->l1);
    t.l2 = V(set1)((REAL)p->l2);
    t.clip = p->clip_value > 0 ? V(set1)((REAL)p->clip_value) : V(infinity)();
    t.norm_scale = V(set1)((REAL)p->norm_scale);
    t.decay = V(set1)((REAL)decay);
    return t;
}
/* min(max(fma(l2, w, scale g) + l1 sign(w), -clip), clip) */
FGD_INLINE VF FN(penalised)(VF g, VF w, const FN(grad_terms) * t)
{
    const VF zero = V(zero)();
    const VF l1 = V(select)(V(eq)(w, zero), zero, V(copysign)(t->l1, w));
    g = V(add)(V(fma)(t->l2, w, V(mul)(t->scale, g)), l1);
    return V(min)(t->clip, V(max)(V(neg)(t->clip), g));
}

/* Applies step to every weight; t is NULL where the gradient is used as it comes. */
FGD_INLINE int FN(update)(size_t rows, size_t n, REAL *w, REAL *s1, REAL *s2, size_t ldw,
                          const REAL *g, size_t ldg, const FN(grad_terms) * t,
                          const FN(rule) * rule, const FN(step) step, const int n_states)
{
    VM finite = V(eq)(V(zero)(), V(zero)());
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j += LANES) {
            const size_t at = i * ldw + j;
            const VF w_old = V(load)(w + at);
            const VF s1_old = n_states > 0 ? V(load)(s1 + at) : V(zero)();
            const VF s2_old = n_states > 1 ? V(load)(s2 + at) : V(zero)();
            VF grad = V(load)(g + i * ldg + j), s1_new = s1_old, s2_new = s2_old;
            if (t) {
                grad = V(mul)(FN(penalised)(grad, w_old, t), t->norm_scale);
                grad = V(fma)(t->decay, w_old, grad);
            }
            const VF w_new = step(w_old, grad, &s1_new, &s2_new, rule);
            VM ok = V(lt)(V(abs)(w_new), V(infinity)());
            if (n_states > 0) ok = V(mand)(ok, V(lt)(V(abs)(s1_new), V(infinity)()));
            if (n_states > 1) ok = V(mand)(ok, V(lt)(V(abs)(s2_new), V(infinity)()));
            V(store)(w + at, V(select)(ok, w_new, w_old));
            if (n_states > 0) V(store)(s1 + at, V(select)(ok, s1_new, s1_old));
            if (n_states > 1) V(store)(s2 + at, V(select)(ok, s2_new, s2_old));
            finite = V(mand)(finite, ok);
        }
    return V(any)(V(mnot)(finite));
}
/* decay: the weight decay that joins the gradient. */
FGD_INLINE int FN(run_update)(size_t rows, size_t n, REAL *w, REAL *s1, REAL *s2, size_t ldw,
                              const REAL *g, size_t ldg, const fgd_update_params *p, double decay,
                              const FN(rule) * rule, const FN(step) step, const int n_states)
{
    if (p->scale == 1 && p->l1 == 0 && p->l2 == 0 && p->clip_value == 0 && p->norm_scale == 1 &&
        decay == 0)
        return FN(update)(rows, n, w, s1, s2, ldw, g, ldg, NULL, rule, step, n_states);
    const FN(grad_terms) t = FN(make_grad_terms)(p, decay);
    return FN(update)(rows, n, w, s1, s2, ldw, g, ldg, &t, rule, step, n_states);
}

/* update_<name>: w, s1 and s2 [rows][n], rows ldw apart; g [rows][n] the gradient summed over
 * samples, rows ldg apart, not overlapping them; n a multiple of UNIT.  A weight that would
 * become inf or NaN, or one of whose states would, keeps its old value and states; the result is
 * then nonzero.  Adam, RMSprop and Adagrad need eps >= the smallest normal of REAL, else pads would become 0 / 0. */
#define FGD_UPDATE(name)                                                                         \
    static int FN(update_##name)(size_t rows, size_t n, REAL *w, REAL *s1, REAL *s2, size_t ldw, \
                                 const REAL *g, size_t ldg, const fgd_update_params *p)
#define FGD_RUN(step, n_states, decay) \
    FN(run_update)(rows, n, w, s1, s2, ldw, g, ldg, p, decay, &r, step, n_states)

/* w = fma(-lr, g, w) */
FGD_INLINE VF V(sgd_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    (void)s1, (void)s2;
    return V(fma)(r->neg_lr, g, w);
}
FGD_UPDATE(sgd)
{
    FN(rule) r;
    r.neg_lr = V(set1)((REAL)-p->lr);
    return FGD_RUN(V(sgd_step), 0, p->weight_decay);
}

/* v = fma(mu, v, g), then w = fma(-lr, v, w); Nesterov: w = fma(-lr, fma(mu, v, g), w).
 * Dampened, without Nesterov: v = fma(mu, v, (1 - dampening) g). */
FGD_INLINE VF V(momentum_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    (void)s2;
    *s1 = V(fma)(r->momentum, *s1, g);
    return V(fma)(r->neg_lr, *s1, w);
}
FGD_INLINE VF V(dampened_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    return V(momentum_step)(w, V(mul)(r->undamped, g), s1, s2, r);
}
FGD_INLINE VF V(nesterov_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    (void)s2;
    *s1 = V(fma)(r->momentum, *s1, g);
    return V(fma)(r->neg_lr, V(fma)(r->momentum, *s1, g), w);
}
/* scikit-learn's velocity holds lr: v = fma(mu, v, -lr g), then w += v; Nesterov:
 * w += fma(mu, v, -lr g). */
FGD_INLINE VF V(sklearn_momentum_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    (void)s2;
    *s1 = V(fma)(r->momentum, *s1, V(mul)(r->neg_lr, g));
    return V(add)(w, *s1);
}
FGD_INLINE VF V(sklearn_nesterov_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    (void)s2;
    const VF step = V(mul)(r->neg_lr, g);
    *s1 = V(fma)(r->momentum, *s1, step);
    return V(add)(w, V(fma)(r->momentum, *s1, step));
}
FGD_UPDATE(momentum)
{
    FN(rule) r;
    r.neg_lr = V(set1)((REAL)-p->lr);
    r.momentum = V(set1)((REAL)p->momentum);
    if (p->variant == FGD_VARIANT_SKLEARN)
        return p->nesterov ? FGD_RUN(V(sklearn_nesterov_step), 1, p->weight_decay)
                           : FGD_RUN(V(sklearn_momentum_step), 1, p->weight_decay);
    if (p->dampening != 0) {
        r.undamped = V(set1)((REAL)(1 - p->dampening));
        return FGD_RUN(V(dampened_step), 1, p->weight_decay);
    }
    return p->nesterov ? FGD_RUN(V(nesterov_step), 1, p->weight_decay)
                       : FGD_RUN(V(momentum_step), 1, p->weight_decay);
}

/* m = fma(beta1, m, (1 - beta1) g), v = fma(beta2, v, ((1 - beta2) g) g), then
 * w = fma(-lr / bias1, m / fma(sqrt(v), 1 / sqrt(bias2), eps), w).  scikit-learn instead
 * leaves eps uncorrected: w = fma(-lr sqrt(bias2) / bias1, m / (sqrt(v) + eps), w), which is
 * the same with root_scale 1. */
FGD_INLINE VF V(adam_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    *s1 = V(fma)(r->keep1, *s1, V(mul)(r->new1, g));
    *s2 = V(fma)(r->keep2, *s2, V(mul)(V(mul)(r->new2, g), g));
    const VF denominator = V(fma)(V(sqrt)(*s2), r->root_scale, r->eps);
    return V(fma)(r->neg_lr, V(div)(*s1, denominator), w);
}
/* The weight shrinks by 1 - lr weight_decay first. */
FGD_INLINE VF V(adamw_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    return V(adam_step)(V(mul)(w, r->shrink), g, s1, s2, r);
}
FGD_INLINE double FN(root)(double x)
{
    double lanes[VF64_LANES];
    vf64_store(lanes, vf64_sqrt(vf64_set1(x)));
    return lanes[0];
}
FGD_INLINE FN(rule) FN(make_adam_rule)(const fgd_update_params *p)
{
    const double root = FN(root)(p->bias2);
    const int sklearn = p->variant == FGD_VARIANT_SKLEARN;
    FN(rule) r;
    r.neg_lr = V(set1)((REAL)(sklearn ? -(p->lr * root / p->bias1) : -(p->lr / p->bias1)));
    r.keep1 = V(set1)((REAL)p->beta1);
    r.new1 = V(set1)((REAL)(1 - p->beta1));
    r.keep2 = V(set1)((REAL)p->beta2);
    r.new2 = V(set1)((REAL)(1 - p->beta2));
    r.eps = V(set1)((REAL)p->eps);
    r.root_scale = V(set1)((REAL)(sklearn ? 1 : 1 / root));
    r.shrink = V(set1)((REAL)(1 - p->lr * p->weight_decay));
    return r;
}
FGD_UPDATE(adam)
{
    const FN(rule) r = FN(make_adam_rule)(p);
    return FGD_RUN(V(adam_step), 2, p->weight_decay);
}
FGD_UPDATE(adamw)
{
    const FN(rule) r = FN(make_adam_rule)(p);
    return FGD_RUN(V(adamw_step), 2, 0);
}

/* v = fma(alpha, v, ((1 - alpha) g) g), d = g / (sqrt(v) + eps), then w = fma(-lr, d, w);
 * with momentum: buf = fma(mu, buf, d), w = fma(-lr, buf, w).  alpha is p->beta2. */
FGD_INLINE VF V(rmsprop_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    (void)s2;
    *s1 = V(fma)(r->keep2, *s1, V(mul)(V(mul)(r->new2, g), g));
    return V(fma)(r->neg_lr, V(div)(g, V(add)(V(sqrt)(*s1), r->eps)), w);
}
FGD_INLINE VF V(rmsprop_momentum_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    *s1 = V(fma)(r->keep2, *s1, V(mul)(V(mul)(r->new2, g), g));
    *s2 = V(fma)(r->momentum, *s2, V(div)(g, V(add)(V(sqrt)(*s1), r->eps)));
    return V(fma)(r->neg_lr, *s2, w);
}
FGD_UPDATE(rmsprop)
{
    FN(rule) r;
    r.neg_lr = V(set1)((REAL)-p->lr);
    r.momentum = V(set1)((REAL)p->momentum);
    r.keep2 = V(set1)((REAL)p->beta2);
    r.new2 = V(set1)((REAL)(1 - p->beta2));
    r.eps = V(set1)((REAL)p->eps);
    return s2 ? FGD_RUN(V(rmsprop_momentum_step), 2, p->weight_decay)
              : FGD_RUN(V(rmsprop_step), 1, p->weight_decay);
}

/* s = fma(g, g, s), w = fma(-lr, g / (sqrt(s) + eps), w) */
FGD_INLINE VF V(adagrad_step)(VF w, VF g, VF *s1, VF *s2, const FN(rule) * r)
{
    (void)s2;
    *s1 = V(fma)(g, g, *s1);
    return V(fma)(r->neg_lr, V(div)(g, V(add)(V(sqrt)(*s1), r->eps)), w);
}
FGD_UPDATE(adagrad)
{
    FN(rule) r;
    r.neg_lr = V(set1)((REAL)-p->lr);
    r.eps = V(set1)((REAL)p->eps);
    return FGD_RUN(V(adagrad_step), 1, p->weight_decay);
}
#undef FGD_UPDATE
#undef FGD_RUN

/* Stored gradients: g = clipped(scale g + penalties) in place; norm_scale and weight_decay are
 * left to the update, which then gets scale 1, l1 = l2 = clip_value = 0 and gives the same
 * bits as the update of the raw sums. */
static void FN(finish_grad)(size_t rows, size_t n, const REAL *w, size_t ldw, REAL *g, size_t ldg,
                            const fgd_update_params *p)
{
    const FN(grad_terms) t = FN(make_grad_terms)(p, 0);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j += LANES) {
            REAL *const to = g + i * ldg + j;
            V(store)(to, FN(penalised)(V(load)(to), V(load)(w + i * ldw + j), &t));
        }
}
