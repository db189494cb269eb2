/* Polynomial coefficients of math.h, lowest degree first; made by tools/minimax.py. */
/* clang-format off */
#ifndef FGD_MATH_COEFS_H
#define FGD_MATH_COEFS_H

/* (exp(r) - 1 - r) / r^2, |r| <= ln(2) / 2; relative error 2^-22.82 */
#define FGD_EXP_POLY_F32 \
    0x1p-1f, \
    0x1.5554dep-3f, \
    0x1.5555bap-5f, \
    0x1.120b3ap-7f, \
    0x1.6c6a04p-10f

/* (2 atanh(s) - 2 s) / s^3 in s^2, s <= 0.1716; relative error 2^-21.68 */
#define FGD_LOG_POLY_F32 \
    0x1.55555cp-1f, \
    0x1.997c22p-2f, \
    0x1.2ee83p-2f

/* the same, s <= 1/3; relative error 2^-25.0 */
#define FGD_LOG1P_POLY_F32 \
    0x1.555556p-1f, \
    0x1.9998d2p-2f, \
    0x1.24c986p-2f, \
    0x1.bc8244p-3f, \
    0x1.dbd2cap-3f

#define FGD_NORMAL_TAIL_K_F32 3.4375
/* (x + k) exp(x^2 / 2) Phi(-x) in (x - k) / (x + k), 0 <= x <= 13.5; relative error 2^-25.5 */
#define FGD_NORMAL_TAIL_POLY_F32 \
    0x1.7c4e3ap-1f, \
    -0x1.1e684p-1f, \
    0x1.38d774p-2f, \
    -0x1.b7187p-4f, \
    0x1.a7eda6p-7f, \
    0x1.dc3c76p-8f, \
    -0x1.673fp-9f, \
    -0x1.68cc7ap-11f, \
    0x1.89e9ccp-12f, \
    0x1.0b175ep-13f

/* (exp(r) - 1 - r) / r^2, |r| <= ln(2) / 2; relative error 2^-57.22 */
#define FGD_EXP_POLY_F64 \
    0x1p-1, \
    0x1.5555555555557p-3, \
    0x1.555555555554ep-5, \
    0x1.11111111100e6p-7, \
    0x1.6c16c16c1a09ep-10, \
    0x1.a01a01abe36acp-13, \
    0x1.a01a019056f63p-16, \
    0x1.71de023d3d9f5p-19, \
    0x1.27e510ebef2dbp-22, \
    0x1.af4dd5db00ca5p-26, \
    0x1.1f19e663ee94fp-29

/* (2 atanh(s) - 2 s) / s^3 in s^2, s <= 0.1716; relative error 2^-50.93 */
#define FGD_LOG_POLY_F64 \
    0x1.5555555555558p-1, \
    0x1.999999999528bp-2, \
    0x1.2492492dfa136p-2, \
    0x1.c71c62db1e66dp-3, \
    0x1.7462b76f34485p-3, \
    0x1.39fe0998f0e39p-3, \
    0x1.2b5c46b50090cp-3

/* the same, s <= 1/3; relative error 2^-53.84 */
#define FGD_LOG1P_POLY_F64 \
    0x1.5555555555555p-1, \
    0x1.9999999999942p-2, \
    0x1.2492492499efp-2, \
    0x1.c71c71bec69cdp-3, \
    0x1.745d1998ff309p-3, \
    0x1.3b1350a583787p-3, \
    0x1.111accae26bep-3, \
    0x1.e0a15b6ee1474p-4, \
    0x1.bc43428f59ecfp-4, \
    0x1.32b0c6ddce946p-4, \
    0x1.40488f125c07fp-3

#define FGD_NORMAL_TAIL_K_F64 3.46875
/* (x + k) exp(x^2 / 2) Phi(-x) in (x - k) / (x + k), 0 <= x <= 38.0; relative error 2^-55.53 */
#define FGD_NORMAL_TAIL_POLY_F64 \
    0x1.7cba514d63fc6p-1, \
    -0x1.2000624f83b99p-1, \
    0x1.3df237db8c567p-2, \
    -0x1.c9342ce9d6034p-4, \
    0x1.f034e0bbfe287p-7, \
    0x1.c3ce4654fb93fp-8, \
    -0x1.86885b5c70142p-9, \
    -0x1.23ab822165655p-11, \
    0x1.db769bff219b3p-12, \
    0x1.74421c0f59109p-14, \
    -0x1.28a8e5e1f1d92p-14, \
    -0x1.800080167a2dap-16, \
    0x1.4f14c61c02e2cp-17, \
    0x1.a78f8363db6adp-18, \
    -0x1.6ef8e4c6a93c1p-21, \
    -0x1.985cef4b1fadcp-20, \
    -0x1.24070b0ef6be7p-22, \
    0x1.202eaa4ba111bp-22, \
    0x1.3fa5eb6463ea8p-23, \
    -0x1.25617bb0f2e88p-26, \
    -0x1.4cc7ff06a3b19p-25, \
    -0x1.cb8306a191ae2p-28, \
    0x1.4ba3937f0a532p-28, \
    0x1.d2d5e09c2dfeap-30

#endif
