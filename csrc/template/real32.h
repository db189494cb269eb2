/* Selects float for the templates included after it; real_end.h undoes it.
 * FN(x) is the name of a kernel: fgd_s<x>_<isa>.  FGD_ISA is set by kernels_<isa>.c. */
#define REAL float
#define REAL_BITS 32
#define VF vf32
#define VM vm32
#define V(op) vf32_##op
#define LANES VF32_LANES
#define TURNED VF32_TURNED
#define TYPE(name) fgd_s##name
#define FN(name) FGD_CAT4(fgd_s, name, _, FGD_ISA)
