"""Runs every native kernel, forward and backward, with three threads: for libraries that watch what threads do.

``python tests/every_kernel.py [bfloat16]`` prints the kernels that ran, of float32 or of bfloat16;
DECONVSEG_NATIVE_LIBRARY names the library.
"""

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deconvseg.ops import deformable_upsample, instance_norm, native, ndc_update, selective_scan, use_backend
from deconvseg.ops.conv import conv, conv_transpose, join, library
from deconvseg.ops.deconver_block import Weights, deconver_block
from deconvseg.ops.native import interface
from deconvseg.ops.winograd import winograd_conv

THREADS = 3
LAST = torch.channels_last_3d
Case = tuple[str, Callable[..., Tensor], tuple[Tensor, ...]]


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def block_weights(channels: int, ratio: int, hidden: int, kernel: tuple[int, ...]) -> list[Tensor]:
    ones, sources = (1,) * len(kernel), channels * ratio
    pointwise = [(sources, channels), (channels, sources), (hidden, channels), (channels, hidden)]
    behind = [
        tensor for rows, columns in pointwise for tensor in (random(rows, columns, *ones) / columns, random(rows))
    ]
    return [random(channels, channels, *ones) / channels, random(channels, ratio, *kernel), *behind]


def differentiable() -> Iterator[Case]:
    image, kernel = (2, 16, 6, 9, 20), (3, 3, 3)
    for groups, per_group in ((16, 2), (4, 3)):  # by blocks of channels, and by whole channels
        tensors = random(*image), random(2, groups * per_group, *image[2:]), random(16, per_group, *kernel)
        yield f"update of {groups} groups", lambda x, s, v, g=groups: ndc_update(x, s, v, groups=g), tensors
    moves = random(2, 3, 12, 18, 20)
    yield (
        "upsampling",
        lambda f, o, w: deformable_upsample(f, o, w, scale=(2, 2, 1), receptive_field=4.0),
        (random(*image), moves, moves.clone()),
    )
    times, states, channel = random(2, 24, 600), random(2, 2, 5, 600), random(24)
    yield (
        "scan",
        lambda u, d, a, b, c, s, g, e: selective_scan(u, d, -a, b, c, skip=s, gate=g, delta_bias=e, softplus=True),
        (times, times.clone(), random(24, 5), states, states.clone(), channel, times.clone(), channel.clone()),
    )
    last = random(2, 16, 6, 8, 10).contiguous(memory_format=LAST)
    yield (
        "strided convolution",
        lambda x, w, b: conv(x, w, b, stride=(2, 2, 2), padding=(0, 0, 0)),
        (last, random(32, 16, 2, 2, 2), random(32)),
    )
    yield (
        "transposed convolution",
        lambda x, w, b: conv_transpose(x, w, b, stride=(2, 2, 2)),
        (last, random(16, 16, 2, 2, 2), random(16)),
    )
    for size, kernel in (((20, 4, 9), (3, 3, 3)), ((15, 13), (5, 5))):
        tensors = random(2, 16, *size), *block_weights(16, 4, 32, kernel)
        yield (
            f"block of {len(size)} axes",
            lambda x, *w: deconver_block(x, Weights(*w), eps=1e-8, norm_eps=1e-5),
            tensors,
        )


def differentiable_in_bfloat16() -> Iterator[Case]:
    """Blocks with channels that fill no vector and a line of an odd number of voxels, and the layers between them."""
    for channels, size, kernel in ((16, (20, 4, 9), (3, 3, 3)), (9, (15, 13), (5, 5))):
        tensors = random(2, channels, *size), *block_weights(channels, 4, 32, kernel)
        yield (
            f"block of {len(size)} axes in bfloat16",
            lambda x, *w: deconver_block(x, Weights(*w), eps=1e-8, norm_eps=1e-5),
            tensors,
        )
    yield (
        "transposed convolution in bfloat16",
        lambda x, w, b: conv_transpose(x.bfloat16(), w, b, stride=(2, 2, 2)),
        (random(2, 16, 6, 8, 10).contiguous(memory_format=LAST), random(16, 32, 2, 2, 2), random(32)),
    )
    yield (
        "join in bfloat16",
        lambda skip, x, of_skip, of_x, b: library.join(skip.bfloat16(), x.bfloat16(), of_skip, of_x, b, "native"),
        (
            random(2, 48, 12, 16, 20).contiguous(memory_format=LAST),
            random(2, 16, 6, 8, 10).contiguous(memory_format=LAST),
            *(random(16, 48, 1, 1, 1), random(16, 16, 2, 2, 2), random(16)),
        ),
    )


def undifferentiable_in_bfloat16() -> Iterator[Case]:
    image = random(2, 32, 6, 8, 11).bfloat16()
    for kernel in ((3, 3, 3), (1, 3, 3)):
        yield f"Winograd convolution by {kernel} in bfloat16", winograd_conv, (image, random(48, 32, *kernel))
    for order in (image, image.contiguous(memory_format=LAST)):
        yield "normalisation in bfloat16", lambda x: instance_norm(x, negative_slope=0.01), (order,)


def undifferentiable() -> Iterator[Case]:
    last = random(2, 16, 6, 8, 10).contiguous(memory_format=LAST)
    yield (
        "convolution",
        lambda x, w: conv(x, w, None, stride=(1,) * 3, padding=(1,) * 3),
        (last, random(16, 16, 3, 3, 3)),
    )
    for kernel in ((3, 3, 3), (1, 3, 3)):
        tensors = last, random(16, 16, *kernel)
        yield f"Winograd convolution by {kernel}", winograd_conv, tensors
    for order in (last, last.contiguous()):
        yield "normalisation", lambda x: instance_norm(x, negative_slope=0.01), (order,)
    fine = random(2, 16, 12, 16, 20).contiguous(memory_format=LAST)
    yield (
        "join",
        lambda skip, x, w, fuse: join(skip, x, w, None, fuse),
        (fine, last, random(16, 16, 2, 2, 2), random(16, 32, 1, 1, 1)),
    )


def main() -> None:
    assert native.unavailable() is None, native.unavailable()
    torch.set_num_threads(THREADS)
    interface.OPERATIONS_PER_THREAD = 1
    lowered = sys.argv[1:] == ["bfloat16"]
    with use_backend("native"), torch.autocast("cpu", torch.bfloat16, enabled=lowered):
        for name, function, tensors in differentiable_in_bfloat16() if lowered else differentiable():
            out = function(*(tensor.requires_grad_() for tensor in tensors))
            out.sum().backward()
            assert torch.isfinite(out).all()
            print(name)
        with torch.no_grad():
            for name, function, tensors in undifferentiable_in_bfloat16() if lowered else undifferentiable():
                assert torch.isfinite(function(*tensors)).all()
                print(name)


if __name__ == "__main__":
    main()
