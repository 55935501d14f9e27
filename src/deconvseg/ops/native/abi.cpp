#include "abi.h"

#include "parallel.h"

#ifndef DECONVSEG_INSTRUCTION_SET
#error "compile with build.py, which defines the instruction set"
#endif

extern "C" int deconvseg_abi_version() { return DECONVSEG_ABI_VERSION; }

extern "C" const char* deconvseg_instruction_set() { return DECONVSEG_INSTRUCTION_SET; }

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
