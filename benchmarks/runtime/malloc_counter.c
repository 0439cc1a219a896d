/* Counts calls that ask the allocator for 4 KiB or more. LD_PRELOADed into the inference
   process by the benchmark; large_allocations() is read through ctypes. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#define LARGE_BYTES 4096

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_ulong large;

unsigned long large_allocations(void) { return atomic_load(&large); }

static void count(size_t bytes)
{
    if (bytes >= LARGE_BYTES)
        atomic_fetch_add_explicit(&large, 1, memory_order_relaxed);
}

void *malloc(size_t bytes)
{
    count(bytes);
    return __libc_malloc(bytes);
}

void *calloc(size_t items, size_t bytes)
{
    count(items * bytes);
    return __libc_calloc(items, bytes);
}

void *realloc(void *held, size_t bytes)
{
    count(bytes);
    return __libc_realloc(held, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    count(bytes);
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void **made, size_t alignment, size_t bytes)
{
    void *block = memalign(alignment, bytes);
    if (block == NULL)
        return ENOMEM;
    *made = block;
    return 0;
}
