"""Triton kernels of the update and its gradients; imported only if Triton is installed.

The notation is that of this folder's README: X (image) and R = S ∗ V have CHANNELS channels per group, S has SOURCES.
triton_tiles.py describes the tile of a program. Filters are (taps, C, SOURCES) in float32. 1D and 2D images have
additional axes of size 1.
"""
# mypy: ignore-errors
# ruff: noqa: N803
# Type checkers cannot check Triton kernels; constants in capitals are Triton's convention.

import triton
import triton.language as tl

from deconvseg.ops.ndc.triton_tiles import (
    at,
    divide,
    groups_of,
    inside,
    load,
    load_taps,
    place,
    rows_inside,
    to_sources,
    voxels,
)


@triton.jit
def reconstruct_kernel(
    source, source_strides, out, out_strides, filters, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Compute R = S ∗ V."""
    tile, group, member, batch = place(tl.program_id(0), size, groups, CHANNELS, TZ, TY, TX, TG, WIDE)
    z, y, x = voxels(tile, size, TZ, TY, TX, WIDE)
    channel = group * CHANNELS + member
    total = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    for start in range(0, SOURCES, STEP):
        entry = start + tl.arange(0, STEP)[None, None, :]
        known = (group < groups) & (entry < SOURCES)
        for row in range(KZ * KY):
            zi = z + row // KY - KZ // 2
            yi = y + row % KY - KY // 2
            row_there = rows_inside(zi, yi, size) & known
            source_row = at(source, source_strides, batch, group * SOURCES + entry, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = kx - KX // 2
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                taps = load_taps(filters, row * KX + kx, channel, entry, known, groups, CHANNELS, SOURCES)
                total += load(source_row + shift * source_strides[4], there) * taps
    here = inside(z, y, x, size) & (group < groups)
    tl.store(at(out, out_strides, batch, channel, z, y, x), tl.sum(total, 2)[:, :, None], mask=here)


@triton.jit
def update_kernel(
    image, image_strides, explained, explained_strides, source, source_strides, out, out_strides, filters, size,
    groups, eps,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Compute S ⊙ ρ with ρ = (X ∗ V⁻ + ε) / (R ∗ V⁻ + ε)."""
    tile, group, step, batch = place(tl.program_id(0), size, groups, tl.cdiv(SOURCES, STEP), TZ, TY, TX, TG, WIDE)
    z, y, x = voxels(tile, size, TZ, TY, TX, WIDE)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    above, below = to_sources(
        image, image_strides, explained, explained_strides, filters, batch, group, entry, z, y, x, size, groups,
        CHANNELS, SOURCES, STEP, KZ, KY, KX, TZ, TY, TX, TG, True,
    )  # fmt: skip
    here = inside(z, y, x, size) & (group < groups) & (entry < SOURCES)
    channel = group * SOURCES + entry
    value = load(at(source, source_strides, batch, channel, z, y, x), here)
    ratio, _ = divide(above, below, value, eps, EXACT)
    tl.store(at(out, out_strides, batch, channel, z, y, x), value * ratio, mask=here)


@triton.jit
def ratio_kernel(
    grad, grad_strides, image, image_strides, explained, explained_strides, source, source_strides,
    share, ratio, scratch_strides, filters, size, groups, eps,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Compute ρ and the numerator's gradient Q = grad ⊙ S / (R ∗ V⁻ + ε); the denominator's gradient is −Q ⊙ ρ."""
    tile, group, step, batch = place(tl.program_id(0), size, groups, tl.cdiv(SOURCES, STEP), TZ, TY, TX, TG, WIDE)
    z, y, x = voxels(tile, size, TZ, TY, TX, WIDE)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    above, below = to_sources(
        image, image_strides, explained, explained_strides, filters, batch, group, entry, z, y, x, size, groups,
        CHANNELS, SOURCES, STEP, KZ, KY, KX, TZ, TY, TX, TG, True,
    )  # fmt: skip
    here = inside(z, y, x, size) & (group < groups) & (entry < SOURCES)
    channel = group * SOURCES + entry
    value = load(at(source, source_strides, batch, channel, z, y, x), here)
    value *= load(at(grad, grad_strides, batch, channel, z, y, x), here)
    quotient, part = divide(above, below, value, eps, EXACT)
    tl.store(at(share, scratch_strides, batch, channel, z, y, x), part, mask=here)
    tl.store(at(ratio, scratch_strides, batch, channel, z, y, x), quotient, mask=here)


@triton.jit
def image_gradient_kernel(
    share, ratio, scratch_strides, image_grad, explained_grad, out_strides, filters, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Compute the gradients Q ∗ V of X and −(Q ⊙ ρ) ∗ V of R."""
    tile, group, member, batch = place(tl.program_id(0), size, groups, CHANNELS, TZ, TY, TX, TG, WIDE)
    z, y, x = voxels(tile, size, TZ, TY, TX, WIDE)
    channel = group * CHANNELS + member
    above = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    below = tl.zeros((TZ * TY * TX, TG, STEP), tl.float32)
    for start in range(0, SOURCES, STEP):
        entry = start + tl.arange(0, STEP)[None, None, :]
        known = (group < groups) & (entry < SOURCES)
        for row in range(KZ * KY):
            zi = z + row // KY - KZ // 2
            yi = y + row % KY - KY // 2
            row_there = rows_inside(zi, yi, size) & known
            share_row = at(share, scratch_strides, batch, group * SOURCES + entry, zi, yi, x)
            ratio_row = at(ratio, scratch_strides, batch, group * SOURCES + entry, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = kx - KX // 2
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                taps = load_taps(filters, row * KX + kx, channel, entry, known, groups, CHANNELS, SOURCES)
                part = load(share_row + shift * scratch_strides[4], there) * taps
                above += part
                below -= part * load(ratio_row + shift * scratch_strides[4], there)
    here = inside(z, y, x, size) & (group < groups)
    tl.store(at(image_grad, out_strides, batch, channel, z, y, x), tl.sum(above, 2)[:, :, None], mask=here)
    tl.store(at(explained_grad, out_strides, batch, channel, z, y, x), tl.sum(below, 2)[:, :, None], mask=here)


@triton.jit
def source_gradient_kernel(
    grad, grad_strides, explained_grad, explained_strides, ratio, out, scratch_strides, filters, size, groups,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of S: grad ⊙ ρ plus R's gradient correlated with V⁻. ``out`` may be ``ratio``."""
    tile, group, step, batch = place(tl.program_id(0), size, groups, tl.cdiv(SOURCES, STEP), TZ, TY, TX, TG, WIDE)
    z, y, x = voxels(tile, size, TZ, TY, TX, WIDE)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    through, _ = to_sources(
        explained_grad, explained_strides, explained_grad, explained_strides, filters, batch, group, entry, z, y, x,
        size, groups, CHANNELS, SOURCES, STEP, KZ, KY, KX, TZ, TY, TX, TG, False,
    )  # fmt: skip
    here = inside(z, y, x, size) & (group < groups) & (entry < SOURCES)
    channel = group * SOURCES + entry
    direct = load(at(grad, grad_strides, batch, channel, z, y, x), here)
    direct *= load(at(ratio, scratch_strides, batch, channel, z, y, x), here)
    tl.store(at(out, scratch_strides, batch, channel, z, y, x), direct + through, mask=here)


@triton.jit
def filter_gradient_kernel(
    image, image_strides, explained, explained_grad, explained_strides, share, ratio, scratch_strides,
    source, source_strides, partial, size, groups, batches, tiles_per_part,
    CHANNELS: tl.constexpr, SOURCES: tl.constexpr, STEP: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, TG: tl.constexpr, ROWS: tl.constexpr, TAPS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Compute one part's sum over voxels of Q·X − Qρ·R + S·∂R, for ROWS rows of taps, at most TAPS taps.

    ``partial`` is (parts, taps, C, SOURCES).
    """
    # Programs for the taps of one part have consecutive numbers, because they read the same voxels.
    first_row = tl.program_id(0) % tl.cdiv(KZ * KY, ROWS) * ROWS
    rest = tl.program_id(0) // tl.cdiv(KZ * KY, ROWS)
    step = rest % tl.cdiv(SOURCES, STEP)
    rest = rest // tl.cdiv(SOURCES, STEP)
    member = rest % CHANNELS
    rest = rest // CHANNELS
    group = groups_of(rest % tl.cdiv(groups, TG), TG, WIDE)
    part = rest // tl.cdiv(groups, TG)
    entry = step * STEP + tl.arange(0, STEP)[None, None, :]
    known = (group < groups) & (entry < SOURCES)
    channel = group * CHANNELS + member
    slot = tl.arange(0, TAPS)[:, None, None]
    total = tl.zeros((TAPS, TG, STEP), tl.float32)
    tiles = tl.cdiv(size[0], TZ) * tl.cdiv(size[1], TY) * tl.cdiv(size[2], TX)
    for index in range(part * tiles_per_part, min((part + 1) * tiles_per_part, batches * tiles)):
        batch = index // tiles
        z, y, x = voxels(index % tiles, size, TZ, TY, TX, WIDE)
        here = inside(z, y, x, size) & known
        above = load(at(share, scratch_strides, batch, group * SOURCES + entry, z, y, x), here)
        below = above * load(at(ratio, scratch_strides, batch, group * SOURCES + entry, z, y, x), here)
        value = load(at(source, source_strides, batch, group * SOURCES + entry, z, y, x), here)
        for row in range(first_row, min(first_row + ROWS, KZ * KY)):
            zi = z - row // KY + KZ // 2
            yi = y - row % KY + KY // 2
            row_there = rows_inside(zi, yi, size) & (group < groups)
            image_row = at(image, image_strides, batch, channel, zi, yi, x)
            explained_row = at(explained, explained_strides, batch, channel, zi, yi, x)
            grad_row = at(explained_grad, explained_strides, batch, channel, zi, yi, x)
            for kx in tl.static_range(KX):
                shift = KX // 2 - kx
                there = row_there & (x + shift >= 0) & (x + shift < size[2])
                product = above * load(image_row + shift * image_strides[4], there)
                product -= below * load(explained_row + shift * explained_strides[4], there)
                product += value * load(grad_row + shift * explained_strides[4], there)
                here_in_total = slot == (row - first_row) * KX + kx
                total += tl.where(here_in_total, tl.sum(product, 0)[None, :, :], 0.0)
    tap = first_row * KX + slot
    position = ((part.to(tl.int64) * (KZ * KY * KX) + tap) * groups * CHANNELS + channel) * SOURCES + entry
    tl.store(partial + position, total, mask=known & (slot < ROWS * KX) & (tap < KZ * KY * KX))
