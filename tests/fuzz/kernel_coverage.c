/* Leads libFuzzer where the compiler is not clang: counts the places that were reached.
 *
 * To be compiled without -fsanitize-coverage, and linked before libFuzzer without main, which
 * brings a counter of its own that does nothing; all else with -fsanitize-coverage=trace-pc.
 */
#include <stddef.h>
#include <stdint.h>

__attribute__((section("__libfuzzer_extra_counters"), used)) static uint8_t counters[1 << 16];

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void) {
    const uintptr_t place = (uintptr_t)__builtin_return_address(0);
    counters[(place ^ place >> 16) % sizeof counters]++;
}

typedef int take_input(const uint8_t *data, size_t size);
take_input LLVMFuzzerTestOneInput;
int LLVMFuzzerRunDriver(int *argc, char ***argv, take_input *take);

int main(int argc, char **argv) { return LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput); }
