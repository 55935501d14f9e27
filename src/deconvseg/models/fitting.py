"""Fitting of networks to data and machine: constructor arguments, from narrow to wide."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deconvseg.errors import InputError

DeviceKind = Literal["cpu", "gpu"]
# A readable name of the size, and its constructor arguments.
Size = tuple[str, dict[str, Any]]

# Multiples of the lanes of a vector, because the native kernels support no others. The last ones are the papers'
# widths.
WIDTHS: Mapping[DeviceKind, Sequence[int]] = {"cpu": (8, 16, 32, 48, 64), "gpu": (16, 32, 64)}
# Widths double with each stage up to this number, as in the papers.
_MOST_CHANNELS = 512
_KERNEL = 3


@dataclass(frozen=True)
class Grid:
    """Geometry of patches and stages: desired patch sizes (before rounding), and strides and reach per stage and axis.

    ``reaches`` is False where a stage's kernel is 1 along an axis. ``whole`` says that a patch covers the median
    volume. ``slices`` is the axis along which patches are one voxel thick, or None. ``exact`` sizes were requested and
    are not rounded. ``width`` is the requested width of the first stage, or None.

    Example:
        >>> from deconvseg.models import Grid
        >>> every = (True, True)
        >>> grid = Grid("cpu", sizes=(50.0, 60.0), whole=False, strides=((1, 1), (2, 2)), reaches=(every, every))
        >>> grid.patch((8, 8))
        (48, 64)

    """

    kind: DeviceKind
    sizes: tuple[float, ...]
    whole: bool
    strides: tuple[tuple[int, ...], ...]
    reaches: tuple[tuple[bool, ...], ...]
    slices: int | None = None
    exact: bool = False
    width: int | None = None

    @property
    def seen_dims(self) -> int:
        """The number of axes along which patches are thicker than one voxel: 2 for slices of a volume."""
        return len(self.sizes) - (self.slices is not None)

    @property
    def anisotropic(self) -> bool:
        """Whether any kernel has size 1 along an axis."""
        return not all(all(stage) for stage in self.reaches)

    def patch(self, multiple: Sequence[int]) -> tuple[int, ...]:
        """Return the patch size as multiples of ``multiple``, rounded up if a patch covers the whole volume.

        Raises :class:`~deconvseg.errors.InputError` if the sizes are ``exact`` and no multiples.
        """
        rounding = math.ceil if self.whole and not self.exact else round
        patch = tuple(max(1, rounding(n / m)) * m for n, m in zip(self.sizes, multiple, strict=True))
        if self.exact and patch != self.sizes:
            asked = [int(n) for n in self.sizes]
            raise InputError(
                f"`patch_size={asked}`: this network needs a multiple of {'x'.join(map(str, multiple))}; the nearest "
                f"patch is {'x'.join(map(str, patch))}"
            )
        return patch

    def widths(self, usual: Sequence[int]) -> Sequence[int]:
        """Return the widths of the first stage to try: a network's usual ones, or the requested one."""
        return usual if self.width is None else (self.width,)


def fit_stages(
    builder: Callable[..., Any], grid: Grid, patch: Sequence[int], *, fewest: int = 1, kernel_size: int | None = None
) -> Iterator[Size]:
    """Yield sizes of a network with stages: doubling widths, the grid's strides and, if supported, its kernels.

    There are at least ``fewest`` stages. ``kernel_size=None`` means the network's default, or 3 if some kernels are
    flat. Raises :class:`~deconvseg.errors.InputError` for a network without the arguments ``widths`` and ``strides``.

    Example:
        >>> from deconvseg.models import Deconver, Grid, fit_stages
        >>> every = (True, True)
        >>> grid = Grid("cpu", sizes=(50.0, 60.0), whole=False, strides=((1, 1), (2, 2)), reaches=(every, every))
        >>> next(fit_stages(Deconver, grid, patch=(48, 64)))
        ('width 8', {'widths': [8, 16], 'strides': [[1, 1], [2, 2]]})

    """
    known = inspect.signature(builder).parameters
    missing = {"widths", "strides"} - known.keys()
    if missing:
        raise InputError(
            f"has no {' and '.join(sorted(missing))} to be fitted to the data and this machine: name a preset that "
            "has it, or define its class method 'fitted' or use deconvseg.planning.register_fitting"
        )
    flat = tuple(1 if axis == grid.slices else 2 for axis in range(len(grid.sizes)))
    lacking = max(0, fewest - len(grid.strides))
    strides = [*grid.strides, *[flat] * lacking]
    reaches = [*grid.reaches, *[grid.reaches[-1]] * lacking]
    arguments: dict[str, Any] = {"strides": [list(step) for step in strides]}
    if "kernel_size" in known and grid.anisotropic:
        size = _KERNEL if kernel_size is None else kernel_size
        arguments["kernel_size"] = [[size if reach else 1 for reach in stage] for stage in reaches]
    elif "kernel_size" in known and kernel_size is not None:
        arguments["kernel_size"] = kernel_size
    if "window" in known and grid.slices is not None:
        arguments["window"] = [1 if axis == grid.slices else 4 for axis in range(len(grid.sizes))]
    if "image_size" in known:
        arguments["image_size"] = list(patch)
    for base in grid.widths(WIDTHS[grid.kind]):
        widths = [min(base * 2**stage, max(base, _MOST_CHANNELS)) for stage in range(len(strides))]
        yield f"width {base}", {"widths": widths, **arguments}
