// What a library and the Python that loads it must agree on.
#pragma once

// Raise it, here and in __init__.py, whenever a function's arguments or meaning change, or one is added.
#define DECONVSEG_ABI_VERSION 5
