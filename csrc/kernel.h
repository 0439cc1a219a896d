/* The numeric coder of the delta engine: streams of elements, coded with static rANS.
 *
 * The format is edge_sdk/delta/FORMAT.md, "Code tables" and "Streams". Plain C11 without an
 * operating system: no allocation, no floating point, no state of its own. Whatever the bytes of a
 * stream are, nothing outside of the arrays given is read or written. Compilers for x86-64 also get
 * passes with AVX-512, for processors that have it; EDGE_CODER_PLAIN defined leaves them out.
 *
 * Every function returns 0 or a length, or an edge_coder_error, which is negative. Elements are
 * little-endian and need no alignment; so must the machine be little-endian. Outputs must not
 * overlap inputs. Memory for encoders, decoders and scratch comes from the caller, aligned to 8.
 */
#ifndef EDGE_CODER_KERNEL_H
#define EDGE_CODER_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum edge_coder_error {
    EDGE_CODER_ARGUMENT = -1,  /* an argument is out of its range, or memory is too short */
    EDGE_CODER_TABLE = -2,     /* a code table breaks a rule of the format */
    EDGE_CODER_TRUNCATED = -3, /* the stream is shorter than its elements need */
    EDGE_CODER_TRAILING = -4,  /* the stream is longer than its elements need */
    EDGE_CODER_STATE = -5,     /* a lane does not start or end where it must */
    EDGE_CODER_PADDING = -6,   /* a bit of padding is set, or a varint is not the shortest */
    EDGE_CODER_NO_SYMBOL = -7, /* encoding only: an element's symbol has no frequency */
};

/* Numbers of element kinds as in the format. */
enum edge_coder_kind {
    EDGE_CODER_INT8 = 0,
    EDGE_CODER_INT16 = 1,
    EDGE_CODER_INT32 = 2,
    EDGE_CODER_INT64 = 3,
    EDGE_CODER_FLOAT16 = 4,
    EDGE_CODER_BFLOAT16 = 5,
    EDGE_CODER_FLOAT32 = 6,
    EDGE_CODER_FLOAT64 = 7,
};

enum edge_coder_model {
    EDGE_CODER_DIFFERENCE = 0,
    EDGE_CODER_GIVEN = 1,
    EDGE_CODER_ALONE = 2,
};

enum {
    EDGE_CODER_KEYS = 256,        /* a source element's key is below */
    EDGE_CODER_LEVEL_GROUP = 256, /* elements that share a level */
    EDGE_CODER_LEVELS_MAX = 8,
    EDGE_CODER_TABLES_MAX = 64,
    EDGE_CODER_COUNTED_TABLES_MAX = 256, /* for the histogram only */
    EDGE_CODER_SYMBOLS_MAX = 256,        /* in one table */
    EDGE_CODER_COUNT_MAX = 1 << 24,      /* elements of one stream */
};

/* How elements become symbols of tables. `raw_bits[t]` is the number of low bits that table t's
 * symbols do not tell. */
typedef struct {
    int kind;
    int model;
    unsigned levels;
    unsigned tables;
    const uint8_t *table_of; /* [levels][EDGE_CODER_KEYS]: by level and key */
    const uint8_t *raw_bits; /* [tables] */
} edge_coder_shape;

/* Tables of frequencies that stand one after the other. */
typedef struct {
    const uint16_t *counts;      /* [tables]: symbols of each */
    const uint16_t *symbols;     /* [entries] */
    const uint16_t *frequencies; /* [entries] */
    size_t entries;
} edge_coder_frequencies;

/* --- what an encoder wants to know beforehand ------------------------------------------------ */

/* Adds to counts[key] and, of |difference| saturated at 2^40, to sums[key]. */
int edge_coder_scales(int kind, const uint8_t *source, const uint8_t *target, size_t count,
                      uint64_t counts[EDGE_CODER_KEYS], uint64_t sums[EDGE_CODER_KEYS]);

/* A level for each group of EDGE_CODER_LEVEL_GROUP elements, the last may be shorter:
 * how large its differences are against what their keys lead to expect. */
int edge_coder_levels(int kind, const uint8_t *source, const uint8_t *target, size_t count,
                      const uint32_t inverse_means[EDGE_CODER_KEYS], uint8_t *levels);

/* 512, or 4096 for the shapes with so many symbols; negative if the shape is wrong. */
long edge_coder_bins(const edge_coder_shape *shape);

/* Adds to bins[table * edge_coder_bins + symbol]. `levels` may be NULL for one level. */
int edge_coder_histogram(const edge_coder_shape *shape, const uint8_t *source,
                         const uint8_t *target, size_t count, const uint8_t *levels,
                         uint32_t *bins);

/* --- parsing table records ------------------------------------------------------------------- */

enum {
    EDGE_CODER_TABLE_BYTES_MAX = 8 << 10, /* of a code table, packed */
    EDGE_CODER_TABLE_NUMBERS_MAX = 34000, /* that it can hold */
    EDGE_CODER_FACTORS_MAX = 1 << 18,     /* of a map of low rank */
};

/* What a packed code table holds, in this order: kind; model, where 3 is the difference without
 * reflection and 4 the difference by lean; the number of bounds, and they; levels; tables; the cells; of each table raw_bits,
 * the number of its symbols, they, and their frequencies; if there are several levels the same of
 * each table of levels, but no raw_bits. Returns how many numbers, or an error: what is not
 * canonical is refused, and what is taken, decoders can be made of. */
ptrdiff_t edge_coder_parse_table(const uint8_t *body, size_t body_bytes, uint16_t *numbers,
                                 size_t numbers_max);

/* The bits of a map of low rank, behind gain and step: shifts[rank], left[rank][rows] and
 * right[rank][columns]. What the weights are together is for the caller to check. */
int edge_coder_parse_factors(const uint8_t *bits, size_t bits_bytes, size_t rows, size_t columns,
                             size_t rank, uint8_t *shifts, int8_t *left, int8_t *right);

/* --- encoders and decoders -------------------------------------------------------------------- */

/* What an encoder or decoder is made for. */
typedef struct {
    size_t element_bytes;
    unsigned levels;
    int needs_source;
} edge_coder_facts;

int edge_coder_describe(const void *encoder_or_decoder, size_t bytes, edge_coder_facts *facts);

/* --- encoding -------------------------------------------------------------------------------- */

size_t edge_coder_encoder_bytes(const edge_coder_shape *shape);

/* Fills `encoder`. `level_tables` is NULL for one level. */
int edge_coder_make_encoder(const edge_coder_shape *shape, const edge_coder_frequencies *tables,
                            const edge_coder_frequencies *level_tables, void *encoder,
                            size_t encoder_bytes);

/* What scratch and stream can need for `count` elements, whatever they are; 0 if an argument is
 * wrong. */
size_t edge_coder_encode_scratch_bytes(const void *encoder, size_t encoder_bytes, size_t count);
size_t edge_coder_stream_bytes_max(const void *encoder, size_t encoder_bytes, size_t count,
                                   unsigned lanes);

/* The length of the stream, or an error. `source` may be NULL for EDGE_CODER_ALONE, and `levels`
 * for one level. */
ptrdiff_t edge_coder_encode(const void *encoder, size_t encoder_bytes, const uint8_t *source,
                            const uint8_t *target, size_t count, const uint8_t *levels,
                            unsigned lanes, void *scratch, size_t scratch_bytes, uint8_t *stream,
                            size_t stream_bytes);

/* --- decoding -------------------------------------------------------------------------------- */

size_t edge_coder_decoder_bytes(const edge_coder_shape *shape);

/* `plain` keeps to the instructions that the kernel was compiled for, where others would be faster
 * on the processor that it runs on. */
int edge_coder_make_decoder(const edge_coder_shape *shape, const edge_coder_frequencies *tables,
                            const edge_coder_frequencies *level_tables, int plain, void *decoder,
                            size_t decoder_bytes);

size_t edge_coder_decode_scratch_bytes(void);

/* Takes the whole stream and fills target[count elements]; after an error the target's bytes mean
 * nothing. */
int edge_coder_decode(const void *decoder, size_t decoder_bytes, const uint8_t *source,
                      size_t count, unsigned lanes, const uint8_t *stream, size_t stream_bytes,
                      void *scratch, size_t scratch_bytes, uint8_t *target);

#ifdef __cplusplus
}
#endif

#endif
