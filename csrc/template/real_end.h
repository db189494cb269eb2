/* Ends what real32.h or real64.h began. */
#undef REAL
#undef REAL_BITS
#undef VF
#undef VM
#undef V
#undef LANES
#undef TURNED
#undef TYPE
#undef FN
