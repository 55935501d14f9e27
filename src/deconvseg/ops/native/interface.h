// What the C functions share: sizes come as int64, and an exception becomes a number.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

namespace deconvseg {

// A struct of nothing but that many int64, from sizes in its order.
template <class Shape, int Count>
Shape shape_from(const int64_t* sizes) {
    static_assert(sizeof(Shape) == Count * sizeof(int64_t) && std::is_trivially_copyable_v<Shape>);
    Shape shape;
    std::memcpy(&shape, sizes, sizeof shape);
    return shape;
}

// Call what returns nothing and may run out of memory: 0, or 1 where it did.
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
