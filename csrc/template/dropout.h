/* Dropout with counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): the mask of a
 * unit and sample depends on seed, step, layer, row and column only, never on the order of
 * work.  One 64-bit lane holds one 32-bit word of one block: its low half, the high half
 * being rubbish until the end, because the widening multiplication reads low halves only. */

/* The keys of the ten rounds for the first key (k0, k1), two a round. */
FGD_INLINE void FN(philox_keys)(uint32_t k0, uint32_t k1, vf64 key[20])
{
    for (size_t round = 0; round < 10; round++) {
        key[2 * round] = vf64_set1_bits(k0);
        key[2 * round + 1] = vf64_set1_bits(k1);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}
/* Turns the counters c[..][0..3] into words 0..3, of two rows at once: one alone would spend its
 * time waiting for its own products. */
FGD_INLINE void FN(philox)(vf64 c[2][4], const vf64 key[20])
{
    const vf64 m0 = vf64_set1_bits(0xD2511F53u), m1 = vf64_set1_bits(0xCD9E8D57u);
    for (size_t round = 0; round < 10; round++)
        for (size_t r = 0; r < 2; r++) {
            const vf64 p0 = vf64_umul(c[r][0], m0), p1 = vf64_umul(c[r][2], m1);
            c[r][0] = vf64_xor(vf64_xor(c[r][1], key[2 * round]), vf64_shr(p1, 32));
            c[r][2] = vf64_xor(vf64_xor(c[r][3], key[2 * round + 1]), vf64_shr(p0, 32));
            c[r][1] = p1;
            c[r][3] = p0;
        }
}

/* All ones where the low half of a lane, as an unsigned number, is >= threshold; else 0. */
FGD_INLINE vf64 FN(kept)(vf64 word, vf64 low_half, vf64 threshold)
{
    const vf64 below = vf64_shr(vf64_isub(vf64_and(word, low_half), threshold), 63);
    return vf64_isub(below, vf64_set1_bits(1));
}

/* Lane l of c[k] is the mask of column 4 l + k: lays them out in order. */
FGD_INLINE void FN(unpack_masks)(const vf64 c[4], REAL masks[4 * VF64_LANES])
{
    double lanes[4 * VF64_LANES];
#if REAL_BITS == 32
    const vf64 even = vf64_or(c[0], vf64_shl(c[1], 32)), odd = vf64_or(c[2], vf64_shl(c[3], 32));
    vf64_store(lanes, vf64_zip_lo(even, odd));
    vf64_store(lanes + VF64_LANES, vf64_zip_hi(even, odd));
#else
    const vf64 even_lo = vf64_zip_lo(c[0], c[2]), even_hi = vf64_zip_hi(c[0], c[2]);
    const vf64 odd_lo = vf64_zip_lo(c[1], c[3]), odd_hi = vf64_zip_hi(c[1], c[3]);
    vf64_store(lanes, vf64_zip_lo(even_lo, odd_lo));
    vf64_store(lanes + VF64_LANES, vf64_zip_hi(even_lo, odd_lo));
    vf64_store(lanes + 2 * VF64_LANES, vf64_zip_lo(even_hi, odd_hi));
    vf64_store(lanes + 3 * VF64_LANES, vf64_zip_hi(even_hi, odd_hi));
#endif
    __builtin_memcpy(masks, lanes, sizeof(REAL[4 * VF64_LANES]));
}

/* a_out[i][j] = a[i][j] mask[i][j], mask 0 with probability p, else 1 / (1 - p): a is unit
 * row0 + i and sample col0 + j.  The mask's word is word (col % 4) of the block with counter
 * (col / 4, row, layer, low half of step) and key (low half of seed ^ 0x44524F50, high half of
 * seed ^ high half of step); kept if it is >= floor(p 2^32).  n is a multiple of UNIT, col0 of 4,
 * 0 <= p < 1; a_out may be a, mask overlaps neither. */
static void FN(dropout)(size_t rows, size_t n, size_t row0, size_t col0, REAL *a, size_t lda,
                        REAL *a_out, size_t ldo, REAL *mask, size_t ldm, uint64_t seed,
                        uint64_t step, uint32_t layer, double p)
{
    enum { CHUNK = 4 * VF64_LANES };
    vf64 key[20];
    FN(philox_keys)((uint32_t)seed ^ 0x44524F50u, (uint32_t)(seed >> 32) ^ (uint32_t)(step >> 32),
                    key);
    const vf64 low_half = vf64_set1_bits(0xffffffffu);
    const vf64 threshold = vf64_set1_bits((uint64_t)(p * 4294967296.0));
    const REAL kept_value = (REAL)(1 / (1 - p));
#if REAL_BITS == 32
    uint32_t value_bits;
#else
    uint64_t value_bits;
#endif
    __builtin_memcpy(&value_bits, &kept_value, sizeof value_bits);
    const vf64 value = vf64_set1_bits(value_bits);
    uint64_t number[VF64_LANES];
    double number_bits[VF64_LANES];
    for (size_t v = 0; v < VF64_LANES; v++) number[v] = v;
    __builtin_memcpy(number_bits, number, sizeof number);
    const vf64 lane_number = vf64_load(number_bits);

    for (size_t i = 0; i < rows; i += 2)
        for (size_t j = 0; j < n; j += CHUNK) {
            vf64 c[2][4];
            for (size_t r = 0; r < 2; r++) {
                c[r][0] = vf64_iadd(vf64_set1_bits((col0 + j) / 4), lane_number);
                c[r][1] = vf64_set1_bits((uint32_t)(row0 + i + r));
                c[r][2] = vf64_set1_bits(layer);
                c[r][3] = vf64_set1_bits((uint32_t)step);
            }
            FN(philox)(c, key);
            const size_t end = n - j < CHUNK ? n - j : CHUNK;
            for (size_t r = 0; r < 2 && i + r < rows; r++) {
                REAL masks[CHUNK];
                for (size_t k = 0; k < 4; k++)
                    c[r][k] = vf64_and(FN(kept)(c[r][k], low_half, threshold), value);
                FN(unpack_masks)(c[r], masks);
                const REAL *const from = a + (i + r) * lda + j;
                REAL *const to = a_out + (i + r) * ldo + j, *const m = mask + (i + r) * ldm + j;
                for (size_t l = 0; l < end; l += LANES) {
                    const VF keep = V(load)(masks + l);
                    V(store)(m + l, keep);
                    V(store)(to + l, V(mul)(V(load)(from + l), keep));
                }
            }
        }
}
