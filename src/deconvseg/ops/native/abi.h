// Version of the interface between the compiled library and the Python code that loads it.
#pragma once

// Increase it, here and in __init__.py, when a function is added or its arguments or meaning change.
#define DECONVSEG_ABI_VERSION 7
