/* Counts a request on its row of the statistics page: device_agent.statistics_page._sums.
 *
 * device_agent/statistics_page/sums.py does the same in Python, in seven times the time. Where the
 * words are is layout.py's to say; a test holds both ways against each other. Who calls holds the
 * row's lock. */
#include <Python.h>

#include <stdint.h>
#include <time.h>

enum { LAST_NS = 64, HISTOGRAMS = 400, BUCKETS = 160, PHASES = 4 };
#define COUNTERS 64
#define COUNTERS_END 96
#define ROW_WORDS (HISTOGRAMS + (PHASES + 1) * BUCKETS)
#define TIME_NS_MAX ((1LL << 39) - 1)

static unsigned bucket_of(uint64_t time_ns) {
    unsigned bits = 0;
    while (time_ns >> bits) {
        bits++;
    }
    return bits < 3 ? (unsigned)time_ns : bits * 4 - 12 + (unsigned)(time_ns >> (bits - 3));
}

static void add(uint64_t *words, long at, const uint64_t *times_ns) {
    uint64_t whole_ns = 0;
    words[at]++;
    for (int phase = 0; phase < PHASES; phase++) {
        words[at + 1 + phase] += times_ns[phase];
        words[HISTOGRAMS + phase * BUCKETS + bucket_of(times_ns[phase])]++;
        whole_ns += times_ns[phase];
    }
    words[HISTOGRAMS + PHASES * BUCKETS + bucket_of(whole_ns)]++;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    words[LAST_NS] = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Within what a bucket is for; -1 with an exception where it is no number. */
static long long time_of(PyObject *number) {
    long long time_ns = PyLong_AsLongLong(number);
    if (time_ns < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return time_ns > TIME_NS_MAX ? TIME_NS_MAX : time_ns;
}

static PyObject *ran(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    (void)self;
    uint64_t times_ns[PHASES];
    if (count != 2 + PHASES) {
        PyErr_SetString(PyExc_TypeError, "ran(words, at, queue_ns, input_ns, infer_ns, output_ns)");
        return NULL;
    }
    const long at = PyLong_AsLong(arguments[1]);
    if (at == -1 && PyErr_Occurred()) {
        return NULL;
    }
    for (int phase = 0; phase < PHASES; phase++) {
        const long long time_ns = time_of(arguments[2 + phase]);
        if (time_ns < 0) {
            return NULL;
        }
        times_ns[phase] = (uint64_t)time_ns;
    }
    Py_buffer words;
    if (PyObject_GetBuffer(arguments[0], &words, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    const int is_row = words.len >= (Py_ssize_t)(ROW_WORDS * sizeof(uint64_t)) &&
                       ((uintptr_t)words.buf & (sizeof(uint64_t) - 1)) == 0 && at >= COUNTERS &&
                       at + 1 + PHASES <= COUNTERS_END;
    if (is_row) {
        add(words.buf, at, times_ns);
    }
    PyBuffer_Release(&words);
    if (!is_row) {
        PyErr_SetString(PyExc_ValueError, "these are not the words of a row, or not of its counters");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"ran", (PyCFunction)(void (*)(void))ran, METH_FASTCALL,
     "ran(words, at, queue_ns, input_ns, infer_ns, output_ns)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "device_agent.statistics_page._sums",
    "Counting of requests; device_agent.statistics_page.sums is its face.",
    0,
    methods,
    NULL,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__sums(void) { return PyModule_Create(&definition); }
