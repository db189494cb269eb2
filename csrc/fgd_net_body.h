/* Steps of a dense network for REAL and TYPE(name), TABLE being the member of fgd_kernels;
 * included by fgd_net.c.  Every function works on columns [c0, c0 + n) of the batch or rows
 * [r0, r1) of the weights, so that threads share a step without sharing an element. */

static const REAL *TYPE(layer_input)(const fgd_net *net, size_t l, int dropout, const REAL *input)
{
    if (l == 0) return input;
    const fgd_layer *below = &net->layers[l - 1];
    return dropout && below->dropped ? below->dropped : below->a;
}

/* The batch's rows of the caller's X. */
static void TYPE(load_input)(const fgd_net *net, const TYPE(table) * t, const fgd_batch *batch,
                             size_t c0, size_t n, REAL *input)
{
    t->gather(&batch->data->x, batch->order, batch->first, batch->n, c0, n, input, net->ldb);
}

/* What belongs to the samples beside X: target, weight, coef. */
static void TYPE(load_target)(const fgd_net *net, const TYPE(table) * t, const fgd_batch *batch,
                              size_t c0, size_t n)
{
    const fgd_data *data = batch->data;
    REAL *target = net->target, *coef = net->coef, *weight = net->weight;
    if (data->labels) {
        for (size_t s = c0; s < c0 + n; s++)
            target[s] = s < batch->n ? (REAL)data->labels[fgd_row(batch, s)] : 0;
    } else if (data->y.data) {
        t->gather(&data->y, batch->order, batch->first, batch->n, c0, n, target, net->ldb);
    }
    const int is_sum = net->account == FGD_ACCOUNT_SUM;
    const double scale = net->grad_scale;
    if (!data->weights) {
        const REAL share = (REAL)(scale * (is_sum ? 1 : 1 / (double)batch->n));
        for (size_t s = c0; s < c0 + n; s++) coef[s] = s < batch->n ? share : 0;
        return;
    }
    double chain[16] = {0};
    for (size_t s = 0; s < batch->n; s++)
        chain[s % 16] += (double)(REAL)data->weights[fgd_row(batch, s)];
    const double total = is_sum ? 1 : fgd_tree16(chain);
    for (size_t s = c0; s < c0 + n; s++) {
        weight[s] = s < batch->n ? (REAL)data->weights[fgd_row(batch, s)] : 0;
        coef[s] = total != 0 ? (REAL)(scale * ((double)weight[s] / total)) : 0;
    }
}

/* Columns [c0, c0 + n) of a pass; the first n_samples of them hold samples. */
typedef struct {
    size_t c0, n, n_samples;
    REAL *scratch;
    const REAL *input;    /* the batch of X that the thread reads */
    const fgd_look *look; /* or NULL */
    fgd_ahead *ahead;     /* or NULL: what the products of the pass ask for beside their own */
} TYPE(columns);

/* The units [begin, end) of a layer, whole vectors of them but for its last. */
typedef struct {
    size_t begin, end;
} TYPE(units);

static TYPE(units) TYPE(all_units)(const fgd_layer *layer)
{
    return (TYPE(units)){0, layer->fan_out};
}

static TYPE(units) TYPE(units_of)(const fgd_layer *layer, const fgd_worker *worker)
{
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL), vectors = layer->padded / unit;
    const size_t id = (size_t)worker->id, workers = (size_t)worker->n_threads;
    const size_t end = fgd_share(vectors, id + 1, workers) * unit;
    return (TYPE(units)){fgd_share(vectors, id, workers) * unit,
                         end < layer->fan_out ? end : layer->fan_out};
}

static int TYPE(is_by_units)(const fgd_layer *layer, const fgd_worker *worker)
{
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    return worker->n_threads > 1 && layer->padded / unit >= (size_t)worker->n_threads &&
           is_large(layer, sizeof(REAL));
}

static TYPE(columns) TYPE(columns_of)(const fgd_batch *batch, size_t c0, size_t n, REAL *scratch,
                                      const REAL *input, const fgd_look *look)
{
    const size_t left = batch->n > c0 ? batch->n - c0 : 0;
    return (TYPE(columns)){c0, n, left < n ? left : n, scratch, input, look, NULL};
}

/* Whether so few samples pass a layer that its weights had better be read as they lie. */
static int TYPE(is_thin)(const TYPE(table) * t, const fgd_layer *layer, const TYPE(columns) * cols)
{
    return cols->n == FGD_ALIGN_BYTES / sizeof(REAL) && t->lanes > 1 &&
           fgd_is_thin(layer, cols->n, cols->n_samples);
}

/* The same sums sample-major, with the units across the lanes: W streams by once, and lanes
 * without a sample cost nothing. */
static void TYPE(thin_pre_activation)(const fgd_net *net, const TYPE(table) * t,
                                      const fgd_layer *layer, const REAL *x,
                                      const TYPE(columns) * cols, TYPE(units) units, REAL *z)
{
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL), begin = units.begin;
    const size_t padded = (units.end - begin + unit - 1) / unit * unit;
    const size_t lds = padded_stride(net->dtype, padded);
    const REAL *bias = (const REAL *)layer->b + begin;
    for (size_t s = 0; s < cols->n; s++) {
        REAL *row = cols->scratch + s * lds;
        if (s < cols->n_samples)
            memcpy(row, bias, padded * sizeof(REAL));
        else
            memset(row, 0, padded * sizeof(REAL));
    }
    const REAL *w = (const REAL *)layer->w + begin;
    const size_t most = fgd_active_blocking->most_rows,
                 fit = FGD_THIN_BYTES / sizeof(REAL) / padded;
    FOR_BLOCKS(p, rows, layer->fan_in, fit < FGD_THIN_KC ? FGD_THIN_KC : fit < most ? fit : most)
    {
        if (cols->look && fgd_is_abandoned(cols->look)) return;
        const REAL *now = w + p * layer->ldw;
        const int is_last = p + rows == layer->fan_in; /* then what is there already is asked for */
        t->streamed_product(cols->n_samples, rows, padded, x + p * net->ldb, net->ldb, now,
                            layer->ldw, cols->scratch, lds, is_last ? now : now + rows * layer->ldw,
                            fgd_active_blocking->purpose);
    }
    t->transpose(cols->n, padded, cols->scratch, lds, z + begin * net->ldb + cols->c0, net->ldb);
}

/* What the epilogues of a layer need; r0 and c0 are where the product's rows and columns begin. */
typedef struct {
    const fgd_net *net;
    const TYPE(table) * t;
    const fgd_layer *layer;
    size_t r0, end, c0; /* in an update: of W; end: of the rows that may be asked for ahead */
    const REAL *mask; /* of the layer below, or NULL */
    const fgd_update_params *params; /* of an update */
    int diverged; /* a weight would not have been finite */
} TYPE(layer_pass);

static void TYPE(activate_tile)(void *context, size_t i, size_t rows, size_t j, size_t n,
                                const REAL *z, size_t ldz)
{
    const TYPE(layer_pass) *pass = context;
    const fgd_layer *layer = pass->layer;
    const size_t ldb = pass->net->ldb;
    pass->t->act[layer->act](rows, n, z, ldz,
                             (REAL *)layer->a + (pass->r0 + i) * ldb + pass->c0 + j, ldb,
                             (REAL)layer->act_param);
}

/* z[units][n] = bias + W^T input, followed by the activation of pass unless that is NULL. */
static void TYPE(pre_activation)(const fgd_net *net, const TYPE(table) * t, size_t l,
                                 const TYPE(columns) * cols, TYPE(units) units, int dropout,
                                 REAL *z, TYPE(layer_pass) * pass)
{
    const fgd_layer *layer = &net->layers[l];
    const size_t c0 = cols->c0, n = cols->n, u0 = units.begin, m = units.end - u0;
    const REAL *x = TYPE(layer_input)(net, l, dropout, cols->input) + c0;
    if (layer->fan_out <= FGD_NARROW_UNITS) {
        t->chain16(layer->fan_out, layer->fan_in, n, x, net->ldb, layer->w, layer->ldw, layer->b,
                   z + c0, net->ldb);
        if (pass) TYPE(activate_tile)(pass, 0, layer->fan_out, 0, n, z + c0, net->ldb);
        return;
    }
    if (TYPE(is_thin)(t, layer, cols)) {
        TYPE(thin_pre_activation)(net, t, layer, x, cols, units, z);
        if (pass) TYPE(activate_tile)(pass, 0, m, 0, n, z + u0 * net->ldb + c0, net->ldb);
        return;
    }
    const int in_registers =
        pass && t->fuses && layer->act == FGD_ACT_RELU && z == (REAL *)layer->a;
    TYPE(product)
    product = {.m = m,
               .n = n,
               .k = layer->fan_in,
               .by_column = 1,
               .a = (const REAL *)layer->w + u0,
               .as = layer->ldw,
               .b = x,
               .ldb = net->ldb,
               .c = z + u0 * net->ldb + c0,
               .ldc = net->ldb,
               .bias = (const REAL *)layer->b + u0,
               .look = cols->look,
               .ahead = cols->ahead,
               .ends_in_relu = in_registers,
               .epilogue = pass && !in_registers ? TYPE(activate_tile) : NULL,
               .context = pass};
    TYPE(gemm)(t, &product);
}

/* z (if kept) and a of some units of one layer, but for softmax, which needs all of them; the
 * activation follows each tile of z while it is hot. */
static void TYPE(forward_units)(const fgd_net *net, const TYPE(table) * t, size_t l,
                                const TYPE(columns) * cols, TYPE(units) units, int dropout,
                                int want_a)
{
    const fgd_layer *layer = &net->layers[l];
    REAL *a = layer->a, *z = layer->z ? layer->z : a;
    const int in_place_identity = layer->act == FGD_ACT_IDENTITY && z == a;
    TYPE(layer_pass)
    pass = {.net = net, .t = t, .layer = layer, .r0 = units.begin, .c0 = cols->c0};
    const int elementwise = want_a && layer->act != FGD_ACT_SOFTMAX && !in_place_identity;
    TYPE(pre_activation)(net, t, l, cols, units, dropout, z, elementwise ? &pass : NULL);
}

static void TYPE(softmax)(const fgd_net *net, const TYPE(table) * t, size_t l,
                          const TYPE(columns) * cols, int want_a)
{
    const fgd_layer *layer = &net->layers[l];
    if (want_a && layer->act == FGD_ACT_SOFTMAX && cols->n > 0)
        t->softmax(layer->fan_out, cols->n, (const REAL *)layer->z + cols->c0, net->ldb,
                   (REAL *)layer->a + cols->c0, net->ldb);
}

static void TYPE(forward)(const fgd_net *net, const TYPE(table) * t, size_t l,
                          const TYPE(columns) * cols, int dropout, int want_a)
{
    TYPE(forward_units)(net, t, l, cols, TYPE(all_units)(&net->layers[l]), dropout, want_a);
    TYPE(softmax)(net, t, l, cols, want_a);
}

static void TYPE(drop)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t c0, size_t n,
                       uint64_t step)
{
    const fgd_layer *layer = &net->layers[l];
    t->dropout(layer->fan_out, n, 0, c0, (REAL *)layer->a + c0, net->ldb,
               (REAL *)layer->dropped + c0, net->ldb, (REAL *)layer->mask + c0, net->ldb, net->seed,
               step, (uint32_t)l, layer->dropout);
}

/* d[units][n] of the last layer: dL/da becomes dL/dz. */
static void TYPE(output_grad)(const fgd_net *net, const TYPE(table) * t, size_t c0, size_t n)
{
    const fgd_layer *last = &net->layers[net->n_layers - 1];
    const size_t ldb = net->ldb;
    REAL *delta = (REAL *)last->delta + c0;
    if (last->act == FGD_ACT_SOFTMAX) {
        t->softmax_grad(last->fan_out, n, (const REAL *)last->a + c0, ldb, delta, ldb);
    } else {
        const REAL *x = fgd_act_consumes_z(last->act) ? last->z : last->a;
        t->act_grad[last->act](last->fan_out, n, x + c0, ldb, delta, ldb, (REAL)last->act_param);
    }
}

/* Losses of the samples and, unless only values are wanted, delta = dL/dz of the last layer. */
static void TYPE(loss)(const fgd_net *net, const TYPE(table) * t, size_t c0, size_t n,
                       int want_delta)
{
    const fgd_layer *last = &net->layers[net->n_layers - 1];
    const size_t ldb = net->ldb;
    const int from_z = fgd_loss_from_z(net->loss);
    const REAL *x = (from_z ? (const REAL *)last->z : (const REAL *)last->a) + c0;
    t->loss[net->loss](last->fan_out, n, x, ldb, (const REAL *)net->target + c0, ldb,
                       (const REAL *)net->coef + c0, want_delta ? (REAL *)last->delta + c0 : NULL,
                       ldb, (REAL *)net->sample_loss + c0, (REAL)net->loss_param);
    if (want_delta && !from_z) TYPE(output_grad)(net, t, c0, n);
}

/* The rows of dL/da become rows of delta: pass->layer is the layer below. */
static void TYPE(derive_tile)(void *context, size_t i, size_t rows, size_t j, size_t n,
                              const REAL *c, size_t ldc)
{
    const TYPE(layer_pass) *pass = context;
    const fgd_layer *below = pass->layer;
    const size_t ldb = pass->net->ldb, at = (pass->r0 + i) * ldb + pass->c0 + j;
    const REAL *x = (fgd_act_consumes_z(below->act) ? (REAL *)below->z : (REAL *)below->a) + at;
    REAL *d = (REAL *)below->delta + at;
    (void)c, (void)ldc; /* they are d and ldb */
    if (pass->mask) pass->t->multiply(rows, n, d, ldb, pass->mask + at, ldb);
    pass->t->act_grad[below->act](rows, n, x, ldb, d, ldb, (REAL)below->act_param);
}

/* The same product for few samples, with rows of W across the lanes, so that lanes without a sample
 * cost nothing.  For whole vectors of rows from units.begin on; returns how many rows it has done. */
static size_t TYPE(thin_backward)(const fgd_net *net, const TYPE(table) * t, const fgd_layer *layer,
                                  const TYPE(columns) * cols, TYPE(units) units,
                                  TYPE(layer_pass) * pass)
{
    enum { UNIT = FGD_ALIGN_BYTES / sizeof(REAL) };
    const size_t whole = (units.end - units.begin) / UNIT * UNIT;
    const REAL *delta = (const REAL *)layer->delta + cols->c0;
    REAL *below = (REAL *)pass->layer->delta + units.begin * net->ldb + cols->c0;
    REAL sums[UNIT * UNIT] = {0}; /* [samples][rows]; zero in columns without a sample */
    for (size_t i = 0; i < whole; i += UNIT) {
        if (cols->look && fgd_is_abandoned(cols->look)) return whole;
        const REAL *w = (const REAL *)layer->w + (units.begin + i) * layer->ldw;
        t->turned_product(UNIT, cols->n_samples, layer->fan_out, w, layer->ldw, delta, net->ldb,
                          sums, UNIT);
        t->transpose(UNIT, UNIT, sums, UNIT, below + i * net->ldb, net->ldb);
        TYPE(derive_tile)(pass, i, UNIT, 0, cols->n, NULL, 0);
    }
    return whole;
}

/* delta of some units of layer l - 1 = (W_l delta_l) * mask * f'. */
static void TYPE(backward)(const fgd_net *net, const TYPE(table) * t, size_t l,
                           const TYPE(columns) * cols, TYPE(units) units, int dropout)
{
    const size_t c0 = cols->c0, n = cols->n;
    const fgd_layer *layer = &net->layers[l], *below = &net->layers[l - 1];
    TYPE(layer_pass) pass = {.net = net, .t = t, .layer = below, .r0 = units.begin, .c0 = c0};
    pass.mask = dropout ? below->mask : NULL;
    if (TYPE(is_thin)(t, layer, cols) && fgd_is_turned(n, cols->n_samples)) {
        units.begin += TYPE(thin_backward)(net, t, layer, cols, units, &pass);
        if (units.begin == units.end) return;
        pass.r0 = units.begin;
    }
    const size_t r0 = units.begin;
    const int in_registers = t->fuses && below->act == FGD_ACT_RELU && !pass.mask;
    TYPE(product)
    product = {.m = units.end - r0,
               .n = n,
               .k = layer->fan_out,
               .a = (const REAL *)layer->w + r0 * layer->ldw,
               .as = layer->ldw,
               .b = (REAL *)layer->delta + c0,
               .ldb = net->ldb,
               .c = (REAL *)below->delta + r0 * net->ldb + c0,
               .ldc = net->ldb,
               .look = cols->look,
               .ahead = cols->ahead,
               .gate = in_registers ? (REAL *)below->a + r0 * net->ldb + c0 : NULL,
               .epilogue = in_registers ? NULL : TYPE(derive_tile),
               .context = &pass};
    TYPE(gemm)(t, &product);
}

/* Columns [c0, c0 + n) of delta become rows of delta_t; of one thread, which has all columns, their
 * sums over the batch become db. */
static void TYPE(turn_delta)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t c0,
                             size_t n, int is_alone, size_t n_samples)
{
    const fgd_layer *layer = &net->layers[l];
    const REAL *delta = (const REAL *)layer->delta + c0;
    REAL *turned = (REAL *)layer->delta_t + c0 * layer->ldw;
    if (is_alone)
        t->transpose_and_sum(layer->padded, n, delta, net->ldb, turned, layer->ldw, n_samples,
                             layer->db);
    else
        t->transpose(layer->padded, n, delta, net->ldb, turned, layer->ldw);
}

/* Where a row of an optional state array starts. */
static REAL *TYPE(at)(void *base, size_t offset) { return base ? (REAL *)base + offset : NULL; }

/* Asks for the lines of a tile that will be written once its sums are there: they come from
 * beyond the second-level cache in large layers, while the micro-kernel works. */
static void TYPE(prefetch_rows)(const REAL *rows, size_t n_rows, size_t n, size_t stride)
{
    const size_t line = FGD_ALIGN_BYTES / sizeof(REAL);
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n; j += line) __builtin_prefetch(rows + i * stride + j, 1);
}

static void TYPE(announce_update)(void *context, size_t i, size_t rows, size_t j, size_t n,
                                  const REAL *c, size_t ldc)
{
    const TYPE(layer_pass) *pass = context;
    const fgd_layer *layer = pass->layer;
    /* The tile is there at once: one of some blocks later is asked for. */
    const size_t ahead = FGD_GROUP_ROWS;
    const size_t at = (pass->r0 + i + ahead) * layer->ldw + pass->c0 + j;
    (void)c, (void)ldc;
    if (pass->r0 + i + ahead + rows > pass->end) return;
    TYPE(prefetch_rows)((REAL *)layer->w + at, rows, n, layer->ldw);
    if (layer->w_s1) TYPE(prefetch_rows)((REAL *)layer->w_s1 + at, rows, n, layer->ldw);
    if (layer->w_s2) TYPE(prefetch_rows)((REAL *)layer->w_s2 + at, rows, n, layer->ldw);
}

static void TYPE(update_tile)(void *context, size_t i, size_t rows, size_t j, size_t n,
                              const REAL *g, size_t ldg)
{
    TYPE(layer_pass) *pass = context;
    const fgd_layer *layer = pass->layer;
    const size_t at = (pass->r0 + i) * layer->ldw + pass->c0 + j;
    pass->diverged |= pass->t->update[pass->net->opt](
        rows, n, (REAL *)layer->w + at, TYPE(at)(layer->w_s1, at), TYPE(at)(layer->w_s2, at),
        layer->ldw, g, ldg, pass->params);
}

/* Gradient sums of rows [r0, r1) of W: dW[r1 - r0][padded]; k = samples of the batch. */
static TYPE(product) TYPE(gradient)(const fgd_net *net, size_t l, size_t r0, size_t r1, size_t k,
                                    int dropout, const REAL *input)
{
    const fgd_layer *layer = &net->layers[l];
    return (TYPE(product)){.m = r1 - r0,
                           .n = layer->padded,
                           .k = k,
                           .a = TYPE(layer_input)(net, l, dropout, input) + r0 * net->ldb,
                           .as = net->ldb,
                           .b = layer->delta_t,
                           .ldb = layer->ldw};
}

/* Rows of W that are updated; those from end to known come next and may be asked for. */
typedef struct {
    size_t begin, end, known;
    int are_shared; /* other threads have read them, or lines beside them that a core fetches too */
} TYPE(rows);

/* The update of the weights from sgd->w on by the gradient of product, some rows at a time, while the
 * next ones are asked for, of n_known rows from there. */
static void TYPE(stream_update)(const TYPE(table) * t, const TYPE(product) * product,
                                TYPE(sgd) * sgd, size_t n_known, int are_shared, fgd_ahead *ahead)
{
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL), m = product->m;
    REAL *const w = sgd->w;
    FOR_BLOCKS(r, rows, m, unit)
    {
        sgd->w = w + (ptrdiff_t)r * sgd->ldw;
        const int is_last = r + rows >= n_known; /* then what is there already is asked for */
        /* Rows beyond the known ones are of another thread, which shall keep them. */
        const int are_own = is_last || r + 2 * rows <= n_known;
        t->streamed_update(rows, product->k, product->n, product->a + r * product->as, product->as,
                           product->b, product->ldb, sgd,
                           is_last ? sgd->w : sgd->w + (ptrdiff_t)rows * sgd->ldw,
                           are_shared && are_own ? FGD_TO_WRITE : fgd_active_blocking->purpose);
        if (ahead) fgd_look_ahead(ahead);
    }
}

/* Gradient sums of some rows of W, and of some units, go, tile by tile, straight into the update: no
 * gradient is stored. */
static int TYPE(update_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, TYPE(rows) rows,
                             TYPE(units) units, size_t k, int dropout, const REAL *input,
                             const fgd_update_params *params, REAL *scratch, fgd_ahead *ahead)
{
    const fgd_layer *layer = &net->layers[l];
    const size_t r0 = rows.begin, r1 = rows.end;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL), c0 = units.begin;
    TYPE(layer_pass) pass = {.net = net, .t = t, .layer = layer, .r0 = r0, .c0 = c0};
    fgd_update_params own;
    if (net->has_own && layer->own_w.is_frozen) return 0;
    pass.params = fgd_array_params(net, &layer->own_w, params, &own);
    TYPE(product) product = TYPE(gradient)(net, l, r0, r1, k, dropout, input);
    product.b += c0;
    product.n = (units.end - c0 + unit - 1) / unit * unit;
    pass.end = rows.known;
    const int few_samples = k <= FGD_ALIGN_BYTES / sizeof(REAL);
    product.most_m = fgd_net_block_rows(net, l, k, 0);
    product.scratch = scratch;
    product.ahead = ahead;
    product.epilogue = TYPE(update_tile);
    const fgd_update_params *p = pass.params;
    TYPE(sgd)
    sgd = {.ldw = (ptrdiff_t)layer->ldw,
           .neg_lr = (REAL)-p->lr,
           .has_terms = p->clip_value > 0 || p->weight_decay != 0,
           .clip = p->clip_value > 0 ? (REAL)p->clip_value : (REAL)__builtin_inf(),
           .decay = (REAL)p->weight_decay,
           .asks_to_write = rows.are_shared && fgd_is_near(layer, sizeof(REAL))};
    const int in_tile = t->fuses && net->opt == FGD_OPT_SGD && fgd_is_in_tile(p);
    if (in_tile && fgd_is_streamed(net, l, k)) {
        sgd.w = (REAL *)layer->w + r0 * layer->ldw + c0;
        TYPE(stream_update)(t, &product, &sgd, rows.known - r0, rows.are_shared, ahead);
        return sgd.diverged;
    }
    if (in_tile) {
        product.sgd = &sgd;
        product.weights = (REAL *)layer->w + r0 * layer->ldw + c0;
        product.epilogue = NULL;
    }
    if (fgd_is_far(layer, sizeof(REAL))) {
        if (few_samples) {
            product.announce = TYPE(announce_update);
        } else if (!(in_tile && sgd.asks_to_write)) { /* else tiles ask themselves */
            const size_t at = r0 * layer->ldw + c0;
            product.ldu = layer->ldw;
            product.updated[0] = (REAL *)layer->w + at;
            product.updated[1] = TYPE(at)(layer->w_s1, at);
            product.updated[2] = TYPE(at)(layer->w_s2, at);
        }
    }
    product.context = &pass;
    TYPE(gemm)(t, &product);
    return pass.diverged | sgd.diverged;
}

static void TYPE(sum_bias)(const TYPE(table) * t, const fgd_layer *layer, size_t k, REAL *db)
{
    t->column_sums(k, layer->padded, layer->delta_t, layer->ldw, db);
}

/* From db. */
static int TYPE(update_bias)(const fgd_net *net, const TYPE(table) * t, size_t l,
                             const fgd_update_params *params)
{
    const fgd_layer *layer = &net->layers[l];
    fgd_update_params own;
    if (!layer->use_bias || (net->has_own && layer->own_b.is_frozen)) return 0;
    params = fgd_array_params(net, &layer->own_b, params, &own);
    return t->update[net->opt](1, layer->padded, layer->b, layer->b_s1, layer->b_s2, layer->padded,
                               layer->db, layer->padded, params);
}

/* dw = sums over samples, rows [r0, r1) of W; with the first row db, those of the bias, unless it is
 * NULL. */
static void TYPE(gradient_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                                size_t r1, size_t k, int dropout, const REAL *input, REAL *dw,
                                REAL *db, const fgd_look *look)
{
    const fgd_layer *layer = &net->layers[l];
    TYPE(product) product = TYPE(gradient)(net, l, r0, r1, k, dropout, input);
    product.look = look;
    product.c = dw;
    product.ldc = layer->ldw;
    TYPE(gemm)(t, &product);
    if (r0 == 0 && db) TYPE(sum_bias)(t, layer, k, db);
}

/* Penalties and clipping by value join the stored gradient of rows [r0, r1). */
static void TYPE(finish_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                              size_t r1, const fgd_update_params *params)
{
    const fgd_layer *layer = &net->layers[l];
    fgd_update_params p = fgd_weight_params(layer, params), own;
    t->finish_grad(r1 - r0, layer->padded, (const REAL *)layer->w + r0 * layer->ldw, layer->ldw,
                   (REAL *)layer->dw + r0 * layer->ldw, layer->ldw,
                   fgd_array_params(net, &layer->own_w, &p, &own));
    p.l1 = p.l2 = 0;
    if (r0 == 0)
        t->finish_grad(1, layer->padded, layer->b, layer->padded, layer->db, layer->padded,
                       fgd_array_params(net, &layer->own_b, &p, &own));
}

static void TYPE(norm_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                            size_t r1)
{
    const fgd_layer *layer = &net->layers[l];
    for (size_t r = r0; r < r1; r++)
        layer->norm_rows[r] =
            t->row_sumsq(layer->fan_out, (const REAL *)layer->dw + r * layer->ldw);
}

/* Factor that brings the global norm of all stored gradients down to clip_norm. */
static double TYPE(norm_scale)(const fgd_net *net, const fgd_kernels *kernels)
{
    double sum = 0;
    for (size_t l = 0; l < net->n_layers; l++) {
        const fgd_layer *layer = &net->layers[l];
        sum += kernels->f64.sum16(layer->fan_in, layer->norm_rows, NULL);
        if (layer->use_bias) sum += kernels->TABLE.row_sumsq(layer->fan_out, layer->db);
    }
    const double scale = net->clip_norm / (__builtin_sqrt(sum) + 1e-6);
    return scale < 1 ? scale : 1;
}

static void TYPE(penalty_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                               size_t r1)
{
    const fgd_layer *layer = &net->layers[l];
    for (size_t r = r0; r < r1; r++) {
        const REAL *w = (const REAL *)layer->w + r * layer->ldw;
        double sum = 0;
        if (layer->l1 != 0) sum += layer->l1 * t->row_sumabs(layer->fan_out, w);
        if (layer->l2 != 0) sum += layer->l2 / 2 * t->row_sumsq(layer->fan_out, w);
        layer->penalty_rows[r] = sum;
    }
}

/* The update from stored gradients of rows [r0, r1); the bias with the first row. */
static int TYPE(apply_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                            size_t r1, const fgd_update_params *params)
{
    const fgd_layer *layer = &net->layers[l];
    const size_t at = r0 * layer->ldw;
    fgd_update_params own, p = *fgd_array_params(net, &layer->own_w, params, &own);
    p.scale = 1; /* it is in the gradient */
    int diverged = 0;
    if (!net->has_own || !layer->own_w.is_frozen)
        diverged = t->update[net->opt](r1 - r0, layer->padded, (REAL *)layer->w + at,
                                       TYPE(at)(layer->w_s1, at), TYPE(at)(layer->w_s2, at),
                                       layer->ldw, (const REAL *)layer->dw + at, layer->ldw, &p);
    if (r0 == 0 && layer->use_bias && (!net->has_own || !layer->own_b.is_frozen)) {
        p = *fgd_array_params(net, &layer->own_b, params, &own);
        p.scale = 1;
        diverged |= t->update[net->opt](1, layer->padded, layer->b, layer->b_s1, layer->b_s2,
                                        layer->padded, layer->db, layer->padded, &p);
    }
    return diverged;
}

/* Outputs of columns [c0, c0 + n) go to the rows of the caller's array. */
static void TYPE(put_outputs)(const fgd_net *net, const TYPE(table) * t, const fgd_batch *batch,
                              size_t c0, size_t n, REAL *scratch)
{
    const fgd_layer *last = &net->layers[net->n_layers - 1];
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    for (size_t c = c0; c < c0 + n && c < batch->n; c += unit) {
        t->transpose(last->padded, unit, (const REAL *)last->a + c, net->ldb, scratch,
                     last->padded);
        for (size_t s = c; s < c + unit && s < batch->n; s++)
            memcpy((REAL *)batch->data->outputs +
                       (size_t)fgd_row(batch, s) * batch->data->output_stride,
                   scratch + (s - c) * last->padded, last->fan_out * sizeof(REAL));
    }
}

/* A thread's part of a step: its columns and all of the batch, and the input that it reads. */
typedef struct {
    const fgd_net *net;
    const TYPE(table) * t;
    const fgd_batch *batch;
    const fgd_worker *worker;
    TYPE(columns) own, all; /* own may be none */
    REAL *input;
} TYPE(part);

/* A step up to the loss: for the thread's columns, but for layers that are divided by units, where
 * all threads wait before and after they cross the columns.  is_complete: the last barrier came
 * after whatever other threads have written. */
static void TYPE(run_forward)(const TYPE(part) * part, uint64_t step)
{
    const fgd_net *net = part->net;
    const TYPE(table) *t = part->t;
    const fgd_batch *batch = part->batch;
    const fgd_worker *worker = part->worker;
    const size_t last = net->n_layers - 1, c0 = part->own.c0, n = part->own.n;
    int is_complete = 0;
    if (n > 0) TYPE(load_target)(net, t, batch, c0, n);
    if (TYPE(is_by_units)(&net->layers[0], worker)) {
        TYPE(load_input)(net, t, batch, 0, part->all.n, part->input);
        is_complete = 1; /* each thread has it all */
    } else if (n > 0) {
        TYPE(load_input)(net, t, batch, c0, n, part->input);
    }
    for (size_t l = 0; l <= last; l++) {
        const fgd_layer *layer = &net->layers[l];
        const int want_a = l < last || batch->data->outputs || !fgd_loss_from_z(net->loss);
        if (TYPE(is_by_units)(layer, worker)) {
            if (!is_complete) fgd_team_barrier(worker);
            TYPE(forward_units)(net, t, l, &part->all, TYPE(units_of)(layer, worker), 1, want_a);
            fgd_team_barrier(worker);
            TYPE(softmax)(net, t, l, &part->own, want_a);
            is_complete = 1;
        } else if (n > 0) {
            TYPE(forward)(net, t, l, &part->own, 1, want_a);
        }
        if (layer->dropped && n > 0) TYPE(drop)(net, t, l, c0, n, step);
        if (layer->dropped || !TYPE(is_by_units)(layer, worker)) is_complete = 0;
    }
    if (n > 0) {
        if (batch->data->outputs) TYPE(put_outputs)(net, t, batch, c0, n, part->own.scratch);
        TYPE(loss)(net, t, c0, n, 1);
    }
}

/* delta of the layer below, and the update, of rows [r0, r1) of W, a block at a time, so that the
 * update finds its weights in the second-level cache. */
static int TYPE(derive_and_update)(const TYPE(part) * part, size_t l, size_t r0, size_t r1,
                                   const fgd_update_params *params)
{
    const size_t n = part->batch->n, unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const fgd_layer *layer = &part->net->layers[l];
    const fgd_update_params p = fgd_weight_params(layer, params);
    /* Rows that are turned or streamed are asked for; of others the processor sees what comes next. */
    const int asks = fgd_is_turned(unit, n) || fgd_is_streamed(part->net, l, n);
    int diverged = 0;
    for (size_t r = r0; r < r1; r += unit) { /* as many as are turned at once */
        const size_t end = r1 - r < unit ? r1 : r + unit;
        TYPE(backward)(part->net, part->t, l, &part->all, (TYPE(units)){r, end}, 1);
        const TYPE(rows) rows = {r, end, asks ? r1 : end, part->worker->n_threads > 1};
        diverged |= TYPE(update_rows)(part->net, part->t, l, rows, TYPE(all_units)(layer), n, 1,
                                      part->input, &p, part->own.scratch, part->own.ahead);
    }
    return diverged;
}

/* delta of every layer, divided among the threads as in run_forward.  params: NULL, or those of the
 * step, with which weights that are to be read once are updated; returns whether one was kept. */
static int TYPE(run_backward)(const TYPE(part) * part, const fgd_update_params *params)
{
    const fgd_net *net = part->net;
    const TYPE(table) *t = part->t;
    const fgd_worker *worker = part->worker;
    const size_t c0 = part->own.c0, n = part->own.n;
    const size_t id = (size_t)worker->id, workers = (size_t)worker->n_threads;
    int is_complete = 0, diverged = 0;
    for (size_t l = net->n_layers - 1;; l--) {
        const fgd_layer *layer = &net->layers[l];
        if (n > 0) TYPE(turn_delta)(net, t, l, c0, n, workers == 1, part->batch->n);
        if (l == 0) return diverged;
        const TYPE(units) below = {fgd_share(layer->fan_in, id, workers),
                                   fgd_share(layer->fan_in, id + 1, workers)};
        if (params && fgd_is_read_once(net, l, part->batch->n)) {
            fgd_team_barrier(worker); /* the update reads what has just been turned */
            diverged |= TYPE(derive_and_update)(part, l, below.begin, below.end, params);
            fgd_team_barrier(worker);
            is_complete = 1;
        } else if (TYPE(is_by_units)(layer, worker)) {
            if (!is_complete) fgd_team_barrier(worker);
            TYPE(backward)(net, t, l, &part->all, below, 1);
            fgd_team_barrier(worker);
            is_complete = 1;
        } else {
            if (n > 0) TYPE(backward)(net, t, l, &part->own, (TYPE(units)){0, layer->fan_in}, 1);
            is_complete = 0;
        }
    }
}

static double TYPE(weight_sum)(const fgd_net *net, const TYPE(table) * t, const fgd_batch *batch)
{
    return batch->data->weights ? t->sum16(batch->n, net->weight, NULL) : (double)batch->n;
}

static void TYPE(batch_loss)(const fgd_net *net, const TYPE(table) * t, const fgd_batch *batch,
                             double *loss_sum, double *weight_sum)
{
    *loss_sum = t->sum16(batch->n, net->sample_loss, batch->data->weights ? net->weight : NULL);
    *weight_sum = TYPE(weight_sum)(net, t, batch);
}

/* The rows of X that the thread will gather in step i of the run, and what belongs to them; each of so
 * many calls of fgd_look_ahead asks for as many. */
static fgd_ahead TYPE(plan_ahead)(const fgd_run *run, size_t i, size_t calls,
                                  const fgd_worker *worker)
{
    const fgd_data *data = run->data;
    const size_t done = i * run->batch_size, unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const size_t left = run->n_rows > done ? run->n_rows - done : 0;
    const size_t n = left < run->batch_size ? left : run->batch_size;
    const size_t units = (n + unit - 1) / unit;
    const size_t id = (size_t)worker->id, workers = (size_t)worker->n_threads;
    const int has_all = TYPE(is_by_units)(&run->net->layers[0], worker);
    const size_t begin = has_all ? 0 : fgd_share(units, id, workers) * unit;
    const size_t end = has_all ? n : fgd_share(units, id + 1, workers) * unit;
    const int asks_y = data->y.data && fgd_is_short(&data->y);
    fgd_ahead ahead = {.data = data, .y = asks_y ? &data->y : NULL, .order = run->order};
    ahead.at = run->first + done + (begin < n ? begin : n);
    ahead.end = run->first + done + (end < n ? end : n);
    ahead.share = calls ? (ahead.end - ahead.at + calls - 1) / calls : 0;
    return ahead;
}

static void TYPE(train_online)(fgd_run *run)
{
    fgd_net *net = run->net;
    fgd_layer *layer = &net->layers[0];
    fgd_progress *progress = run->progress;
    const size_t fan_in = layer->fan_in, padded = (fan_in + 15) / 16 * 16;
    const TYPE(table) *t =
        fgd_is_narrow(net, run->kernels) ? &run->kernels->narrow->TABLE : &run->kernels->TABLE;
    REAL *w = net->scratch[0], *column = layer->w;
    const int is_identity = layer->act == FGD_ACT_IDENTITY;
    /* One sum of losses, wherever time cuts the run into calls. */
    TYPE(online_run)
    online = {.loss_sum = progress->loss_sum,
              .x = &run->data->x,
              .y = &run->data->y,
              .order = run->order,
              .first = run->first,
              .end = run->first + run->n_rows,
              .lrs = run->lrs,
              .act = is_identity ? NULL : t->act[layer->act],
              .act_grad = is_identity ? NULL : t->act_grad[layer->act],
              .loss = t->loss[net->loss],
              .act_param = (REAL)layer->act_param,
              .loss_param = (REAL)net->loss_param,
              .loss_from_z = fgd_loss_from_z(net->loss),
              .grad_from_z = fgd_act_consumes_z(layer->act),
              .use_bias = layer->use_bias,
              .w = w,
              .b = layer->b,
              .new_w = w + padded,
              .buffer = w + 2 * padded};
    for (size_t i = 0; i < padded; i++) w[i] = i < fan_in ? column[i * layer->ldw] : -(REAL)0;
    while (online.done < run->n_steps && online.outcome == FGD_TRAINED) {
        const size_t left = run->n_steps - online.done;
        t->online(&online, left < FGD_ONLINE_STEPS ? left : FGD_ONLINE_STEPS);
        if (fgd_seconds() > run->deadline) break;
    }
    for (size_t i = 0; i < fan_in; i++) column[i * layer->ldw] = online.w[i];
    progress->n_steps += online.done;
    progress->loss_sum = online.loss_sum;
    progress->weight_sum += (double)online.done;
    progress->last_loss = online.last_loss;
    progress->outcome = online.outcome;
}

static void TYPE(train_region)(void *context, const fgd_worker *worker)
{
    fgd_run *run = context;
    fgd_net *net = run->net;
    const TYPE(table) *t = &run->kernels->TABLE;
    REAL *scratch = net->scratch[worker->id];
    REAL *input = net->input[TYPE(is_by_units)(&net->layers[0], worker) ? worker->id : 0];
    if (!run->is_gradient && fgd_net_is_online(net, run->data, run->batch_size)) {
        if (worker->id == 0) TYPE(train_online)(run);
        return;
    }
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const size_t id = (size_t)worker->id, workers = (size_t)worker->n_threads;
    fgd_batch batch = {.data = run->data, .order = run->order};
    const int by_norm = net->clip_norm > 0;
    const int is_stored = run->is_gradient || fgd_net_needs_gradient(net, run->batch_size);
    const int looks = fgd_looks_around(net, run->batch_size);
    const int asks = fgd_asks_ahead(&run->data->x, run->order);
    size_t calls = 0; /* of fgd_look_ahead in the last step: another one has as many */
    for (size_t i = 0; i < run->n_steps; i++) {
        batch.first = run->first + i * run->batch_size;
        const size_t left = run->n_rows - i * run->batch_size;
        batch.n = left < run->batch_size ? left : run->batch_size;
        batch.lr = run->lrs[i];
        const uint64_t step = net->step + i;

        const size_t units = (batch.n + unit - 1) / unit;
        const size_t c0 = fgd_share(units, id, workers) * unit;
        const size_t c1 = fgd_share(units, id + 1, workers) * unit;
        const size_t n_all = units * unit;
        const fgd_look at_columns = {run, worker, FGD_IN_COLUMNS},
                       *look = looks ? &at_columns : NULL;
        TYPE(part)
        part = {.net = net,
                .t = t,
                .batch = &batch,
                .worker = worker,
                .own = TYPE(columns_of)(&batch, c0, c1 - c0, scratch, input, look),
                .all = TYPE(columns_of)(&batch, 0, n_all, scratch, input, look),
                .input = input};
        fgd_ahead ahead = {0};
        if (asks) {
            ahead = TYPE(plan_ahead)(run, i + fgd_steps_ahead(&batch), calls, worker);
            part.own.ahead = part.all.ahead = &ahead;
        }
        /* Not where a step is long enough to be abandoned before its first weight changes. */
        const int reads_once = !is_stored && !looks && fgd_reads_any_once(net, batch.n);
        TYPE(run_forward)(&part, step);
        if (!reads_once) TYPE(run_backward)(&part, NULL);
        for (size_t l = 0; l < net->n_layers; l++) {
            const size_t rows = net->layers[l].fan_in;
            if (fgd_has_penalty(&net->layers[l]))
                TYPE(penalty_rows)(net, t, l, fgd_share(rows, id, workers),
                                   fgd_share(rows, id + 1, workers));
        }
        fgd_team_barrier(worker);
        if (atomic_load_explicit(&run->abandoned, memory_order_relaxed) == FGD_IN_COLUMNS) break;

        /* Every thread computes the same sum, so that all agree on going on. */
        double loss_sum, weight_sum;
        TYPE(batch_loss)(net, t, &batch, &loss_sum, &weight_sum);
        if (!fgd_is_sound(net, loss_sum, weight_sum)) {
            if (id == 0) run->progress->outcome = FGD_LOSS_NOT_FINITE;
            break;
        }
        if (id == 0)
            add_loss(net, batch.n, loss_sum, weight_sum, fgd_penalty_of_rows(net, run->kernels),
                     run->progress);

        fgd_update_params params = step_params(net, step, batch.lr, weight_sum);
        int diverged = 0;
        if (reads_once) {
            diverged = TYPE(run_backward)(&part, &params);
            fgd_team_barrier(worker);
        }
        for (size_t l = 0; l < net->n_layers; l++) {
            const fgd_layer *layer = &net->layers[l];
            const size_t r0 = fgd_share(layer->fan_in, id, workers);
            const size_t r1 = fgd_share(layer->fan_in, id + 1, workers);
            if (is_stored) {
                const fgd_look at_rows = {run, worker, FGD_IN_ROWS};
                if (r1 == r0) continue;
                TYPE(gradient_rows)(net, t, l, r0, r1, batch.n, 1, input,
                                    (REAL *)layer->dw + r0 * layer->ldw,
                                    workers > 1 ? layer->db : NULL, looks ? &at_rows : NULL);
                TYPE(finish_rows)(net, t, l, r0, r1, &params);
                if (by_norm) TYPE(norm_rows)(net, t, l, r0, r1);
            } else {
                if (l % workers == id) {
                    if (workers > 1 && layer->use_bias)
                        TYPE(sum_bias)(t, layer, batch.n, layer->db);
                    diverged |= TYPE(update_bias)(net, t, l, &params);
                }
                if (reads_once && fgd_is_read_once(net, l, batch.n)) continue;
                const fgd_update_params p = fgd_weight_params(layer, &params);
                const int by_units = TYPE(is_by_units)(layer, worker);
                const TYPE(units) units =
                    by_units ? TYPE(units_of)(layer, worker) : TYPE(all_units)(layer);
                const size_t first = by_units ? 0 : r0, end = by_units ? layer->fan_in : r1;
                const TYPE(rows) rows = {first, end, end, workers > 1};
                if (end > first)
                    diverged |= TYPE(update_rows)(net, t, l, rows, units, batch.n, 1, input, &p,
                                                  scratch, part.own.ahead);
            }
        }
        if (is_stored) {
            fgd_team_barrier(worker);
            if (atomic_load_explicit(&run->abandoned, memory_order_relaxed) || run->is_gradient)
                break;
            if (by_norm) params.norm_scale = TYPE(norm_scale)(net, run->kernels);
            params.clip_value = 0;
            for (size_t l = 0; l < net->n_layers; l++) {
                const size_t rows = net->layers[l].fan_in;
                const size_t r0 = fgd_share(rows, id, workers),
                             r1 = fgd_share(rows, id + 1, workers);
                if (r1 > r0) diverged |= TYPE(apply_rows)(net, t, l, r0, r1, &params);
            }
        }
        if (diverged) atomic_store_explicit(&run->diverged, 1, memory_order_relaxed);
        if (asks) {
            calls = ahead.calls;
            /* What is left: all of it where no call was counted, as in a first step. */
            ahead.share = SIZE_MAX;
            fgd_look_ahead(&ahead);
        }
        /* Between the two barriers of a step nobody reads the flags: all agree on them. */
        if (id == 0 && i % run->clock_interval == 0 && fgd_seconds() > run->deadline)
            atomic_store_explicit(&run->stop, 1, memory_order_relaxed);
        fgd_team_barrier(worker);
        if (id == 0) run->progress->n_steps++;
        if (atomic_load_explicit(&run->diverged, memory_order_relaxed)) {
            if (id == 0) run->progress->outcome = FGD_WEIGHT_NOT_FINITE;
            break;
        }
        if (atomic_load_explicit(&run->stop, memory_order_relaxed)) break;
    }
    if (id == 0 && atomic_load_explicit(&run->abandoned, memory_order_relaxed))
        run->progress->outcome = FGD_INTERRUPTED;
}

static int TYPE(input_is_finite)(const fgd_net *net, const TYPE(table) * t, size_t c0, size_t n)
{
    const REAL *input = (const REAL *)net->input[0] + c0;
    for (size_t f = 0; f < net->n_inputs; f++)
        if (!t->all_finite(n, input + f * net->ldb)) return 0;
    return 1;
}

/* Each thread takes its share of the rows, in pieces, through columns of its own. */
static void TYPE(infer_region)(void *context, const fgd_worker *worker)
{
    fgd_run *run = context;
    fgd_net *net = run->net;
    const TYPE(table) *t = &run->kernels->TABLE;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL), vectors = net->capacity / unit;
    const size_t id = (size_t)worker->id, all = (size_t)worker->n_threads;
    const size_t workers = all < vectors ? all : vectors;
    if (id >= workers) return;
    const size_t most =
        vectors / workers < FGD_PIECE_SAMPLES / unit ? vectors / workers : FGD_PIECE_SAMPLES / unit;
    const size_t c0 = id * most * unit, units = (run->n_rows + unit - 1) / unit;
    const size_t begin = fgd_share(units, id, workers), end = fgd_share(units, id + 1, workers);
    const fgd_look look = {run, worker, FGD_IN_COLUMNS};
    const int looks = fgd_looks_around(net, run->n_rows);
    fgd_data data = *run->data;
    data.weights = NULL; /* a sample's loss has no use for them */
    for (size_t u = begin; u < end; u += most) {
        const size_t row = u * unit, n = (end - u < most ? end - u : most) * unit;
        const size_t left = run->n_rows - row, samples = left < n ? left : n;
        /* Column c0 + i holds row i of the piece. */
        const fgd_batch batch = {.data = &data, .first = run->first + row - c0, .n = c0 + samples};
        const TYPE(columns) cols = TYPE(columns_of)(&batch, c0, n, net->scratch[worker->id],
                                                    net->input[0], looks ? &look : NULL);
        TYPE(load_input)(net, t, &batch, c0, n, net->input[0]);
        /* Here, where they are in the cache, it costs little to look at them. */
        if (run->checks_input && !TYPE(input_is_finite)(net, t, c0, n)) {
            atomic_store_explicit(&run->diverged, 1, memory_order_relaxed);
            return;
        }
        for (size_t l = 0; l < net->n_layers; l++) TYPE(forward)(net, t, l, &cols, 0, 1);
        if (atomic_load_explicit(&run->abandoned, memory_order_relaxed)) return;
        if (data.outputs) TYPE(put_outputs)(net, t, &batch, c0, n, net->scratch[worker->id]);
        if (!run->losses) continue;
        TYPE(load_target)(net, t, &batch, c0, n);
        TYPE(loss)(net, t, c0, n, 0);
        memcpy((REAL *)run->losses + row, (const REAL *)net->sample_loss + c0,
               samples * sizeof(REAL));
    }
}

static void TYPE(gradient_of)(fgd_run *run, const fgd_batch *batch, size_t l, size_t r0, size_t r1,
                              void *dw, void *db)
{
    const fgd_worker alone = {0, 1};
    const fgd_look look = {run, &alone, FGD_IN_ROWS};
    TYPE(gradient_rows)(run->net, &fgd_active->TABLE, l, r0, r1, batch->n, batch->dropout,
                        run->net->input[0], dw, db, &look);
}

static int TYPE(update)(fgd_net *net, const fgd_batch *batch, size_t l, size_t r0, size_t r1,
                        const fgd_update_params *params)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    REAL *scratch = net->scratch[0];
    fgd_update_params p = *params;
    const TYPE(units) units = TYPE(all_units)(&net->layers[l]);
    const TYPE(rows) rows = {r0, r1, r1, 0};
    int diverged = TYPE(update_rows)(net, t, l, rows, units, batch->n, batch->dropout,
                                     net->input[0], &p, scratch, NULL);
    p.l1 = p.l2 = 0;
    if (r0 == 0) {
        TYPE(sum_bias)(t, &net->layers[l], batch->n, net->layers[l].db);
        diverged |= TYPE(update_bias)(net, t, l, &p);
    }
    return diverged;
}

static void TYPE(operate)(fgd_run *run, const fgd_batch *batch, fgd_op op, size_t l)
{
    fgd_net *net = run->net;
    const fgd_worker alone = {0, 1};
    const fgd_look look = {run, &alone, FGD_IN_COLUMNS};
    const TYPE(table) *t = &fgd_active->TABLE;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const size_t n = (batch->n + unit - 1) / unit * unit;
    const fgd_layer *layer = &net->layers[l];
    const TYPE(columns) cols = TYPE(columns_of)(batch, 0, n, net->scratch[0], net->input[0], &look);
    const int dropout = batch->dropout;
    switch (op) {
    case FGD_OP_LOAD:
        TYPE(load_input)(net, t, batch, 0, n, net->input[0]);
        TYPE(load_target)(net, t, batch, 0, n);
        break;
    case FGD_OP_PRE_ACTIVATION:
        TYPE(pre_activation)(net, t, l, &cols, TYPE(all_units)(layer), dropout, layer->delta, NULL);
        /* Sums of few samples fill pads as well, which stay in delta: an input that is not finite
         * made them NaN. */
        for (size_t r = layer->fan_out; r < layer->padded; r++)
            memset((REAL *)layer->delta + r * net->ldb, 0, n * sizeof(REAL));
        break;
    case FGD_OP_FORWARD: TYPE(forward)(net, t, l, &cols, dropout, 1); break;
    case FGD_OP_ACTIVATE:
        if (layer->act == FGD_ACT_SOFTMAX)
            t->softmax(layer->fan_out, n, layer->z, net->ldb, layer->a, net->ldb);
        else
            t->act[layer->act](layer->fan_out, n, layer->z, net->ldb, layer->a, net->ldb,
                               (REAL)layer->act_param);
        break;
    case FGD_OP_DROPOUT: TYPE(drop)(net, t, l, 0, n, net->step); break;
    case FGD_OP_LOSS: TYPE(loss)(net, t, 0, n, 1); break;
    case FGD_OP_OUTPUT_GRAD: TYPE(output_grad)(net, t, 0, n); break;
    case FGD_OP_BACKWARD: {
        /* In the blocks, and so by the tiles, of a step. */
        const size_t most = fgd_is_read_once(net, l, batch->n) ? unit : layer->fan_in;
        for (size_t r = 0; r < layer->fan_in; r += most) {
            const size_t end = layer->fan_in - r < most ? layer->fan_in : r + most;
            TYPE(backward)(net, t, l, &cols, (TYPE(units)){r, end}, dropout);
        }
        break;
    }
    case FGD_OP_TRANSPOSE: TYPE(turn_delta)(net, t, l, 0, n, 1, batch->n); break;
    case FGD_OP_FINISH: {
        const fgd_update_params params =
            step_params(net, net->step, batch->lr, TYPE(weight_sum)(net, t, batch));
        TYPE(finish_rows)(net, t, l, 0, layer->fan_in, &params);
        break;
    }
    }
}

static REAL *TYPE(buffer)(const fgd_net *net, fgd_buffer buffer, size_t l, size_t *features)
{
    const fgd_layer *layer = &net->layers[l];
    *features = layer->fan_out;
    switch (buffer) {
    case FGD_BUFFER_Z: return layer->z;
    case FGD_BUFFER_A: return layer->a;
    case FGD_BUFFER_DROPPED: return layer->dropped;
    case FGD_BUFFER_MASK: return layer->mask;
    case FGD_BUFFER_DELTA: return layer->delta;
    default: *features = net->n_inputs; return net->input[0];
    }
}

static void TYPE(put)(fgd_net *net, fgd_buffer which, size_t l, const fgd_matrix *matrix)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    size_t features;
    REAL *buffer = TYPE(buffer)(net, which, l, &features);
    t->gather(matrix, NULL, 0, matrix->rows, 0, (matrix->rows + unit - 1) / unit * unit, buffer,
              net->ldb);
}

static void TYPE(look_at)(const fgd_net *net, fgd_buffer which, size_t l, size_t n,
                          fgd_matrix *matrix)
{
    size_t features;
    const REAL *buffer = TYPE(buffer)(net, which, l, &features);
    *matrix = (fgd_matrix){.data = buffer,
                           .dtype = net->dtype,
                           .rows = n,
                           .cols = features,
                           .row_stride = sizeof(REAL),
                           .col_stride = (ptrdiff_t)(net->ldb * sizeof(REAL))};
}

static void TYPE(get)(const fgd_net *net, fgd_buffer which, size_t l, size_t n, REAL *out)
{
    size_t features;
    const REAL *buffer = TYPE(buffer)(net, which, l, &features);
    for (size_t s = 0; s < n; s++)
        for (size_t f = 0; f < features; f++) out[s * features + f] = buffer[f * net->ldb + s];
}

/* Whole vectors in place of the caller's arrays, the rest through a padded copy. */
static void TYPE(activate)(fgd_act act, double param, size_t n, const REAL *z, REAL *a)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    enum { UNIT = FGD_ALIGN_BYTES / sizeof(REAL) };
    const size_t whole = n / UNIT * UNIT;
    if (whole) t->act[act](1, whole, z, whole, a, whole, (REAL)param);
    if (whole == n) return;
    REAL rest[UNIT] = {0};
    memcpy(rest, z + whole, (n - whole) * sizeof(REAL));
    t->act[act](1, UNIT, rest, UNIT, rest, UNIT, (REAL)param);
    memcpy(a + whole, rest, (n - whole) * sizeof(REAL));
}

static void TYPE(activate_grad)(fgd_act act, double param, size_t n, const REAL *x, REAL *d)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    enum { UNIT = FGD_ALIGN_BYTES / sizeof(REAL) };
    const size_t whole = n / UNIT * UNIT;
    if (whole) t->act_grad[act](1, whole, x, whole, d, whole, (REAL)param);
    if (whole == n) return;
    REAL rest_x[UNIT] = {0}, rest_d[UNIT] = {0};
    memcpy(rest_x, x + whole, (n - whole) * sizeof(REAL));
    memcpy(rest_d, d + whole, (n - whole) * sizeof(REAL));
    t->act_grad[act](1, UNIT, rest_x, UNIT, rest_d, UNIT, (REAL)param);
    memcpy(d + whole, rest_d, (n - whole) * sizeof(REAL));
}

static double TYPE(global_norm_scale)(fgd_net *net)
{
    const fgd_kernels *kernels = fgd_active;
    for (size_t l = 0; l < net->n_layers; l++)
        TYPE(norm_rows)(net, &kernels->TABLE, l, 0, net->layers[l].fan_in);
    return TYPE(norm_scale)(net, kernels);
}

static int TYPE(apply)(fgd_net *net, size_t l, size_t r0, size_t r1,
                       const fgd_update_params *params)
{
    fgd_update_params p = *params;
    p.clip_value = 0; /* it is finished */
    return TYPE(apply_rows)(net, &fgd_active->TABLE, l, r0, r1, &p);
}
