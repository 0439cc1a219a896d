/* What an encoder wants to know beforehand. See kernel.h. */
#include "common.h"
#include "quotients.h"

#define SCALE_LIMIT ((uint64_t)1 << 40)
#define LEVEL_LIMIT (((uint64_t)1 << 24) - 1)

static uint8_t level_of(uint64_t score) {
    /* 0.12, 0.3, 0.55, 0.85, 1.2 and 1.8 times 2^18. */
    static const uint32_t thresholds[] = {31457, 78643, 144179, 222822, 314573, 471859};
    uint8_t level = 0;
    for (size_t i = 0; i < sizeof thresholds / sizeof thresholds[0]; i++) {
        level = (uint8_t)(level + (score >= thresholds[i]));
    }
    return level;
}

#define PASSES "statistics_passes.h"
#define BITS 8
#include "elements.h"
#define BITS 16
#include "elements.h"
#define BITS 32
#include "elements.h"
#define BITS 64
#include "elements.h"

int edge_coder_scales(int kind, const uint8_t *source, const uint8_t *target, size_t count,
                      uint64_t counts[EDGE_CODER_KEYS], uint64_t sums[EDGE_CODER_KEYS]) {
    struct form form;
    if (edge_coder_form_of_kind(kind, &form) < 0 || count > EDGE_CODER_COUNT_MAX) {
        return EDGE_CODER_ARGUMENT;
    }
    return BY_WIDTH(&form, scales, &form, source, target, count, counts, sums);
}

int edge_coder_levels(int kind, const uint8_t *source, const uint8_t *target, size_t count,
                      const uint32_t inverse_means[EDGE_CODER_KEYS], uint8_t *levels) {
    struct form form;
    if (edge_coder_form_of_kind(kind, &form) < 0 || count > EDGE_CODER_COUNT_MAX) {
        return EDGE_CODER_ARGUMENT;
    }
    return BY_WIDTH(&form, levels, &form, source, target, count, inverse_means, levels);
}

long edge_coder_bins(const edge_coder_shape *shape) {
    struct form form;
    const int status = edge_coder_form_of_shape(shape, EDGE_CODER_COUNTED_TABLES_MAX, &form);
    return status < 0 ? status : 1L << edge_coder_bins_log2(&form);
}

int edge_coder_histogram(const edge_coder_shape *shape, const uint8_t *source,
                         const uint8_t *target, size_t count, const uint8_t *levels,
                         uint32_t *bins) {
    struct form form;
    const int status = edge_coder_form_of_shape(shape, EDGE_CODER_COUNTED_TABLES_MAX, &form);
    if (status < 0) {
        return status;
    }
    if (!edge_coder_are_inputs(&form, source, target, count, levels)) {
        return EDGE_CODER_ARGUMENT;
    }
    BY_WIDTH(&form, histogram, &form, shape->raw_bits, source, target, count,
             form.levels > 1 ? levels : NULL, (size_t)1 << edge_coder_bins_log2(&form), bins);
    return 0;
}
