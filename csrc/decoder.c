/* The decoder. See kernel.h. */
#include "common.h"
#include "processor.h"

struct decoder {
    struct head head;
    bool is_wide;
    /* Behind, an entry being a symbol of a table: uint64_t meanings [tables][256]; then, for plain
     * passes, uint32_t shares [tables][256], frequency and 2^16 times its start, and uint8_t slots
     * [tables][SCALE], entries; for wide ones uint32_t short meanings [tables][256] and uint32_t
     * steps [tables][SCALE]. */
};

/* A step: the entry's number, a state's rest less the start of its frequency, and the frequency
 * less one. */
#define STEP_SYMBOLS 256
#define STEP_REST_PLACE 8
#define STEP_FREQUENCY_PLACE 20
/* A short meaning, of elements of 16 bits: base, lowest bit that is flipped or SHORT_NO_FLIP, raw
 * bits. */
#define SHORT_FLIP_PLACE 16
#define SHORT_NO_FLIP 31
#define SHORT_RAW_BITS_PLACE 27

#include "decoder_avx512.h"

static const uint64_t *meanings_of(const struct decoder *decoder) {
    return (const uint64_t *)(const void *)((const uint8_t *)decoder + aligned(sizeof *decoder));
}

static const uint32_t *shares_of(const struct decoder *decoder) {
    return (const uint32_t *)(const void *)(meanings_of(decoder) +
                                            (size_t)decoder->head.form.tables *
                                                EDGE_CODER_SYMBOLS_MAX);
}

static const uint8_t *slots_of(const struct decoder *decoder) {
    return (const uint8_t *)(shares_of(decoder) +
                             (size_t)decoder->head.form.tables * EDGE_CODER_SYMBOLS_MAX);
}

/* In the same places, where passes are wide. */
#if HAS_WIDE_PASSES
static const uint32_t *short_meanings_of(const struct decoder *decoder) {
    return shares_of(decoder);
}

static const uint32_t *steps_of(const struct decoder *decoder) {
    return short_meanings_of(decoder) +
           (size_t)decoder->head.form.tables * EDGE_CODER_SYMBOLS_MAX;
}
#endif

static size_t decoder_bytes_of(const struct form *form) {
    const size_t slots_bytes = HAS_WIDE_PASSES ? SCALE * sizeof(uint32_t) : SCALE;
    const size_t each =
        EDGE_CODER_SYMBOLS_MAX * (sizeof(uint64_t) + sizeof(uint32_t)) + slots_bytes;
    return aligned(sizeof(struct decoder)) + form->tables * each;
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

/* What decoding needs beside its decoder. */
struct work {
    uint64_t values[PIECE];
    uint16_t entries[PIECE];
    uint8_t words_tail[2 * (2 * PIECE + WIDE_BYTES)];
    uint8_t raw_tail[2 * (8 * PIECE + WIDE_BYTES)];
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
    const struct level_tables *tables = &decoder->head.level_tables;
    if (decoder->head.form.levels == 1) {
        return 0;
    }
    const unsigned before = reader->level;
    const uint16_t *starts = tables->starts[before];
    const uint32_t slot = reader->state & (SCALE - 1);
    unsigned i = 0;
    while (i + 1u < tables->counts[before] && slot >= starts[i + 1]) {
        i++;
    }
    reader->state =
        (uint32_t)(starts[i + 1] - starts[i]) * (reader->state >> SCALE_BITS) + slot - starts[i];
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
                              uint16_t *restrict entries, size_t from, size_t count, unsigned lanes,
                              uint32_t *states, const uint8_t *words, size_t taken) {
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

/* A piece's tables become numbers of entries; returns how many words that took. */
static size_t symbols_of(const struct decoder *decoder, uint16_t *entries, size_t count,
                         unsigned lanes, uint32_t *states, const uint8_t *words) {
    const uint8_t *slots = slots_of(decoder);
    const uint32_t *shares = shares_of(decoder);
    const size_t whole = lanes > 1 ? count & ~(size_t)(lanes - 1) : 0;
    size_t taken = 0;
#if HAS_WIDE_PASSES
    if (decoder->is_wide) {
        return wide_symbols(steps_of(decoder), entries, count, lanes, states, words);
    }
#endif
    if (lanes == 8) {
        taken = symbols_of_8(slots, shares, entries, whole, states, words);
    } else if (lanes == 32) {
        taken = symbols_of_32(slots, shares, entries, whole, states, words);
    }
    return symbols_of_rest(slots, shares, entries, whole, count, lanes, states, words, taken);
}

/* Makes sure that a piece's words can be read without a check for each. */
static void words_for_piece(struct word_reader *words, struct work *work) {
    const size_t left = (size_t)(words->end - words->at);
    if (words->in_tail || left >= 2 * PIECE + WIDE_BYTES) {
        return;
    }
    memset(work->words_tail, 0, sizeof work->words_tail);
    if (left > 0) {
        memcpy(work->words_tail, words->at, left);
    }
    words->at = work->words_tail;
    words->end = work->words_tail + left;
    words->in_tail = true;
}

/* Makes sure that a piece's raw bits can be read without a check for each. */
static void bits_for_piece(struct bit_reader *reader, size_t width_bytes, uint8_t *tail) {
    const size_t need = PIECE * width_bytes + WIDE_BYTES;
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

#define PASSES "decoder_passes.h"
#define BITS 8
#include "elements.h"
#define BITS 16
#include "elements.h"
#define BITS 32
#include "elements.h"
#define BITS 64
#include "elements.h"

static const struct decoder *decoder_in(const void *memory, size_t memory_bytes) {
    const struct decoder *decoder = memory;
    if (memory == NULL || !is_aligned(memory) || memory_bytes < sizeof *decoder ||
        decoder->head.magic != DECODER_MAGIC ||
        memory_bytes < decoder_bytes_of(&decoder->head.form)) {
        return NULL;
    }
    return decoder;
}

size_t edge_coder_decoder_bytes(const edge_coder_shape *shape) {
    struct form form;
    return edge_coder_form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form) < 0
               ? 0
               : decoder_bytes_of(&form);
}

static uint64_t meaning_of(const struct form *form, unsigned symbol, unsigned raw_bits) {
    return BY_WIDTH(form, meaning, form->model == EDGE_CODER_DIFFERENCE, symbol, raw_bits);
}

#if HAS_WIDE_PASSES
static uint32_t short_meaning_of(uint64_t meaning) {
    const uint32_t base = (uint16_t)meaning;
    const uint32_t raw_bits = (uint32_t)(meaning >> 48);
    uint32_t unflipped = 0;
    while (unflipped < 16 && !(meaning >> (16 + unflipped) & 1)) {
        unflipped++;
    }
    unflipped = unflipped < 16 ? unflipped : SHORT_NO_FLIP;
    return base | unflipped << SHORT_FLIP_PLACE | raw_bits << SHORT_RAW_BITS_PLACE;
}
#endif

/* What plain or wide passes know of a symbol, beside its meaning. */
static void add_symbol(const struct decoder *decoder, uint32_t entry, uint32_t start,
                       uint32_t frequency) {
    const uint32_t slot = (entry / EDGE_CODER_SYMBOLS_MAX << SCALE_BITS) + start;
    const uint32_t number = entry % EDGE_CODER_SYMBOLS_MAX;
#if HAS_WIDE_PASSES
    if (decoder->is_wide) {
        uint32_t *const steps = (uint32_t *)steps_of(decoder) + slot;
        ((uint32_t *)short_meanings_of(decoder))[entry] =
            short_meaning_of(meanings_of(decoder)[entry]);
        for (uint32_t rest = 0; rest < frequency; rest++) {
            steps[rest] = number | rest << STEP_REST_PLACE | (frequency - 1) << STEP_FREQUENCY_PLACE;
        }
        return;
    }
#endif
    ((uint32_t *)shares_of(decoder))[entry] = frequency | start << 16;
    memset((uint8_t *)slots_of(decoder) + slot, (int)number, frequency);
}

int edge_coder_make_decoder(const edge_coder_shape *shape, const edge_coder_frequencies *tables,
                            const edge_coder_frequencies *level_tables, int plain, void *memory,
                            size_t memory_bytes) {
    struct form form;
    int status = edge_coder_form_of_shape(shape, EDGE_CODER_TABLES_MAX, &form);
    if (status < 0) {
        return status;
    }
    if (tables == NULL || memory_bytes < decoder_bytes_of(&form) || !is_aligned(memory)) {
        return EDGE_CODER_ARGUMENT;
    }
    struct decoder *decoder = memory;
    memset(memory, 0, aligned(sizeof *decoder));
    decoder->head.form = form;
    status = edge_coder_make_level_tables(&form, level_tables, &decoder->head.level_tables);
    decoder->is_wide = !plain && processor_has_avx512();
    uint64_t *meanings = (uint64_t *)meanings_of(decoder);
    struct frequency_cursor cursor = {tables, 0};
    memset(meanings, 0, (size_t)(slots_of(decoder) - (uint8_t *)meanings));
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
            const uint32_t entry = table * EDGE_CODER_SYMBOLS_MAX + i;
            meanings[entry] = meaning_of(&form, symbol, shape->raw_bits[table]);
            add_symbol(decoder, entry, start, frequency);
            start += frequency;
        }
    }
    if (status < 0 || cursor.at != tables->entries) {
        return EDGE_CODER_TABLE;
    }
    decoder->head.magic = DECODER_MAGIC;
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
    if (decoder == NULL || !are_lanes(lanes) || count > EDGE_CODER_COUNT_MAX ||
        scratch_bytes < sizeof(struct work) || !is_aligned(scratch) || stream_at == NULL) {
        return EDGE_CODER_ARGUMENT;
    }
    const struct form *form = &decoder->head.form;
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
