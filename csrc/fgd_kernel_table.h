/* The kernel table: everything that differs between instruction sets, one constant table
 * per element type and ISA.  kernels_<isa>.c fills it, fgd_dispatch.c chooses one. */
#ifndef FGD_KERNEL_TABLE_H
#define FGD_KERNEL_TABLE_H

#include "fgd_types.h"

#define REAL float
#define TYPE(name) fgd_s##name
#include "fgd_kernel_table_body.h"
#undef REAL
#undef TYPE
#define REAL double
#define TYPE(name) fgd_d##name
#include "fgd_kernel_table_body.h"
#undef REAL
#undef TYPE

typedef struct fgd_kernels {
    fgd_stable f32;
    fgd_dtable f64;
    /* The same for shorter vectors, whose lanes are added up sooner; NULL: none, or no sooner. */
    const struct fgd_kernels *narrow;
} fgd_kernels;

extern const fgd_kernels fgd_kernels_scalar;
#if defined(__x86_64__)
extern const fgd_kernels fgd_kernels_avx2;
extern const fgd_kernels fgd_kernels_avx512;
#elif defined(__aarch64__)
extern const fgd_kernels fgd_kernels_neon;
#endif

/* The table that calls use from now on. */
extern const fgd_kernels *fgd_active;

/* How its products pass through the caches, set where fgd_active is; the results have the same bits
 * with any.  All of k is one block where a panel of B has at most whole_bytes; else a block's has
 * panel_bytes and at most most_k steps.  Weights of few samples are read at most most_rows rows at a
 * time, while the next ones are asked for with this purpose, never FGD_TO_WRITE. */
typedef struct {
    size_t panel_bytes, whole_bytes, most_k, most_rows;
    fgd_purpose purpose;
} fgd_blocking;

extern const fgd_blocking *fgd_active_blocking;

#endif
