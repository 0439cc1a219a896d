/* See kernel.h. The order of things: bits and words, forms, statistics, encoder, decoder. */
#include "kernel.h"

#include <stdbool.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the coder's kernel is written for little-endian machines"
#endif

/* Elements that go through all passes together: small enough for the first-level cache, and a
 * multiple of the largest number of lanes and of EDGE_CODER_LEVEL_GROUP. */
#define PIECE ((size_t)512)

#define SCALE_BITS 12
#define SCALE (1u << SCALE_BITS)
#define STATE_LOW (1u << 16)
/* Differences below have a symbol each. */
#define EXACT_BELOW 16
#define SCALE_LIMIT ((uint64_t)1 << 40)
#define LEVEL_LIMIT (((uint64_t)1 << 24) - 1)
/* In an encoder's index: the symbol has no frequency. */
#define NO_INDEX 0x8000u

#define ENCODER_MAGIC 0x45444345u
#define DECODER_MAGIC 0x45444344u

/* --- bits and words -------------------------------------------------------------------------- */

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static inline uint64_t load_64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t load_32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint16_t load_16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Of a number that is not 0. */
static inline unsigned highest_bit(uint64_t value) {
#if defined(__GNUC__)
    return 63 - (unsigned)__builtin_clzll(value);
#else
    unsigned bit = 0;
    while (value >>= 1) {
        bit++;
    }
    return bit;
#endif
}

struct bit_writer {
    uint8_t *at;
    uint64_t pending;
    unsigned pending_bits; /* below 8 between calls */
};

/* Writes 8 bytes at once, of which only whole bytes of bits count. */
static inline void put_few_bits(struct bit_writer *out, uint64_t bits, unsigned count) {
    out->pending |= bits << out->pending_bits;
    out->pending_bits += count;
    memcpy(out->at, &out->pending, 8);
    out->at += out->pending_bits >> 3;
    out->pending >>= out->pending_bits & 56;
    out->pending_bits &= 7;
}

static inline void put_bits(struct bit_writer *out, uint64_t bits, unsigned count, bool may_be_wide) {
    if (may_be_wide) {
        const unsigned low = count < 32 ? count : 32;
        put_few_bits(out, bits & UINT32_MAX, low);
        put_few_bits(out, bits >> 32, count - low);
    } else {
        put_few_bits(out, bits, count);
    }
}

struct bit_reader {
    const uint8_t *at;
    uint64_t bit; /* from `at` on: the next one */
    uint64_t end;
    bool in_tail;
    bool is_quiet; /* the piece before had no raw bits, so this one may have none */
};

/* Words are read without a check for each: a piece takes at most one for each element, and if there
 * are not so many left, what is left has been copied in front of zeros. */
struct word_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool in_tail;
};

/* A varint of the format, in its shortest form. Returns its length or an error. */
static int read_varint(const uint8_t *at, size_t left, uint64_t *value) {
    *value = 0;
    for (unsigned i = 0; i < 9; i++) {
        if (i >= left) {
            return EDGE_CODER_TRUNCATED;
        }
        *value |= (uint64_t)(at[i] & 127) << (7 * i);
        if (at[i] < 128) {
            return at[i] == 0 && i > 0 ? EDGE_CODER_PADDING : (int)i + 1;
        }
    }
    return EDGE_CODER_PADDING;
}

static size_t write_varint(uint8_t *at, uint64_t value) {
    size_t length = 0;
    for (; value >= 128; value >>= 7) {
        at[length++] = (uint8_t)(value | 128);
    }
    at[length++] = (uint8_t)value;
    return length;
}

#define VARINT_BYTES_MAX 9

/* --- forms ----------------------------------------------------------------------------------- */

/* A shape that was checked. */
struct form {
    bool is_float;
    uint8_t width_bits;
    uint8_t mantissa_bits;
    uint8_t model;
    uint8_t levels;
    uint8_t key_shift;
    uint8_t key_mask; /* 0: all keys are 0 */
    uint16_t tables;
    /* The table's number times 256, which is that of its first entry. */
    uint16_t row_of[EDGE_CODER_LEVELS_MAX][EDGE_CODER_KEYS];
};

static int form_of_kind(int kind, struct form *form) {
    static const uint8_t widths[] = {8, 16, 32, 64, 16, 16, 32, 64};
    static const uint8_t mantissas[] = {0, 0, 0, 0, 10, 7, 23, 52};
    static const uint8_t key_masks[] = {0, 0, 0, 0, 31, 255, 255, 255};
    if (kind < EDGE_CODER_INT8 || kind > EDGE_CODER_FLOAT64) {
        return EDGE_CODER_ARGUMENT;
    }
    memset(form, 0, sizeof *form);
    form->is_float = kind >= EDGE_CODER_FLOAT16;
    form->width_bits = widths[kind];
    form->mantissa_bits = mantissas[kind];
    form->key_mask = key_masks[kind];
    form->key_shift = mantissas[kind];
    if (kind == EDGE_CODER_FLOAT64) {
        form->key_shift = (uint8_t)(form->mantissa_bits + 3);
    }
    return 0;
}

static unsigned raw_bits_of_elements(const struct form *form) {
    if (form->is_float) {
        return form->mantissa_bits;
    }
    return form->width_bits - 8u;
}

static int form_of_shape(const edge_coder_shape *shape, unsigned tables_max, struct form *form) {
    if (shape == NULL || form_of_kind(shape->kind, form) < 0 || shape->table_of == NULL ||
        shape->raw_bits == NULL) {
        return EDGE_CODER_ARGUMENT;
    }
    if (shape->model < EDGE_CODER_DIFFERENCE || shape->model > EDGE_CODER_ALONE ||
        (shape->model == EDGE_CODER_GIVEN && !form->is_float) || shape->levels < 1 ||
        shape->levels > EDGE_CODER_LEVELS_MAX ||
        (shape->model == EDGE_CODER_ALONE && shape->levels > 1) || shape->tables < 1 ||
        shape->tables > tables_max) {
        return EDGE_CODER_TABLE;
    }
    form->model = (uint8_t)shape->model;
    form->levels = (uint8_t)shape->levels;
    form->tables = (uint16_t)shape->tables;
    if (form->model == EDGE_CODER_ALONE) {
        form->key_mask = 0;
    }
    for (unsigned level = 0; level < form->levels; level++) {
        for (unsigned key = 0; key < EDGE_CODER_KEYS; key++) {
            const uint8_t table = shape->table_of[level * EDGE_CODER_KEYS + key];
            if (table >= form->tables) {
                return EDGE_CODER_TABLE;
            }
            form->row_of[level][key] = (uint16_t)(table << 8);
        }
    }
    for (unsigned table = 0; table < form->tables; table++) {
        if (shape->raw_bits[table] >= form->width_bits ||
            (form->model != EDGE_CODER_DIFFERENCE &&
             shape->raw_bits[table] != raw_bits_of_elements(form))) {
            return EDGE_CODER_TABLE;
        }
    }
    return 0;
}

/* Whether an element can have the symbol in a table with so many raw bits. */
static bool is_possible(const struct form *form, unsigned raw_bits, unsigned symbol) {
    const unsigned bits = form->width_bits - raw_bits;
    if (form->model != EDGE_CODER_DIFFERENCE || bits < 5) {
        return symbol < 1u << bits;
    }
    const unsigned end = 2 * EXACT_BELOW - 1 + 8 * (bits - 5);
    return symbol < end || symbol == end + 1;
}

static unsigned bins_log2_of(const struct form *form) {
    return form->width_bits == 64 && form->is_float && form->model != EDGE_CODER_DIFFERENCE ? 12 : 9;
}

static size_t groups_of(size_t count) {
    return (count + EDGE_CODER_LEVEL_GROUP - 1) / EDGE_CODER_LEVEL_GROUP;
}

/* Walks over tables of frequencies and checks them. */
struct frequency_cursor {
    const edge_coder_frequencies *all;
    size_t at;
};

/* The next table: its number of symbols, or an error. Its entries are those before cursor->at. */
static int next_table(struct frequency_cursor *cursor, unsigned table, unsigned symbols_max) {
    const edge_coder_frequencies *all = cursor->all;
    const size_t count = all->counts[table];
    uint32_t sum = 0;
    if (count < 1 || count > symbols_max || count > all->entries - cursor->at) {
        return EDGE_CODER_TABLE;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t at = cursor->at + i;
        if (all->frequencies[at] == 0 ||
            (i > 0 && all->symbols[at] <= all->symbols[at - 1])) {
            return EDGE_CODER_TABLE;
        }
        sum += all->frequencies[at];
    }
    if (sum != SCALE) {
        return EDGE_CODER_TABLE;
    }
    cursor->at += count;
    return (int)count;
}

/* The tables of levels, small enough to search in: by the level before. */
struct level_tables {
    uint8_t counts[EDGE_CODER_LEVELS_MAX];
    uint8_t symbols[EDGE_CODER_LEVELS_MAX][EDGE_CODER_LEVELS_MAX];
    uint16_t starts[EDGE_CODER_LEVELS_MAX][EDGE_CODER_LEVELS_MAX + 1];
};

static int make_level_tables(const struct form *form, const edge_coder_frequencies *frequencies,
                             struct level_tables *out) {
    struct frequency_cursor cursor = {frequencies, 0};
    memset(out, 0, sizeof *out);
    if (form->levels == 1) {
        return 0;
    }
    if (frequencies == NULL) {
        return EDGE_CODER_ARGUMENT;
    }
    for (unsigned before = 0; before < form->levels; before++) {
        const size_t first = cursor.at;
        const int count = next_table(&cursor, before, EDGE_CODER_LEVELS_MAX);
        if (count < 0) {
            return count;
        }
        out->counts[before] = (uint8_t)count;
        for (unsigned i = 0; i < (unsigned)count; i++) {
            if (frequencies->symbols[first + i] >= form->levels) {
                return EDGE_CODER_TABLE;
            }
            out->symbols[before][i] = (uint8_t)frequencies->symbols[first + i];
            out->starts[before][i + 1] =
                (uint16_t)(out->starts[before][i] + frequencies->frequencies[first + i]);
        }
    }
    return cursor.at == frequencies->entries ? 0 : EDGE_CODER_TABLE;
}

static uint8_t level_of(uint64_t score) {
    /* 0.12, 0.3, 0.55, 0.85, 1.2 and 1.8 times 2^18. */
    static const uint32_t thresholds[] = {31457, 78643, 144179, 222822, 314573, 471859};
    uint8_t level = 0;
    for (size_t i = 0; i < sizeof thresholds / sizeof thresholds[0]; i++) {
        level = (uint8_t)(level + (score >= thresholds[i]));
    }
    return level;
}

/* The symbol of quotient q (model 0), from q or, if it is negative, -q - 1. */
static unsigned symbol_of_quotient(uint64_t folded, unsigned negative, unsigned *extra_bits) {
    const uint64_t size = folded + negative;
    if (size < EXACT_BELOW) {
        *extra_bits = 0;
        return (unsigned)(2 * size) - negative;
    }
    const unsigned top = highest_bit(size);
    *extra_bits = top - 2;
    return 2 * EXACT_BELOW - 1 + 2 * ((top - 5) * 4 + (unsigned)(size >> (top - 2))) + negative;
}

/* Most quotients are small: their symbols, and 2^8 times their extra bits, by sign. */
#define SMALL_QUOTIENTS 512

struct small_quotients {
    uint16_t of[2][SMALL_QUOTIENTS];
};

static void fill_small_quotients(struct small_quotients *out) {
    for (unsigned negative = 0; negative < 2; negative++) {
        for (unsigned folded = 0; folded < SMALL_QUOTIENTS; folded++) {
            unsigned extra_bits;
            const unsigned symbol = symbol_of_quotient(folded, negative, &extra_bits);
            out->of[negative][folded] = (uint16_t)(symbol | extra_bits << 8);
        }
    }
}

/* --- encoder and decoder as they lie in memory ------------------------------------------------ */

/* x / f is x * reciprocal >> RECIPROCAL_SHIFT for all x < f << 20 that an encoder divides; there
 * the product stays below 2^64, because f * (f - 1) < 2^24. */
#define RECIPROCAL_SHIFT 44

struct encoder_entry {
    uint64_t reciprocal;
    uint16_t frequency;
    uint16_t rest; /* SCALE - frequency */
    uint16_t start;
    uint16_t unused;
};

struct encoder {
    uint32_t magic;
    uint32_t bins_log2;
    struct form form;
    struct level_tables level_tables;
    uint8_t raw_bits[EDGE_CODER_TABLES_MAX];
    /* Behind: struct encoder_entry [tables][256], uint16_t index_of_symbol [tables][bins]. */
};

struct decoder {
    uint32_t magic;
    uint32_t unused;
    struct form form;
    struct level_tables level_tables;
    /* Behind, an entry being a symbol of a table: uint64_t meanings [tables][256]; uint32_t shares
     * [tables][256], frequency and 2^16 times its start; uint8_t slots [tables][SCALE], entries. */
};

static size_t aligned(size_t bytes) { return (bytes + 15) & ~(size_t)15; }

static bool is_aligned(const void *at) { return ((uintptr_t)at & 7) == 0; }

static const struct encoder_entry *entries_of_encoder(const struct encoder *encoder) {
    return (const struct encoder_entry *)(const void *)((const uint8_t *)encoder +
                                                        aligned(sizeof *encoder));
}

static const uint16_t *index_of_symbol(const struct encoder *encoder) {
    return (const uint16_t *)(const void *)(entries_of_encoder(encoder) +
                                            (size_t)encoder->form.tables * EDGE_CODER_SYMBOLS_MAX);
}

static const uint64_t *meanings_of(const struct decoder *decoder) {
    return (const uint64_t *)(const void *)((const uint8_t *)decoder + aligned(sizeof *decoder));
}

static const uint32_t *shares_of(const struct decoder *decoder) {
    return (const uint32_t *)(const void *)(meanings_of(decoder) +
                                            (size_t)decoder->form.tables * EDGE_CODER_SYMBOLS_MAX);
}

static const uint8_t *slots_of(const struct decoder *decoder) {
    return (const uint8_t *)(shares_of(decoder) +
                             (size_t)decoder->form.tables * EDGE_CODER_SYMBOLS_MAX);
}

static size_t encoder_bytes_of(const struct form *form) {
    const size_t each = EDGE_CODER_SYMBOLS_MAX * sizeof(struct encoder_entry) +
                        (sizeof(uint16_t) << bins_log2_of(form));
    return aligned(sizeof(struct encoder)) + form->tables * each;
}

static size_t decoder_bytes_of(const struct form *form) {
    const size_t each = EDGE_CODER_SYMBOLS_MAX * (sizeof(uint64_t) + sizeof(uint32_t)) + SCALE;
    return aligned(sizeof(struct decoder)) + form->tables * each;
}

static bool are_lanes(unsigned lanes) { return lanes == 1 || lanes == 8 || lanes == 32; }

/* What decoding needs beside its decoder. */
struct work {
    uint64_t values[PIECE];
    uint16_t entries[PIECE];
    uint8_t words_tail[4 * PIECE + 16];
    uint8_t raw_tail[2 * (8 * PIECE + 16)];
};

struct level_reader {
    uint32_t state;
    unsigned level; /* the one before */
    const uint8_t *at;
    const uint8_t *end;
};

struct stream {
    unsigned lanes;
    uint32_t states[32];
    struct level_reader levels;
    struct word_reader words;
    struct bit_reader raw;
};

/* The level of the next group, or an error. */
static int next_level(const struct decoder *decoder, struct level_reader *reader) {
    const struct level_tables *tables = &decoder->level_tables;
    if (decoder->form.levels == 1) {
        return 0;
    }
    const unsigned before = reader->level;
    const uint16_t *starts = tables->starts[before];
    const uint32_t slot = reader->state & (SCALE - 1);
    unsigned i = 0;
    while (i + 1u < tables->counts[before] && slot >= starts[i + 1]) {
        i++;
    }
    reader->state = (uint32_t)(starts[i + 1] - starts[i]) * (reader->state >> SCALE_BITS) + slot -
                    starts[i];
    if (reader->state < STATE_LOW) {
        if (reader->end - reader->at < 2) {
            return EDGE_CODER_TRUNCATED;
        }
        reader->state = reader->state << 16 | load_16(reader->at);
        reader->at += 2;
    }
    reader->level = tables->symbols[before][i];
    return (int)reader->level;
}

/* Takes a word into the state if it is too small. Compilers tend to make a branch of it, which
 * would be foretold wrong half of the time. */
#if defined(__GNUC__) && defined(__x86_64__)
#define REFILL(state, words, taken)                                                                \
    do {                                                                                           \
        uint32_t refilled_ = (state) << 16 | load_16((words) + 2 * (taken));                       \
        __asm__("cmp $0x10000, %0\n\tcmovb %2, %0\n\tadc $0, %1"                                   \
                : "+r"(state), "+r"(taken)                                                         \
                : "r"(refilled_)                                                                   \
                : "cc");                                                                           \
    } while (0)
#else
#define REFILL(state, words, taken)                                                                \
    do {                                                                                           \
        const uint32_t wanted_ = (state) < STATE_LOW;                                              \
        const uint32_t word_ = load_16((words) + 2 * (taken)) & (0 - wanted_);                     \
        (state) = (state) << (16 * wanted_) | word_;                                               \
        (taken) += wanted_;                                                                        \
    } while (0)
#endif

/* One symbol: the number of its entry; the lane's state goes on. */
#define DECODE_SYMBOL(state, i)                                                                    \
    do {                                                                                           \
        const uint32_t slot_ = (state) & (SCALE - 1);                                              \
        const uint32_t row_ = entries[i];                                                          \
        const uint32_t entry_ = row_ | slots[(row_ << 4) + slot_];                                 \
        const uint32_t share_ = shares[entry_];                                                    \
        entries[i] = (uint16_t)entry_;                                                             \
        (state) = (share_ & 0xFFFF) * ((state) >> SCALE_BITS) + slot_ - (share_ >> 16);            \
        REFILL(state, words, taken);                                                               \
    } while (0)

static size_t symbols_of_rest(const uint8_t *restrict slots, const uint32_t *restrict shares,
                              uint16_t *restrict entries, size_t from, size_t count,
                              unsigned lanes, uint32_t *states, const uint8_t *words,
                              size_t taken) {
    for (size_t i = from; i < count; i++) {
        uint32_t state = states[i & (lanes - 1)];
        DECODE_SYMBOL(state, i);
        states[i & (lanes - 1)] = state;
    }
    return taken;
}

/* Eight lanes with their states in registers. */
static size_t symbols_of_8(const uint8_t *restrict slots, const uint32_t *restrict shares,
                           uint16_t *restrict entries, size_t count, uint32_t *states,
                           const uint8_t *words) {
    uint32_t s0 = states[0], s1 = states[1], s2 = states[2], s3 = states[3];
    uint32_t s4 = states[4], s5 = states[5], s6 = states[6], s7 = states[7];
    size_t taken = 0;
    for (size_t i = 0; i < count; i += 8) {
        DECODE_SYMBOL(s0, i);
        DECODE_SYMBOL(s1, i + 1);
        DECODE_SYMBOL(s2, i + 2);
        DECODE_SYMBOL(s3, i + 3);
        DECODE_SYMBOL(s4, i + 4);
        DECODE_SYMBOL(s5, i + 5);
        DECODE_SYMBOL(s6, i + 6);
        DECODE_SYMBOL(s7, i + 7);
    }
    states[0] = s0, states[1] = s1, states[2] = s2, states[3] = s3;
    states[4] = s4, states[5] = s5, states[6] = s6, states[7] = s7;
    return taken;
}

static size_t symbols_of_32(const uint8_t *restrict slots, const uint32_t *restrict shares,
                            uint16_t *restrict entries, size_t count, uint32_t *states,
                            const uint8_t *words) {
    uint32_t s[32];
    size_t taken = 0;
    memcpy(s, states, sizeof s);
    for (size_t i = 0; i < count; i += 32) {
        for (size_t lane = 0; lane < 32; lane += 4) {
            DECODE_SYMBOL(s[lane], i + lane);
            DECODE_SYMBOL(s[lane + 1], i + lane + 1);
            DECODE_SYMBOL(s[lane + 2], i + lane + 2);
            DECODE_SYMBOL(s[lane + 3], i + lane + 3);
        }
    }
    memcpy(states, s, sizeof s);
    return taken;
}

/* A piece's tables become numbers of entries. */
static int decode_symbols(const struct decoder *decoder, struct stream *stream, struct work *work,
                          size_t count) {
    struct word_reader *words = &stream->words;
    const uint8_t *slots = slots_of(decoder);
    const uint32_t *shares = shares_of(decoder);
    const size_t whole = stream->lanes > 1 ? count & ~(size_t)(stream->lanes - 1) : 0;
    size_t taken = 0;
    if (!words->in_tail && (size_t)(words->end - words->at) < 2 * (PIECE + 1)) {
        const size_t left = (size_t)(words->end - words->at);
        memset(work->words_tail, 0, sizeof work->words_tail);
        if (left > 0) {
            memcpy(work->words_tail, words->at, left);
        }
        words->at = work->words_tail;
        words->end = work->words_tail + left;
        words->in_tail = true;
    }
    if (stream->lanes == 8) {
        taken = symbols_of_8(slots, shares, work->entries, whole, stream->states, words->at);
    } else if (stream->lanes == 32) {
        taken = symbols_of_32(slots, shares, work->entries, whole, stream->states, words->at);
    }
    taken = symbols_of_rest(slots, shares, work->entries, whole, count, stream->lanes,
                            stream->states, words->at, taken);
    if (taken > (size_t)(words->end - words->at) / 2) {
        return EDGE_CODER_TRUNCATED;
    }
    words->at += 2 * taken;
    return 0;
}

/* Makes sure that a piece's raw bits can be read without a check for each. */
static void bits_for_piece(struct bit_reader *reader, size_t width_bytes, uint8_t *tail) {
    const size_t need = PIECE * width_bytes + 16;
    const size_t left = (size_t)((reader->end >> 3) - (reader->bit >> 3));
    if (reader->in_tail || left >= need) {
        return;
    }
    memset(tail, 0, 2 * need);
    if (left > 0) {
        memcpy(tail, reader->at + (reader->bit >> 3), left);
    }
    reader->at = tail;
    reader->end = (uint64_t)left << 3;
    reader->bit &= 7;
    reader->in_tail = true;
}

#define BITS 8
#include "elements.h"
#define BITS 16
#include "elements.h"
#define BITS 32
#include "elements.h"
#define BITS 64
#include "elements.h"

/* Calls the width's variant. */
#define BY_WIDTH(form, name, ...)                                                                  \
    ((form)->width_bits == 8    ? name##_8(__VA_ARGS__)                                            \
     : (form)->width_bits == 16 ? name##_16(__VA_ARGS__)                                           \
     : (form)->width_bits == 32 ? name##_32(__VA_ARGS__)                                           \
                                : name##_64(__VA_ARGS__))

/* --- statistics ------------------------------------------------------------------------------ */

int edge_coder_scales(int kind, const uint8_t *source, const uint8_t *target, size_t count,
                      uint64_t counts[EDGE_CODER_KEYS], uint64_t sums[EDGE_CODER_KEYS]) {
    struct form form;
    if (form_of_kind(kind, &form) < 0 || count > EDGE_CODER_COUNT_MAX) {
        return EDGE_CODER_ARGUMENT;
    }
    return BY_WIDTH(&form, scales, &form, source, target, count, counts, sums);
}

int edge_coder_levels(int kind, const uint8_t *source, const uint8_t *target, size_t count,
                      const uint32_t inverse_means[EDGE_CODER_KEYS], uint8_t *levels) {
    struct form form;
    if (form_of_kind(kind, &form) < 0 || count > EDGE_CODER_COUNT_MAX) {
        return EDGE_CODER_ARGUMENT;
    }
    return BY_WIDTH(&form, levels, &form, source, target, count, inverse_means, levels);
}

long edge_coder_bins(const edge_coder_shape *shape) {
    struct form form;
    const int status = form_of_shape(shape, EDGE_CODER_COUNTED_TABLES_MAX, &form);
    return status < 0 ? status : 1L << bins_log2_of(&form);
}

/* Whether source and levels are there and allowed. */
static bool are_inputs(const struct form *form, const uint8_t *source, const uint8_t *target,
                       size_t count, const uint8_t *levels) {
    if (count > EDGE_CODER_COUNT_MAX) {
        return false;
    }
    if (count == 0) {
        return true;
    }
    if (target == NULL || (source == NULL && form->model != EDGE_CODER_ALONE) ||
        (levels == NULL && form->levels > 1)) {
        return false;
    }
    for (size_t i = 0; form->levels > 1 && i < groups_of(count); i++) {
        if (levels[i] >= form->levels) {
            return false;
        }
    }
    return true;
}

int edge_coder_histogram(const edge_coder_shape *shape, const uint8_t *source,
                         const uint8_t *target, size_t count, const uint8_t *levels,
                         uint32_t *bins) {
    struct form form;
    const int status = form_of_shape(shape, EDGE_CODER_COUNTED_TABLES_MAX, &form);
    if (status < 0) {
        return status;
    }
    if (!are_inputs(&form, source, target, count, levels)) {
        return EDGE_CODER_ARGUMENT;
    }
    BY_WIDTH(&form, histogram, &form, shape->raw_bits, source, target, count,
             form.levels > 1 ? levels : NULL, (size_t)1 << bins_log2_of(&form), bins);
    return 0;
}

/* --- encoder --------------------------------------------------------------------------------- */

size_t edge_coder_encoder_bytes(const edge_coder_shape *shape) {
    struct form form;
    return form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form) < 0 ? 0 : encoder_bytes_of(&form);
}

int edge_coder_make_encoder(const edge_coder_shape *shape, const edge_coder_frequencies *tables,
                            const edge_coder_frequencies *level_tables, void *memory,
                            size_t memory_bytes) {
    struct form form;
    int status = form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form);
    if (status < 0) {
        return status;
    }
    if (tables == NULL || memory_bytes < encoder_bytes_of(&form) || !is_aligned(memory)) {
        return EDGE_CODER_ARGUMENT;
    }
    struct encoder *encoder = memory;
    memset(memory, 0, encoder_bytes_of(&form));
    encoder->form = form;
    encoder->bins_log2 = bins_log2_of(&form);
    memcpy(encoder->raw_bits, shape->raw_bits, form.tables);
    status = make_level_tables(&form, level_tables, &encoder->level_tables);
    struct encoder_entry *entry =
        (struct encoder_entry *)(void *)((uint8_t *)memory + aligned(sizeof *encoder));
    uint16_t *index_of =
        (uint16_t *)(void *)(entry + (size_t)form.tables * EDGE_CODER_SYMBOLS_MAX);
    const size_t bins = (size_t)1 << encoder->bins_log2;
    struct frequency_cursor cursor = {tables, 0};
    for (size_t i = 0; i < form.tables * bins; i++) {
        index_of[i] = NO_INDEX;
    }
    for (unsigned table = 0; table < form.tables && status >= 0; table++) {
        const size_t first = cursor.at;
        uint32_t start = 0;
        status = next_table(&cursor, table, EDGE_CODER_SYMBOLS_MAX);
        for (unsigned i = 0; (int)i < status; i++) {
            const uint32_t frequency = tables->frequencies[first + i];
            const unsigned symbol = tables->symbols[first + i];
            if (!is_possible(&form, shape->raw_bits[table], symbol)) {
                return EDGE_CODER_TABLE;
            }
            index_of[table * bins + symbol] = (uint16_t)i;
            entry[i].reciprocal =
                (((uint64_t)1 << RECIPROCAL_SHIFT) + frequency - 1) / frequency;
            entry[i].frequency = (uint16_t)frequency;
            entry[i].rest = (uint16_t)(SCALE - frequency);
            entry[i].start = (uint16_t)start;
            start += frequency;
        }
        entry += EDGE_CODER_SYMBOLS_MAX;
    }
    if (status < 0 || cursor.at != tables->entries) {
        return EDGE_CODER_TABLE;
    }
    encoder->magic = ENCODER_MAGIC;
    return 0;
}

/* Scratch of encoding: a number for each element, words, raw bits, the stream of levels. */
struct encode_layout {
    size_t words;
    size_t raw;
    size_t levels;
    size_t end;
};

static struct encode_layout layout_of(const struct form *form, size_t count) {
    struct encode_layout layout;
    layout.words = aligned(2 * count);
    layout.raw = layout.words + aligned(2 * count + 2);
    layout.levels = layout.raw + aligned(count * (form->width_bits / 8u) + 16);
    layout.end = layout.levels + aligned(2 * groups_of(count) + 4);
    return layout;
}

static const struct encoder *encoder_in(const void *memory, size_t memory_bytes) {
    const struct encoder *encoder = memory;
    if (memory == NULL || !is_aligned(memory) || memory_bytes < sizeof *encoder ||
        encoder->magic != ENCODER_MAGIC || memory_bytes < encoder_bytes_of(&encoder->form)) {
        return NULL;
    }
    return encoder;
}

static const struct decoder *decoder_in(const void *memory, size_t memory_bytes) {
    const struct decoder *decoder = memory;
    if (memory == NULL || !is_aligned(memory) || memory_bytes < sizeof *decoder ||
        decoder->magic != DECODER_MAGIC || memory_bytes < decoder_bytes_of(&decoder->form)) {
        return NULL;
    }
    return decoder;
}

int edge_coder_describe(const void *memory, size_t memory_bytes, edge_coder_facts *facts) {
    const struct encoder *encoder = encoder_in(memory, memory_bytes);
    const struct decoder *decoder = decoder_in(memory, memory_bytes);
    const struct form *form = encoder ? &encoder->form : decoder ? &decoder->form : NULL;
    if (form == NULL) {
        return EDGE_CODER_ARGUMENT;
    }
    facts->element_bytes = form->width_bits / 8u;
    facts->levels = form->levels;
    facts->needs_source = form->model != EDGE_CODER_ALONE;
    return 0;
}

size_t edge_coder_encode_scratch_bytes(const void *memory, size_t memory_bytes, size_t count) {
    const struct encoder *encoder = encoder_in(memory, memory_bytes);
    return encoder == NULL || count > EDGE_CODER_COUNT_MAX ? 0
                                                           : layout_of(&encoder->form, count).end;
}

static size_t stream_bytes_max(const struct form *form, size_t count, unsigned lanes) {
    const size_t levels = form->levels > 1 ? 2 * groups_of(count) + 4 : 0;
    return 2 * VARINT_BYTES_MAX + levels + 4 * (size_t)lanes + 2 * count +
           count * (form->width_bits / 8u) + 8;
}

size_t edge_coder_stream_bytes_max(const void *memory, size_t memory_bytes, size_t count,
                                   unsigned lanes) {
    const struct encoder *encoder = encoder_in(memory, memory_bytes);
    return encoder == NULL || count > EDGE_CODER_COUNT_MAX || !are_lanes(lanes)
               ? 0
               : stream_bytes_max(&encoder->form, count, lanes);
}

/* Codes a symbol in front of what is coded. A word is always written, but only counts if the
 * state became too large. */
#define ENCODE_SYMBOL(state, number)                                                               \
    do {                                                                                           \
        const struct encoder_entry *const entry_ = &entries[number];                               \
        const unsigned spills_ = ((state) >> (32 - SCALE_BITS)) >= entry_->frequency;              \
        const uint16_t word_ = (uint16_t)(state);                                                  \
        memcpy(words - 2, &word_, 2);                                                              \
        words -= 2 * (size_t)spills_;                                                              \
        (state) >>= 16 * spills_;                                                                  \
        const uint32_t quotient_ = (uint32_t)((state) * entry_->reciprocal >> RECIPROCAL_SHIFT);   \
        (state) += entry_->start + quotient_ * entry_->rest;                                       \
    } while (0)

/* Eight elements, from the last to the first. Words are bytes to the compiler, which may be
 * anything: states are kept apart from them. */
static uint8_t *encode_eight(const struct encoder_entry *restrict entries,
                             const uint16_t *restrict numbers, uint32_t *restrict states,
                             uint8_t *restrict words) {
    uint32_t s0 = states[0], s1 = states[1], s2 = states[2], s3 = states[3];
    uint32_t s4 = states[4], s5 = states[5], s6 = states[6], s7 = states[7];
    ENCODE_SYMBOL(s7, numbers[7]);
    ENCODE_SYMBOL(s6, numbers[6]);
    ENCODE_SYMBOL(s5, numbers[5]);
    ENCODE_SYMBOL(s4, numbers[4]);
    ENCODE_SYMBOL(s3, numbers[3]);
    ENCODE_SYMBOL(s2, numbers[2]);
    ENCODE_SYMBOL(s1, numbers[1]);
    ENCODE_SYMBOL(s0, numbers[0]);
    states[0] = s0, states[1] = s1, states[2] = s2, states[3] = s3;
    states[4] = s4, states[5] = s5, states[6] = s6, states[7] = s7;
    return words;
}

/* Codes all elements from the last to the first. Words grow downwards from `words`; returns the
 * first. */
static uint8_t *encode_symbols(const struct encoder *encoder, const uint16_t *restrict numbers,
                               size_t count, unsigned lanes, uint32_t *states,
                               uint8_t *restrict words) {
    const struct encoder_entry *restrict entries = entries_of_encoder(encoder);
    size_t i = count;
    for (; i > 0 && (lanes == 1 || i % 8 != 0); i--) {
        uint32_t state = states[(i - 1) & (lanes - 1)];
        ENCODE_SYMBOL(state, numbers[i - 1]);
        states[(i - 1) & (lanes - 1)] = state;
    }
    for (; i > 0; i -= 8) {
        words = encode_eight(entries, numbers + i - 8, states + ((i - 8) & (lanes - 1)), words);
    }
    return words;
}

/* The stream of levels, ending at `end`; returns its first byte, or NULL if a level has no
 * frequency. */
static uint8_t *encode_levels(const struct encoder *encoder, const uint8_t *levels, size_t groups,
                              uint8_t *end) {
    uint32_t state = STATE_LOW;
    uint8_t *at = end;
    for (size_t i = groups; i > 0; i--) {
        const unsigned before = i > 1 ? levels[i - 2] : 0;
        const uint16_t *starts = encoder->level_tables.starts[before];
        unsigned index = 0;
        while (index < encoder->level_tables.counts[before] &&
               encoder->level_tables.symbols[before][index] != levels[i - 1]) {
            index++;
        }
        if (index == encoder->level_tables.counts[before]) {
            return NULL;
        }
        const uint32_t frequency = (uint32_t)starts[index + 1] - starts[index];
        if (state >> (32 - SCALE_BITS) >= frequency) {
            const uint16_t word = (uint16_t)state;
            at -= 2;
            memcpy(at, &word, 2);
            state >>= 16;
        }
        state = (state / frequency << SCALE_BITS) + state % frequency + starts[index];
    }
    at -= 4;
    memcpy(at, &state, 4);
    return at;
}

ptrdiff_t edge_coder_encode(const void *memory, size_t memory_bytes, const uint8_t *source,
                            const uint8_t *target, size_t count, const uint8_t *levels,
                            unsigned lanes, void *scratch, size_t scratch_bytes, uint8_t *stream,
                            size_t stream_bytes) {
    const struct encoder *encoder = encoder_in(memory, memory_bytes);
    if (encoder == NULL || !are_lanes(lanes) ||
        !are_inputs(&encoder->form, source, target, count, levels) || !is_aligned(scratch)) {
        return EDGE_CODER_ARGUMENT;
    }
    const struct form *form = &encoder->form;
    const struct encode_layout layout = layout_of(form, count);
    if (scratch_bytes < layout.end || stream_bytes < stream_bytes_max(form, count, lanes)) {
        return EDGE_CODER_ARGUMENT;
    }
    uint8_t *out = stream;
    if (count == 0) {
        if (form->levels > 1) {
            out += write_varint(out, 0);
        }
        return out + write_varint(out, 0) - stream;
    }
    if (form->levels == 1) {
        levels = NULL;
    } else {
        uint8_t *const end = (uint8_t *)scratch + layout.end;
        const uint8_t *const first = encode_levels(encoder, levels, groups_of(count), end);
        if (first == NULL) {
            return EDGE_CODER_NO_SYMBOL;
        }
        out += write_varint(out, (uint64_t)(end - first));
        memcpy(out, first, (size_t)(end - first));
        out += end - first;
    }
    uint16_t *const numbers = scratch;
    uint8_t *const raw = (uint8_t *)scratch + layout.raw;
    struct bit_writer writer = {raw, 0, 0};
    if (!BY_WIDTH(form, entries_of, encoder, form->model == EDGE_CODER_ALONE ? NULL : source,
                  target, count, levels, numbers, &writer)) {
        return EDGE_CODER_NO_SYMBOL;
    }
    if (writer.pending_bits > 0) {
        *writer.at++ = (uint8_t)writer.pending;
    }
    uint32_t states[32];
    for (size_t lane = 0; lane < 32; lane++) {
        states[lane] = STATE_LOW;
    }
    const uint8_t *const first =
        encode_symbols(encoder, numbers, count, lanes, states, raw);
    const size_t words_bytes = (size_t)(raw - first);
    out += write_varint(out, words_bytes / 2);
    memcpy(out, states, 4 * (size_t)lanes);
    out += 4 * (size_t)lanes;
    memcpy(out, first, words_bytes);
    out += words_bytes;
    memcpy(out, raw, (size_t)(writer.at - raw));
    return out + (writer.at - raw) - stream;
}

/* --- decoder --------------------------------------------------------------------------------- */

size_t edge_coder_decoder_bytes(const edge_coder_shape *shape) {
    struct form form;
    return form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form) < 0 ? 0 : decoder_bytes_of(&form);
}

static uint64_t meaning_of(const struct form *form, unsigned symbol, unsigned raw_bits) {
    return BY_WIDTH(form, meaning, form->model == EDGE_CODER_DIFFERENCE, symbol, raw_bits);
}

int edge_coder_make_decoder(const edge_coder_shape *shape, const edge_coder_frequencies *tables,
                            const edge_coder_frequencies *level_tables, void *memory,
                            size_t memory_bytes) {
    struct form form;
    int status = form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form);
    if (status < 0) {
        return status;
    }
    if (tables == NULL || memory_bytes < decoder_bytes_of(&form) || !is_aligned(memory)) {
        return EDGE_CODER_ARGUMENT;
    }
    struct decoder *decoder = memory;
    memset(memory, 0, aligned(sizeof *decoder));
    decoder->form = form;
    status = make_level_tables(&form, level_tables, &decoder->level_tables);
    uint64_t *meanings = (uint64_t *)(void *)((uint8_t *)memory + aligned(sizeof *decoder));
    uint32_t *shares = (uint32_t *)(void *)(meanings + (size_t)form.tables * EDGE_CODER_SYMBOLS_MAX);
    uint8_t *slots = (uint8_t *)(shares + (size_t)form.tables * EDGE_CODER_SYMBOLS_MAX);
    struct frequency_cursor cursor = {tables, 0};
    memset(meanings, 0, (size_t)(slots - (uint8_t *)meanings));
    for (unsigned table = 0; table < form.tables && status >= 0; table++) {
        const size_t first = cursor.at;
        uint32_t start = 0;
        status = next_table(&cursor, table, EDGE_CODER_SYMBOLS_MAX);
        for (unsigned i = 0; (int)i < status; i++) {
            const uint32_t frequency = tables->frequencies[first + i];
            const unsigned symbol = tables->symbols[first + i];
            if (!is_possible(&form, shape->raw_bits[table], symbol)) {
                return EDGE_CODER_TABLE;
            }
            meanings[i] = meaning_of(&form, symbol, shape->raw_bits[table]);
            shares[i] = frequency | start << 16;
            memset(slots + start, (int)i, frequency);
            start += frequency;
        }
        meanings += EDGE_CODER_SYMBOLS_MAX;
        shares += EDGE_CODER_SYMBOLS_MAX;
        slots += SCALE;
    }
    if (status < 0 || cursor.at != tables->entries) {
        return EDGE_CODER_TABLE;
    }
    decoder->magic = DECODER_MAGIC;
    return 0;
}

size_t edge_coder_decode_scratch_bytes(void) { return sizeof(struct work); }

/* Takes the stream apart. */
static int open_stream(const struct form *form, size_t count, unsigned lanes, const uint8_t *at,
                       size_t left, struct stream *stream) {
    uint64_t length;
    memset(stream, 0, sizeof *stream);
    stream->lanes = lanes;
    if (form->levels > 1) {
        const int taken = read_varint(at, left, &length);
        if (taken < 0) {
            return taken;
        }
        at += taken;
        left -= (size_t)taken;
        if (length > left || (count > 0 && length < 4)) {
            return EDGE_CODER_TRUNCATED;
        }
        if ((count == 0 && length > 0) || length % 2 != 0) {
            return EDGE_CODER_TRAILING;
        }
        if (count > 0) {
            stream->levels.state = load_32(at);
            stream->levels.at = at + 4;
            stream->levels.end = at + length;
            if (stream->levels.state < STATE_LOW) {
                return EDGE_CODER_STATE;
            }
        }
        at += length;
        left -= (size_t)length;
    }
    const int taken = read_varint(at, left, &length);
    if (taken < 0) {
        return taken;
    }
    at += taken;
    left -= (size_t)taken;
    for (unsigned lane = 0; lane < lanes && count > 0; lane++) {
        if (left < 4) {
            return EDGE_CODER_TRUNCATED;
        }
        stream->states[lane] = load_32(at);
        if (stream->states[lane] < STATE_LOW) {
            return EDGE_CODER_STATE;
        }
        at += 4;
        left -= 4;
    }
    if (length > left / 2) {
        return EDGE_CODER_TRUNCATED;
    }
    if (length > count || left - 2 * (size_t)length > count * (form->width_bits / 8u)) {
        return EDGE_CODER_TRAILING;
    }
    stream->words.at = at;
    stream->words.end = at + 2 * length;
    stream->raw.at = stream->words.end;
    stream->raw.end = (uint64_t)(left - 2 * (size_t)length) * 8;
    return 0;
}

/* Everything is used up, and every lane is back where encoding began. */
static int close_stream(const struct form *form, size_t count, const struct stream *stream) {
    for (unsigned lane = 0; lane < stream->lanes && count > 0; lane++) {
        if (stream->states[lane] != STATE_LOW) {
            return EDGE_CODER_STATE;
        }
    }
    if (form->levels > 1 && count > 0 && stream->levels.state != STATE_LOW) {
        return EDGE_CODER_STATE;
    }
    if (stream->words.at != stream->words.end || stream->levels.at != stream->levels.end ||
        stream->raw.end - stream->raw.bit >= 8) {
        return EDGE_CODER_TRAILING;
    }
    if (stream->raw.bit < stream->raw.end &&
        stream->raw.at[stream->raw.bit >> 3] >> (stream->raw.bit & 7) != 0) {
        return EDGE_CODER_PADDING;
    }
    return 0;
}

int edge_coder_decode(const void *memory, size_t memory_bytes, const uint8_t *source, size_t count,
                      unsigned lanes, const uint8_t *stream_at, size_t stream_bytes, void *scratch,
                      size_t scratch_bytes, uint8_t *target) {
    const struct decoder *decoder = decoder_in(memory, memory_bytes);
    if (decoder == NULL || !are_lanes(lanes) || count > EDGE_CODER_COUNT_MAX || scratch_bytes < sizeof(struct work) ||
        !is_aligned(scratch) || stream_at == NULL) {
        return EDGE_CODER_ARGUMENT;
    }
    const struct form *form = &decoder->form;
    if (count > 0 && (target == NULL || (source == NULL && form->model != EDGE_CODER_ALONE))) {
        return EDGE_CODER_ARGUMENT;
    }
    struct stream stream;
    int status = open_stream(form, count, lanes, stream_at, stream_bytes, &stream);
    if (status < 0) {
        return status;
    }
    if (form->model == EDGE_CODER_ALONE) {
        source = NULL;
    }
    status = BY_WIDTH(form, decode, decoder, source, count, &stream, scratch, target);
    return status < 0 ? status : close_stream(form, count, &stream);
}
