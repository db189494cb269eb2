/* Small compiler helpers used by every C file: inlining, restrict, alignment, and the
 * begin/end macros of a region that is compiled for another instruction set. */
#ifndef FGD_COMMON_H
#define FGD_COMMON_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define FGD_INLINE static inline __attribute__((always_inline, unused))
#define FGD_RESTRICT __restrict__
#define FGD_CAT_(a, b) a##b
#define FGD_CAT(a, b) FGD_CAT_(a, b)
#define FGD_CAT4_(a, b, c, d) a##b##c##d
#define FGD_CAT4(a, b, c, d) FGD_CAT4_(a, b, c, d)
#define FGD_STR_(x) #x
#define FGD_STR(x) FGD_STR_(x)

/* A shuffled epoch reads rows in random order, and each would be waited for.  How many places
 * of the order ahead of its use a row is asked for: whole batches, so that the same thread
 * gets it, some 8 KB of them; 0 where a batch would push the weights out of the cache. */
FGD_INLINE size_t fgd_places_ahead(size_t n_samples, size_t row_bytes)
{
    const size_t batch_bytes = n_samples * ((row_bytes + 127) / 64 * 64);
    if (batch_bytes > (size_t)128 << 10) return 0;
    return n_samples * ((((size_t)8 << 10) + batch_bytes - 1) / batch_bytes);
}

/* Rows of every work buffer and of every weight matrix start on, and are padded to, this. */
#define FGD_ALIGN_BYTES 64

/* FGD_TARGET_BEGIN("avx2,fma") ... FGD_TARGET_END compiles what stands between for that
 * instruction set whatever the flags of the compiler are.  clang does not define __AVX2__
 * inside such a region, gcc does: templates must therefore never test those macros. */
#if defined(__clang__)
#define FGD_PRAGMA(x) _Pragma(#x)
#define FGD_TARGET_BEGIN(isa) \
    FGD_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define FGD_TARGET_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define FGD_PRAGMA(x) _Pragma(#x)
#define FGD_TARGET_BEGIN(isa) FGD_PRAGMA(GCC push_options) FGD_PRAGMA(GCC target(isa))
#define FGD_TARGET_END _Pragma("GCC pop_options")
#else
#error "fastgd needs gcc or clang (clang-cl on Windows)"
#endif

#endif
