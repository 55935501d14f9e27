// Copies between tensors of either layout and rows of channels; row i has the channels of pixel i, padded to full
// vectors.
#pragma once

#include "lanes.h"

namespace deconvseg {

// Strides in floats from one channel, and from one pixel, to the next; one of them is 1.
struct Layout {
    int64_t channel, pixel;
};

// Write `pixels` rows of padded(channels) floats; the padding is 0.
inline void to_rows(float* rows, const float* from, Layout layout, int64_t pixels, int64_t channels) {
    const int64_t width = padded(channels);
    for (int64_t c = 0; c < channels; c += kLanes) {
        if (layout.channel == 1) {
            for (int64_t i = 0; i < pixels; ++i)
                store(rows + i * width + c, load_some(from + i * layout.pixel + c, channels - c));
            continue;
        }
        for (int64_t i = 0; i < pixels; i += kLanes) {
            vec tile[kLanes];
            for (int64_t k = 0; k < kLanes; ++k)
                tile[k] = load_some(from + (c + k) * layout.channel + i, c + k < channels ? pixels - i : 0);
            transpose(tile);
            for (int64_t k = 0; k < kLanes && i + k < pixels; ++k) store(rows + (i + k) * width + c, tile[k]);
        }
    }
}

inline void from_rows(float* to, const float* rows, Layout layout, int64_t pixels, int64_t channels) {
    const int64_t width = padded(channels);
    for (int64_t c = 0; c < channels; c += kLanes) {
        if (layout.channel == 1) {
            for (int64_t i = 0; i < pixels; ++i)
                store_some(to + i * layout.pixel + c, load(rows + i * width + c), channels - c);
            continue;
        }
        for (int64_t i = 0; i < pixels; i += kLanes) {
            vec tile[kLanes];
            for (int64_t k = 0; k < kLanes; ++k) tile[k] = i + k < pixels ? load(rows + (i + k) * width + c) : vec{};
            transpose(tile);
            for (int64_t k = 0; k < kLanes && c + k < channels; ++k)
                store_some(to + (c + k) * layout.channel + i, tile[k], pixels - i);
        }
    }
}

}  // namespace deconvseg
