"""Arguments of U-shaped networks that are given once, per axis, or per stage."""

from collections.abc import Sequence

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import check_channels, check_spatial_dims, per_axis

PerStage = int | Sequence[int | Sequence[int]]


def check_sizes(
    in_channels: int, out_channels: int, spatial_dims: int, widths: Sequence[int], deep_supervision_heads: int
) -> None:
    """Raise :class:`InputError` for invalid numbers of channels, axes, stages or heads."""
    check_ends(in_channels, out_channels, spatial_dims)
    if len(widths) == 0 or any(width < 1 for width in widths):
        raise InputError(f"widths={widths!r}: give one positive number per stage")
    if not 0 <= deep_supervision_heads < len(widths):
        raise InputError(
            f"deep_supervision_heads={deep_supervision_heads}: {len(widths)} stages allow 0 to {len(widths) - 1}"
        )


def check_ends(in_channels: int, out_channels: int, spatial_dims: int) -> None:
    """Raise :class:`InputError` for invalid numbers of channels or axes."""
    check_spatial_dims(spatial_dims, (2, 3))
    check_channels(in_channels=in_channels, out_channels=out_channels)


def kernels_per_stage(kernel_size: PerStage, spatial_dims: int, stages: int) -> list[tuple[int, ...]]:
    """Expand odd kernel sizes to every stage and axis; a flat sequence of ``spatial_dims`` numbers is one per axis."""
    kernels = _kernels_per_stage(kernel_size, spatial_dims, stages)
    if any(size % 2 == 0 for kernel in kernels for size in kernel):
        raise InputError(f"kernel_size={kernel_size!r}: a kernel needs odd sizes, such as 3 or 5")
    return kernels


def _kernels_per_stage(kernel_size: PerStage, spatial_dims: int, stages: int) -> list[tuple[int, ...]]:
    if isinstance(kernel_size, int):
        return [per_axis(kernel_size, spatial_dims, "kernel_size")] * stages
    flat = _flat(kernel_size)
    if len(flat) == spatial_dims:
        return [per_axis(flat, spatial_dims, "kernel_size")] * stages
    if len(kernel_size) != stages:
        raise _wrong_length("kernel_size", kernel_size, spatial_dims, stages)
    return [per_axis(size, spatial_dims, "kernel_size") for size in kernel_size]


def strides_per_stage(strides: PerStage, spatial_dims: int, stages: int) -> list[tuple[int, ...]]:
    """Expand strides to every stage and axis; a flat sequence of ``stages`` numbers is one per stage.

    One number, or one per axis, applies from the second stage on; the first stage keeps the full resolution.
    """
    full_resolution = (1,) * spatial_dims
    if isinstance(strides, int):
        return [full_resolution] + [per_axis(strides, spatial_dims, "strides")] * (stages - 1)
    if len(strides) == stages:
        steps = [per_axis(stride, spatial_dims, "strides") for stride in strides]
        if steps[0] != full_resolution:
            raise InputError(f"strides={strides!r}: the first stage keeps the full resolution, so begin with 1")
        return steps
    flat = _flat(strides)
    if len(flat) != spatial_dims:
        raise _wrong_length("strides", strides, spatial_dims, stages)
    return [full_resolution] + [per_axis(flat, spatial_dims, "strides")] * (stages - 1)


def depths_per_stage(depths: Sequence[int] | None, stages: int, name: str) -> Sequence[int]:
    """Return the number of blocks of each stage: 1 per stage if ``depths`` is ``None``."""
    if depths is None:
        return (1,) * stages
    if len(depths) != stages or any(depth < 1 for depth in depths):
        raise InputError(f"{name}={depths!r}: give {stages} positive numbers, one per stage")
    return depths


def _flat(values: Sequence[int | Sequence[int]]) -> list[int]:
    """Return the values if all are integers, otherwise an empty list."""
    numbers = [value for value in values if isinstance(value, int)]
    return numbers if len(numbers) == len(values) else []


def _wrong_length(name: str, value: object, spatial_dims: int, stages: int) -> InputError:
    return InputError(
        f"{name}={value!r}: give one number, {spatial_dims} (one per axis), or {stages} (one per stage, each a number "
        "or one per axis)"
    )
