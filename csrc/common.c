/* See common.h. */
#include "common.h"

int edge_coder_form_of_kind(int kind, struct form *form) {
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

int edge_coder_form_of_shape(const edge_coder_shape *shape, unsigned tables_max,
                             struct form *form) {
    if (shape == NULL || edge_coder_form_of_kind(shape->kind, form) < 0 ||
        shape->table_of == NULL || shape->raw_bits == NULL) {
        return EDGE_CODER_ARGUMENT;
    }
    if (shape->model < EDGE_CODER_DIFFERENCE || shape->model > EDGE_CODER_ALONE ||
        (shape->model == EDGE_CODER_GIVEN && !form->is_float) || shape->levels < 1 ||
        shape->levels > EDGE_CODER_LEVELS_MAX || shape->tables < 1 ||
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

bool edge_coder_is_possible(const struct form *form, unsigned raw_bits, unsigned symbol) {
    const unsigned bits = form->width_bits - raw_bits;
    if (form->model != EDGE_CODER_DIFFERENCE || bits < 5) {
        return symbol < 1u << bits;
    }
    const unsigned end = 2 * EXACT_BELOW - 1 + 8 * (bits - 5);
    return symbol < end || symbol == end + 1;
}

unsigned edge_coder_bins_log2(const struct form *form) {
    return form->width_bits == 64 && form->is_float && form->model != EDGE_CODER_DIFFERENCE ? 12
                                                                                            : 9;
}

int edge_coder_next_table(struct frequency_cursor *cursor, unsigned table, unsigned symbols_max) {
    const edge_coder_frequencies *all = cursor->all;
    const size_t count = all->counts[table];
    uint32_t sum = 0;
    if (count < 1 || count > symbols_max || count > all->entries - cursor->at) {
        return EDGE_CODER_TABLE;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t at = cursor->at + i;
        if (all->frequencies[at] == 0 || (i > 0 && all->symbols[at] <= all->symbols[at - 1])) {
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

int edge_coder_make_level_tables(const struct form *form, const edge_coder_frequencies *frequencies,
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
        const int count = edge_coder_next_table(&cursor, before, EDGE_CODER_LEVELS_MAX);
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

bool edge_coder_are_inputs(const struct form *form, const uint8_t *source, const uint8_t *target,
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

int edge_coder_describe(const void *memory, size_t memory_bytes, edge_coder_facts *facts) {
    const struct head *head = memory;
    if (memory == NULL || !is_aligned(memory) || memory_bytes < sizeof *head ||
        (head->magic != ENCODER_MAGIC && head->magic != DECODER_MAGIC)) {
        return EDGE_CODER_ARGUMENT;
    }
    facts->element_bytes = head->form.width_bits / 8u;
    facts->levels = head->form.levels;
    facts->needs_source = head->form.model != EDGE_CODER_ALONE;
    return 0;
}
