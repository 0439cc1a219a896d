/* An app over the agent's fast lane: one request, or the same one many times with its latency.
 *
 *     cc -std=c11 -O2 -Wall -Wextra -Werror -o fast_lane fast_lane.c
 *     ./fast_lane /var/lib/edge/inference.sock.lane team/digits x 1,64 < frame.raw
 *
 * Standard input is the tensor: float32 in C order, little-endian. The answer is one line for
 * each output. `edge_sdk/fastlane/PROTOCOL.md` says what every byte means; nothing but libc is
 * needed, and the parts above `main` are meant to be taken into an app of your own.
 */

#define _GNU_SOURCE /* F_GET_SEALS */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the lane is for little-endian machines");

enum {
    PACKET_BYTES_MAX = 16384,
    RANK_MAX = 32,
    HEADER_BYTES = 8,
    FLOAT32 = 11,
    WAIT_S = 30,
};

enum kind {
    HELLO = 1,
    RESIZE = 2,
    INFER = 3,
    TAKE = 4,
    SLOT = 129,
    ANSWER = 130,
    FAILURE = 131,
    ELSEWHERE = 132,
};

/* A connection and its shared memory. */
struct lane {
    int socket;
    uint8_t *slot;
    uint64_t slot_bytes;
    uint32_t number; /* of the last request */
};

struct tensor {
    uint8_t type, rank;
    uint64_t offset, bytes, shape[RANK_MAX];
    const char *name; /* not ended by a zero */
    uint16_t name_bytes;
};

/* A packet that is being written, or read: `at` never goes beyond `end`. */
struct packet {
    uint8_t bytes[PACKET_BYTES_MAX + 1];
    size_t at, end;
};

static void fail(const char *what)
{
    fprintf(stderr, "fast_lane: %s\n", what);
    exit(1);
}

static void fail_errno(const char *what)
{
    fprintf(stderr, "fast_lane: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void put(struct packet *packet, const void *from, size_t bytes)
{
    if (bytes > PACKET_BYTES_MAX - packet->at)
        fail("the request does not fit a packet");
    memcpy(packet->bytes + packet->at, from, bytes);
    packet->at += bytes;
}

static void put_number(struct packet *packet, uint64_t number, size_t bytes)
{
    put(packet, &number, bytes); /* little-endian: the low bytes come first */
}

static const uint8_t *take(struct packet *packet, size_t bytes)
{
    if (bytes > packet->end - packet->at)
        fail("the agent's packet is cut off");
    packet->at += bytes;
    return packet->bytes + packet->at - bytes;
}

static uint64_t take_number(struct packet *packet, size_t bytes)
{
    uint64_t number = 0;
    memcpy(&number, take(packet, bytes), bytes);
    return number;
}

static void begin(struct packet *packet, enum kind kind, uint32_t number)
{
    packet->at = 0;
    put_number(packet, kind, 4);
    put_number(packet, number, 4);
}

static void send_packet(struct lane *lane, const struct packet *packet)
{
    if (send(lane->socket, packet->bytes, packet->at, MSG_NOSIGNAL) != (ssize_t)packet->at)
        fail_errno("the agent takes no request");
}

/* Receives a packet up to behind its header; with a file where one came along, else -1. */
static enum kind receive(struct lane *lane, struct packet *packet, uint32_t number, int *file)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec into = {packet->bytes, sizeof packet->bytes};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1};
    if (file) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        *file = -1;
    }
    ssize_t size = recvmsg(lane->socket, &message, MSG_CMSG_CLOEXEC);
    if (size < 0)
        fail_errno("the agent does not answer");
    if (size == 0)
        fail("the agent has closed the lane");
    if (size > PACKET_BYTES_MAX)
        fail("the agent's packet is too long");
    struct cmsghdr *first = file ? CMSG_FIRSTHDR(&message) : NULL;
    if (first && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS)
        memcpy(file, CMSG_DATA(first), sizeof *file);
    packet->at = 0;
    packet->end = (size_t)size;
    uint64_t kind = take_number(packet, 4);
    if (take_number(packet, 4) != number && kind != ELSEWHERE && kind != FAILURE)
        fail("the agent answered another request");
    return (enum kind)kind;
}

/* Prints why there is no answer, and ends. */
static void refused(struct packet *packet, enum kind kind)
{
    if (kind == ELSEWHERE) {
        uint64_t length = take_number(packet, 2);
        take(packet, 6);
        const char *text = (const char *)take(packet, length);
        fprintf(stderr, "fast_lane: not on the lane: %.*s\n", (int)length, text);
    } else if (kind == FAILURE) {
        uint64_t reason = take_number(packet, 2), status = take_number(packet, 2);
        uint64_t text = take_number(packet, 2);
        take(packet, 2);
        const char *name = (const char *)take(packet, reason);
        take(packet, status);
        const char *why = (const char *)take(packet, text);
        fprintf(stderr, "fast_lane: %.*s: %.*s\n", (int)reason, name, (int)text, why);
    } else {
        fail("the agent answered with a packet of another kind");
    }
    exit(1);
}

/* Sends what asks for a slot, and maps the one that comes. */
static void ask_slot(struct lane *lane, struct packet *packet, uint32_t number)
{
    const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int file;
    send_packet(lane, packet);
    if (lane->slot)
        munmap(lane->slot, lane->slot_bytes);
    lane->slot = NULL;
    enum kind kind = receive(lane, packet, number, &file);
    if (kind != SLOT)
        refused(packet, kind);
    lane->slot_bytes = take_number(packet, 8);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0 || (uint64_t)status.st_size != lane->slot_bytes)
        fail("the agent passed no memory of the size that it says");
    /* Without these, the other end could cut the memory off under our hands. */
    int seals = fcntl(file, F_GET_SEALS);
    if (seals < 0 || (seals & wanted) != wanted || (seals & F_SEAL_WRITE))
        fail("the agent passed memory that is not sealed");
    lane->slot = mmap(NULL, lane->slot_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (lane->slot == MAP_FAILED)
        fail_errno("the slot cannot be mapped");
    close(file);
}

static void open_lane(struct lane *lane, const char *path, uint64_t slot_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        fail("the socket's path is too long");
    strcpy(address.sun_path, path);
    *lane = (struct lane){.socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    const struct timeval wait = {.tv_sec = WAIT_S};
    if (lane->socket < 0 ||
        setsockopt(lane->socket, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
        connect(lane->socket, (struct sockaddr *)&address, sizeof address) < 0)
        fail_errno(path);
    struct packet hello;
    begin(&hello, HELLO, 0);
    put(&hello, "EDGL", 4);
    put_number(&hello, 1, 2); /* version */
    put_number(&hello, 0, 2);
    put_number(&hello, slot_bytes, 8);
    ask_slot(lane, &hello, 0);
}

/* A request with one input at the slot's begin, for the active version and all outputs. */
static void make_request(struct packet *packet, const char *model, const struct tensor *input)
{
    begin(packet, INFER, 0);
    put_number(packet, WAIT_S * 1000000ull, 8); /* how long it may wait for its turn */
    put_number(packet, 0, 8);                   /* of no sequence */
    put_number(packet, strlen(model), 2);
    put_number(packet, 0, 2); /* version */
    put_number(packet, 1, 2); /* inputs */
    put_number(packet, 0, 2); /* outputs: all */
    put(packet, model, strlen(model));
    put_number(packet, input->type, 1);
    put_number(packet, input->rank, 1);
    put_number(packet, input->name_bytes, 2);
    put_number(packet, 0, 4);
    put_number(packet, input->offset, 8);
    put_number(packet, input->bytes, 8);
    put(packet, input->shape, input->rank * sizeof *input->shape);
    put(packet, input->name, input->name_bytes);
}

static struct tensor take_tensor(struct packet *packet, const struct lane *lane)
{
    struct tensor tensor = {0};
    tensor.type = (uint8_t)take_number(packet, 1);
    tensor.rank = (uint8_t)take_number(packet, 1);
    tensor.name_bytes = (uint16_t)take_number(packet, 2);
    take(packet, 4);
    tensor.offset = take_number(packet, 8);
    tensor.bytes = take_number(packet, 8);
    if (tensor.rank > RANK_MAX)
        fail("an output has too many dimensions");
    if (tensor.offset > lane->slot_bytes || tensor.bytes > lane->slot_bytes - tensor.offset)
        fail("an output does not lie in the slot");
    size_t shape_bytes = tensor.rank * sizeof *tensor.shape;
    memcpy(tensor.shape, take(packet, shape_bytes), shape_bytes);
    tensor.name = (const char *)take(packet, tensor.name_bytes);
    return tensor;
}

/* Sends the request once more; `answer` is then behind its header, its outputs in the slot. */
static void infer(struct lane *lane, struct packet *request, struct packet *answer)
{
    lane->number++;
    memcpy(request->bytes + 4, &lane->number, sizeof lane->number);
    send_packet(lane, request);
    enum kind kind = receive(lane, answer, lane->number, NULL);
    if (kind != ANSWER)
        refused(answer, kind);
    uint64_t new_slot_bytes;
    memcpy(&new_slot_bytes, answer->bytes + HEADER_BYTES, sizeof new_slot_bytes);
    if (new_slot_bytes) { /* the outputs did not fit: they lie in a larger one */
        struct packet packet;
        begin(&packet, TAKE, lane->number);
        ask_slot(lane, &packet, lane->number);
    }
}

static void print_answer(struct packet *answer, const struct lane *lane)
{
    take(answer, 8);
    uint64_t version_bytes = take_number(answer, 2), outputs = take_number(answer, 2);
    take(answer, 4);
    printf("version %.*s\n", (int)version_bytes, (const char *)take(answer, version_bytes));
    while (outputs--) {
        struct tensor output = take_tensor(answer, lane);
        printf("%.*s type %d shape", (int)output.name_bytes, output.name, output.type);
        for (int axis = 0; axis < output.rank; axis++)
            printf(" %" PRIu64, output.shape[axis]);
        if (output.type == FLOAT32) {
            printf(" :");
            for (uint64_t at = 0; at + sizeof(float) <= output.bytes; at += sizeof(float)) {
                float value;
                memcpy(&value, lane->slot + output.offset + at, sizeof value);
                printf(" %.9g", (double)value);
            }
        }
        printf("\n");
    }
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

static int by_size(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* The outputs come where the input was: it is written again each time, as a new frame would be. */
static void measure(struct lane *lane, struct packet *request, const void *input, uint64_t bytes,
                    size_t count)
{
    static struct packet answer;
    double *taken = calloc(count, sizeof *taken);
    if (!taken)
        fail("no memory for so many measurements");
    for (size_t turn = 0; turn < count; turn++) {
        double began = now_us();
        memcpy(lane->slot, input, bytes);
        infer(lane, request, &answer);
        taken[turn] = now_us() - began;
    }
    qsort(taken, count, sizeof *taken, by_size);
    printf("round trip of %zu: p50 %.1f us, p99 %.1f us\n", count, taken[count / 2],
           taken[count * 99 / 100]);
    free(taken);
}

static struct tensor read_shape(const char *text)
{
    struct tensor tensor = {.type = FLOAT32, .bytes = sizeof(float)};
    while (*text) {
        char *behind;
        errno = 0;
        unsigned long long size = strtoull(text, &behind, 10);
        if (behind == text || errno || size == 0 || size > (1u << 24) || tensor.rank == RANK_MAX)
            fail("the shape is not like 1,3,224,224");
        tensor.shape[tensor.rank++] = size;
        tensor.bytes *= size;
        if (tensor.bytes > (64u << 20))
            fail("a slot has at most 64 MiB");
        text = *behind == ',' ? behind + 1 : behind;
        if (*behind && *behind != ',')
            fail("the shape is not like 1,3,224,224");
    }
    return tensor;
}

int main(int count, char **words)
{
    if (count != 5 && count != 6)
        fail("usage: fast_lane SOCKET MODEL INPUT SHAPE [REPEAT] < float32");
    static struct packet request, answer;
    struct tensor input = read_shape(words[4]);
    input.name = words[3];
    input.name_bytes = (uint16_t)strlen(words[3]);
    if (strlen(words[2]) > 1024 || strlen(words[3]) > 1024)
        fail("a name is too long");
    void *frame = malloc(input.bytes);
    if (!frame || fread(frame, 1, input.bytes, stdin) != input.bytes)
        fail("standard input has fewer bytes than the shape says");
    struct lane lane;
    open_lane(&lane, words[1], input.bytes);
    make_request(&request, words[2], &input);
    memcpy(lane.slot, frame, input.bytes);
    infer(&lane, &request, &answer);
    print_answer(&answer, &lane);
    if (count == 6 && lane.slot_bytes >= input.bytes && atol(words[5]) > 0)
        measure(&lane, &request, frame, input.bytes, (size_t)atol(words[5]));
    close(lane.socket);
    free(frame);
    return 0;
}
