"""Triton kernels of deformable upsampling; imported only if Triton is installed.

A program computes the sampling positions of POINTS output points of one sample once, and loops over a span of channels,
LANES at a time; with channels last, neighbouring threads process neighbouring channels. A 2D image has a first axis of
size 1, which has no offsets.
"""
# mypy: ignore-errors
# ruff: noqa: N803
# Type checkers cannot check Triton kernels; constants in capitals are Triton's convention.

import triton
import triton.language as tl


@triton.jit
def _at(pointer, strides, batch, channel, z, y, x):
    """Return pointers to elements; only the offset between samples always has 64 bits."""
    sample = pointer + batch.to(tl.int64) * strides[0]
    return sample + (channel * strides[1] + z * strides[2] + y * strides[3] + x * strides[4])


@triton.jit
def _load(pointers, mask):
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _place(program, scaled, spans, POINTS: tl.constexpr, WIDE: tl.constexpr):
    """Return coordinates (points, 1) of a program's output points, their mask, its span of channels and its sample."""
    blocks = tl.cdiv(scaled[0] * scaled[1] * scaled[2], POINTS)
    point = program % blocks * POINTS + tl.arange(0, POINTS)[:, None]
    if WIDE:
        point = point.to(tl.int64)
    # One element per thread and load: neighbouring points read neighbouring pixels, not aligned groups of four.
    x = tl.multiple_of(point % scaled[2], (1, 1))
    y = point // scaled[2] % scaled[1]
    z = point // (scaled[2] * scaled[1])
    rest = program // blocks
    return z, y, x, z < scaled[0], rest % spans, rest // spans


@triton.jit
def _channels(first, LANES: tl.constexpr, WIDE: tl.constexpr):
    channel = first + tl.arange(0, LANES)[None, :]
    if WIDE:
        channel = channel.to(tl.int64)
    # The hint breaks Triton's compiler for a tensor that folds to a scalar.
    return tl.multiple_of(channel, (1, 1)) if LANES > 1 else channel


@triton.jit
def _axis(
    offsets, offset_strides, weights, weight_strides, batch, channel, z, y, x, known, coordinate, length, scaled, unit,
    WEIGHTED: tl.constexpr, MOVED: tl.constexpr,
):  # fmt: skip
    """Return both neighbours on one axis, the share of the upper one, and whether the position is inside the border."""
    where = (coordinate.to(tl.float32) + 0.5) * (length / scaled) - 0.5
    if MOVED:
        move = _load(_at(offsets, offset_strides, batch, channel, z, y, x), known)
        if WEIGHTED:
            move *= _load(_at(weights, weight_strides, batch, channel, z, y, x), known)
        where += move * unit
    # Comparisons with NaN are false, so NaN passes both bounds, as intended.
    inside = tl.where(where < 0, 0.0, tl.where(where > length - 1, length - 1.0, where))
    lower = tl.floor(inside)
    start = tl.minimum(tl.maximum(lower.to(tl.int32), 0), length - 1).to(coordinate.dtype)
    free = (where >= 0) & (where <= length - 1)
    return start, tl.minimum(start + 1, length - 1), inside - lower, free


@triton.jit
def forward_kernel(
    features, feature_strides, offsets, offset_strides, weights, weight_strides, base, base_strides, out, out_strides,
    channels, size, scaled, units, spans, span,
    AXES: tl.constexpr, WEIGHTED: tl.constexpr, BASED: tl.constexpr, POINTS: tl.constexpr, LANES: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Sample the features, and add the base if BASED."""
    z, y, x, known, part, batch = _place(tl.program_id(0), scaled, spans, POINTS, WIDE)
    z0, z1, dz, _ = _axis(
        offsets, offset_strides, weights, weight_strides, batch, 2, z, y, x, known, z, size[0], scaled[0], units[0],
        WEIGHTED, AXES == 3,
    )  # fmt: skip
    y0, y1, dy, _ = _axis(
        offsets, offset_strides, weights, weight_strides, batch, 1, z, y, x, known, y, size[1], scaled[1], units[1],
        WEIGHTED, True,
    )  # fmt: skip
    x0, x1, dx, _ = _axis(
        offsets, offset_strides, weights, weight_strides, batch, 0, z, y, x, known, x, size[2], scaled[2], units[2],
        WEIGHTED, True,
    )  # fmt: skip
    stop = min((part + 1) * span, channels)
    for first in range(part * span, stop, LANES):
        channel = _channels(first, LANES, WIDE)
        there = known & (channel < stop)
        total = tl.zeros((POINTS, LANES), tl.float32)
        for corner in tl.static_range(1 << AXES):
            cz, wz = (z1, dz) if corner & 4 else (z0, 1 - dz)
            cy, wy = (y1, dy) if corner & 2 else (y0, 1 - dy)
            cx, wx = (x1, dx) if corner & 1 else (x0, 1 - dx)
            share = wz * wy * wx if AXES == 3 else wy * wx
            total += _load(_at(features, feature_strides, batch, channel, cz, cy, cx), there) * share
        if BASED:
            total += _load(_at(base, base_strides, batch, channel, z, y, x), there)
        tl.store(_at(out, out_strides, batch, channel, z, y, x), total, mask=there)


@triton.jit
def backward_kernel(
    grad, grad_strides, features, feature_strides, offsets, offset_strides, weights, weight_strides,
    feature_grad, feature_grad_strides, move_grad, move_grad_strides, per_root,
    channels, batches, size, scaled, units, spans, span,
    AXES: tl.constexpr, WEIGHTED: tl.constexpr, POINTS: tl.constexpr, LANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the features, in multiples of 1 / per_root² (B, C), and of the moves, a sum per span."""
    z, y, x, known, part, batch = _place(tl.program_id(0), scaled, spans, POINTS, WIDE)
    z0, z1, dz, free_z = _axis(
        offsets, offset_strides, weights, weight_strides, batch, 2, z, y, x, known, z, size[0], scaled[0], units[0],
        WEIGHTED, AXES == 3,
    )  # fmt: skip
    y0, y1, dy, free_y = _axis(
        offsets, offset_strides, weights, weight_strides, batch, 1, z, y, x, known, y, size[1], scaled[1], units[1],
        WEIGHTED, True,
    )  # fmt: skip
    x0, x1, dx, free_x = _axis(
        offsets, offset_strides, weights, weight_strides, batch, 0, z, y, x, known, x, size[2], scaled[2], units[2],
        WEIGHTED, True,
    )  # fmt: skip
    # A NaN position has no shares to scatter, and integers cannot represent NaN.
    whole = (dz == dz) & (dy == dy) & (dx == dx)
    grad_z = tl.zeros((POINTS, LANES), tl.float32)
    grad_y = tl.zeros((POINTS, LANES), tl.float32)
    grad_x = tl.zeros((POINTS, LANES), tl.float32)
    stop = min((part + 1) * span, channels)
    for first in range(part * span, stop, LANES):
        channel = _channels(first, LANES, WIDE)
        there = known & (channel < stop)
        coming = _load(_at(grad, grad_strides, batch, channel, z, y, x), there)
        scale = tl.load(per_root + batch * channels + channel, mask=channel < stop, other=0.0)
        # Differences within a channel are taken before the sum over channels, to limit cancellation.
        slope_z = tl.zeros((POINTS, LANES), tl.float32)
        slope_y = tl.zeros((POINTS, LANES), tl.float32)
        slope_x = tl.zeros((POINTS, LANES), tl.float32)
        for corner in tl.static_range(1 << (AXES - 1)):
            cz, wz, sz = (z1, dz, 1.0) if corner & 2 else (z0, 1 - dz, -1.0)
            cy, wy, sy = (y1, dy, 1.0) if corner & 1 else (y0, 1 - dy, -1.0)
            share = wz * wy if AXES == 3 else wy
            left = _load(_at(features, feature_strides, batch, channel, cz, cy, x0), there)
            right = _load(_at(features, feature_strides, batch, channel, cz, cy, x1), there)
            between = left * (1 - dx) + right * dx
            slope_x += share * (right - left)
            if AXES == 3:
                slope_y += sy * wz * between
                slope_z += sz * wy * between
            else:
                slope_y += sy * between
            counts = coming * scale * scale * share
            target = _at(feature_grad, feature_grad_strides, batch, channel, cz, cy, x0)
            tl.atomic_add(target, (counts * (1 - dx)).to(tl.int64), mask=there & whole, sem="relaxed")
            target = _at(feature_grad, feature_grad_strides, batch, channel, cz, cy, x1)
            tl.atomic_add(target, (counts * dx).to(tl.int64), mask=there & whole, sem="relaxed")
        grad_z += coming * slope_z
        grad_y += coming * slope_y
        grad_x += coming * slope_x
    sample = part * batches + batch
    move = _at(move_grad, move_grad_strides, sample, 0, z, y, x)
    tl.store(move, tl.where(free_x, tl.sum(grad_x, 1)[:, None] * units[2], 0.0), mask=known)
    tl.store(move + move_grad_strides[1], tl.where(free_y, tl.sum(grad_y, 1)[:, None] * units[1], 0.0), mask=known)
    if AXES == 3:
        tl.store(
            move + 2 * move_grad_strides[1], tl.where(free_z, tl.sum(grad_z, 1)[:, None] * units[0], 0.0), mask=known
        )
