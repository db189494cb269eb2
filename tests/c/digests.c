/* A digest of what every kernel and some small fits compute from fixed pseudo-random numbers, one
 * line each: the lines of all instruction sets, compilers and systems must be the same.
 *   cc -O2 -ffp-contract=off -pthread -Icsrc tests/c/digests.c csrc/[a-z]*.c -lm -o digests
 * ./digests [ISA]: the digests; without a name, of the instruction set that is chosen here.
 * ./digests ISA TEXT: in hexadecimal the numbers of the lines that hold TEXT.
 * A NaN counts as a NaN whatever its sign and payload are, which processors choose differently. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fgd_common.h"
#include "fgd_cpu.h"
#include "fgd_dispatch.h"
#include "fgd_net.h"
#include "random.h"

static const char *shown;  /* lines whose numbers are printed, NULL = none */
static char line[96];      /* the name of the line that is being computed */
static uint64_t digest;
static int failures;

/* ---- a line ----------------------------------------------------------------------------------- */

static void add_bits(uint64_t bits, int digits)
{
    if (shown && strstr(line, shown)) printf("%s %0*llx\n", line, digits, (unsigned long long)bits);
    for (int byte = 0; byte < digits / 2; byte++) /* FNV-1a */
        digest = (digest ^ (bits >> 8 * byte & 0xff)) * 0x100000001B3u;
}
static void begin(const char *type, const char *kind, const char *name)
{
    snprintf(line, sizeof line, "%s %s %s", type, kind, name);
    digest = 0xCBF29CE484222325u;
    random_state = 0;
    for (const char *c = line; *c; c++) random_state = random_state * 31 + (unsigned char)*c;
}
static void end(void)
{
    if (!shown) printf("%-48s %016llx\n", line, (unsigned long long)digest);
}
static void expect(int ok, const char *what)
{
    if (ok) return;
    printf("%s: %s FAILED\n", line, what);
    failures++;
}
static void add_double(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    add_bits(isnan(x) ? 0x7ff8000000000000u : bits, 16);
}
static void add_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    add_bits(isnan(x) ? 0x7fc00000u : bits, 8);
}

static const char *const act_names[FGD_N_ELEMENTWISE_ACTS] = {
    "identity", "relu", "leaky_relu", "elu",  "selu",    "gelu",         "silu",
    "mish",     "softplus", "softsign", "tanh", "sigmoid", "hard_sigmoid", "exp"};
static const char *const loss_names[FGD_N_LOSSES] = {
    "squared_error_a",        "absolute_error_a",     "huber_a",   "log_loss_z", "log_loss_a",
    "cross_entropy_labels_z", "cross_entropy_rows_z", "poisson_z", "poisson_a"};
static const char *const opt_names[FGD_N_OPTS] = {"sgd",   "momentum", "adam",
                                                  "adamw", "rmsprop",  "adagrad"};
static const size_t dtype_sizes[FGD_N_DTYPES] = {4, 8, 1, 1, 2, 2, 4, 4, 8, 8};
static const char *const dtype_names[FGD_N_DTYPES] = {"f32", "f64", "u8",  "i8",  "u16",
                                                      "i16", "u32", "i32", "u64", "i64"};

#define REAL float
#define TYPE "f32"
#define NAME(x) x##_f32
#define DTYPE FGD_F32
#define EPSILON FLT_EPSILON
#define SMALLEST FLT_MIN
#define LARGEST FLT_MAX
#define ADD add_float
#define TABLE f32
#define TABLE_TYPE fgd_stable
#define SGD_TYPE fgd_ssgd
#define ONLINE_RUN fgd_sonline_run
#include "digests_body.h"
#include "strides_body.h"
#undef REAL
#undef TYPE
#undef NAME
#undef DTYPE
#undef EPSILON
#undef SMALLEST
#undef LARGEST
#undef ADD
#undef TABLE
#undef TABLE_TYPE
#undef SGD_TYPE
#undef ONLINE_RUN
#define REAL double
#define TYPE "f64"
#define NAME(x) x##_f64
#define DTYPE FGD_F64
#define EPSILON DBL_EPSILON
#define SMALLEST DBL_MIN
#define LARGEST DBL_MAX
#define ADD add_double
#define TABLE f64
#define TABLE_TYPE fgd_dtable
#define SGD_TYPE fgd_dsgd
#define ONLINE_RUN fgd_donline_run
#include "digests_body.h"
#include "strides_body.h"

static void show_orders(void)
{
    int64_t order[1000];
    begin("both", "net", "permutation");
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        for (size_t done = 0; done < 1000;) done = fgd_permutation(order, 1000, 7, epoch, done);
        for (size_t i = 0; i < 1000; i++) add_bits((uint64_t)order[i], 16);
    }
    end();
    begin("both", "net", "power");
    for (uint64_t n = 0; n < 200; n++) add_double(fgd_power(random_between(0.5, 1), n * n));
    end();
}

int main(int argc, char **argv)
{
    fgd_isa_select_best();
    if (argc > 1 && fgd_isa_select(argv[1]) != FGD_ISA_OK) {
        fprintf(stderr, "%s: not an instruction set of this machine\n", argv[1]);
        return 2;
    }
    shown = argc > 2 ? argv[2] : NULL;
    fprintf(stderr, "isa %s\n", fgd_isa_active());
    const uint64_t mode = fgd_fp_enter();
    show_kernels_f32(&fgd_active->f32);
    show_kernels_f64(&fgd_active->f64);
    check_strides_f32(&fgd_active->f32);
    check_strides_f64(&fgd_active->f64);
    fgd_fp_leave(mode);
    show_fits_f32();
    show_fits_f64();
    show_orders();
    return failures != 0;
}
