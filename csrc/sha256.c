/* SHA-256 of two pieces at once, with the instructions that some processors have for it: each of
 * them waits for the one before, and two pieces wait at the same time. See kernel.h. */
#include "common.h"
#include "processor.h"

#if HAS_WIDE_PASSES

#include <immintrin.h>

#define HASHING __attribute__((target("sha,sse4.1,ssse3")))
#define BLOCK_BYTES 64

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* The state's words as the instructions want them: A B E F and C D G H, the first ones highest. */
struct hash {
    __m128i abef;
    __m128i cdgh;
};

HASHING static inline __m128i swapped(__m128i words) {
    return _mm_shuffle_epi8(words,
                            _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll));
}

/* Takes so many blocks of both. */
HASHING static void take_blocks(struct hash hashes[2], const uint8_t *const from[2],
                                size_t blocks) {
    struct hash now[2] = {hashes[0], hashes[1]};
    for (size_t block = 0; block < blocks; block++) {
        const struct hash before[2] = {now[0], now[1]};
        __m128i words[2][4];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const __m128i constant =
                _mm_loadu_si128((const __m128i *)(const void *)(constants + 4 * i));
#pragma GCC unroll 2
            for (int k = 0; k < 2; k++) {
                __m128i *const w = words[k];
                if (i < 4) {
                    const uint8_t *const at = from[k] + block * BLOCK_BYTES + 16 * i;
                    w[i] = swapped(_mm_loadu_si128((const __m128i *)(const void *)at));
                } else {
                    const __m128i sum =
                        _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]),
                                      _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
                    w[i & 3] = _mm_sha256msg2_epu32(sum, w[(i + 3) & 3]);
                }
                const __m128i added = _mm_add_epi32(w[i & 3], constant);
                now[k].cdgh = _mm_sha256rnds2_epu32(now[k].cdgh, now[k].abef, added);
                now[k].abef = _mm_sha256rnds2_epu32(now[k].abef, now[k].cdgh,
                                                    _mm_shuffle_epi32(added, 0x0E));
            }
        }
        for (int k = 0; k < 2; k++) {
            now[k].abef = _mm_add_epi32(now[k].abef, before[k].abef);
            now[k].cdgh = _mm_add_epi32(now[k].cdgh, before[k].cdgh);
        }
    }
    hashes[0] = now[0], hashes[1] = now[1];
}

HASHING static void put_digest(struct hash hash, uint8_t *out) {
    const __m128i feba = _mm_shuffle_epi32(hash.abef, 0x1B);
    const __m128i dchg = _mm_shuffle_epi32(hash.cdgh, 0xB1);
    const __m128i dcba = _mm_blend_epi16(feba, dchg, 0xF0);
    const __m128i hgfe = _mm_alignr_epi8(dchg, feba, 8);
    _mm_storeu_si128((__m128i *)(void *)out, swapped(dcba));
    _mm_storeu_si128((__m128i *)(void *)(out + 16), swapped(hgfe));
}

int edge_sha256_can_pair(void) { return processor_has_sha(); }

int edge_sha256_pair(const uint8_t *first, const uint8_t *second, size_t bytes,
                     uint8_t digests[2][EDGE_SHA256_BYTES]) {
    if (!edge_sha256_can_pair() || bytes % BLOCK_BYTES != 0) {
        return EDGE_CODER_ARGUMENT;
    }
    const uint64_t bits = (uint64_t)bytes * 8;
    const uint8_t *const from[2] = {first, second};
    uint8_t last[BLOCK_BYTES] = {0x80};
    const uint8_t *const end[2] = {last, last};
    for (unsigned i = 0; i < 8; i++) {
        last[BLOCK_BYTES - 1 - i] = (uint8_t)(bits >> (8 * i));
    }
    struct hash hashes[2];
    for (unsigned k = 0; k < 2; k++) {
        hashes[k].abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c);
        hashes[k].cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
    }
    take_blocks(hashes, from, bytes / BLOCK_BYTES);
    take_blocks(hashes, end, 1);
    put_digest(hashes[0], digests[0]);
    put_digest(hashes[1], digests[1]);
    return 0;
}

#else

int edge_sha256_can_pair(void) { return 0; }

int edge_sha256_pair(const uint8_t *first, const uint8_t *second, size_t bytes,
                     uint8_t digests[2][EDGE_SHA256_BYTES]) {
    (void)first, (void)second, (void)bytes, (void)digests;
    return EDGE_CODER_ARGUMENT;
}

#endif
