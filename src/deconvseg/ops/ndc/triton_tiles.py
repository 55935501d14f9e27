"""Common functions of the update's Triton kernels: a program's tile, loads, and correlations with V⁻.

A program computes one tile of TZ x TY x TX voxels and TG groups, with one channel or STEP sources of each group. Its
tensors are (voxels, groups, sources). The threads of a warp run along the voxels or the groups, whichever is contiguous
in memory. The sources of a voxel are in one thread, so that a value of X or R is loaded once per tap for all sources.
Neighbouring taps read the same cache lines, which are in the L1 cache.
"""
# mypy: ignore-errors
# ruff: noqa: N803
# Type checkers cannot check Triton kernels; constants in capitals are Triton's convention.

import triton
import triton.language as tl


@triton.jit
def groups_of(block, TG: tl.constexpr, WIDE: tl.constexpr):
    """Return a tile's groups, (1, groups, 1); with channels last, a thread has one group with all its sources."""
    group = block * TG + tl.arange(0, TG)[None, :, None]
    if WIDE:
        group = group.to(tl.int64)
    # The hint breaks Triton's compiler for a tensor that folds to a scalar.
    return tl.multiple_of(group, (1, 1, 1)) if TG > 1 else group


@triton.jit
def place(
    program,
    size,
    groups,
    INNER: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
    TG: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Return a program's tile, groups, channel (or step of sources) and sample; tiles vary fastest."""
    tiles = tl.cdiv(size[0], TZ) * tl.cdiv(size[1], TY) * tl.cdiv(size[2], TX)
    tile = program % tiles
    rest = program // tiles
    blocks = tl.cdiv(groups, TG)
    group = groups_of(rest % blocks, TG, WIDE)
    rest = rest // blocks
    return tile, group, rest % INNER, rest // INNER


@triton.jit
def voxels(tile, size, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, WIDE: tl.constexpr):
    """Return the coordinates of a tile's voxels, each (voxels, 1, 1)."""
    columns = tl.cdiv(size[2], TX)
    rows = tl.cdiv(size[1], TY)
    voxel = tl.arange(0, TZ * TY * TX)[:, None, None]
    if WIDE:
        voxel = voxel.to(tl.int64)
    x = tile % columns * TX + voxel % TX
    y = tile // columns % rows * TY + voxel // TX % TY
    z = tile // (columns * rows) * TZ + voxel // (TY * TX)
    # Taps are rarely aligned; four neighbours per thread would spread each load over four times as many cache lines.
    return z, y, tl.multiple_of(x, (1, 1, 1))


@triton.jit
def at(pointer, strides, batch, channel, z, y, x):
    """Return pointers to elements; only the offset between samples always has 64 bits."""
    sample = pointer + batch.to(tl.int64) * strides[0]
    return sample + (channel * strides[1] + z * strides[2] + y * strides[3] + x * strides[4])


@triton.jit
def rows_inside(z, y, size):
    """Return whether rows are inside the volume."""
    return (z >= 0) & (z < size[0]) & (y >= 0) & (y < size[1])


@triton.jit
def inside(z, y, x, size):
    """Return whether voxels are inside the volume."""
    return rows_inside(z, y, size) & (x >= 0) & (x < size[2])


@triton.jit
def load(pointers, mask):
    """Return values in float32, 0 where the mask is not set."""
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load_taps(filters, tap, channel, entry, known, groups, CHANNELS: tl.constexpr, SOURCES: tl.constexpr):
    """Return V[channel, entry, tap] for every group and source of the tile."""
    return tl.load(filters + (tap * groups * CHANNELS + channel) * SOURCES + entry, mask=known, other=0.0)


@triton.jit
def to_sources(
    first, first_strides, second, second_strides, filters, batch, group, entry, z, y, x, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, PAIR: tl.constexpr,
):  # fmt: skip
    """Return ``first`` ∗ V⁻ and, if PAIR, ``second`` ∗ V⁻, each (voxels, groups, STEP)."""
    left = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    right = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    known = (group < groups) & (entry < SOURCES)
    for member in range(CHANNELS):
        channel = group * CHANNELS + member
        for row in range(KZ * KY):
            zi = z - row // KY + KZ // 2
            yi = y - row % KY + KY // 2
            row_there = rows_inside(zi, yi, size) & (group < groups)
            first_row = at(first, first_strides, batch, channel, zi, yi, x)
            second_row = at(second, second_strides, batch, channel, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = KX // 2 - kx
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                taps = load_taps(filters, row * KX + kx, channel, entry, known, groups, CHANNELS, SOURCES)
                left += load(first_row + shift * first_strides[4], there) * taps
                if PAIR:
                    right += load(second_row + shift * second_strides[4], there) * taps
    return left, right


@triton.jit
def divide(above, below, value, eps, EXACT: tl.constexpr):
    """Return ρ and value / (R ∗ V⁻ + ε); if EXACT, both are 0 where the denominator is 0 (the paper's appendix)."""
    if EXACT:
        positive = below > 0
        below = tl.where(positive, below, 1.0)
        return tl.where(positive, above / below, 0.0), tl.where(positive, value / below, 0.0)
    return (above + eps) / (below + eps), value / (below + eps)
