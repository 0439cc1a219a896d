/* The encoder. See kernel.h. */
#include "common.h"
#include "quotients.h"

#define VARINT_BYTES_MAX 9
/* In an encoder's index: the symbol has no frequency. */
#define NO_INDEX 0x8000u

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
    struct head head;
    uint8_t raw_bits[EDGE_CODER_TABLES_MAX];
    /* Behind: struct encoder_entry [tables][256], uint16_t index_of_symbol [tables][bins]. */
};

static const struct encoder_entry *entries_of_encoder(const struct encoder *encoder) {
    return (const struct encoder_entry *)(const void *)((const uint8_t *)encoder +
                                                        aligned(sizeof *encoder));
}

static const uint16_t *index_of_symbol(const struct encoder *encoder) {
    return (const uint16_t *)(const void *)(entries_of_encoder(encoder) +
                                            (size_t)encoder->head.form.tables *
                                                EDGE_CODER_SYMBOLS_MAX);
}

static size_t encoder_bytes_of(const struct form *form) {
    const size_t each = EDGE_CODER_SYMBOLS_MAX * sizeof(struct encoder_entry) +
                        (sizeof(uint16_t) << edge_coder_bins_log2(form));
    return aligned(sizeof(struct encoder)) + form->tables * each;
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

static inline void put_bits(struct bit_writer *out, uint64_t bits, unsigned count,
                            bool may_be_wide) {
    if (may_be_wide) {
        const unsigned low = count < 32 ? count : 32;
        put_few_bits(out, bits & UINT32_MAX, low);
        put_few_bits(out, bits >> 32, count - low);
    } else {
        put_few_bits(out, bits, count);
    }
}

static size_t write_varint(uint8_t *at, uint64_t value) {
    size_t length = 0;
    for (; value >= 128; value >>= 7) {
        at[length++] = (uint8_t)(value | 128);
    }
    at[length++] = (uint8_t)value;
    return length;
}

#define PASSES "encoder_passes.h"
#define BITS 8
#include "elements.h"
#define BITS 16
#include "elements.h"
#define BITS 32
#include "elements.h"
#define BITS 64
#include "elements.h"

size_t edge_coder_encoder_bytes(const edge_coder_shape *shape) {
    struct form form;
    return edge_coder_form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form) < 0
               ? 0
               : encoder_bytes_of(&form);
}

int edge_coder_make_encoder(const edge_coder_shape *shape, const edge_coder_frequencies *tables,
                            const edge_coder_frequencies *level_tables, void *memory,
                            size_t memory_bytes) {
    struct form form;
    int status = edge_coder_form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form);
    if (status < 0) {
        return status;
    }
    if (tables == NULL || memory_bytes < encoder_bytes_of(&form) || !is_aligned(memory)) {
        return EDGE_CODER_ARGUMENT;
    }
    struct encoder *encoder = memory;
    memset(memory, 0, encoder_bytes_of(&form));
    encoder->head.form = form;
    encoder->head.bins_log2 = edge_coder_bins_log2(&form);
    memcpy(encoder->raw_bits, shape->raw_bits, form.tables);
    status = edge_coder_make_level_tables(&form, level_tables, &encoder->head.level_tables);
    struct encoder_entry *entry =
        (struct encoder_entry *)(void *)((uint8_t *)memory + aligned(sizeof *encoder));
    uint16_t *index_of = (uint16_t *)(void *)(entry + (size_t)form.tables * EDGE_CODER_SYMBOLS_MAX);
    const size_t bins = (size_t)1 << encoder->head.bins_log2;
    struct frequency_cursor cursor = {tables, 0};
    for (size_t i = 0; i < form.tables * bins; i++) {
        index_of[i] = NO_INDEX;
    }
    for (unsigned table = 0; table < form.tables && status >= 0; table++) {
        const size_t first = cursor.at;
        uint32_t start = 0;
        status = edge_coder_next_table(&cursor, table, EDGE_CODER_SYMBOLS_MAX);
        for (unsigned i = 0; (int)i < status; i++) {
            const uint32_t frequency = tables->frequencies[first + i];
            const unsigned symbol = tables->symbols[first + i];
            if (!edge_coder_is_possible(&form, shape->raw_bits[table], symbol)) {
                return EDGE_CODER_TABLE;
            }
            index_of[table * bins + symbol] = (uint16_t)i;
            entry[i].reciprocal = (((uint64_t)1 << RECIPROCAL_SHIFT) + frequency - 1) / frequency;
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
    encoder->head.magic = ENCODER_MAGIC;
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
        encoder->head.magic != ENCODER_MAGIC ||
        memory_bytes < encoder_bytes_of(&encoder->head.form)) {
        return NULL;
    }
    return encoder;
}

size_t edge_coder_encode_scratch_bytes(const void *memory, size_t memory_bytes, size_t count) {
    const struct encoder *encoder = encoder_in(memory, memory_bytes);
    return encoder == NULL || count > EDGE_CODER_COUNT_MAX
               ? 0
               : layout_of(&encoder->head.form, count).end;
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
               : stream_bytes_max(&encoder->head.form, count, lanes);
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
        const unsigned before = i > 1 ? levels[i - 2] & (EDGE_CODER_LEVELS_MAX - 1u) : 0;
        const uint16_t *starts = encoder->head.level_tables.starts[before];
        unsigned index = 0;
        while (index < encoder->head.level_tables.counts[before] &&
               encoder->head.level_tables.symbols[before][index] != levels[i - 1]) {
            index++;
        }
        if (index == encoder->head.level_tables.counts[before]) {
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
        !edge_coder_are_inputs(&encoder->head.form, source, target, count, levels) ||
        !is_aligned(scratch)) {
        return EDGE_CODER_ARGUMENT;
    }
    const struct form *form = &encoder->head.form;
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
    const uint8_t *const first = encode_symbols(encoder, numbers, count, lanes, states, raw);
    const size_t words_bytes = (size_t)(raw - first);
    out += write_varint(out, words_bytes / 2);
    memcpy(out, states, 4 * (size_t)lanes);
    out += 4 * (size_t)lanes;
    memcpy(out, first, words_bytes);
    out += words_bytes;
    memcpy(out, raw, (size_t)(writer.at - raw));
    return out + (writer.at - raw) - stream;
}
