"""The update and its gradients on a GPU by the kernels of triton_kernels.py (Deconver, arXiv 2504.00302, Eq. 7).

Images, sources and gradients may have half types. All arithmetic is in float32, and so are the intermediate tensors (S
∗ V, its gradient, ρ and Q). With ρ and Q rounded to bfloat16 the source's gradient would be inaccurate, because its two
terms cancel: it is orthogonal to the source, since the result of Eq. 3 does not depend on the scale of S.

The order of summation depends only on the shapes, so results are reproducible bit for bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from deconvseg.ops import triton_support as support
from deconvseg.ops.layout import is_channels_last

# (depth, height, width, groups) of a program's tile, 512 elements each: with 4 warps, a thread has 4 elements of every
# source, whose loads are independent. 3D tiles come first, because they read the fewest voxels around the tile; tiles
# over several groups are for small images.
TILES = (
    (4, 4, 32, 1),
    (4, 8, 16, 1),
    (8, 8, 8, 1),
    (1, 16, 32, 1),
    (1, 32, 16, 1),
    (1, 1, 512, 1),
    (4, 4, 4, 8),
    (1, 8, 8, 8),
    (1, 1, 64, 8),
)
CHANNELS_LAST_TILES = ((2, 4, 4, 16), (1, 4, 8, 16), (1, 1, 32, 16))

# Programs of the filter gradient: enough to fill any GPU several times, and constant, so that the partition of the sums
# does not depend on the GPU.
FILTER_PROGRAMS = 4096

# Largest number of taps that a program of the filter gradient sums in registers, unless a row of the kernel has more.
MOST_TAPS = 32


class _Problem(NamedTuple):
    """Sizes and launch parameters shared by all kernels of one update."""

    size: tuple[int, ...]
    batch: int
    groups: int
    channels: int
    sources: int
    kernel: tuple[int, ...]
    tile: tuple[int, int, int, int]
    step: int
    wide: bool

    @property
    def tiles(self) -> int:
        return math.prod(-(-length // extent) for length, extent in zip(self.size, self.tile[:3], strict=True))

    @property
    def group_blocks(self) -> int:
        return -(-self.groups // self.tile[3])

    @property
    def steps(self) -> int:
        return -(-self.sources // self.step)

    def programs(self, per_group: int) -> tuple[int]:
        return (self.tiles * self.group_blocks * per_group * self.batch,)

    @property
    def constants(self) -> dict[str, object]:
        return {
            "CHANNELS": self.channels,
            "SOURCES": self.sources,
            **dict(zip(("KZ", "KY", "KX"), self.kernel, strict=True)),
            **dict(zip(("TZ", "TY", "TX", "TG"), self.tile, strict=True)),
            "STEP": self.step,
            "WIDE": self.wide,
            # Staging through shared memory does not speed up these loops, because their inputs are in the L1 cache.
            "num_stages": 1,
            "enable_fp_fusion": True,
        }


def decline(x: Tensor, source: Tensor, filters: Tensor) -> str | None:
    """Return why the kernels cannot take these tensors, in one line, or ``None``."""
    if any(size % 2 == 0 for size in filters.shape[2:]):
        return f"kernel size {tuple(filters.shape[2:])}: every size must be odd"
    if not 3 <= x.ndim <= 5:
        return f"{x.ndim - 2} spatial axes: 1, 2 or 3 are possible"
    return support.decline(x, source, filters)


def choose_tile(size: tuple[int, ...], groups: int, channels_last: bool) -> tuple[int, int, int, int]:
    """Return the first tile that covers the image with the fewest programs."""
    # With few groups, lanes along the channels are not faster; the other tiles are correct for channels-last too.
    candidates = CHANNELS_LAST_TILES if channels_last and groups >= 16 else TILES

    def programs(tile: tuple[int, int, int, int]) -> int:
        return math.prod(-(-length // extent) for length, extent in zip((*size, groups), tile, strict=True))

    return min(candidates, key=programs)


def update(x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float) -> Tensor:
    """Return one multiplicative update (Eq. 7), (B, E, \\*S) in the type and memory format of ``source``."""
    explained = support.empty_image(source, x.shape[1], torch.float32)
    out = support.empty_image(source, source.shape[1], source.dtype)
    problem = _problem(filters, groups, x, source, explained, out)
    if not out.numel():
        return out
    from deconvseg.ops.ndc import triton_kernels as kernels

    by_tap = _by_tap(filters)
    with support.device_of(source):
        _reconstruct(problem, source, explained, by_tap)
        kernels.update_kernel[problem.programs(problem.steps)](
            *_described(x, explained, source, out),
            by_tap, problem.size, groups, eps, EXACT=eps == 0, **problem.constants,
        )  # fmt: skip
    return out


def update_backward(
    grad: Tensor, x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of image, source and filters from ``grad`` (B, E, \\*S), that of :func:`update`.

    With ρ the ratio of Eq. 7 and Q = grad ⊙ S / (denominator + ε): ∂X = Q ∗ V, ∂(S ∗ V) = −(Q ⊙ ρ) ∗ V,
    ∂S = grad ⊙ ρ + ∂(S ∗ V) ∗ V⁻. S ∗ V is recomputed, because storing it would cost more.
    """
    explained, explained_grad = (support.empty_image(source, x.shape[1], torch.float32) for _ in range(2))
    image_grad = support.empty_image(source, x.shape[1], x.dtype)
    share, ratio = (support.empty_image(source, source.shape[1], torch.float32) for _ in range(2))
    # ∂S can overwrite ρ, because each element of ρ is read last by the program that writes the same element of ∂S.
    reused = source.dtype == ratio.dtype
    source_grad = ratio if reused else support.empty_image(source, source.shape[1], source.dtype)
    problem = _problem(filters, groups, grad, x, source, explained, share)
    if not source.numel():
        return image_grad, source_grad, torch.zeros_like(filters)
    from deconvseg.ops.ndc import triton_kernels as kernels

    by_tap, scratch = _by_tap(filters), support.strides(ratio)
    with support.device_of(source):
        _reconstruct(problem, source, explained, by_tap)
        kernels.ratio_kernel[problem.programs(problem.steps)](
            *_described(grad, x, explained, source), share, ratio, scratch,
            by_tap, problem.size, groups, eps, EXACT=eps == 0, **problem.constants,
        )  # fmt: skip
        kernels.image_gradient_kernel[problem.programs(problem.channels)](
            share, ratio, scratch, image_grad, explained_grad, support.strides(explained_grad),
            by_tap, problem.size, groups, **problem.constants,
        )  # fmt: skip
        filter_grad = _filter_gradient(problem, x, explained, explained_grad, share, ratio, source)
        kernels.source_gradient_kernel[problem.programs(problem.steps)](
            *_described(grad, explained_grad), ratio, source_grad, scratch,
            by_tap, problem.size, groups, **problem.constants,
        )  # fmt: skip
    return image_grad, source_grad, filter_grad.reshape(filters.shape).to(filters.dtype)


def _filter_gradient(
    problem: _Problem,
    x: Tensor,
    explained: Tensor,
    explained_grad: Tensor,
    share: Tensor,
    ratio: Tensor,
    source: Tensor,
) -> Tensor:
    from deconvseg.ops.ndc import triton_kernels as kernels

    depth, height, width = problem.kernel
    rows = min(depth * height, max(1, MOST_TAPS // width))
    columns = -(-depth * height // rows) * problem.steps * problem.channels * problem.group_blocks
    tiles = problem.tiles * problem.batch
    tiles_per_part = -(-tiles // min(tiles, -(-FILTER_PROGRAMS // columns)))
    parts = -(-tiles // tiles_per_part)
    channels = problem.groups * problem.channels
    partial = torch.empty(
        (parts, math.prod(problem.kernel), channels, problem.sources), dtype=torch.float32, device=source.device
    )
    # With two warps a thread sums eight voxels before any exchange between threads. Tiles over several groups exchange
    # little, and would run out of registers with two warps.
    warps = 2 if problem.tile[3] == 1 else 4
    kernels.filter_gradient_kernel[(parts * columns,)](
        *_described(x), explained, explained_grad, support.strides(explained), share, ratio, support.strides(ratio),
        *_described(source), partial, problem.size, problem.groups, problem.batch, tiles_per_part,
        ROWS=rows, TAPS=1 << (rows * width - 1).bit_length(), num_warps=warps, **problem.constants,
    )  # fmt: skip
    return partial.sum(0).permute(1, 2, 0)


def _reconstruct(problem: _Problem, source: Tensor, explained: Tensor, by_tap: Tensor) -> None:
    from deconvseg.ops.ndc import triton_kernels as kernels

    kernels.reconstruct_kernel[problem.programs(problem.channels)](
        *_described(source, explained), by_tap, problem.size, problem.groups, **problem.constants
    )


def _problem(filters: Tensor, groups: int, *images: Tensor) -> _Problem:
    size = support.spatial_size(images[0])
    channels, sources, *kernel = filters.shape
    output = images[-1]
    return _Problem(
        size=size,
        batch=output.shape[0],
        groups=groups,
        channels=channels // groups,
        sources=sources,
        kernel=(*(1,) * (3 - len(kernel)), *kernel),
        tile=choose_tile(size, groups, is_channels_last(output)),
        step=min(4, 1 << (sources - 1).bit_length()),
        wide=support.needs_int64(*images),
    )


def _by_tap(filters: Tensor) -> Tensor:
    """Return the filters as (taps, C, E/groups), so that a program's weights of one tap are contiguous."""
    return filters.float().flatten(2).permute(2, 0, 1).contiguous()


def _described(*tensors: Tensor) -> list[object]:
    """Return each tensor followed by its strides."""
    return [part for tensor in tensors for part in (tensor, support.strides(tensor))]
