/* Passes over the elements of one width. No include guard: the parts of the kernel include this
 * once for each width, with BITS defined as 8, 16, 32 or 64, and PASSES as the file of their own
 * passes. Passes take at most PIECE elements each and are written so that compilers turn most of
 * them into vector code. */

#define JOIN_(name, bits) name##_##bits
#define JOIN(name, bits) JOIN_(name, bits)
#define NAME(name) JOIN(name, BITS)

/* No float has 8 bits: branches of floats are not there for them. */
#define HAS_FLOATS (BITS > 8)

#if BITS == 8
#define UNSIGNED uint8_t
#define WORK uint32_t
#elif BITS == 16
#define UNSIGNED uint16_t
#define WORK uint32_t
#elif BITS == 32
#define UNSIGNED uint32_t
#define WORK uint32_t
#else
#define UNSIGNED uint64_t
#define WORK uint64_t
#endif

#define SIGN_BIT ((UNSIGNED)((UNSIGNED)1 << (BITS - 1)))

static inline UNSIGNED NAME(element)(const uint8_t *at) {
    UNSIGNED value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void NAME(put_element)(uint8_t *at, UNSIGNED value) {
    memcpy(at, &value, sizeof value);
}

/* All bits set where the sign bit is. */
static inline UNSIGNED NAME(spread_sign)(UNSIGNED value) {
    return (UNSIGNED)(0 - (UNSIGNED)(value >> (BITS - 1)));
}

/* For floats, differences of ordered integers, reflected for negative sources, come down to this:
 * flip all bits below the sign of the target where the signs differ, and subtract. */
static inline UNSIGNED NAME(crossed)(UNSIGNED source, UNSIGNED other) {
    return (UNSIGNED)(NAME(spread_sign)((UNSIGNED)(source ^ other)) & (UNSIGNED)(SIGN_BIT - 1));
}

static inline void NAME(differences)(bool is_float, const uint8_t *restrict source,
                                     const uint8_t *restrict target, size_t count,
                                     UNSIGNED *restrict out) {
    if (HAS_FLOATS && is_float) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            const UNSIGNED t = NAME(element)(target + i * sizeof t);
            out[i] = (UNSIGNED)((UNSIGNED)(t ^ NAME(crossed)(s, t)) - s);
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            const UNSIGNED t = NAME(element)(target + i * sizeof t);
            out[i] = (UNSIGNED)(t - s);
        }
    }
}

/* What stands for elements in symbols and raw bits: `values`, by model. */
static inline void NAME(take)(const struct form *form, const uint8_t *restrict source,
                              const uint8_t *restrict target, size_t count,
                              UNSIGNED *restrict values) {
    if (form->model == EDGE_CODER_DIFFERENCE) {
        NAME(differences)(form->is_float, source, target, count, values);
    } else if (HAS_FLOATS && form->model == EDGE_CODER_GIVEN) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            values[i] = (UNSIGNED)(NAME(element)(target + i * sizeof s) ^ (UNSIGNED)(s & SIGN_BIT));
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            values[i] = NAME(element)(target + i * sizeof values[0]);
        }
    }
}

/* The table of each element, as the number of its first entry; `row_of` is for the level. */
static inline void NAME(choose)(const struct form *form, const uint16_t *restrict row_of,
                                const uint8_t *restrict source, size_t count,
                                uint16_t *restrict entries) {
    const unsigned shift = form->key_shift;
    const unsigned mask = form->key_mask;
    if (mask == 0) {
        const uint16_t entry = row_of[0];
        for (size_t i = 0; i < count; i++) {
            entries[i] = entry;
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const UNSIGNED s = NAME(element)(source + i * sizeof s);
        entries[i] = row_of[(unsigned)(s >> shift) & mask];
    }
}

#include PASSES

#undef JOIN_
#undef JOIN
#undef NAME
#undef UNSIGNED
#undef WORK
#undef SIGN_BIT
#undef HAS_FLOATS
#undef BITS
