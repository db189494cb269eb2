/* The only place that chooses a kernel table, and the only one that knows all of them. */
#include "fgd_dispatch.h"

#include <string.h>

#include "fgd_cpu.h"

const fgd_kernels *fgd_active = &fgd_kernels_scalar;

/* A panel stays in the first-level cache, or in the second-level one where that gives vectors sooner
 * than the multiply-adds take them, as to AVX-512 on Zen 4.  On Zen 5 (measured on model 2, with full
 * 512-bit units) it does not quite, but one block instead of two or three loads and stores C less often.
 * Weights of few samples that are asked for as for the first-level cache leave it again before their
 * use: on Zen 4 and on a Xeon, by up to 9 % of a step, they come sooner from the second-level one.  Not on
 * Zen 5, where it also costs time to load and store the sums of few samples more often than every 32 rows. */
static const fgd_blocking usual = {24 * 1024, 36 * 1024, 256, 16, FGD_TO_SECOND_LEVEL};
static const fgd_blocking of_zen4_avx512 = {96 * 1024, 144 * 1024, 384, 16, FGD_TO_SECOND_LEVEL};
static const fgd_blocking of_zen5 = {24 * 1024, 36 * 1024, 256, 16, FGD_TO_FIRST_LEVEL};
static const fgd_blocking of_zen5_avx512 = {24 * 1024, 52 * 1024, 256, 32, FGD_TO_FIRST_LEVEL};
const fgd_blocking *fgd_active_blocking = &usual;

const char *const fgd_isa_names[FGD_N_ISAS] = {"scalar", "neon", "avx2", "avx512"};

static const struct {
    const fgd_kernels *kernels; /* NULL: not in this build */
    unsigned needs;
} isas[FGD_N_ISAS] = {
    {&fgd_kernels_scalar, 0},
#if defined(__x86_64__)
    {NULL, 0},
    {&fgd_kernels_avx2, FGD_CPU_AVX2_FMA},
    {&fgd_kernels_avx512, FGD_CPU_AVX512},
#else
    {&fgd_kernels_neon, FGD_CPU_NEON},
    {NULL, 0},
    {NULL, 0},
#endif
};

static int find(const char *name)
{
    for (int i = 0; i < FGD_N_ISAS; i++)
        if (strcmp(name, fgd_isa_names[i]) == 0) return i;
    return -1;
}

fgd_isa_status fgd_isa_check(const char *name)
{
    const int i = find(name);
    if (i < 0) return FGD_ISA_UNKNOWN;
    if (!isas[i].kernels) return FGD_ISA_NOT_BUILT;
    if ((isas[i].needs & fgd_cpu_features()) != isas[i].needs) return FGD_ISA_NOT_SUPPORTED;
    return FGD_ISA_OK;
}

fgd_isa_status fgd_isa_select(const char *name)
{
    const fgd_isa_status status = fgd_isa_check(name);
    if (status != FGD_ISA_OK) return status;
    const int i = find(name);
    fgd_active = isas[i].kernels;
    const unsigned features = fgd_cpu_features();
    const int is_avx512 = isas[i].needs == FGD_CPU_AVX512;
    fgd_active_blocking = &usual;
    if (features & FGD_CPU_ZEN4 && is_avx512) fgd_active_blocking = &of_zen4_avx512;
    if (features & FGD_CPU_ZEN5) fgd_active_blocking = is_avx512 ? &of_zen5_avx512 : &of_zen5;
    return FGD_ISA_OK;
}

void fgd_isa_select_best(void)
{
    for (int i = FGD_N_ISAS - 1; i >= 0; i--)
        if (fgd_isa_select(fgd_isa_names[i]) == FGD_ISA_OK) return;
}

const char *fgd_isa_active(void) { return fgd_active->f32.isa; }

/* The faulty twin of the active table.  Each wrapper calls the sound kernel and then spoils
 * one element by a part in 64, far beyond rounding and far below what a glance would show. */
static fgd_kernels faulty;
static const fgd_kernels *sound;

#define SPOIL(x) ((x) += (x) / 64 + (float)1e-3)
#define REAL float
#define TYPE(name) fgd_s##name
#define TABLE f32
#include "fgd_fault_body.h"
#undef REAL
#undef TYPE
#undef TABLE
#define REAL double
#define TYPE(name) fgd_d##name
#define TABLE f64
#include "fgd_fault_body.h"
#undef REAL
#undef TYPE
#undef TABLE

int fgd_inject_fault(const char *kernel)
{
    if (fgd_active == &faulty) fgd_active = sound;
    if (!kernel) return 1;
    sound = fgd_active;
    faulty = *sound;
    faulty.narrow = NULL;
    if (!fgd_sinject(kernel) || !fgd_dinject(kernel)) return 0;
    fgd_active = &faulty;
    return 1;
}
