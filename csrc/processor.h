/* What the processor has beyond what the kernel was compiled for. Asking it takes microseconds, so
 * do not ask for each element. EDGE_CODER_PLAIN leaves out whatever would make use of it. */
#ifndef EDGE_CODER_PROCESSOR_H
#define EDGE_CODER_PROCESSOR_H

#include <stdbool.h>

#if defined(__GNUC__) && defined(__x86_64__) && !defined(EDGE_CODER_PLAIN)
#define HAS_WIDE_PASSES 1

#include <cpuid.h>

/* AVX-512 F, BW, VL, VBMI and VBMI2, with an operating system that keeps its registers. */
static inline bool processor_has_avx512(void) {
    unsigned eax, ebx, ecx, edx, kept, unused;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 27 & 1)) {
        return false;
    }
    __asm__("xgetbv" : "=a"(kept), "=d"(unused) : "c"(0));
    if ((kept & 0xE6) != 0xE6 || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        return false;
    }
    return (ebx >> 16 & 1) && (ebx >> 30 & 1) && (ebx >> 31 & 1) && (ecx >> 1 & 1) &&
           (ecx >> 6 & 1);
}

#else
#define HAS_WIDE_PASSES 0

static inline bool processor_has_avx512(void) { return false; }

#endif

#endif
