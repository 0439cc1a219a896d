/* Hostile streams for the decoder, hostile table records for the parser, and round trips.
 *
 * With libFuzzer:  clang -g -O1 -fsanitize=fuzzer,address,undefined *.c (without module.c)
 * Without:         cc -g -O1 -DFUZZ_MAIN -fsanitize=address,undefined *.c (without module.c)
 *                  ./a.out INPUTS SEED
 *
 * Every buffer is allocated with exactly the length given to the kernel, so that the sanitizer sees
 * each byte beside it. What must hold aborts if it does not.
 */
#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX 9000u
#define TABLES_MAX 6u

static void must(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

static void *new_bytes(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    must(memory != NULL, "there is memory");
    return memory;
}

/* Takes numbers from the input, and zeros behind its end. */
struct input {
    const uint8_t *at;
    size_t left;
};

static unsigned take(struct input *input) {
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->at++;
}

static uint64_t next_random(uint64_t *state) {
    *state += 0x9E3779B97F4A7C15u;
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return mixed ^ mixed >> 31;
}

/* A code with all that belongs to it. */
struct code {
    edge_coder_shape shape;
    edge_coder_frequencies tables;
    edge_coder_frequencies level_tables;
    uint8_t table_of[EDGE_CODER_LEVELS_MAX * EDGE_CODER_KEYS];
    uint8_t raw_bits[TABLES_MAX];
    uint16_t counts[TABLES_MAX], level_counts[EDGE_CODER_LEVELS_MAX];
    uint16_t symbols[TABLES_MAX * EDGE_CODER_SYMBOLS_MAX];
    uint16_t frequencies[TABLES_MAX * EDGE_CODER_SYMBOLS_MAX];
    uint16_t level_symbols[EDGE_CODER_LEVELS_MAX * EDGE_CODER_LEVELS_MAX];
    uint16_t level_frequencies[EDGE_CODER_LEVELS_MAX * EDGE_CODER_LEVELS_MAX];
    size_t width;
    unsigned lanes;
    size_t count;
    uint8_t *source, *target, *levels;
};

static unsigned fixed_raw_bits(int kind) {
    static const uint8_t bits[] = {0, 8, 24, 56, 10, 7, 23, 52};
    return bits[kind];
}

static void take_shape(struct input *input, struct code *code) {
    static const uint8_t widths[] = {1, 2, 4, 8, 2, 2, 4, 8};
    static const unsigned lanes[] = {1, 8, 8, 32};
    edge_coder_shape *shape = &code->shape;
    memset(code, 0, sizeof *code);
    shape->kind = (int)(take(input) % 8);
    shape->model = (int)(take(input) % 3);
    if (shape->model == EDGE_CODER_GIVEN && shape->kind < EDGE_CODER_FLOAT16) {
        shape->model = EDGE_CODER_DIFFERENCE;
    }
    shape->levels = 1 + take(input) % EDGE_CODER_LEVELS_MAX;
    shape->tables = 1 + take(input) % TABLES_MAX;
    shape->table_of = code->table_of;
    shape->raw_bits = code->raw_bits;
    code->width = widths[shape->kind];
    code->lanes = lanes[take(input) % 4];
    code->count = (take(input) << 8 | take(input)) % COUNT_MAX;
    for (unsigned i = 0; i < shape->tables; i++) {
        code->raw_bits[i] =
            (uint8_t)(shape->model == EDGE_CODER_DIFFERENCE ? take(input) % (8 * code->width)
                                                            : fixed_raw_bits(shape->kind));
    }
    const unsigned step = 1 + take(input);
    for (unsigned i = 0; i < shape->levels * EDGE_CODER_KEYS; i++) {
        code->table_of[i] = (uint8_t)(i / step % shape->tables);
    }
    code->tables = (edge_coder_frequencies){code->counts, code->symbols, code->frequencies, 0};
    code->level_tables = (edge_coder_frequencies){code->level_counts, code->level_symbols,
                                                  code->level_frequencies, 0};
}

/* Source, target and levels, from a seed. */
static void make_elements(struct input *input, struct code *code) {
    uint64_t state = take(input);
    const unsigned bits = take(input) % 65;
    const size_t groups = (code->count + 255) / 256;
    code->source = new_bytes(code->count * code->width);
    code->target = new_bytes(code->count * code->width);
    code->levels = new_bytes(groups);
    for (size_t i = 0; i < code->count; i++) {
        const uint64_t s = next_random(&state);
        const uint64_t size = bits ? next_random(&state) >> (64 - bits) : 0;
        const uint64_t t = next_random(&state) & 1 ? s + size : s - size;
        memcpy(code->source + i * code->width, &s, code->width);
        memcpy(code->target + i * code->width, &t, code->width);
    }
    for (size_t i = 0; i < groups; i++) {
        code->levels[i] = (uint8_t)(next_random(&state) % code->shape.levels);
    }
}

/* Frequencies for counted symbols, of which there are not more than `most`. */
static void fit(const uint32_t *counted, size_t bins, size_t most, uint16_t *count,
                edge_coder_frequencies *all, uint16_t *symbols, uint16_t *frequencies) {
    size_t used = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < bins; i++) {
        used += counted[i] > 0;
        total += counted[i];
    }
    used = used < most ? used : most;
    *count = (uint16_t)(used ? used : 1);
    symbols += all->entries;
    frequencies += all->entries;
    symbols[0] = 0;
    frequencies[0] = 4096;
    unsigned left = 4096;
    for (size_t i = 0, at = 0; i < bins && at < used; i++) {
        if (counted[i] > 0) {
            symbols[at] = (uint16_t)i;
            frequencies[at] = (uint16_t)(1 + counted[i] * (4096 - used) / total);
            left -= frequencies[at++];
        }
    }
    if (used) {
        frequencies[0] = (uint16_t)(frequencies[0] + left);
    }
    all->entries += *count;
}

static void fit_code(struct code *code) {
    const long bins = edge_coder_bins(&code->shape);
    must(bins > 0, "the shape is right");
    const size_t size = code->shape.tables * (size_t)bins * sizeof(uint32_t);
    uint32_t *counted = new_bytes(size);
    memset(counted, 0, size);
    must(edge_coder_histogram(&code->shape, code->source, code->target, code->count, code->levels,
                              counted) == 0,
         "all can be counted");
    for (unsigned i = 0; i < code->shape.tables; i++) {
        fit(counted + i * (size_t)bins, (size_t)bins, EDGE_CODER_SYMBOLS_MAX, &code->counts[i],
            &code->tables, code->symbols, code->frequencies);
    }
    free(counted);
    uint32_t levels[EDGE_CODER_LEVELS_MAX][EDGE_CODER_LEVELS_MAX] = {{0}};
    unsigned before = 0;
    for (size_t i = 0; i < (code->count + 255) / 256; i++) {
        levels[before][code->levels[i]]++;
        before = code->levels[i];
    }
    for (unsigned i = 0; code->shape.levels > 1 && i < code->shape.levels; i++) {
        fit(levels[i], code->shape.levels, EDGE_CODER_LEVELS_MAX, &code->level_counts[i],
            &code->level_tables, code->level_symbols, code->level_frequencies);
    }
}

/* The stream's length, or an error; `stream` is then exactly as long. */
static ptrdiff_t encode(const struct code *code, uint8_t **stream) {
    const size_t bytes = edge_coder_encoder_bytes(&code->shape);
    void *encoder = new_bytes(bytes);
    must(edge_coder_make_encoder(&code->shape, &code->tables, &code->level_tables, encoder,
                                 bytes) == 0,
         "an encoder can be made");
    const size_t scratch_bytes = edge_coder_encode_scratch_bytes(encoder, bytes, code->count);
    const size_t bytes_max = edge_coder_stream_bytes_max(encoder, bytes, code->count, code->lanes);
    void *scratch = new_bytes(scratch_bytes);
    uint8_t *out = new_bytes(bytes_max);
    const ptrdiff_t length =
        edge_coder_encode(encoder, bytes, code->source, code->target, code->count, code->levels,
                          code->lanes, scratch, scratch_bytes, out, bytes_max);
    *stream = new_bytes(length > 0 ? (size_t)length : 0);
    if (length > 0) {
        memcpy(*stream, out, (size_t)length);
    }
    free(out);
    free(scratch);
    free(encoder);
    return length;
}

static int decode_by(const struct code *code, int plain, const uint8_t *stream, size_t length,
                  uint8_t *out) {
    const size_t bytes = edge_coder_decoder_bytes(&code->shape);
    const size_t scratch_bytes = edge_coder_decode_scratch_bytes();
    void *decoder = new_bytes(bytes);
    void *scratch = new_bytes(scratch_bytes);
    int status = edge_coder_make_decoder(&code->shape, &code->tables, &code->level_tables, plain,
                                         decoder, bytes);
    if (status == 0) {
        status = edge_coder_decode(decoder, bytes, code->source, code->count, code->lanes, stream,
                                   length, scratch, scratch_bytes, out);
    }
    free(scratch);
    free(decoder);
    return status;
}

/* With the passes for this processor and with the plain ones, which find the same. */
static int decode(const struct code *code, const uint8_t *stream, size_t length, uint8_t *out) {
    uint8_t *other = new_bytes(code->count * code->width);
    const int status = decode_by(code, 0, stream, length, out);
    must(decode_by(code, 1, stream, length, other) == status, "plain passes end alike");
    must(status < 0 || memcmp(out, other, code->count * code->width) == 0, "and make the same");
    free(other);
    return status;
}

/* Every argument that cannot be is refused, all others being right. */
static void misuse_shape(const struct code *code, void *decoder, size_t bytes) {
    static uint8_t strange[EDGE_CODER_LEVELS_MAX * EDGE_CODER_KEYS];
    edge_coder_shape shapes[13];
    uint8_t raw_bits[TABLES_MAX] = {64, 64, 64, 64, 64, 64};
    memcpy(strange, code->table_of, sizeof strange);
    strange[0] = (uint8_t)code->shape.tables;
    for (unsigned i = 0; i < 13; i++) {
        shapes[i] = code->shape;
    }
    shapes[0].kind = -1;
    shapes[1].kind = 8;
    shapes[2].model = -1;
    shapes[3].model = EDGE_CODER_ALONE + 1;
    shapes[4].levels = 0;
    shapes[5].levels = EDGE_CODER_LEVELS_MAX + 1;
    shapes[6].tables = 0;
    shapes[7].tables = EDGE_CODER_TABLES_MAX + 1;
    shapes[8].table_of = NULL;
    shapes[9].raw_bits = NULL;
    shapes[10].table_of = strange;
    shapes[11].raw_bits = raw_bits;
    shapes[12].kind = EDGE_CODER_INT8;
    shapes[12].model = EDGE_CODER_GIVEN;
    for (unsigned i = 0; i < 13; i++) {
        must(edge_coder_make_decoder(&shapes[i], &code->tables, &code->level_tables, 0, decoder,
                                     bytes) < 0,
             "a shape that cannot be is refused");
    }
    must(edge_coder_make_decoder(NULL, &code->tables, &code->level_tables, 0, decoder, bytes) < 0,
         "no shape is refused");
}

static void misuse_tables(const struct code *code, uint8_t *decoder, size_t bytes) {
    const edge_coder_shape *shape = &code->shape;
    edge_coder_frequencies longer = code->tables, shorter = code->tables, none = code->tables;
    uint16_t counts[TABLES_MAX];
    memcpy(counts, code->counts, sizeof counts);
    longer.entries++;
    shorter.entries--;
    counts[shape->tables - 1] = 0;
    none.counts = counts;
    static uint16_t symbols[TABLES_MAX * EDGE_CODER_SYMBOLS_MAX];
    static uint16_t zero[TABLES_MAX * EDGE_CODER_SYMBOLS_MAX];
    static uint16_t more_than_all[TABLES_MAX * EDGE_CODER_SYMBOLS_MAX];
    memcpy(symbols, code->symbols, sizeof symbols);
    memcpy(zero, code->frequencies, sizeof zero);
    memcpy(more_than_all, code->frequencies, sizeof more_than_all);
    symbols[0] = 0xFFFF; /* impossible, or not below the next one */
    zero[0] = 0;
    more_than_all[0]++;
    edge_coder_frequencies foreign = code->tables, never = code->tables, above = code->tables;
    foreign.symbols = symbols;
    never.frequencies = zero;
    above.frequencies = more_than_all;
    edge_coder_frequencies past = code->tables;
    static uint16_t too_many[TABLES_MAX];
    memcpy(too_many, code->counts, sizeof too_many);
    too_many[0] = EDGE_CODER_SYMBOLS_MAX + 1;
    past.counts = too_many;
    const edge_coder_frequencies *wrong[] = {NULL,   &longer, &shorter, &none, &foreign,
                                             &never, &above,  &past};
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        must(edge_coder_make_decoder(shape, wrong[i], &code->level_tables, 0, decoder, bytes) < 0,
             "tables that cannot be are refused");
    }
    must(edge_coder_make_decoder(shape, &code->tables, &code->level_tables, 0, decoder,
                                 bytes - 1) < 0,
         "too little memory is refused");
    must(edge_coder_make_decoder(shape, &code->tables, &code->level_tables, 0, decoder + 1,
                                 bytes) < 0,
         "memory that is not aligned is refused");
    if (shape->levels > 1) {
        edge_coder_frequencies levels = code->level_tables, more = code->level_tables;
        static uint16_t no_levels[EDGE_CODER_LEVELS_MAX];
        edge_coder_frequencies empty = code->level_tables;
        empty.counts = no_levels;
        must(edge_coder_make_decoder(shape, &code->tables, &empty, 0, decoder, bytes) < 0,
             "tables of no level are refused");
        uint16_t of_levels[EDGE_CODER_LEVELS_MAX * EDGE_CODER_LEVELS_MAX];
        memcpy(of_levels, code->level_symbols, sizeof of_levels);
        of_levels[levels.entries - 1] = (uint16_t)shape->levels;
        levels.symbols = of_levels;
        more.entries++;
        must(edge_coder_make_decoder(shape, &code->tables, NULL, 0, decoder, bytes) < 0 &&
                 edge_coder_make_decoder(shape, &code->tables, &levels, 0, decoder, bytes) < 0 &&
                 edge_coder_make_decoder(shape, &code->tables, &more, 0, decoder, bytes) < 0,
             "tables of levels that cannot be are refused");
    }
}

/* What is to be encoded or counted is looked at first: nothing is read that is not there. */
static void misuse_elements(const struct code *code) {
    const size_t bytes = edge_coder_encoder_bytes(&code->shape), count = code->count;
    const int needs_source = code->shape.model != EDGE_CODER_ALONE;
    uint8_t *const encoder = new_bytes(bytes);
    must(edge_coder_make_encoder(&code->shape, &code->tables, &code->level_tables, encoder,
                                 bytes) == 0,
         "an encoder can be made");
    edge_coder_facts facts;
    must(edge_coder_describe(encoder, bytes, &facts) == 0 && facts.element_bytes == code->width,
         "an encoder says what it takes");
    must(edge_coder_describe(NULL, bytes, &facts) < 0 &&
             edge_coder_describe(encoder + 1, bytes - 1, &facts) < 0 &&
             edge_coder_describe(encoder, 8, &facts) < 0,
         "what holds no coder is refused");
    encoder[0] ^= 2;
    must(edge_coder_describe(encoder, bytes, &facts) < 0, "what does not say so is no coder");
    free(encoder);
    const struct {
        const uint8_t *source, *target, *levels;
        size_t count;
        int is_wrong;
    } inputs[] = {
        {code->source, code->target, code->levels, (size_t)EDGE_CODER_COUNT_MAX + 1, 1},
        {NULL, code->target, code->levels, count, count > 0 && needs_source},
        {code->source, NULL, code->levels, count, count > 0},
        {code->source, code->target, NULL, count, count > 0 && code->shape.levels > 1},
        {NULL, NULL, NULL, 0, 0},
    };
    const long bins = edge_coder_bins(&code->shape);
    const size_t size = code->shape.tables * (size_t)bins * sizeof(uint32_t);
    uint32_t *const counted = new_bytes(size);
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        memset(counted, 0, size);
        must((edge_coder_histogram(&code->shape, inputs[i].source, inputs[i].target,
                                   inputs[i].count, inputs[i].levels, counted) < 0) ==
                 inputs[i].is_wrong,
             "elements that are not there are refused");
    }
    free(counted);
}

static void misuse(const struct code *code, uint8_t *out) {
    const size_t bytes = edge_coder_decoder_bytes(&code->shape);
    const size_t room = edge_coder_decode_scratch_bytes();
    const size_t count = code->count;
    const unsigned lanes = code->lanes;
    const uint8_t *source = code->source, stream[1] = {0};
    uint8_t *decoder = new_bytes(bytes + 8), *scratch = new_bytes(room + 8);
    misuse_shape(code, decoder, bytes);
    misuse_tables(code, decoder, bytes);
    misuse_elements(code);
    must(edge_coder_decode(decoder, bytes, source, count, lanes, stream, 1, scratch, room, out) < 0,
         "memory that holds no decoder is refused");
    must(edge_coder_make_decoder(&code->shape, &code->tables, &code->level_tables, 0, decoder,
                                 bytes) == 0,
         "what is right is taken");
    const struct {
        const uint8_t *decoder;
        size_t bytes, count;
        unsigned lanes;
        const uint8_t *stream;
        uint8_t *scratch;
        size_t room;
    } wrong[] = {
        {NULL, bytes, count, lanes, stream, scratch, room},
        {decoder + 1, bytes, count, lanes, stream, scratch, room},
        {decoder, 7, count, lanes, stream, scratch, room},
        {decoder, bytes - 1, count, lanes, stream, scratch, room},
        {decoder, bytes, (size_t)EDGE_CODER_COUNT_MAX + 1, lanes, stream, scratch, room},
        {decoder, bytes, count, 2, stream, scratch, room},
        {decoder, bytes, count, lanes, NULL, scratch, room},
        {decoder, bytes, count, lanes, stream, scratch + 1, room},
        {decoder, bytes, count, lanes, stream, scratch, room - 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        must(edge_coder_decode(wrong[i].decoder, wrong[i].bytes, source, wrong[i].count,
                               wrong[i].lanes, wrong[i].stream, 1, wrong[i].scratch, wrong[i].room,
                               out) == EDGE_CODER_ARGUMENT,
             "a wrong argument is refused");
    }
    must(count == 0 || edge_coder_decode(decoder, bytes, source, count, lanes, stream, 1, scratch,
                                         room, NULL) == EDGE_CODER_ARGUMENT,
         "no target is refused");
    must(count == 0 || code->shape.model == EDGE_CODER_ALONE ||
             edge_coder_decode(decoder, bytes, NULL, count, lanes, stream, 1, scratch, room,
                               out) == EDGE_CODER_ARGUMENT,
         "no source is refused");
    free(decoder);
    free(scratch);
}

/* A stream as the encoder makes it comes back; damaged, it is refused or makes something. */
static void round_trip(struct input *input, struct code *code, uint8_t *out) {
    uint8_t *stream;
    fit_code(code);
    if (input->left % 16 == 0) {
        misuse(code, out);
    }
    const ptrdiff_t length = encode(code, &stream);
    must(length >= 0 || length == EDGE_CODER_NO_SYMBOL, "only rare symbols are not coded");
    if (length >= 0) {
        must(decode(code, stream, (size_t)length, out) == 0, "the stream can be decoded");
        must(memcmp(out, code->target, code->count * code->width) == 0, "elements come back");
    }
    for (ptrdiff_t cut = 0; cut < length; cut += 1 + length / 16) {
        uint8_t *part = new_bytes((size_t)cut);
        memcpy(part, stream, (size_t)cut);
        must(decode(code, part, (size_t)cut, out) < 0, "a cut is refused");
        free(part);
    }
    while (length > 0 && input->left > 0) {
        const size_t at = (take(input) << 16 | take(input) << 8 | take(input)) % (size_t)length;
        const uint8_t before = stream[at];
        stream[at] ^= (uint8_t)(1 + take(input) % 255);
        decode(code, stream, (size_t)length, out);
        if (take(input) & 1) {
            stream[at] = before;
        }
    }
    free(stream);
}

/* Tables and stream are whatever the input says. */
static void foreign(struct input *input, struct code *code, uint8_t *out) {
    for (unsigned i = 0; i < code->shape.tables; i++) {
        unsigned left = 4096;
        unsigned symbol = take(input) % 64;
        while (left > 0 && code->counts[i] < EDGE_CODER_SYMBOLS_MAX) {
            unsigned frequency = 1 + (take(input) << 4 | take(input) >> 4);
            if (frequency > left || input->left < 64) {
                frequency = left;
            }
            code->symbols[code->tables.entries] = (uint16_t)symbol;
            code->frequencies[code->tables.entries++] = (uint16_t)frequency;
            code->counts[i]++;
            left -= frequency;
            symbol += 1 + take(input) % 16;
        }
    }
    for (unsigned i = 0; i < code->shape.levels && code->shape.levels > 1; i++) {
        const unsigned first = 1 + take(input) * 8;
        const size_t at = code->level_tables.entries;
        code->level_counts[i] = 2;
        code->level_symbols[at + 1] = (uint16_t)(1 + take(input) % (code->shape.levels - 1));
        code->level_frequencies[at] = (uint16_t)first;
        code->level_frequencies[at + 1] = (uint16_t)(4096 - first);
        code->level_tables.entries += 2;
    }
    uint8_t *stream = new_bytes(input->left);
    if (input->left > 0) {
        memcpy(stream, input->at, input->left);
    }
    decode(code, stream, input->left, out);
    free(stream);
}

/* --- table records --------------------------------------------------------------------------- */

/* Packs bits, the lowest of each byte first. */
struct packed {
    uint8_t bytes[EDGE_CODER_TABLE_BYTES_MAX];
    size_t at;
};

static void put_bit(struct packed *out, unsigned bit) {
    if (out->at < 8 * sizeof out->bytes) {
        out->bytes[out->at / 8] |= (uint8_t)(bit << out->at % 8);
        out->at++;
    }
}

static void put_number(struct packed *out, unsigned value, unsigned width) {
    for (unsigned i = 0; i < width; i++) {
        put_bit(out, value >> i & 1);
    }
}

static unsigned width_of(unsigned value) {
    unsigned width = 0;
    while (value >> width) {
        width++;
    }
    return width;
}

static void put_gamma(struct packed *out, unsigned value) {
    const unsigned width = width_of(value);
    put_number(out, 0, width - 1);
    for (unsigned i = width; i-- > 0;) {
        put_bit(out, value >> i & 1);
    }
}

/* A table of the first `count` symbols, 0 the most frequent. */
static void put_table(struct input *input, struct packed *out, unsigned count, unsigned count_bits,
                      unsigned rows) {
    unsigned lengths[2] = {7, 7};
    put_number(out, count - 1, count_bits);
    put_number(out, 0, width_of(count - 1));
    put_gamma(out, 1);
    for (unsigned i = 1; i < count; i++) {
        unsigned *before = &lengths[(i - 1) % rows], length = take(input) % 5;
        put_gamma(out, 1);
        put_gamma(out, length > *before ? 2 * (length - *before) + 1
                       : length < *before ? 2 * (*before - length)
                                          : 1);
        put_number(out, take(input), length < 3 ? length : 3);
        *before = length;
    }
}

/* A code table that has to be taken. */
static void put_code(struct input *input, struct packed *out) {
    static const unsigned widths[] = {8, 16, 32, 64, 16, 16, 32, 64};
    const unsigned kind = take(input) % 8, is_float = kind >= EDGE_CODER_FLOAT16;
    const unsigned model = is_float ? take(input) % 5 : take(input) % 3 * 2;
    const unsigned has_classes = model == 4 || (is_float && model != EDGE_CODER_ALONE);
    const unsigned bounds = has_classes ? take(input) % 4 : 0;
    const unsigned levels = 1 + take(input) % EDGE_CODER_LEVELS_MAX;
    const unsigned cells = (bounds + 1) * levels, tables = 1 + take(input) % (cells < 9 ? cells : 9);
    const unsigned differs = model == EDGE_CODER_DIFFERENCE || model >= 3;
    put_number(out, kind, 3);
    put_number(out, model, 3);
    put_number(out, bounds, 6);
    for (unsigned i = 0; i < bounds; i++) {
        put_number(out, 20 * (i + 1), 8);
    }
    put_number(out, levels - 1, 3);
    put_number(out, tables - 1, 6);
    for (unsigned i = 0; i < cells; i++) {
        put_number(out, i % tables, width_of(tables - 1));
    }
    for (unsigned i = 0; i < tables; i++) {
        const unsigned raw = differs ? take(input) % widths[kind] : fixed_raw_bits((int)kind);
        const unsigned bits = widths[kind] - raw;
        put_number(out, raw, 6);
        put_table(input, out, 1 + take(input) % (bits > 4 ? 16 : 1u << bits), 8, differs ? 2 : 1);
    }
    for (unsigned i = 0; levels > 1 && i < levels; i++) {
        put_table(input, out, 1 + take(input) % levels, 3, 1);
    }
}

/* What the parser takes, decoders can be made of. */
static void make_parsed(const uint16_t *numbers, size_t count) {
    static struct code code;
    const uint16_t *at = numbers, *end = numbers + count;
    uint8_t raw_bits[EDGE_CODER_TABLES_MAX];
    uint16_t counts[2][EDGE_CODER_TABLES_MAX];
    uint16_t *symbols = new_bytes(2 * count), *frequencies = new_bytes(2 * count);
    edge_coder_shape shape = {0};
    shape.kind = *at++;
    const unsigned model = *at++;
    shape.model = model >= 3 ? EDGE_CODER_DIFFERENCE : (int)model;
    const unsigned bounds = *at++;
    const uint16_t *cells = (at += bounds) + 2;
    shape.levels = *at++;
    shape.tables = *at++;
    shape.table_of = code.table_of;
    shape.raw_bits = raw_bits;
    for (unsigned level = 0; level < shape.levels; level++) {
        for (unsigned key = 0; key < EDGE_CODER_KEYS; key++) {
            code.table_of[level * EDGE_CODER_KEYS + key] =
                (uint8_t)cells[key % (bounds + 1) * shape.levels + level];
        }
    }
    at += (bounds + 1) * shape.levels;
    edge_coder_frequencies both[2] = {{counts[0], symbols, frequencies, 0}, {0}};
    for (unsigned which = 0; which < 2; which++) {
        const unsigned tables = !which ? shape.tables : shape.levels > 1 ? shape.levels : 0;
        const size_t first = both[0].entries;
        both[which] = (edge_coder_frequencies){counts[which], symbols + first,
                                               frequencies + first, 0};
        for (unsigned i = 0; i < tables; i++) {
            if (!which) {
                raw_bits[i] = (uint8_t)*at++;
            }
            const unsigned held = *at++;
            memcpy((void *)(symbols + first * which + both[which].entries), at, 2 * held);
            memcpy((void *)(frequencies + first * which + both[which].entries), at + held, 2 * held);
            counts[which][i] = (uint16_t)held;
            both[which].entries += held;
            at += 2 * held;
        }
    }
    must(at == end, "the numbers are those of a table");
    const size_t bytes = edge_coder_decoder_bytes(&shape);
    void *decoder = new_bytes(bytes);
    must(bytes > 0 && edge_coder_make_decoder(&shape, &both[0], &both[1], 0, decoder, bytes) == 0,
         "a decoder can be made of what was parsed");
    free(decoder);
    free(symbols);
    free(frequencies);
}

static void parse_table(struct input *input) {
    static struct packed packed;
    memset(&packed, 0, sizeof packed);
    const unsigned made = take(input) & 1, room = take(input);
    if (made) {
        put_code(input, &packed);
    }
    size_t length = (packed.at + 7) / 8;
    const size_t changes = input->left;
    while (input->left > 0) {
        const unsigned at = take(input) << 8 | take(input);
        if (made) {
            packed.bytes[length ? at / 8 % length : 0] ^= (uint8_t)(1 << at % 8);
        } else if (length + 1 < sizeof packed.bytes) {
            packed.bytes[length++] = (uint8_t)(at >> 8);
            packed.bytes[length++] = (uint8_t)at;
        }
    }
    uint8_t *body = new_bytes(length);
    memcpy(body, packed.bytes, length);
    const size_t numbers_max = room & 1 ? room : EDGE_CODER_TABLE_NUMBERS_MAX;
    uint16_t *numbers = new_bytes(2 * numbers_max);
    const ptrdiff_t count = edge_coder_parse_table(body, length, numbers, numbers_max);
    must(!made || changes > 0 || room & 1 || count > 0, "what was packed is taken");
    must(count < 0 || (size_t)count <= numbers_max, "there is room for what is taken");
    if (count >= 0) {
        make_parsed(numbers, (size_t)count);
    }
    must(edge_coder_parse_table(NULL, length, numbers, numbers_max) < 0 &&
             edge_coder_parse_table(body, length, NULL, numbers_max) < 0 &&
             edge_coder_parse_table(body, EDGE_CODER_TABLE_BYTES_MAX + 1, numbers, numbers_max) < 0,
         "a wrong argument is refused");
    free(numbers);
    free(body);
}

/* One component whose factors take no low bits, and small ones, has to be taken. */
static void parse_factors(struct input *input) {
    static struct packed packed;
    memset(&packed, 0, sizeof packed);
    const unsigned made = take(input) & 1, shift = take(input) % 11;
    const size_t rank = 1 + take(input) % 3, rows = 1 + take(input) * take(input);
    const size_t columns = 1 + take(input) % 60;
    if (made) {
        for (size_t i = 0; i < rank; i++) {
            put_number(&packed, shift, 4);
            for (unsigned side = 0; side < 2; side++) {
                put_number(&packed, 0, 3);
                for (size_t j = 0; j < (side ? columns : rows); j++) {
                    put_bit(&packed, 1);
                }
            }
        }
    }
    const int is_whole = made && packed.at < 8 * sizeof packed.bytes;
    size_t length = (packed.at + 7) / 8;
    const size_t changes = input->left;
    while (input->left > 0) {
        const unsigned at = take(input) << 8 | take(input);
        if (made) {
            packed.bytes[at / 8 % length] ^= (uint8_t)(1 << at % 8);
        } else if (length + 1 < sizeof packed.bytes) {
            packed.bytes[length++] = (uint8_t)(at >> 8);
            packed.bytes[length++] = (uint8_t)at;
        }
    }
    uint8_t *bits = new_bytes(length), *shifts = new_bytes(rank);
    int8_t *left = new_bytes(rank * rows), *right = new_bytes(rank * columns);
    memcpy(bits, packed.bytes, length);
    const int found =
        edge_coder_parse_factors(bits, length, rows, columns, rank, shifts, left, right);
    must(!is_whole || changes > 0 || found == 0, "what was packed is taken");
    for (size_t i = 0; found == 0 && i < rank; i++) {
        must(shifts[i] < 16, "shifts have four bits");
    }
    const size_t too_many = EDGE_CODER_FACTORS_MAX;
    must(edge_coder_parse_factors(bits, length, 0, 1, 1, shifts, left, right) < 0 &&
             edge_coder_parse_factors(bits, length, 1, 1, 0, shifts, left, right) < 0 &&
             edge_coder_parse_factors(bits, length, 1, 0, 1, shifts, left, right) < 0 &&
             edge_coder_parse_factors(bits, length, too_many, 1, 1, shifts, left, right) < 0 &&
             edge_coder_parse_factors(bits, length, too_many + 1, 1, 1, shifts, left, right) < 0 &&
             edge_coder_parse_factors(bits, length, 1, too_many + 1, 1, shifts, left, right) < 0 &&
             edge_coder_parse_factors(bits, length, 1, 1, 1, NULL, left, right) < 0 &&
             edge_coder_parse_factors(bits, length, 1, 1, 1, shifts, NULL, right) < 0 &&
             edge_coder_parse_factors(bits, length, 1, 1, 1, shifts, left, NULL) < 0 &&
             edge_coder_parse_factors(bits, length, 1, 1, too_many, shifts, left, right) < 0 &&
             edge_coder_parse_factors(NULL, length, 1, 1, 1, shifts, left, right) < 0,
         "a wrong argument is refused");
    free(bits);
    free(shifts);
    free(left);
    free(right);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct code code;
    struct input input = {data, size};
    const unsigned way = take(&input);
    if (way % 8 == 2 || way % 8 == 6) {
        (way % 8 == 2 ? parse_table : parse_factors)(&input);
        return 0;
    }
    take_shape(&input, &code);
    make_elements(&input, &code);
    uint8_t *out = new_bytes(code.count * code.width);
    if (way & 1) {
        round_trip(&input, &code, out);
    } else {
        foreign(&input, &code, out);
    }
    free(out);
    free(code.source);
    free(code.target);
    free(code.levels);
    return 0;
}

#ifdef FUZZ_MAIN
int main(int argc, char **argv) {
    const long inputs = argc > 1 ? atol(argv[1]) : 1000;
    uint64_t state = argc > 2 ? (uint64_t)atol(argv[2]) : 1;
    for (long i = 0; i < inputs; i++) {
        uint8_t data[1024];
        const size_t size = next_random(&state) % sizeof data;
        uint8_t *exact = new_bytes(size);
        for (size_t j = 0; j < size; j++) {
            exact[j] = (uint8_t)next_random(&state);
        }
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%ld inputs\n", inputs);
    return 0;
}
#endif
