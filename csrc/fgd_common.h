/* Small compiler helpers used by every C file: inlining, restrict, alignment, and the
 * begin/end macros of a region that is compiled for another instruction set. */
#ifndef FGD_COMMON_H
#define FGD_COMMON_H

#ifdef __FAST_MATH__
#error "fastgd promises exact results: build without -ffast-math"
#endif

#if defined(_WIN32) && !defined(__clang__)
/* gcc aligns the stack to 16 bytes there, and lets vectors of 32 and 64 be stored on it as if they
 * were aligned: its bug 54412. */
#error "on Windows fastgd needs clang: clang-cl, or clang for the gnu target"
#endif

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#ifndef FGD_INLINE /* what counts branches must not count each inlined copy of them */
#define FGD_INLINE static inline __attribute__((always_inline, unused))
#endif
#define FGD_RESTRICT __restrict__
#define FGD_CAT_(a, b) a##b
#define FGD_CAT(a, b) FGD_CAT_(a, b)
#define FGD_CAT4_(a, b, c, d) a##b##c##d
#define FGD_CAT4(a, b, c, d) FGD_CAT4_(a, b, c, d)
#define FGD_STR_(x) #x
#define FGD_STR(x) FGD_STR_(x)

/* Rows of every work buffer and of every weight matrix start on, and are padded to, this. */
#define FGD_ALIGN_BYTES 64

/* FGD_TARGET_BEGIN("avx2,fma") ... FGD_TARGET_END compiles what stands between for that
 * instruction set whatever the flags of the compiler are.  clang does not define __AVX2__
 * inside such a region, gcc does: templates must therefore never test those macros.
 *
 * FGD_UNROLL(n) stands before a loop of at most n turns, their number being known to the compiler,
 * over an array that is to stay in registers.  clang takes gcc's pragma for a wish that it fulfils
 * late: clang 14 then keeps tiles in memory, at a quarter of the speed (those of one row still). */
#if defined(__clang__)
#define FGD_PRAGMA(x) _Pragma(#x)
#define FGD_TARGET_BEGIN(isa) \
    FGD_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define FGD_TARGET_END _Pragma("clang attribute pop")
#define FGD_UNROLL(n) FGD_PRAGMA(clang loop unroll(full))
#elif defined(__GNUC__)
#define FGD_PRAGMA(x) _Pragma(#x)
#define FGD_TARGET_BEGIN(isa) FGD_PRAGMA(GCC push_options) FGD_PRAGMA(GCC target(isa))
#define FGD_TARGET_END _Pragma("GCC pop_options")
#define FGD_UNROLL(n) FGD_PRAGMA(GCC unroll n)
#else
#error "fastgd needs gcc or clang (clang-cl on Windows)"
#endif

/* From here on the compiler knows nothing of an integer or a pointer. */
#define FGD_HIDE(x) __asm__("" : "+r"(x))

/* Row i of a block of rows that are turned, where the vocabulary of isa/ is given the rows, or ld and
 * the first one at: rows[i] + ld if there are rows, else at + i * ld. */
#define FGD_ROW(i) (rows ? rows[i] + ld : at + (size_t)(i) * ld)

#endif
