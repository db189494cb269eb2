/* Choosing the kernel table. */
#ifndef FGD_DISPATCH_H
#define FGD_DISPATCH_H

#include "fgd_kernel_table.h"

typedef enum {
    FGD_ISA_OK,
    FGD_ISA_UNKNOWN,
    FGD_ISA_NOT_BUILT,
    FGD_ISA_NOT_SUPPORTED
} fgd_isa_status;

enum { FGD_N_ISAS = 4 };

/* Names of all instruction sets, slowest first: "scalar", "neon", "avx2", "avx512". */
extern const char *const fgd_isa_names[FGD_N_ISAS];

/* Whether name can be used in this build on this machine, and if not, why. */
fgd_isa_status fgd_isa_check(const char *name);

/* Makes name the active table; changes nothing unless it returns FGD_ISA_OK. */
fgd_isa_status fgd_isa_select(const char *name);

/* Makes the fastest table that runs here the active one. */
void fgd_isa_select_best(void);

const char *fgd_isa_active(void);

/* For the tests of the validation: makes kernels of the active table give wrong results ("gemm",
 * "activation", "activation_grad", "loss", "update", "online", and those for few samples,
 * "turned_product", "streamed_product", "streamed_update"); NULL heals them, as selecting an ISA does.
 * Returns 0 for an unknown name. */
int fgd_inject_fault(const char *kernel);

#endif
