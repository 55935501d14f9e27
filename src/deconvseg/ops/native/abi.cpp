#include "abi.h"

#ifndef DECONVSEG_INSTRUCTION_SET
#error "compile with build.py, which says for which instruction set"
#endif

extern "C" int deconvseg_abi_version() { return DECONVSEG_ABI_VERSION; }

extern "C" const char* deconvseg_instruction_set() { return DECONVSEG_INSTRUCTION_SET; }
