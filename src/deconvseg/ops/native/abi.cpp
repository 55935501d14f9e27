#include "parallel.h"

#if !defined(DECONVSEG_INSTRUCTION_SET) || !defined(DECONVSEG_SOURCES)
#error "compile with build.py, which defines the instruction set and the version of the sources"
#endif

// What Python asks before it calls a kernel (__init__.py).
extern "C" const char* deconvseg_instruction_set() { return DECONVSEG_INSTRUCTION_SET; }

extern "C" const char* deconvseg_sources() { return DECONVSEG_SOURCES; }

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
