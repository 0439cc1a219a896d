/* Python's way into the kernel: edge_sdk.delta._kernel.
 *
 * Buffers in, a number out; a negative number is an edge_coder_error, which
 * edge_sdk/delta/coder/kernel.py turns into an exception. All lengths are compared with one another
 * here, so that no call from Python can make the kernel leave its buffers. The interpreter's lock
 * is not held while the kernel works. */
#include <Python.h>

#include "kernel.h"

/* Parsed arguments hold buffers that must be given back, whatever happens. */
#define BUFFERS_MAX 10

struct buffers {
    Py_buffer at[BUFFERS_MAX];
};

static void release(struct buffers *buffers) {
    for (int i = 0; i < BUFFERS_MAX; i++) {
        if (buffers->at[i].obj != NULL) {
            PyBuffer_Release(&buffers->at[i]);
        }
    }
}

static PyObject *result_of(struct buffers *buffers, Py_ssize_t result) {
    release(buffers);
    return PyLong_FromSsize_t(result);
}

static size_t length_of(const Py_buffer *buffer) { return (size_t)buffer->len; }

static int is_length(const Py_buffer *buffer, size_t count, size_t size) {
    return length_of(buffer) == count * size;
}

static int is_aligned_to(const Py_buffer *buffer, size_t alignment) {
    return ((uintptr_t)buffer->buf & (alignment - 1)) == 0;
}

static size_t groups_of(size_t count) {
    return (count + EDGE_CODER_LEVEL_GROUP - 1) / EDGE_CODER_LEVEL_GROUP;
}

static size_t element_bytes_of_kind(int kind) {
    static const uint8_t bytes[] = {1, 2, 4, 8, 2, 2, 4, 8};
    return kind >= 0 && kind < (int)sizeof bytes ? bytes[kind] : 0;
}

/* The shape in table_of and raw_bits; false if their lengths are wrong. */
static int shape_of(int kind, int model, unsigned levels, const Py_buffer *table_of,
                    const Py_buffer *raw_bits, edge_coder_shape *shape) {
    shape->kind = kind;
    shape->model = model;
    shape->levels = levels;
    shape->tables = (unsigned)length_of(raw_bits);
    shape->table_of = table_of->buf;
    shape->raw_bits = raw_bits->buf;
    return levels <= EDGE_CODER_LEVELS_MAX && is_length(table_of, levels, EDGE_CODER_KEYS) &&
           length_of(raw_bits) <= EDGE_CODER_COUNTED_TABLES_MAX;
}

/* Tables of frequencies in three buffers of uint16_t. */
static int frequencies_of(const Py_buffer *three, size_t tables, edge_coder_frequencies *out) {
    out->counts = three[0].buf;
    out->symbols = three[1].buf;
    out->frequencies = three[2].buf;
    out->entries = length_of(&three[1]) / sizeof(uint16_t);
    return is_length(&three[0], tables, sizeof(uint16_t)) &&
           is_length(&three[1], out->entries, sizeof(uint16_t)) &&
           is_length(&three[2], out->entries, sizeof(uint16_t)) && is_aligned_to(&three[0], 2) &&
           is_aligned_to(&three[1], 2) && is_aligned_to(&three[2], 2);
}

static PyObject *scales(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    int kind;
    if (!PyArg_ParseTuple(args, "iy*y*w*w*", &kind, &b.at[0], &b.at[1], &b.at[2], &b.at[3])) {
        release(&b);
        return NULL;
    }
    const size_t width = element_bytes_of_kind(kind);
    const size_t count = width ? length_of(&b.at[1]) / width : 0;
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (width && is_length(&b.at[0], count, width) && is_length(&b.at[1], count, width) &&
        is_length(&b.at[2], EDGE_CODER_KEYS, 8) && is_length(&b.at[3], EDGE_CODER_KEYS, 8) &&
        is_aligned_to(&b.at[2], 8) && is_aligned_to(&b.at[3], 8)) {
        Py_BEGIN_ALLOW_THREADS result =
            edge_coder_scales(kind, b.at[0].buf, b.at[1].buf, count, b.at[2].buf, b.at[3].buf);
        Py_END_ALLOW_THREADS
    }
    return result_of(&b, result);
}

static PyObject *levels(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    int kind;
    if (!PyArg_ParseTuple(args, "iy*y*y*w*", &kind, &b.at[0], &b.at[1], &b.at[2], &b.at[3])) {
        release(&b);
        return NULL;
    }
    const size_t width = element_bytes_of_kind(kind);
    const size_t count = width ? length_of(&b.at[1]) / width : 0;
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (width && is_length(&b.at[0], count, width) && is_length(&b.at[1], count, width) &&
        is_length(&b.at[2], EDGE_CODER_KEYS, 4) && is_aligned_to(&b.at[2], 4) &&
        is_length(&b.at[3], groups_of(count), 1)) {
        Py_BEGIN_ALLOW_THREADS result =
            edge_coder_levels(kind, b.at[0].buf, b.at[1].buf, count, b.at[2].buf, b.at[3].buf);
        Py_END_ALLOW_THREADS
    }
    return result_of(&b, result);
}

static PyObject *bins(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    int kind, model;
    unsigned level_count;
    edge_coder_shape shape;
    if (!PyArg_ParseTuple(args, "iiIy*y*", &kind, &model, &level_count, &b.at[0], &b.at[1])) {
        release(&b);
        return NULL;
    }
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (shape_of(kind, model, level_count, &b.at[0], &b.at[1], &shape)) {
        result = edge_coder_bins(&shape);
    }
    return result_of(&b, result);
}

static PyObject *histogram(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    int kind, model;
    unsigned level_count;
    edge_coder_shape shape;
    if (!PyArg_ParseTuple(args, "iiIy*y*y*y*y*w*", &kind, &model, &level_count, &b.at[0], &b.at[1],
                          &b.at[2], &b.at[3], &b.at[4], &b.at[5])) {
        release(&b);
        return NULL;
    }
    const size_t width = element_bytes_of_kind(kind);
    const size_t count = width ? length_of(&b.at[3]) / width : 0;
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (width && shape_of(kind, model, level_count, &b.at[0], &b.at[1], &shape) &&
        (model == EDGE_CODER_ALONE || is_length(&b.at[2], count, width)) &&
        is_length(&b.at[3], count, width) &&
        (level_count == 1 || is_length(&b.at[4], groups_of(count), 1)) &&
        is_aligned_to(&b.at[5], 4)) {
        const long each = edge_coder_bins(&shape);
        if (each < 0) {
            result = each;
        } else if (is_length(&b.at[5], shape.tables * (size_t)each, 4)) {
            Py_BEGIN_ALLOW_THREADS result = edge_coder_histogram(&shape, b.at[2].buf, b.at[3].buf,
                                                                 count, b.at[4].buf, b.at[5].buf);
            Py_END_ALLOW_THREADS
        }
    }
    return result_of(&b, result);
}

/* Bytes that an encoder or a decoder takes, or an error. */
static PyObject *bytes_of(PyObject *args, size_t (*measure)(const edge_coder_shape *)) {
    struct buffers b = {0};
    int kind, model;
    unsigned level_count;
    edge_coder_shape shape;
    if (!PyArg_ParseTuple(args, "iiIy*y*", &kind, &model, &level_count, &b.at[0], &b.at[1])) {
        release(&b);
        return NULL;
    }
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (shape_of(kind, model, level_count, &b.at[0], &b.at[1], &shape)) {
        const size_t bytes = measure(&shape);
        result = bytes ? (Py_ssize_t)bytes : EDGE_CODER_TABLE;
    }
    return result_of(&b, result);
}

static PyObject *encoder_bytes(PyObject *self, PyObject *args) {
    (void)self;
    return bytes_of(args, edge_coder_encoder_bytes);
}

static PyObject *decoder_bytes(PyObject *self, PyObject *args) {
    (void)self;
    return bytes_of(args, edge_coder_decoder_bytes);
}

typedef int maker(const edge_coder_shape *, const edge_coder_frequencies *,
                  const edge_coder_frequencies *, int, void *, size_t);

static int make_encoder_in(const edge_coder_shape *shape, const edge_coder_frequencies *tables,
                           const edge_coder_frequencies *level_tables, int plain, void *memory,
                           size_t memory_bytes) {
    (void)plain;
    return edge_coder_make_encoder(shape, tables, level_tables, memory, memory_bytes);
}

static PyObject *make(PyObject *args, maker *make_in) {
    struct buffers b = {0};
    int kind, model;
    int plain = 0;
    unsigned level_count;
    edge_coder_shape shape;
    edge_coder_frequencies tables, level_tables;
    if (!PyArg_ParseTuple(args, "iiIy*y*y*y*y*y*y*y*w*|p", &kind, &model, &level_count, &b.at[0],
                          &b.at[1], &b.at[2], &b.at[3], &b.at[4], &b.at[5], &b.at[6], &b.at[7],
                          &b.at[8], &plain)) {
        release(&b);
        return NULL;
    }
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (shape_of(kind, model, level_count, &b.at[0], &b.at[1], &shape) &&
        frequencies_of(&b.at[2], shape.tables, &tables) &&
        frequencies_of(&b.at[5], level_count > 1 ? level_count : 0, &level_tables)) {
        result = make_in(&shape, &tables, &level_tables, plain, b.at[8].buf, length_of(&b.at[8]));
    }
    return result_of(&b, result);
}

static PyObject *make_encoder(PyObject *self, PyObject *args) {
    (void)self;
    return make(args, make_encoder_in);
}

static PyObject *make_decoder(PyObject *self, PyObject *args) {
    (void)self;
    return make(args, edge_coder_make_decoder);
}

static PyObject *encode_bytes(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    Py_ssize_t count;
    unsigned lanes;
    if (!PyArg_ParseTuple(args, "y*nI", &b.at[0], &count, &lanes)) {
        release(&b);
        return NULL;
    }
    size_t scratch = 0, stream = 0;
    if (count >= 0) {
        const size_t length = length_of(&b.at[0]);
        scratch = edge_coder_encode_scratch_bytes(b.at[0].buf, length, (size_t)count);
        stream = edge_coder_stream_bytes_max(b.at[0].buf, length, (size_t)count, lanes);
    }
    release(&b);
    return Py_BuildValue("(nn)", (Py_ssize_t)scratch, (Py_ssize_t)stream);
}

/* Whether source, elements and levels have the lengths that an encoder or decoder wants. */
static int count_of(const Py_buffer *coder, const Py_buffer *source, const Py_buffer *elements,
                    const Py_buffer *level_list, size_t *count) {
    edge_coder_facts facts;
    if (edge_coder_describe(coder->buf, length_of(coder), &facts) < 0) {
        return 0;
    }
    *count = length_of(elements) / facts.element_bytes;
    return is_length(elements, *count, facts.element_bytes) &&
           (!facts.needs_source || is_length(source, *count, facts.element_bytes)) &&
           (level_list == NULL || facts.levels == 1 || is_length(level_list, groups_of(*count), 1));
}

static PyObject *encode(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    unsigned lanes;
    size_t count;
    if (!PyArg_ParseTuple(args, "y*y*y*y*Iw*w*", &b.at[0], &b.at[1], &b.at[2], &b.at[3], &lanes,
                          &b.at[4], &b.at[5])) {
        release(&b);
        return NULL;
    }
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (count_of(&b.at[0], &b.at[1], &b.at[2], &b.at[3], &count)) {
        Py_BEGIN_ALLOW_THREADS result = edge_coder_encode(
            b.at[0].buf, length_of(&b.at[0]), b.at[1].buf, b.at[2].buf, count, b.at[3].buf, lanes,
            b.at[4].buf, length_of(&b.at[4]), b.at[5].buf, length_of(&b.at[5]));
        Py_END_ALLOW_THREADS
    }
    return result_of(&b, result);
}

static PyObject *decode(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    unsigned lanes;
    size_t count;
    if (!PyArg_ParseTuple(args, "y*y*Iy*w*w*", &b.at[0], &b.at[1], &lanes, &b.at[2], &b.at[3],
                          &b.at[4])) {
        release(&b);
        return NULL;
    }
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (count_of(&b.at[0], &b.at[1], &b.at[4], NULL, &count)) {
        Py_BEGIN_ALLOW_THREADS result = edge_coder_decode(
            b.at[0].buf, length_of(&b.at[0]), b.at[1].buf, count, lanes, b.at[2].buf,
            length_of(&b.at[2]), b.at[3].buf, length_of(&b.at[3]), b.at[4].buf);
        Py_END_ALLOW_THREADS
    }
    return result_of(&b, result);
}

static PyObject *decode_scratch_bytes(PyObject *self, PyObject *args) {
    (void)self;
    (void)args;
    return PyLong_FromSize_t(edge_coder_decode_scratch_bytes());
}

static PyObject *parse_table(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    if (!PyArg_ParseTuple(args, "y*w*", &b.at[0], &b.at[1])) {
        release(&b);
        return NULL;
    }
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (is_aligned_to(&b.at[1], 2)) {
        result = edge_coder_parse_table(b.at[0].buf, length_of(&b.at[0]), b.at[1].buf,
                                        length_of(&b.at[1]) / sizeof(uint16_t));
    }
    return result_of(&b, result);
}

static PyObject *parse_factors(PyObject *self, PyObject *args) {
    (void)self;
    struct buffers b = {0};
    if (!PyArg_ParseTuple(args, "y*w*w*w*", &b.at[0], &b.at[1], &b.at[2], &b.at[3])) {
        release(&b);
        return NULL;
    }
    const size_t rank = length_of(&b.at[1]);
    const size_t rows = rank ? length_of(&b.at[2]) / rank : 0;
    const size_t columns = rank ? length_of(&b.at[3]) / rank : 0;
    Py_ssize_t result = EDGE_CODER_ARGUMENT;
    if (is_length(&b.at[2], rank, rows) && is_length(&b.at[3], rank, columns)) {
        result = edge_coder_parse_factors(b.at[0].buf, length_of(&b.at[0]), rows, columns, rank,
                                          b.at[1].buf, b.at[2].buf, b.at[3].buf);
    }
    return result_of(&b, result);
}

static PyMethodDef methods[] = {
    {"scales", scales, METH_VARARGS, "scales(kind, source, target, counts, sums)"},
    {"levels", levels, METH_VARARGS, "levels(kind, source, target, inverse_means, levels)"},
    {"bins", bins, METH_VARARGS, "bins(kind, model, levels, table_of, raw_bits)"},
    {"histogram", histogram, METH_VARARGS,
     "histogram(kind, model, levels, table_of, raw_bits, source, target, levels, bins)"},
    {"encoder_bytes", encoder_bytes, METH_VARARGS,
     "encoder_bytes(kind, model, levels, table_of, raw_bits)"},
    {"decoder_bytes", decoder_bytes, METH_VARARGS,
     "decoder_bytes(kind, model, levels, table_of, raw_bits)"},
    {"make_encoder", make_encoder, METH_VARARGS,
     "make_encoder(kind, model, levels, table_of, raw_bits, counts, symbols, frequencies, "
     "level_counts, level_symbols, level_frequencies, encoder)"},
    {"make_decoder", make_decoder, METH_VARARGS,
     "make_decoder(kind, model, levels, table_of, raw_bits, counts, symbols, frequencies, "
     "level_counts, level_symbols, level_frequencies, decoder, plain=False)"},
    {"encode_bytes", encode_bytes, METH_VARARGS,
     "encode_bytes(encoder, count, lanes) -> (scratch, stream)"},
    {"encode", encode, METH_VARARGS,
     "encode(encoder, source, target, levels, lanes, scratch, stream)"},
    {"decode", decode, METH_VARARGS, "decode(decoder, source, lanes, stream, scratch, target)"},
    {"decode_scratch_bytes", decode_scratch_bytes, METH_NOARGS, "decode_scratch_bytes()"},
    {"parse_table", parse_table, METH_VARARGS, "parse_table(body, numbers)"},
    {"parse_factors", parse_factors, METH_VARARGS, "parse_factors(bits, shifts, left, right)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "edge_sdk.delta._kernel",
    "The numeric coder's kernel; edge_sdk.delta.coder.kernel is its face.",
    0,
    methods,
    NULL,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&definition); }
