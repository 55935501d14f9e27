"""Triton kernels of the update and its gradients; imported only where Triton is installed.

Notation as in this folder's README: X (image) and R = S ∗ V have CHANNELS channels in each group, S has SOURCES.
A program computes one tile of TZ x TY x TX voxels and TG groups: one channel, or STEP sources, of each group. Its
tensors are (voxels, groups, sources): whichever of the first two is contiguous in memory lies along the threads of a
warp, and the sources of a voxel stay in one thread, so that what is read of X and R for one tap serves all of them.
Neighbouring taps read the same cache lines again: they hit the L1 cache.

Filters arrive as (taps, C, SOURCES), in float32. One or two axes are three with sizes 1.
"""
# mypy: ignore-errors
# ruff: noqa: N803
# Triton's kernels are not Python to a type checker; constants in capitals are its custom.

import triton
import triton.language as tl


@triton.jit
def _groups(block, TG: tl.constexpr, WIDE: tl.constexpr):
    """A tile's groups, (1, groups, 1): one of them in a thread, with all its sources, when channels lie last."""
    group = block * TG + tl.arange(0, TG)[None, :, None]
    if WIDE:
        group = group.to(tl.int64)
    # A hint on what folds to a scalar breaks Triton's compiler.
    return tl.multiple_of(group, (1, 1, 1)) if TG > 1 else group


@triton.jit
def _place(
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
    group = _groups(rest % blocks, TG, WIDE)
    rest = rest // blocks
    return tile, group, rest % INNER, rest // INNER


@triton.jit
def _voxels(tile, size, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, WIDE: tl.constexpr):
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
def _at(pointer, strides, batch, channel, z, y, x):
    """Pointers to elements; only the step between samples is always 64 bits wide."""
    sample = pointer + batch.to(tl.int64) * strides[0]
    return sample + (channel * strides[1] + z * strides[2] + y * strides[3] + x * strides[4])


@triton.jit
def _rows_inside(z, y, size):
    return (z >= 0) & (z < size[0]) & (y >= 0) & (y < size[1])


@triton.jit
def _inside(z, y, x, size):
    return _rows_inside(z, y, size) & (x >= 0) & (x < size[2])


@triton.jit
def _load(pointers, mask):
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _load_taps(filters, tap, channel, entry, known, groups, CHANNELS: tl.constexpr, SOURCES: tl.constexpr):
    """V[channel, entry, tap] for every group and source of the tile."""
    return tl.load(filters + (tap * groups * CHANNELS + channel) * SOURCES + entry, mask=known, other=0.0)


@triton.jit
def _to_sources(
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
            row_there = _rows_inside(zi, yi, size) & (group < groups)
            first_row = _at(first, first_strides, batch, channel, zi, yi, x)
            second_row = _at(second, second_strides, batch, channel, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = KX // 2 - kx
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                taps = _load_taps(filters, row * KX + kx, channel, entry, known, groups, CHANNELS, SOURCES)
                left += _load(first_row + shift * first_strides[4], there) * taps
                if PAIR:
                    right += _load(second_row + shift * second_strides[4], there) * taps
    return left, right


@triton.jit
def reconstruct_kernel(
    source, source_strides, out, out_strides, filters, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """R = S ∗ V."""
    tile, group, member, batch = _place(tl.program_id(0), size, groups, CHANNELS, TZ, TY, TX, TG, WIDE)
    z, y, x = _voxels(tile, size, TZ, TY, TX, WIDE)
    channel = group * CHANNELS + member
    total = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    for start in range(0, SOURCES, STEP):
        entry = start + tl.arange(0, STEP)[None, None, :]
        known = (group < groups) & (entry < SOURCES)
        for row in range(KZ * KY):
            zi = z + row // KY - KZ // 2
            yi = y + row % KY - KY // 2
            row_there = _rows_inside(zi, yi, size) & known
            source_row = _at(source, source_strides, batch, group * SOURCES + entry, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = kx - KX // 2
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                taps = _load_taps(filters, row * KX + kx, channel, entry, known, groups, CHANNELS, SOURCES)
                total += _load(source_row + shift * source_strides[4], there) * taps
    here = _inside(z, y, x, size) & (group < groups)
    tl.store(_at(out, out_strides, batch, channel, z, y, x), tl.sum(total, 2)[:, :, None], mask=here)


@triton.jit
def update_kernel(
    image, image_strides, explained, explained_strides, source, source_strides, out, out_strides, filters, size,
    groups, eps,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """S ⊙ ρ with ρ = (X ∗ V⁻ + ε) / (R ∗ V⁻ + ε)."""
    tile, group, step, batch = _place(tl.program_id(0), size, groups, tl.cdiv(SOURCES, STEP), TZ, TY, TX, TG, WIDE)
    z, y, x = _voxels(tile, size, TZ, TY, TX, WIDE)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    above, below = _to_sources(
        image, image_strides, explained, explained_strides, filters, batch, group, entry, z, y, x, size, groups,
        CHANNELS, SOURCES, STEP, KZ, KY, KX, TZ, TY, TX, TG, True,
    )  # fmt: skip
    here = _inside(z, y, x, size) & (group < groups) & (entry < SOURCES)
    channel = group * SOURCES + entry
    value = _load(_at(source, source_strides, batch, channel, z, y, x), here)
    ratio, _ = _divide(above, below, value, eps, EXACT)
    tl.store(_at(out, out_strides, batch, channel, z, y, x), value * ratio, mask=here)


@triton.jit
def _divide(above, below, value, eps, EXACT: tl.constexpr):
    """ρ and value / (R ∗ V⁻ + ε); without ε both are 0 where the denominator is (appendix of the paper)."""
    if EXACT:
        positive = below > 0
        below = tl.where(positive, below, 1.0)
        return tl.where(positive, above / below, 0.0), tl.where(positive, value / below, 0.0)
    return (above + eps) / (below + eps), value / (below + eps)


@triton.jit
def ratio_kernel(
    grad, grad_strides, image, image_strides, explained, explained_strides, source, source_strides,
    share, ratio, scratch_strides, filters, size, groups, eps,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """ρ, and the gradient Q of the numerator, Q = grad ⊙ S / (R ∗ V⁻ + ε); the denominator's is then −Q ⊙ ρ."""
    tile, group, step, batch = _place(tl.program_id(0), size, groups, tl.cdiv(SOURCES, STEP), TZ, TY, TX, TG, WIDE)
    z, y, x = _voxels(tile, size, TZ, TY, TX, WIDE)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    above, below = _to_sources(
        image, image_strides, explained, explained_strides, filters, batch, group, entry, z, y, x, size, groups,
        CHANNELS, SOURCES, STEP, KZ, KY, KX, TZ, TY, TX, TG, True,
    )  # fmt: skip
    here = _inside(z, y, x, size) & (group < groups) & (entry < SOURCES)
    channel = group * SOURCES + entry
    value = _load(_at(source, source_strides, batch, channel, z, y, x), here)
    value *= _load(_at(grad, grad_strides, batch, channel, z, y, x), here)
    quotient, part = _divide(above, below, value, eps, EXACT)
    tl.store(_at(share, scratch_strides, batch, channel, z, y, x), part, mask=here)
    tl.store(_at(ratio, scratch_strides, batch, channel, z, y, x), quotient, mask=here)


@triton.jit
def image_gradient_kernel(
    share, ratio, scratch_strides, image_grad, explained_grad, out_strides, filters, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Gradients Q ∗ V of X and −(Q ⊙ ρ) ∗ V of R."""
    tile, group, member, batch = _place(tl.program_id(0), size, groups, CHANNELS, TZ, TY, TX, TG, WIDE)
    z, y, x = _voxels(tile, size, TZ, TY, TX, WIDE)
    channel = group * CHANNELS + member
    above = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    below = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    for start in range(0, SOURCES, STEP):
        entry = start + tl.arange(0, STEP)[None, None, :]
        known = (group < groups) & (entry < SOURCES)
        for row in range(KZ * KY):
            zi = z + row // KY - KZ // 2
            yi = y + row % KY - KY // 2
            row_there = _rows_inside(zi, yi, size) & known
            share_row = _at(share, scratch_strides, batch, group * SOURCES + entry, zi, yi, x)
            ratio_row = _at(ratio, scratch_strides, batch, group * SOURCES + entry, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = kx - KX // 2
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                taps = _load_taps(filters, row * KX + kx, channel, entry, known, groups, CHANNELS, SOURCES)
                part = _load(share_row + shift * scratch_strides[4], there) * taps
                above += part
                below -= part * _load(ratio_row + shift * scratch_strides[4], there)
    here = _inside(z, y, x, size) & (group < groups)
    tl.store(_at(image_grad, out_strides, batch, channel, z, y, x), tl.sum(above, 2)[:, :, None], mask=here)
    tl.store(_at(explained_grad, out_strides, batch, channel, z, y, x), tl.sum(below, 2)[:, :, None], mask=here)


@triton.jit
def source_gradient_kernel(
    grad, grad_strides, explained_grad, explained_strides, ratio, out, scratch_strides, filters, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Gradient of S: grad ⊙ ρ, and V⁻ applied to R's gradient. OUT may be RATIO itself."""
    tile, group, step, batch = _place(tl.program_id(0), size, groups, tl.cdiv(SOURCES, STEP), TZ, TY, TX, TG, WIDE)
    z, y, x = _voxels(tile, size, TZ, TY, TX, WIDE)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    through, _ = _to_sources(
        explained_grad, explained_strides, explained_grad, explained_strides, filters, batch, group, entry, z, y, x,
        size, groups, CHANNELS, SOURCES, STEP, KZ, KY, KX, TZ, TY, TX, TG, False,
    )  # fmt: skip
    here = _inside(z, y, x, size) & (group < groups) & (entry < SOURCES)
    channel = group * SOURCES + entry
    direct = _load(_at(grad, grad_strides, batch, channel, z, y, x), here)
    direct *= _load(_at(ratio, scratch_strides, batch, channel, z, y, x), here)
    tl.store(_at(out, scratch_strides, batch, channel, z, y, x), direct + through, mask=here)


@triton.jit
def filter_gradient_kernel(
    image, image_strides, explained, explained_grad, explained_strides, share, ratio, scratch_strides,
    source, source_strides, partial, size, groups, batches, tiles_per_part,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, ROWS: tl.constexpr, TAPS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """One part's sum over voxels of Q·X − Qρ·R + S·∂R, for ROWS rows of taps, at most TAPS taps.

    PARTIAL is (parts, taps, C, SOURCES).
    """
    # The taps of one part run together: they read the same voxels.
    first_row = tl.program_id(0) % tl.cdiv(KZ * KY, ROWS) * ROWS
    rest = tl.program_id(0) // tl.cdiv(KZ * KY, ROWS)
    step = rest % tl.cdiv(SOURCES, STEP)
    rest = rest // tl.cdiv(SOURCES, STEP)
    member = rest % CHANNELS
    rest = rest // CHANNELS
    group = _groups(rest % tl.cdiv(groups, TG), TG, WIDE)
    part = rest // tl.cdiv(groups, TG)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    known = (group < groups) & (entry < SOURCES)
    channel = group * CHANNELS + member
    slot = tl.arange(0, TAPS)[:, None, None]
    total = tl.zeros((TAPS, TG, STEP), tl.float32)
    tiles = tl.cdiv(size[0], TZ) * tl.cdiv(size[1], TY) * tl.cdiv(size[2], TX)
    for index in range(part * tiles_per_part, min((part + 1) * tiles_per_part, batches * tiles)):
        batch = index // tiles
        z, y, x = _voxels(index % tiles, size, TZ, TY, TX, WIDE)
        here = _inside(z, y, x, size) & known
        above = _load(_at(share, scratch_strides, batch, group * SOURCES + entry, z, y, x), here)
        below = above * _load(_at(ratio, scratch_strides, batch, group * SOURCES + entry, z, y, x), here)
        value = _load(_at(source, source_strides, batch, group * SOURCES + entry, z, y, x), here)
        for row in range(first_row, min(first_row + ROWS, KZ * KY)):
            zi = z - row // KY + KZ // 2
            yi = y - row % KY + KY // 2
            row_there = _rows_inside(zi, yi, size) & (group < groups)
            image_row = _at(image, image_strides, batch, channel, zi, yi, x)
            explained_row = _at(explained, explained_strides, batch, channel, zi, yi, x)
            grad_row = _at(explained_grad, explained_strides, batch, channel, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = KX // 2 - kx
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                product = above * _load(image_row + shift * image_strides[4], there)
                product -= below * _load(explained_row + shift * explained_strides[4], there)
                product += value * _load(grad_row + shift * explained_strides[4], there)
                here_in_total = slot == (row - first_row) * KX + kx
                total += tl.where(here_in_total, tl.sum(product, 0)[None, :, :], 0.0)
    tap = first_row * KX + slot
    place = ((part.to(tl.int64) * (KZ * KY * KX) + tap) * groups * CHANNELS + channel) * SOURCES + entry
    tl.store(partial + place, total, mask=known & (slot < ROWS * KX) & (tap < KZ * KY * KX))
