/* Passes of decoder.c for processors with AVX-512 (VBMI2): the same results, twice as fast.
 *
 * Whether the processor has what they take is asked while the program runs. */
#if HAS_WIDE_PASSES

#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt")))
/* Bytes that a pass may read behind those which it needs. */
#define WIDE_BYTES 64

WIDE static inline __mmask16 first_lanes(size_t count) {
    return count < 16 ? (__mmask16)((1u << count) - 1) : (__mmask16)0xFFFF;
}

WIDE static inline __m512i sixteen_entries(__mmask16 live, const uint16_t *entries) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(live, entries));
}

WIDE static inline __m512i gathered(__mmask16 live, __m512i places, const uint32_t *from) {
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), live, places,
                                       (const int *)(const void *)from, 4);
}

/* One symbol for each of the lanes that are live: returns the entries; the states go on. */
WIDE static inline __m512i symbols_of_lanes(const uint32_t *steps, __mmask16 live,
                                            const uint16_t *tables, __m512i *states,
                                            const uint8_t *words, size_t *taken) {
    const __m512i slots_mask = _mm512_set1_epi32(SCALE - 1);
    const __m512i rows = sixteen_entries(live, tables);
    const __m512i slots = _mm512_and_si512(*states, slots_mask);
    const __m512i step = gathered(live, _mm512_add_epi32(_mm512_slli_epi32(rows, 4), slots), steps);
    const __m512i numbers = _mm512_and_si512(step, _mm512_set1_epi32(STEP_SYMBOLS - 1));
    const __m512i quotients = _mm512_srli_epi32(*states, SCALE_BITS);
    const __m512i rests = _mm512_and_si512(_mm512_srli_epi32(step, STEP_REST_PLACE), slots_mask);
    const __m512i products =
        _mm512_mullo_epi32(_mm512_srli_epi32(step, STEP_FREQUENCY_PLACE), quotients);
    const __m512i next = _mm512_add_epi32(products, _mm512_add_epi32(quotients, rests));
    const __mmask16 wanting =
        _mm512_mask_cmplt_epu32_mask(live, next, _mm512_set1_epi32(STATE_LOW));
    const __m512i waiting = _mm512_cvtepu16_epi32(
        _mm256_loadu_si256((const __m256i *)(const void *)(words + 2 * *taken)));
    const __m512i refilled = _mm512_or_si512(_mm512_slli_epi32(next, 16),
                                             _mm512_maskz_expand_epi32(wanting, waiting));
    *states = _mm512_mask_mov_epi32(*states, live, _mm512_mask_mov_epi32(next, wanting, refilled));
    *taken += (size_t)_mm_popcnt_u32(wanting);
    return _mm512_or_si512(rows, numbers);
}

/* The states of 32 lanes. Rows of fewer elements use the first ones. */
struct wide_states {
    __m512i low;
    __m512i high;
};

WIDE static inline struct wide_states load_states(const uint32_t *states) {
    const struct wide_states loaded = {_mm512_loadu_si512(states), _mm512_loadu_si512(states + 16)};
    return loaded;
}

WIDE static inline void store_states(uint32_t *states, struct wide_states from) {
    _mm512_storeu_si512(states, from.low);
    _mm512_storeu_si512(states + 16, from.high);
}

/* How many elements from `i` on have lanes of the same half. */
static inline size_t lanes_from(size_t i, size_t count, unsigned lanes) {
    return smaller(count - i, smaller(lanes, 16));
}

static inline __m512i *half_of(struct wide_states *states, size_t i, unsigned lanes) {
    return (i & (lanes - 1)) >= 16 ? &states->high : &states->low;
}

/* All symbols of a piece, in place of their tables; returns how many words they took. */
WIDE static size_t wide_symbols(const uint32_t *steps, uint16_t *entries, size_t count,
                                unsigned lanes, uint32_t *lane_states, const uint8_t *words) {
    struct wide_states states = load_states(lane_states);
    size_t taken = 0;
    for (size_t i = 0; i < count; i += lanes_from(i, count, lanes)) {
        const __mmask16 live = first_lanes(lanes_from(i, count, lanes));
        const __m512i found = symbols_of_lanes(steps, live, entries + i,
                                               half_of(&states, i, lanes), words, &taken);
        _mm256_mask_storeu_epi16(entries + i, live, _mm512_cvtepi32_epi16(found));
    }
    store_states(lane_states, states);
    return taken;
}

/* Sums of all lanes up to each one. */
WIDE static inline __m512i running_sums(__m512i x) {
    const __m512i zero = _mm512_setzero_si512();
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 15));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 14));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 12));
    return _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 8));
}

/* Values of 16 bits from entries, and from raw bits, of which `bit` is the next one. */
WIDE static inline void values_of_lanes(const uint32_t *meanings, __mmask16 live, __m512i entries,
                                        const uint8_t *raw, uint64_t *bit, uint16_t *values) {
    const __m512i one = _mm512_set1_epi32(1);
    /* The four bytes of a lane's window: its first one's place, and those behind it. */
    const __m512i lowest_bytes = _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0);
    const __m512i following = _mm512_set1_epi32(0x03020100);
    const __m512i meaning = gathered(live, entries, meanings);
    const __m512i raw_bits = _mm512_srli_epi32(meaning, SHORT_RAW_BITS_PLACE);
    const __m512i ends = running_sums(raw_bits);
    const __m512i starts =
        _mm512_add_epi32(_mm512_sub_epi32(ends, raw_bits), _mm512_set1_epi32((int)(*bit & 7)));
    const __m512i first_bytes = _mm512_shuffle_epi8(_mm512_srli_epi32(starts, 3), lowest_bytes);
    const __m512i windows = _mm512_permutexvar_epi8(_mm512_add_epi8(first_bytes, following),
                                                    _mm512_loadu_si512(raw + (*bit >> 3)));
    const __m512i shifted =
        _mm512_srlv_epi32(windows, _mm512_and_si512(starts, _mm512_set1_epi32(7)));
    const __m512i mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, raw_bits), one);
    const __m512i bits = _mm512_and_si512(shifted, mask);
    /* Where nothing is flipped the shift is so large that it leaves zeros. */
    const __m512i unflipped = _mm512_and_si512(_mm512_srli_epi32(meaning, SHORT_FLIP_PLACE),
                                               _mm512_set1_epi32(SHORT_NO_FLIP));
    const __m512i flip = _mm512_sllv_epi32(_mm512_set1_epi32(-1), unflipped);
    const __m512i found = _mm512_add_epi32(_mm512_xor_si512(bits, flip), meaning);
    _mm256_mask_storeu_epi16(values, live, _mm512_cvtepi32_epi16(found));
    *bit += (uint32_t)_mm_extract_epi32(_mm512_extracti32x4_epi32(ends, 3), 3);
}

/* Symbols and values of a piece of elements of 16 bits, by turns: what one waits for leaves time
 * for the other. Returns how many words they took. */
WIDE static size_t wide_values(const uint32_t *steps, const uint32_t *meanings,
                               const uint16_t *tables, size_t count, unsigned lanes,
                               uint32_t *lane_states, const uint8_t *words, const uint8_t *raw,
                               uint64_t *next_bit, uint16_t *values) {
    struct wide_states states = load_states(lane_states);
    uint64_t bit = *next_bit;
    size_t taken = 0;
    size_t i = 0;
    for (; lanes == 32 && i + 32 <= count; i += 32) {
        const __m512i low =
            symbols_of_lanes(steps, 0xFFFF, tables + i, &states.low, words, &taken);
        const __m512i high =
            symbols_of_lanes(steps, 0xFFFF, tables + i + 16, &states.high, words, &taken);
        values_of_lanes(meanings, 0xFFFF, low, raw, &bit, values + i);
        values_of_lanes(meanings, 0xFFFF, high, raw, &bit, values + i + 16);
    }
    for (; i < count; i += lanes_from(i, count, lanes)) {
        const __mmask16 live = first_lanes(lanes_from(i, count, lanes));
        const __m512i found =
            symbols_of_lanes(steps, live, tables + i, half_of(&states, i, lanes), words, &taken);
        values_of_lanes(meanings, live, found, raw, &bit, values + i);
    }
    store_states(lane_states, states);
    *next_bit = bit;
    return taken;
}

/* The table of each element of 16 bits, as `choose` does. */
WIDE static void wide_choose(const struct form *form, const uint16_t *row_of,
                             const uint8_t *source, size_t count, uint16_t *entries) {
    const __m512i keys_mask = _mm512_set1_epi16(form->key_mask);
    const __m128i shift = _mm_cvtsi32_si128(form->key_shift);
    const bool few = form->key_mask < 64;
    __m512i rows[8];
    for (size_t i = 0; i < 8; i++) {
        rows[i] = _mm512_loadu_si512(row_of + 32 * i);
    }
    for (size_t i = 0; i < count; i += 32) {
        const size_t left = count - i;
        const __mmask32 live = left < 32 ? (1u << left) - 1 : 0xFFFFFFFFu;
        const __m512i elements = _mm512_maskz_loadu_epi16(live, source + 2 * i);
        const __m512i keys = _mm512_and_si512(_mm512_srl_epi16(elements, shift), keys_mask);
        __m512i found = _mm512_permutex2var_epi16(rows[0], keys, rows[1]);
        if (!few) {
            const __mmask32 is_odd = _mm512_test_epi16_mask(keys, _mm512_set1_epi16(64));
            const __mmask32 is_high = _mm512_test_epi16_mask(keys, _mm512_set1_epi16(128));
            const __m512i second = _mm512_permutex2var_epi16(rows[2], keys, rows[3]);
            const __m512i third = _mm512_permutex2var_epi16(rows[4], keys, rows[5]);
            const __m512i fourth = _mm512_permutex2var_epi16(rows[6], keys, rows[7]);
            found = _mm512_mask_blend_epi16(is_high, _mm512_mask_blend_epi16(is_odd, found, second),
                                            _mm512_mask_blend_epi16(is_odd, third, fourth));
        }
        _mm512_mask_storeu_epi16(entries + i, live, found);
    }
}

#else

#define WIDE_BYTES 16

#endif
