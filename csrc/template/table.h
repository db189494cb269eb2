/* Fills the kernel table of one element type with the kernels that the templates before it
 * instantiated; TABLE is the name of the initialiser macro's target member. */
#define FGD_BY_ROW(mr, nv) [nv][mr] = FN(gemm_by_row_ukr_##mr##x##nv##v),
#define FGD_BY_COLUMN(mr, nv) [nv][mr] = FN(gemm_by_column_ukr_##mr##x##nv##v),
#define FGD_ACT(ID, name) [FGD_ACT_##ID] = FN(act_##name)
#define FGD_ACT_GRAD(ID, name) [FGD_ACT_##ID] = FN(act_##name##_grad)
{
    .isa = FGD_STR(FGD_ISA),
    .lanes = LANES,
    .max_vectors = FGD_MAX_TILE_VECTORS,
    .tile_rows = {0, FGD_TILE_ROWS},
    .ukr_by_row = {FGD_TILES(FGD_BY_ROW)},
    .ukr_by_column = {FGD_TILES(FGD_BY_COLUMN)},
    .chain16 = FN(chain16),
    .column_sums = FN(column_sums),
    .multiply = FN(multiply),
    .transpose = FN(transpose),
    .gather = FN(gather),
    .act = {FGD_ACTS(FGD_ACT)},
    .act_grad = {FGD_ACTS(FGD_ACT_GRAD)},
    .softmax = FN(act_softmax),
    .softmax_grad = FN(act_softmax_grad),
    .loss = {[FGD_LOSS_SQUARED_ERROR_A] = FN(loss_squared_error_a),
             [FGD_LOSS_ABSOLUTE_ERROR_A] = FN(loss_absolute_error_a),
             [FGD_LOSS_HUBER_A] = FN(loss_huber_a),
             [FGD_LOSS_LOG_LOSS_Z] = FN(loss_log_loss_z),
             [FGD_LOSS_LOG_LOSS_A] = FN(loss_log_loss_a),
             [FGD_LOSS_CROSS_ENTROPY_LABELS_Z] = FN(loss_cross_entropy_labels_z),
             [FGD_LOSS_CROSS_ENTROPY_ROWS_Z] = FN(loss_cross_entropy_rows_z),
             [FGD_LOSS_POISSON_Z] = FN(loss_poisson_z),
             [FGD_LOSS_POISSON_A] = FN(loss_poisson_a)},
    .update = {[FGD_OPT_SGD] = FN(update_sgd),
               [FGD_OPT_MOMENTUM] = FN(update_momentum),
               [FGD_OPT_ADAM] = FN(update_adam),
               [FGD_OPT_ADAMW] = FN(update_adamw),
               [FGD_OPT_RMSPROP] = FN(update_rmsprop),
               [FGD_OPT_ADAGRAD] = FN(update_adagrad)},
    .finish_grad = FN(finish_grad),
    .sum16 = FN(sum16),
    .row_sumsq = FN(row_sumsq),
    .row_sumabs = FN(row_sumabs),
    .all_finite = FN(all_finite),
    .dropout = FN(dropout),
    .fma_burn = FN(fma_burn),
},
#undef FGD_BY_ROW
#undef FGD_BY_COLUMN
#undef FGD_ACT
#undef FGD_ACT_GRAD
