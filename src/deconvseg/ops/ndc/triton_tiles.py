"""What the Triton kernels of the update share: a program's tile, loads, and correlations with V⁻.

A program computes one tile of TZ x TY x TX voxels and TG groups: one channel, or STEP sources, of each group. Its
tensors are (voxels, groups, sources): whichever of the first two is contiguous in memory lies along the threads of a
warp, and the sources of a voxel stay in one thread, so that what is read of X and R for one tap serves all of them.
Neighbouring taps read the same cache lines again: they hit the L1 cache.
"""
# mypy: ignore-errors
# ruff: noqa: N803
# Triton's kernels are not Python to a type checker; constants in capitals are its custom.

import triton
import triton.language as tl


@triton.jit
def groups_of(block, TG: tl.constexpr, WIDE: tl.constexpr):
    """A tile's groups, (1, groups, 1): one of them in a thread, with all its sources, when channels lie last."""
    group = block * TG + tl.arange(0, TG)[None, :, None]
    if WIDE:
        group = group.to(tl.int64)
    # A hint on what folds to a scalar breaks Triton's compiler.
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
    """Tile, groups, channel (or step of sources) and sample of a program: neighbours in space run together."""
    tiles = tl.cdiv(size[0], TZ) * tl.cdiv(size[1], TY) * tl.cdiv(size[2], TX)
    tile = program % tiles
    rest = program // tiles
    blocks = tl.cdiv(groups, TG)
    group = groups_of(rest % blocks, TG, WIDE)
    rest = rest // blocks
    return tile, group, rest % INNER, rest // INNER


@triton.jit
def voxels(tile, size, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, WIDE: tl.constexpr):
    """Coordinates of a tile's voxels, each (voxels, 1, 1)."""
    columns = tl.cdiv(size[2], TX)
    rows = tl.cdiv(size[1], TY)
    voxel = tl.arange(0, TZ * TY * TX)[:, None, None]
    if WIDE:
        voxel = voxel.to(tl.int64)
    x = tile % columns * TX + voxel % TX
    y = tile // columns % rows * TY + voxel // TX % TY
    z = tile // (columns * rows) * TZ + voxel // (TY * TX)
    # Taps are rarely aligned: four neighbours in a thread would spread each of their loads over four times the lines.
    return z, y, tl.multiple_of(x, (1, 1, 1))


@triton.jit
def at(pointer, strides, batch, channel, z, y, x):
    """Pointers to elements; only the step between samples is always 64 bits wide."""
    sample = pointer + batch.to(tl.int64) * strides[0]
    return sample + (channel * strides[1] + z * strides[2] + y * strides[3] + x * strides[4])


@triton.jit
def rows_inside(z, y, size):
    """Whether rows lie in the volume."""
    return (z >= 0) & (z < size[0]) & (y >= 0) & (y < size[1])


@triton.jit
def inside(z, y, x, size):
    """Whether voxels lie in the volume."""
    return rows_inside(z, y, size) & (x >= 0) & (x < size[2])


@triton.jit
def load(pointers, mask):
    """Values in float32, 0 where the mask is not set."""
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load_taps(filters, tap, channel, entry, known, groups, CHANNELS: tl.constexpr, SOURCES: tl.constexpr):
    """V[channel, entry, tap] for every group and source of the tile."""
    return tl.load(filters + (tap * groups * CHANNELS + channel) * SOURCES + entry, mask=known, other=0.0)


@triton.jit
def to_sources(
    first, first_strides, second, second_strides, filters, batch, group, entry, z, y, x, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, PAIR: tl.constexpr,
):  # fmt: skip
    """FIRST ∗ V⁻ and, where PAIR, SECOND ∗ V⁻, of one or two images: (voxels, groups, STEP)."""
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
    """ρ and value / (R ∗ V⁻ + ε); without ε both are 0 where the denominator is (appendix of the paper)."""
    if EXACT:
        positive = below > 0
        below = tl.where(positive, below, 1.0)
        return tl.where(positive, above / below, 0.0), tl.where(positive, value / below, 0.0)
    return (above + eps) / (below + eps), value / (below + eps)
