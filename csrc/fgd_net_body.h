/* Steps of a dense network for REAL and TYPE(name), TABLE being the member of fgd_kernels;
 * included by fgd_net.c.  Every function works on columns [c0, c0 + n) of the batch or rows
 * [r0, r1) of the weights, so that threads share a step without sharing an element. */

static const REAL *TYPE(layer_input)(const fgd_net *net, size_t l, int dropout)
{
    if (l == 0) return net->input;
    const fgd_layer *below = &net->layers[l - 1];
    return dropout && below->dropped ? below->dropped : below->a;
}

/* IN: the batch's rows of the caller's data; OUT: input, target, weight, coef. */
static void TYPE(load)(const fgd_net *net, const TYPE(table) * t, const fgd_batch *batch, size_t c0,
                       size_t n, int with_target)
{
    const fgd_data *data = batch->data;
    t->gather(&data->x, batch->order, batch->first, batch->n, c0, n, net->input, net->ldb);
    if (!with_target) return;
    REAL *target = net->target, *coef = net->coef, *weight = net->weight;
    const size_t ahead = fgd_places_ahead(batch->n, 8);
    if (data->labels) {
        for (size_t s = c0; s < c0 + n; s++) {
            target[s] = s < batch->n ? (REAL)data->labels[fgd_row(batch, s)] : 0;
            fgd_prefetch_later(batch, ahead, s, data->labels);
        }
    } else if (data->y.data) {
        t->gather(&data->y, batch->order, batch->first, batch->n, c0, n, target, net->ldb);
    }
    double total = (double)batch->n;
    if (data->weights) {
        double chain[16] = {0};
        for (size_t s = 0; s < batch->n; s++)
            chain[s % 16] += (double)(REAL)data->weights[fgd_row(batch, s)];
        total = fgd_tree16(chain);
    }
    for (size_t s = c0; s < c0 + n; s++) {
        weight[s] = 0;
        if (s < batch->n) weight[s] = data->weights ? (REAL)data->weights[fgd_row(batch, s)] : 1;
        if (data->weights) fgd_prefetch_later(batch, ahead, s, data->weights);
        coef[s] = total > 0 ? (REAL)((double)weight[s] / total) : 0;
    }
}

/* z[fan_out][n] = bias + W^T input; no activation. */
static void TYPE(pre_activation)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t c0,
                                 size_t n, int dropout, REAL *z)
{
    const fgd_layer *layer = &net->layers[l];
    const REAL *x = TYPE(layer_input)(net, l, dropout) + c0, *w = layer->w, *b = layer->b;
    if (layer->fan_out <= FGD_NARROW_UNITS) {
        t->chain16(layer->fan_out, layer->fan_in, n, x, net->ldb, w, layer->ldw, b, z + c0,
                   net->ldb);
        return;
    }
    const size_t most = TYPE(band_rows)(t, n);
    FOR_BANDS(i, rows, layer->fan_out, most)
    TYPE(gemm_band)(t, 1, rows, n, layer->fan_in, w + i, layer->ldw, x, net->ldb,
                    z + i * net->ldb + c0, net->ldb, b + i);
}

/* z (if kept) and a of one layer; the activation follows each band of rows while it is hot. */
static void TYPE(forward)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t c0,
                          size_t n_all, int dropout, int want_a)
{
    const fgd_layer *layer = &net->layers[l];
    const size_t ldb = net->ldb;
    const REAL *w = layer->w, *b = layer->b;
    REAL *a = layer->a, *z = layer->z ? layer->z : a;
    const REAL param = (REAL)layer->act_param;
    const int narrow = layer->fan_out <= FGD_NARROW_UNITS;
    const int elementwise = want_a && layer->act != FGD_ACT_SOFTMAX;
    if (narrow) {
        TYPE(pre_activation)(net, t, l, c0, n_all, dropout, z);
        if (elementwise) t->act[layer->act](layer->fan_out, n_all, z + c0, ldb, a + c0, ldb, param);
    } else {
        const REAL *x = TYPE(layer_input)(net, l, dropout);
        const size_t block = TYPE(block_columns)(n_all, layer->fan_in);
        for (size_t c = c0; c < c0 + n_all; c += block) {
            const size_t n = c0 + n_all - c < block ? c0 + n_all - c : block;
            const size_t most = TYPE(band_rows)(t, n);
            FOR_BANDS(i, rows, layer->fan_out, most)
            {
                REAL *zi = z + i * ldb + c;
                TYPE(gemm_band)(t, 1, rows, n, layer->fan_in, w + i, layer->ldw, x + c, ldb, zi,
                                ldb, b + i);
                if (elementwise) t->act[layer->act](rows, n, zi, ldb, a + i * ldb + c, ldb, param);
            }
        }
    }
    if (want_a && !elementwise) t->softmax(layer->fan_out, n_all, z + c0, ldb, a + c0, ldb);
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

/* delta of layer l - 1 = (W_l delta_l) * mask * f'. */
static void TYPE(backward)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t c0,
                           size_t n_all, int dropout)
{
    const fgd_layer *layer = &net->layers[l], *below = &net->layers[l - 1];
    const size_t ldb = net->ldb;
    const REAL *w = layer->w, *delta = layer->delta, *mask = dropout ? below->mask : NULL;
    const REAL *x = fgd_act_consumes_z(below->act) ? below->z : below->a;
    REAL *d = below->delta;
    const size_t block = TYPE(block_columns)(n_all, layer->fan_out);
    for (size_t c = c0; c < c0 + n_all; c += block) {
        const size_t n = c0 + n_all - c < block ? c0 + n_all - c : block;
        const size_t most = TYPE(band_rows)(t, n);
        FOR_BANDS(i, rows, layer->fan_in, most)
        {
            REAL *di = d + i * ldb + c;
            TYPE(gemm_band)(t, 0, rows, n, layer->fan_out, w + i * layer->ldw, layer->ldw,
                            delta + c, ldb, di, ldb, NULL);
            if (mask) t->multiply(rows, n, di, ldb, mask + i * ldb + c, ldb);
            t->act_grad[below->act](rows, n, x + i * ldb + c, ldb, di, ldb, (REAL)below->act_param);
        }
    }
}

/* Columns [c0, c0 + n) of delta become rows of delta_t. */
static void TYPE(turn_delta)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t c0,
                             size_t n)
{
    const fgd_layer *layer = &net->layers[l];
    t->transpose(layer->padded, n, (const REAL *)layer->delta + c0, net->ldb,
                 (REAL *)layer->delta_t + c0 * layer->ldw, layer->ldw);
}

/* Where a row of an optional state array starts. */
static REAL *TYPE(at)(void *base, size_t offset) { return base ? (REAL *)base + offset : NULL; }

/* Asks for the lines of a band that will be written once its sums are there: they come from
 * beyond the second-level cache in large layers, while the micro-kernel works. */
static void TYPE(prefetch_rows)(const REAL *rows, size_t n_rows, size_t n, size_t stride)
{
    const size_t line = FGD_ALIGN_BYTES / sizeof(REAL);
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n; j += line) __builtin_prefetch(rows + i * stride + j, 1);
}

/* Gradient sums of rows [r0, r1) of W go, band by band, straight into the update: no gradient
 * is stored.  k = samples of the batch. */
static int TYPE(update_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                             size_t r1, size_t k, int dropout, const fgd_update_params *params,
                             REAL *scratch)
{
    const fgd_layer *layer = &net->layers[l];
    const REAL *a = TYPE(layer_input)(net, l, dropout), *delta_t = layer->delta_t;
    int diverged = 0;
    for (size_t j = 0; j < layer->padded; j += FGD_SCRATCH_COLUMNS) {
        const size_t left = layer->padded - j;
        const size_t n = left < FGD_SCRATCH_COLUMNS ? left : FGD_SCRATCH_COLUMNS;
        const size_t most = TYPE(band_rows)(t, n);
        FOR_BANDS(i, rows, r1 - r0, most)
        {
            const size_t r = r0 + i, at = r * layer->ldw + j;
            TYPE(prefetch_rows)((REAL *)layer->w + at, rows, n, layer->ldw);
            if (layer->w_s1) TYPE(prefetch_rows)((REAL *)layer->w_s1 + at, rows, n, layer->ldw);
            if (layer->w_s2) TYPE(prefetch_rows)((REAL *)layer->w_s2 + at, rows, n, layer->ldw);
            TYPE(gemm_band)(t, 0, rows, n, k, a + r * net->ldb, net->ldb, delta_t + j, layer->ldw,
                            scratch, n, NULL);
            diverged |=
                t->update[net->opt](rows, n, (REAL *)layer->w + at, TYPE(at)(layer->w_s1, at),
                                    TYPE(at)(layer->w_s2, at), layer->ldw, scratch, n, params);
        }
    }
    return diverged;
}

static int TYPE(update_bias)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t k,
                             const fgd_update_params *params, REAL *scratch)
{
    const fgd_layer *layer = &net->layers[l];
    int diverged = 0;
    if (!layer->use_bias) return 0;
    for (size_t j = 0; j < layer->padded; j += FGD_SCRATCH_COLUMNS) {
        const size_t left = layer->padded - j;
        const size_t n = left < FGD_SCRATCH_COLUMNS ? left : FGD_SCRATCH_COLUMNS;
        t->column_sums(k, n, (const REAL *)layer->delta_t + j, layer->ldw, scratch);
        diverged |=
            t->update[net->opt](1, n, (REAL *)layer->b + j, TYPE(at)(layer->b_s1, j),
                                TYPE(at)(layer->b_s2, j), layer->padded, scratch, n, params);
    }
    return diverged;
}

/* dw, db = sums over samples, rows [r0, r1) of W; the bias with the first row. */
static void TYPE(gradient_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                                size_t r1, size_t k, int dropout)
{
    const fgd_layer *layer = &net->layers[l];
    const REAL *a = TYPE(layer_input)(net, l, dropout), *delta_t = layer->delta_t;
    const size_t most = TYPE(band_rows)(t, layer->padded);
    FOR_BANDS(i, rows, r1 - r0, most)
    TYPE(gemm_band)(t, 0, rows, layer->padded, k, a + (r0 + i) * net->ldb, net->ldb, delta_t,
                    layer->ldw, (REAL *)layer->dw + (r0 + i) * layer->ldw, layer->ldw, NULL);
    if (r0 == 0) t->column_sums(k, layer->padded, delta_t, layer->ldw, layer->db);
}

/* Penalties and clipping by value join the stored gradient of rows [r0, r1). */
static void TYPE(finish_rows)(const fgd_net *net, const TYPE(table) * t, size_t l, size_t r0,
                              size_t r1, const fgd_update_params *params)
{
    const fgd_layer *layer = &net->layers[l];
    fgd_update_params p = *params;
    p.l1 = layer->l1;
    p.l2 = layer->l2;
    t->finish_grad(r1 - r0, layer->padded, (const REAL *)layer->w + r0 * layer->ldw, layer->ldw,
                   (REAL *)layer->dw + r0 * layer->ldw, layer->ldw, &p);
    p.l1 = p.l2 = 0;
    if (r0 == 0)
        t->finish_grad(1, layer->padded, layer->b, layer->padded, layer->db, layer->padded, &p);
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
static double TYPE(norm_scale)(const fgd_net *net, const TYPE(table) * t)
{
    double sum = 0;
    for (size_t l = 0; l < net->n_layers; l++) {
        const fgd_layer *layer = &net->layers[l];
        sum += fgd_active->f64.sum16(layer->fan_in, layer->norm_rows, NULL);
        if (layer->use_bias) sum += t->row_sumsq(layer->fan_out, layer->db);
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
    int diverged = t->update[net->opt](
        r1 - r0, layer->padded, (REAL *)layer->w + at, TYPE(at)(layer->w_s1, at),
        TYPE(at)(layer->w_s2, at), layer->ldw, (const REAL *)layer->dw + at, layer->ldw, params);
    if (r0 == 0 && layer->use_bias)
        diverged |= t->update[net->opt](1, layer->padded, layer->b, layer->b_s1, layer->b_s2,
                                        layer->padded, layer->db, layer->padded, params);
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

/* Everything of a step that one sample's column needs, up to delta of every layer. */
static void TYPE(columns)(const fgd_net *net, const TYPE(table) * t, const fgd_batch *batch,
                          uint64_t step, size_t c0, size_t n, REAL *scratch)
{
    const size_t last = net->n_layers - 1;
    TYPE(load)(net, t, batch, c0, n, 1);
    for (size_t l = 0; l <= last; l++) {
        const int want_a = l < last || batch->data->outputs || !fgd_loss_from_z(net->loss);
        TYPE(forward)(net, t, l, c0, n, 1, want_a);
        if (net->layers[l].dropped) TYPE(drop)(net, t, l, c0, n, step);
    }
    if (batch->data->outputs) TYPE(put_outputs)(net, t, batch, c0, n, scratch);
    TYPE(loss)(net, t, c0, n, 1);
    for (size_t l = last;; l--) {
        TYPE(turn_delta)(net, t, l, c0, n);
        if (l == 0) break;
        TYPE(backward)(net, t, l, c0, n, 1);
    }
}

static void TYPE(batch_loss)(const fgd_net *net, const fgd_batch *batch, double *loss_sum,
                             double *weight_sum)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    const REAL *weight = batch->data->weights ? net->weight : NULL;
    *loss_sum = t->sum16(batch->n, net->sample_loss, weight);
    *weight_sum = weight ? t->sum16(batch->n, weight, NULL) : (double)batch->n;
}

static void TYPE(train_region)(void *context, const fgd_worker *worker)
{
    fgd_run *run = context;
    fgd_net *net = run->net;
    const TYPE(table) *t = &run->kernels->TABLE;
    REAL *scratch = net->scratch[worker->id];
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const size_t id = (size_t)worker->id, workers = (size_t)worker->n_threads;
    fgd_batch batch = {.data = run->data, .order = run->order};
    for (size_t i = 0; i < run->n_steps; i++) {
        batch.first = run->first + i * run->batch_size;
        const size_t left = run->n_rows - i * run->batch_size;
        batch.n = left < run->batch_size ? left : run->batch_size;
        batch.lr = run->lrs[i];
        const uint64_t step = net->step + i;

        const size_t units = (batch.n + unit - 1) / unit;
        const size_t c0 = units * id / workers * unit, c1 = units * (id + 1) / workers * unit;
        if (c1 > c0) TYPE(columns)(net, t, &batch, step, c0, c1 - c0, scratch);
        for (size_t l = 0; l < net->n_layers; l++) {
            const size_t rows = net->layers[l].fan_in;
            if (fgd_has_penalty(&net->layers[l]))
                TYPE(penalty_rows)(net, t, l, rows * id / workers, rows * (id + 1) / workers);
        }
        fgd_team_barrier(worker);

        /* Every thread computes the same sum, so that all agree on going on. */
        double loss_sum, weight_sum;
        TYPE(batch_loss)(net, &batch, &loss_sum, &weight_sum);
        if (!__builtin_isfinite(loss_sum)) {
            if (id == 0) run->progress->outcome = FGD_LOSS_NOT_FINITE;
            break;
        }
        if (id == 0) {
            const double penalty = fgd_penalty_of_rows(net);
            loss_sum += penalty * weight_sum;
            run->progress->last_loss = weight_sum > 0 ? loss_sum / weight_sum : penalty;
            run->progress->loss_sum += loss_sum;
            run->progress->weight_sum += weight_sum;
        }

        fgd_update_params params = fgd_step_params(net, step, batch.lr);
        int diverged = 0;
        const int by_norm = net->clip_norm > 0;
        for (size_t l = 0; l < net->n_layers; l++) {
            const fgd_layer *layer = &net->layers[l];
            const size_t r0 = layer->fan_in * id / workers;
            const size_t r1 = layer->fan_in * (id + 1) / workers;
            if (by_norm) {
                if (r1 == r0) continue;
                TYPE(gradient_rows)(net, t, l, r0, r1, batch.n, 1);
                TYPE(finish_rows)(net, t, l, r0, r1, &params);
                TYPE(norm_rows)(net, t, l, r0, r1);
            } else {
                fgd_update_params p = params;
                if (l % workers == id)
                    diverged |= TYPE(update_bias)(net, t, l, batch.n, &p, scratch);
                p.l1 = layer->l1;
                p.l2 = layer->l2;
                if (r1 > r0)
                    diverged |= TYPE(update_rows)(net, t, l, r0, r1, batch.n, 1, &p, scratch);
            }
        }
        if (by_norm) {
            fgd_team_barrier(worker);
            params.norm_scale = TYPE(norm_scale)(net, t);
            params.clip_value = 0;
            for (size_t l = 0; l < net->n_layers; l++) {
                const size_t rows = net->layers[l].fan_in;
                const size_t r0 = rows * id / workers, r1 = rows * (id + 1) / workers;
                if (r1 > r0) diverged |= TYPE(apply_rows)(net, t, l, r0, r1, &params);
            }
        }
        if (diverged) atomic_store_explicit(&run->diverged, 1, memory_order_relaxed);
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
}

static void TYPE(infer_region)(void *context, const fgd_worker *worker)
{
    fgd_run *run = context;
    fgd_net *net = run->net;
    const TYPE(table) *t = &run->kernels->TABLE;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const size_t id = (size_t)worker->id, workers = (size_t)worker->n_threads;
    const fgd_batch batch = {.data = run->data, .first = run->first, .n = run->n_rows};
    const size_t units = (batch.n + unit - 1) / unit;
    const size_t c0 = units * id / workers * unit, n = units * (id + 1) / workers * unit - c0;
    if (n == 0) return;
    TYPE(load)(net, t, &batch, c0, n, run->losses != NULL);
    for (size_t l = 0; l < net->n_layers; l++) TYPE(forward)(net, t, l, c0, n, 0, 1);
    if (batch.data->outputs) TYPE(put_outputs)(net, t, &batch, c0, n, net->scratch[worker->id]);
    if (run->losses) {
        TYPE(loss)(net, t, c0, n, 0);
        const size_t here = c0 + n < batch.n ? n : batch.n - c0;
        memcpy((REAL *)run->losses + c0, (const REAL *)net->sample_loss + c0, here * sizeof(REAL));
    }
}

static int TYPE(update)(fgd_net *net, const fgd_batch *batch, size_t l,
                        const fgd_update_params *params)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    REAL *scratch = net->scratch[0];
    fgd_update_params p = *params;
    int diverged = TYPE(update_rows)(net, t, l, 0, net->layers[l].fan_in, batch->n, batch->dropout,
                                     &p, scratch);
    p.l1 = p.l2 = 0;
    return diverged | TYPE(update_bias)(net, t, l, batch->n, &p, scratch);
}

static void TYPE(operate)(fgd_net *net, const fgd_batch *batch, fgd_op op, size_t l)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    const size_t unit = FGD_ALIGN_BYTES / sizeof(REAL);
    const size_t n = (batch->n + unit - 1) / unit * unit;
    const fgd_layer *layer = &net->layers[l];
    const int dropout = batch->dropout;
    switch (op) {
    case FGD_OP_LOAD: TYPE(load)(net, t, batch, 0, n, 1); break;
    case FGD_OP_PRE_ACTIVATION: TYPE(pre_activation)(net, t, l, 0, n, dropout, layer->delta); break;
    case FGD_OP_FORWARD: TYPE(forward)(net, t, l, 0, n, dropout, 1); break;
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
    case FGD_OP_BACKWARD: TYPE(backward)(net, t, l, 0, n, dropout); break;
    case FGD_OP_TRANSPOSE: TYPE(turn_delta)(net, t, l, 0, n); break;
    case FGD_OP_GRADIENT:
        TYPE(gradient_rows)(net, t, l, 0, layer->fan_in, batch->n, dropout);
        break;
    case FGD_OP_FINISH: {
        const fgd_update_params params = fgd_step_params(net, net->step, batch->lr);
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
    default: *features = net->n_inputs; return net->input;
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

static int TYPE(apply_gradients)(fgd_net *net, double lr)
{
    const TYPE(table) *t = &fgd_active->TABLE;
    fgd_update_params params = fgd_step_params(net, net->step, lr);
    int diverged = 0;
    params.clip_value = 0;
    if (net->clip_norm > 0) {
        for (size_t l = 0; l < net->n_layers; l++)
            TYPE(norm_rows)(net, t, l, 0, net->layers[l].fan_in);
        params.norm_scale = TYPE(norm_scale)(net, t);
    }
    for (size_t l = 0; l < net->n_layers; l++)
        diverged |= TYPE(apply_rows)(net, t, l, 0, net->layers[l].fan_in, &params);
    return diverged;
}
