/* What the parts of the kernel share. Not for callers of the kernel: that is kernel.h. */
#ifndef EDGE_CODER_COMMON_H
#define EDGE_CODER_COMMON_H

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

static inline size_t aligned(size_t bytes) { return (bytes + 15) & ~(size_t)15; }

static inline bool is_aligned(const void *at) { return ((uintptr_t)at & 7) == 0; }

static inline bool are_lanes(unsigned lanes) { return lanes == 1 || lanes == 8 || lanes == 32; }

static inline size_t groups_of(size_t count) {
    return (count + EDGE_CODER_LEVEL_GROUP - 1) / EDGE_CODER_LEVEL_GROUP;
}

/* The level of the group that element `start` begins. Levels were checked; should another thread
 * change them meanwhile, they still are below EDGE_CODER_LEVELS_MAX. */
static inline unsigned level_at(const uint8_t *levels, size_t start) {
    return levels == NULL ? 0
                          : levels[start / EDGE_CODER_LEVEL_GROUP] & (EDGE_CODER_LEVELS_MAX - 1u);
}

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

/* The parts of a form that its kind decides; the rest is 0. */
int edge_coder_form_of_kind(int kind, struct form *form);

/* Checks a shape, of not more tables than given. */
int edge_coder_form_of_shape(const edge_coder_shape *shape, unsigned tables_max, struct form *form);

/* Whether an element can have the symbol in a table with so many raw bits. */
bool edge_coder_is_possible(const struct form *form, unsigned raw_bits, unsigned symbol);

/* The logarithm of a number above all symbols. */
unsigned edge_coder_bins_log2(const struct form *form);

/* Whether source and levels are there and allowed. */
bool edge_coder_are_inputs(const struct form *form, const uint8_t *source, const uint8_t *target,
                           size_t count, const uint8_t *levels);

/* Walks over tables of frequencies and checks them. */
struct frequency_cursor {
    const edge_coder_frequencies *all;
    size_t at;
};

/* The next table: its number of symbols, or an error. Its entries are those before cursor->at. */
int edge_coder_next_table(struct frequency_cursor *cursor, unsigned table, unsigned symbols_max);

/* The tables of levels, small enough to search in: by the level before. */
struct level_tables {
    uint8_t counts[EDGE_CODER_LEVELS_MAX];
    uint8_t symbols[EDGE_CODER_LEVELS_MAX][EDGE_CODER_LEVELS_MAX];
    uint16_t starts[EDGE_CODER_LEVELS_MAX][EDGE_CODER_LEVELS_MAX + 1];
};

/* Checks the tables of levels; there are none for one level. */
int edge_coder_make_level_tables(const struct form *form, const edge_coder_frequencies *frequencies,
                                 struct level_tables *out);

/* How encoders and decoders begin in memory. */
struct head {
    uint32_t magic;
    uint32_t bins_log2;
    struct form form;
    struct level_tables level_tables;
};

#define ENCODER_MAGIC 0x45444345u
#define DECODER_MAGIC 0x45444344u

/* Calls the width's variant. */
#define BY_WIDTH(form, name, ...)                                                                  \
    ((form)->width_bits == 8    ? name##_8(__VA_ARGS__)                                            \
     : (form)->width_bits == 16 ? name##_16(__VA_ARGS__)                                           \
     : (form)->width_bits == 32 ? name##_32(__VA_ARGS__)                                           \
                                : name##_64(__VA_ARGS__))

#endif
