/* Selects double for the templates included after it; real_end.h undoes it.
 * FN(x) is the name of a kernel: fgd_d<x>_<isa>.  FGD_ISA is set by kernels_<isa>.c. */
#define REAL double
#define REAL_BITS 64
#define VF vf64
#define VM vm64
#define V(op) vf64_##op
#define LANES VF64_LANES
#define TURNED VF64_TURNED
#define TYPE(name) fgd_d##name
#define FN(name) FGD_CAT4(fgd_d, name, _, FGD_ISA)
