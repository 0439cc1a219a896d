/* A packet out and the next one in, on a socket of the fast lane: edge_sdk.fastlane._channel.
 *
 * One call instead of two, which gives the interpreter's lock up once. And before it sleeps it
 * polls for what is to come: being woken on another core costs more than a small request takes, in
 * a virtual machine several times more. That pays only where the peer works on another core at the
 * same time; so each poll in vain is followed by calls that sleep at once, up to 2^LEVEL_MAX.
 *
 * edge_sdk/fastlane/channel.py has the same in Python, without polling. Linux only. */
#include <Python.h>

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>

#define LEVEL_MAX 10u
#define LEVEL_STEP 3u

typedef struct {
    PyObject_HEAD
    int descriptor;
    int send_flags;
    long long poll_ns; /* for so long at most; 0: never */
    unsigned level;    /* of distrust in polling: up when it was in vain, down when not */
    unsigned asleep;   /* calls to come that sleep at once */
} channel;

/* What is left of one call. */
struct exchange {
    Py_buffer packet;
    Py_buffer room;
    bool is_sent;
    bool is_polled;
};

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static Py_ssize_t receive(const channel *self, const struct exchange *call, int flags) {
    return recv(self->descriptor, call->room.buf, (size_t)call->room.len, flags);
}

/* Until something comes or the time is over, which is EAGAIN. What is there at the first look says
 * nothing about polling; what is found after the time, nothing good: meanwhile others had the core,
 * the peer maybe. */
static Py_ssize_t poll_for(channel *self, const struct exchange *call) {
    /* Where it has been in vain for long it is a test, and shall not be felt. */
    const long long end_ns = now_ns() + (self->level < LEVEL_MAX ? self->poll_ns : self->poll_ns / 2);
    Py_ssize_t size = receive(self, call, MSG_DONTWAIT);
    if (size >= 0 || errno != EAGAIN) {
        return size;
    }
    bool is_over = false;
    do {
        size = receive(self, call, MSG_DONTWAIT);
        is_over = now_ns() >= end_ns;
    } while (size < 0 && errno == EAGAIN && !is_over);
    if (!is_over) {
        self->level -= self->level > 0;
    } else {
        self->level = self->level + LEVEL_STEP < LEVEL_MAX ? self->level + LEVEL_STEP : LEVEL_MAX;
        self->asleep = 1u << self->level;
    }
    return size;
}

/* Without the interpreter's lock. EINTR: look at signals, and go on. */
static Py_ssize_t go_on(channel *self, struct exchange *call) {
    if (!call->is_sent) {
        if (send(self->descriptor, call->packet.buf, (size_t)call->packet.len,
                 self->send_flags | MSG_NOSIGNAL) < 0) {
            errno = errno == ECONNRESET ? EPIPE : errno; /* in receiving it says another thing */
            return -1;
        }
        call->is_sent = true;
    }
    if (!call->is_polled) {
        call->is_polled = true;
        if (self->asleep > 0) {
            self->asleep--;
        } else if (self->poll_ns > 0) {
            const Py_ssize_t size = poll_for(self, call);
            if (size < 0 && errno == EAGAIN) {
                errno = EINTR; /* a signal that came meanwhile would not end the sleep */
            }
            return size;
        }
    }
    return receive(self, call, 0);
}

static PyObject *run(channel *self, struct exchange *call) {
    Py_ssize_t size;
    int error;
    do {
        Py_BEGIN_ALLOW_THREADS
        size = go_on(self, call);
        error = errno;
        Py_END_ALLOW_THREADS
        if (size >= 0) {
            return PyLong_FromSsize_t(size);
        }
    } while (error == EINTR && PyErr_CheckSignals() == 0);
    if (error != EINTR) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return NULL;
}

static PyObject *exchange(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    struct exchange call = {0};
    PyObject *size = NULL;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "exchange(packet, buffer)");
        return NULL;
    }
    call.is_sent = arguments[0] == Py_None;
    if (!call.is_sent && PyObject_GetBuffer(arguments[0], &call.packet, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[1], &call.room, PyBUF_WRITABLE) == 0) {
        size = run((channel *)self, &call);
        PyBuffer_Release(&call.room);
    }
    if (call.packet.obj != NULL) {
        PyBuffer_Release(&call.packet);
    }
    return size;
}

static PyObject *close_channel(PyObject *self, PyObject *nothing) {
    (void)nothing;
    ((channel *)self)->descriptor = -1;
    Py_RETURN_NONE;
}

static PyObject *make(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    static char *known[] = {"", "", "", NULL};
    int descriptor, waits, poll_us;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "ipi", known, &descriptor, &waits, &poll_us)) {
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    channel *self = (channel *)allocate(type, 0);
    if (self != NULL) {
        self->descriptor = descriptor;
        self->send_flags = waits ? 0 : MSG_DONTWAIT;
        self->poll_ns = poll_us * 1000LL;
    }
    return (PyObject *)self;
}

static void destroy(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"exchange", (PyCFunction)(void (*)(void))exchange, METH_FASTCALL, "exchange(packet, buffer)"},
    {"close", close_channel, METH_NOARGS, "close()"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Channel(descriptor, waits, poll_us)"},
    {Py_tp_new, make},
    {Py_tp_dealloc, destroy},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec specification = {
    .name = "edge_sdk.fastlane._channel.Channel",
    .basicsize = sizeof(channel),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "edge_sdk.fastlane._channel",
    "The fast lane's exchange of packets; edge_sdk.fastlane.channel is its face.",
    0,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__channel(void) {
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&specification);
    if (type == NULL || PyModule_AddObject(module, "Channel", type) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
