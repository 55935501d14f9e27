#include "abi.h"

#include "parallel.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#ifndef DECONVSEG_INSTRUCTION_SET
#error "compile with build.py, which defines the instruction set"
#endif

extern "C" int deconvseg_abi_version() { return DECONVSEG_ABI_VERSION; }

extern "C" const char* deconvseg_instruction_set() { return DECONVSEG_INSTRUCTION_SET; }

// Whether the processor has AVX512-BF16, of which PyTorch says nothing: leaf 7, subleaf 1, bit 5 of EAX.
extern "C" int deconvseg_has_bfloat16() {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
#else
    return 0;
#endif
}

#ifndef NDEBUG
// Operators private to this library (exports.map), which abort if a worker allocates.
void* operator new(size_t bytes) {
    assert(!deconvseg::working);
    if (void* memory = std::malloc(bytes)) return memory;
    throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }

void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif
