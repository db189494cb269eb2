/* Kernel table in plain C: every processor. */
#include "fgd_common.h"
#include "fgd_kernel_table.h"

#define FGD_ISA scalar
#include "isa/scalar.h"
#include "template/kernels.h"
