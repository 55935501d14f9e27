// Conventions of the C functions: sizes are int64, and exceptions become return codes.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

namespace deconvseg {

// Copy `Count` sizes into a struct that consists of int64 fields only.
template <class Shape, int Count>
Shape shape_from(const int64_t* sizes) {
    static_assert(sizeof(Shape) == Count * sizeof(int64_t) && std::is_trivially_copyable_v<Shape>);
    Shape shape;
    std::memcpy(&shape, sizes, sizeof shape);
    return shape;
}

// Return 0 after the call, or 1 if it ran out of memory.
template <class Call>
int guarded(Call call) {
    try {
        call();
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

}  // namespace deconvseg
