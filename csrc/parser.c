/* What table records hold, packed in bits: code tables, and the factors of low rank. See kernel.h. */
#include "common.h"

/* Models that are a difference to the rest of the kernel; 3 is that without reflection. */
#define MODEL_LEANING 4
#define GAMMA_ZEROS_MAX 12
#define KEPT_BITS 3
#define FIRST_LENGTH 7
#define FACTOR_LOW_BITS 3
#define FACTOR_SHIFT_BITS 4

/* --- bits, the lowest of each byte first ---------------------------------------------------- */

struct bits {
    const uint8_t *data;
    size_t end; /* all of them */
    size_t at;
    bool short_of; /* more were wanted than there are */
};

static struct bits bits_of(const uint8_t *data, size_t bytes) {
    return (struct bits){data, 8 * bytes, 0, false};
}

/* The bits from `at` on, lowest first, and zeros behind the last: 57 of them or more count. */
static uint64_t peek(const struct bits *bits, size_t at) {
    const size_t byte = at >> 3, bytes = bits->end >> 3;
    uint64_t word = 0;
    if (byte + sizeof word <= bytes) {
        word = load_64(bits->data + byte);
    } else if (byte < bytes) {
        memcpy(&word, bits->data + byte, bytes - byte);
    }
    return word >> (at & 7);
}

static unsigned number(struct bits *bits, unsigned width) {
    const unsigned value = (unsigned)(peek(bits, bits->at) & ((1u << width) - 1));
    bits->at += width;
    bits->short_of |= bits->at > bits->end;
    return value;
}

/* 0 where there is none, or one too large. */
static unsigned gamma(struct bits *bits) {
    const uint64_t word = peek(bits, bits->at);
    if ((word & ((1u << (GAMMA_ZEROS_MAX + 1)) - 1)) == 0) {
        bits->short_of = true;
        return 0;
    }
    const unsigned zeros = highest_bit(word & (~word + 1));
    unsigned value = 0;
    for (unsigned i = zeros; i <= 2 * zeros; i++) {
        value = value << 1 | (word >> i & 1);
    }
    bits->at += 2 * zeros + 1;
    bits->short_of |= bits->at > bits->end;
    return value;
}

/* Whether what is left are zeros, and fewer than a byte has. */
static bool is_padding(const struct bits *bits) {
    return !bits->short_of && bits->end - bits->at < 8 && peek(bits, bits->at) == 0;
}

/* --- code tables ---------------------------------------------------------------------------- */

struct numbers {
    uint16_t *at;
    size_t left;
};

static bool put(struct numbers *out, unsigned value) {
    if (out->left == 0) {
        return false;
    }
    out->left--;
    *out->at++ = (uint16_t)value;
    return true;
}

/* Which symbols a table may have. */
struct possible {
    const struct form *form; /* NULL: all below `end` */
    unsigned raw_bits;
    unsigned end;
};

static bool is_one_of(const struct possible *possible, unsigned symbol) {
    return possible->form == NULL
               ? symbol < possible->end
               : edge_coder_is_possible(possible->form, possible->raw_bits, symbol);
}

/* The symbols of one table and behind them their frequencies. */
static int take_frequencies(struct bits *bits, unsigned count_bits, unsigned rows,
                            const struct possible *possible, struct numbers *out) {
    const unsigned count = number(bits, count_bits) + 1;
    const unsigned rest = number(bits, count > 1 ? highest_bit(count - 1) + 1 : 0);
    unsigned lengths[2] = {FIRST_LENGTH, FIRST_LENGTH};
    unsigned symbol = 0, sum = 0, most = 0, most_before = 0, written = 0;
    if (!put(out, count) || rest >= count || out->left < 2 * (size_t)count) {
        return EDGE_CODER_TABLE;
    }
    uint16_t *symbols = out->at, *frequencies = symbols + count;
    for (unsigned i = 0; i < count; i++) {
        const unsigned step = gamma(bits);
        symbol += i == 0 ? step - 1 : step;
        if (bits->short_of || !is_one_of(possible, symbol)) {
            return EDGE_CODER_TABLE;
        }
        symbols[i] = (uint16_t)symbol;
        if (i == rest) {
            most_before = most;
            continue;
        }
        unsigned *length = &lengths[written++ % rows];
        const unsigned change = gamma(bits);
        *length += change & 1 ? change / 2 : 0u - change / 2;
        if (bits->short_of || *length >= SCALE_BITS) {
            return EDGE_CODER_TABLE;
        }
        const unsigned kept = *length < KEPT_BITS ? *length : KEPT_BITS;
        const unsigned frequency = ((1u << kept) + number(bits, kept)) << (*length - kept);
        frequencies[i] = (uint16_t)frequency;
        sum += frequency;
        most = frequency > most ? frequency : most;
    }
    if (bits->short_of || sum >= SCALE || SCALE - sum < most || SCALE - sum <= most_before) {
        return EDGE_CODER_TABLE;
    }
    frequencies[rest] = (uint16_t)(SCALE - sum);
    out->at += 2 * (size_t)count;
    out->left -= 2 * (size_t)count;
    return 0;
}

static bool take_bounds(struct bits *bits, struct numbers *out, unsigned count) {
    unsigned before = 0;
    bool ascending = put(out, count);
    for (unsigned i = 0; i < count; i++) {
        const unsigned bound = number(bits, 8);
        ascending &= bound > before && put(out, bound);
        before = bound;
    }
    return ascending;
}

/* The number of every table is there, first in their order. */
static bool take_cells(struct bits *bits, struct numbers *out, unsigned count, unsigned tables) {
    const unsigned width = tables > 1 ? highest_bit(tables - 1) + 1 : 0;
    unsigned seen = 0;
    for (unsigned i = 0; i < count; i++) {
        const unsigned cell = number(bits, width);
        if (cell > seen || !put(out, cell)) {
            return false;
        }
        seen += cell == seen;
    }
    return seen == tables;
}

ptrdiff_t edge_coder_parse_table(const uint8_t *body, size_t body_bytes, uint16_t *numbers,
                                 size_t numbers_max) {
    if (body == NULL || numbers == NULL || body_bytes > EDGE_CODER_TABLE_BYTES_MAX) {
        return EDGE_CODER_ARGUMENT;
    }
    struct bits bits = bits_of(body, body_bytes);
    struct numbers out = {numbers, numbers_max};
    struct form form;
    const unsigned kind = number(&bits, 3), model = number(&bits, 3);
    const bool differs = model != EDGE_CODER_GIVEN && model != EDGE_CODER_ALONE;
    const unsigned bounds = number(&bits, 6);
    (void)edge_coder_form_of_kind((int)kind, &form);
    form.model = (uint8_t)(differs ? EDGE_CODER_DIFFERENCE : model);
    if (model > MODEL_LEANING || (!form.is_float && (model & 1)) ||
        (bounds && model != MODEL_LEANING && (!form.is_float || model == EDGE_CODER_ALONE)) ||
        !put(&out, kind) || !put(&out, model) || !take_bounds(&bits, &out, bounds)) {
        return EDGE_CODER_TABLE;
    }
    const unsigned levels = number(&bits, 3) + 1, tables = number(&bits, 6) + 1;
    const unsigned fixed = form.is_float ? form.mantissa_bits : form.width_bits - 8u;
    if (!put(&out, levels) || !put(&out, tables) ||
        !take_cells(&bits, &out, (bounds + 1) * levels, tables)) {
        return EDGE_CODER_TABLE;
    }
    for (unsigned i = 0; i < tables; i++) {
        const struct possible possible = {&form, number(&bits, 6), 0};
        if (possible.raw_bits >= form.width_bits || (!differs && possible.raw_bits != fixed) ||
            !put(&out, possible.raw_bits) ||
            take_frequencies(&bits, 8, differs ? 2 : 1, &possible, &out) < 0) {
            return EDGE_CODER_TABLE;
        }
    }
    for (unsigned i = 0; levels > 1 && i < levels; i++) {
        const struct possible possible = {NULL, 0, levels};
        if (take_frequencies(&bits, 3, 1, &possible, &out) < 0) {
            return EDGE_CODER_TABLE;
        }
    }
    return is_padding(&bits) ? out.at - numbers : EDGE_CODER_TABLE;
}

/* --- factors of low rank -------------------------------------------------------------------- */

/* The ends of `count` numbers in unary, none of which is as large as `limit`. */
static bool take_unary(struct bits *bits, size_t count, unsigned limit, uint8_t *numbers) {
    unsigned zeros = 0;
    size_t taken = 0;
    while (taken < count) {
        uint64_t word = peek(bits, bits->at);
        unsigned left = 57;
        if (bits->end - bits->at < left) {
            left = (unsigned)(bits->end - bits->at);
        }
        if (left == 0) {
            return false;
        }
        word &= ((uint64_t)1 << left) - 1;
        while (word != 0 && taken < count) {
            const unsigned gap = highest_bit(word & (~word + 1));
            zeros += gap;
            if (zeros >= limit) {
                return false;
            }
            numbers[taken++] = (uint8_t)zeros;
            zeros = 0;
            word >>= gap + 1;
            left -= gap + 1;
            bits->at += gap + 1;
        }
        if (taken < count) {
            zeros += left;
            bits->at += left;
        }
    }
    return true;
}

/* Whether no other number of low bits takes fewer, and no smaller one as few. */
static bool is_cheapest(const uint8_t *folded, size_t count, unsigned chosen) {
    uint32_t taken[1u << FACTOR_LOW_BITS];
    for (unsigned width = 0; width < 1u << FACTOR_LOW_BITS; width++) {
        uint32_t sum = (uint32_t)((width + 1) * count);
        for (size_t i = 0; i < count; i++) {
            sum += (uint32_t)(folded[i] >> width);
        }
        taken[width] = sum;
    }
    for (unsigned width = 0; width < 1u << FACTOR_LOW_BITS; width++) {
        if (width < chosen ? taken[width] <= taken[chosen] : taken[width] < taken[chosen]) {
            return false;
        }
    }
    return true;
}

static bool take_factors(struct bits *bits, size_t count, int8_t *factors) {
    uint8_t *folded = (uint8_t *)factors;
    const unsigned width = number(bits, FACTOR_LOW_BITS);
    size_t low = bits->at;
    if (bits->short_of || count * width > bits->end - bits->at) {
        return false;
    }
    bits->at += count * width;
    if (!take_unary(bits, count, 1u << (8 - width), folded)) {
        return false;
    }
    const unsigned mask = (1u << width) - 1;
    for (size_t i = 0; i < count; i++, low += width) {
        folded[i] = (uint8_t)(folded[i] << width | (peek(bits, low) & mask));
    }
    if (!is_cheapest(folded, count, width)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const unsigned half = folded[i] >> 1;
        folded[i] = (uint8_t)(folded[i] & 1 ? ~half : half);
    }
    return true;
}

int edge_coder_parse_factors(const uint8_t *data, size_t data_bytes, size_t rows, size_t columns,
                             size_t rank, uint8_t *shifts, int8_t *left, int8_t *right) {
    if (data == NULL || shifts == NULL || left == NULL || right == NULL || rows < 1 ||
        rows > EDGE_CODER_FACTORS_MAX || columns < 1 || columns > EDGE_CODER_FACTORS_MAX ||
        rank < 1 || rank > EDGE_CODER_FACTORS_MAX / (rows + columns) ||
        data_bytes > SIZE_MAX / 8) {
        return EDGE_CODER_ARGUMENT;
    }
    struct bits bits = bits_of(data, data_bytes);
    for (size_t i = 0; i < rank; i++) {
        shifts[i] = (uint8_t)number(&bits, FACTOR_SHIFT_BITS);
        if (bits.short_of || !take_factors(&bits, rows, left + i * rows) ||
            !take_factors(&bits, columns, right + i * columns)) {
            return EDGE_CODER_TABLE;
        }
    }
    return is_padding(&bits) ? 0 : EDGE_CODER_TABLE;
}
