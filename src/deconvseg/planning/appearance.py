"""Summary of the appearance of training scans, and detection of scans that differ from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deconvseg.data import Image

Numbers = NDArray[np.float64]
Range = tuple[float, float, float]

# Percentiles of a channel, in per cent; the inner ones are relative to the outer two.
_PERCENTILES = (1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0)
_SAMPLES = 100_000
_PLANES = 16
# Features of each axis, and of each channel, in the order of `look_at`.
_OF_AXIS = ("spacing", "size")
_OF_CHANNEL = ("scale", "offset", "p10", "p25", "p50", "p75", "p90", "zeros", "texture")
# With fewer cases only the range of each feature is compared, not their combination.
_FEWEST_TOGETHER = 10
# Most cases whose features are stored individually.
_KEPT = 32
# Smaller differences are never unusual, for any spread of the training scans: spacing, size, scale and texture in
# natural logarithms, the others as fractions of the channel's range.
_LEAST = {
    "spacing": math.log(1.1),
    "size": math.log(1.3),
    "scale": math.log(1.5),
    "texture": math.log(1.3),
    "offset": 0.1,
    "zeros": 0.1,
}
_LEAST_QUANTILE = 0.05
_AXES = {2: ("rows", "columns"), 3: ("x", "y", "z")}
# Spacing and offset are compared only by range; in the distance they would dominate the other features.
_COMPARED_TOGETHER = frozenset({"size", "scale", "p10", "p25", "p50", "p75", "p90", "zeros", "texture"})


def look_at(image: Image) -> Numbers:
    """Return the features of an image: for each canonical axis, then for each channel, in the order of `look_names`.

    Per axis: logarithms of spacing and size (mm). Per channel: the logarithm of the distance between the 1st and 99th
    percentile; in units of that distance the 1st percentile, the other percentiles above it, and the logarithm of the
    mean difference of neighbours; and the share of zeros. They are computed from a sample of the voxels.
    """
    order = image.geometry.axis_order()
    spacing = order.apply_geometry(image.geometry, image.shape).spacing
    shape = [image.shape[axis] for axis in order.permutation]
    figures = [math.log(figure) for step, count in zip(spacing, shape, strict=True) for figure in (step, step * count)]
    for channel in image.pixels:
        figures += _look_at_channel(channel)
    return np.array(figures)


def look_names(dims: int, channels: int) -> list[str]:
    """Return the names of the features of `look_at`: ``spacing 0``, …, ``channel 0 scale``, …"""
    of_axes = [f"{name} {axis}" for axis in range(dims) for name in _OF_AXIS]
    return of_axes + [f"channel {number} {name}" for number in range(channels) for name in _OF_CHANNEL]


def _look_at_channel(channel: NDArray[np.float32]) -> list[float]:
    flat = channel.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLES)].astype(np.float64)
    low, *inner, high = np.percentile(sample, _PERCENTILES)
    scale = max(float(high - low), 1e-6 * max(abs(low), abs(high)), 1e-30)
    planes = channel if channel.ndim < 3 else channel[..., :: -(-channel.shape[-1] // _PLANES)]
    steps = [np.abs(np.diff(planes, axis=axis)) for axis in (0, 1) if planes.shape[axis] > 1]
    texture = float(np.mean([step.mean(dtype=np.float64) for step in steps])) if steps else 0.0
    return [
        math.log(scale),
        float(np.clip(low / scale, -1e3, 1e3)),
        *(float((value - low) / scale) for value in inner),
        float((sample == 0).mean()),
        math.log(max(texture / scale, 1e-6)),
    ]


class Appearance(BaseModel):
    """Appearance of the training scans: the ranges of all features, and the features of some scans.

    ``ranges`` maps the name of each feature of :func:`look_at` to its smallest value, largest value and standard
    deviation. ``examples`` contains the features of up to 32 scans that are as far from each other as possible, one
    line per scan. ``reach`` is the largest distance of another training scan from the nearest example.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: Annotated[int, Field(ge=1)]
    dims: Annotated[int, Field(ge=2, le=3)]
    channels: Annotated[int, Field(ge=1)]
    ranges: dict[str, Range]
    examples: Annotated[tuple[str, ...], Field(min_length=1)]
    reach: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _check(self) -> Appearance:
        names = look_names(self.dims, self.channels)
        if list(self.ranges) != names:
            raise ValueError(f"ranges: the figures of {self.dims}D scans are {', '.join(names[:3])}, …")
        if not np.isfinite([*self.ranges.values()]).all() or min(spread for _, _, spread in self.ranges.values()) < 0:
            raise ValueError("ranges: least, largest and standard deviation are numbers")
        if any(len(_parse(line)) != len(names) for line in self.examples):
            raise ValueError(f"examples: each line holds {len(names)} numbers")
        return self

    @classmethod
    def of(cls, looks: Sequence[Sequence[float] | Numbers], dims: int, channels: int) -> Appearance:
        """Summarise the looks of the training scans."""
        names, figures = look_names(dims, channels), np.array(looks, np.float64)
        low, high, spread = figures.min(0), figures.max(0), figures.std(0)
        rows = zip(names, low, high, spread, strict=True)
        # Rounded for readability, so that no case leaves its own range.
        ranges = {name: (_round(a), _round(b), _round(s)) for name, a, b, s in rows}
        bare = cls(
            cases=len(figures), dims=dims, channels=channels, ranges=ranges, examples=(_line(figures[0]),), reach=0
        )
        scaled = bare._scale(figures)
        chosen, distance = [0], _distances(scaled, scaled[0])
        while len(chosen) < _KEPT and distance.max() > 0:
            chosen.append(int(distance.argmax()))
            distance = np.minimum(distance, _distances(scaled, scaled[chosen[-1]]))
        return bare.model_copy(
            update={
                "examples": tuple(_line(figures[place]) for place in chosen),
                "reach": _round(max(float(distance.max()), _usual_gap(scaled))),
            }
        )

    def unusual(self, image: Image, channel_names: Sequence[str]) -> tuple[str, ...]:
        """Return how an image differs from the training scans; empty if it does not, or cannot be compared."""
        if len(image.shape) != self.dims or image.channels != self.channels:
            return ()
        look = look_at(image)
        names = look_names(self.dims, self.channels)
        outside = [
            (name, float(figure))
            for name, figure in zip(names, look, strict=True)
            if not self.ranges[name][0] - self._margin(name) <= figure <= self.ranges[name][1] + self._margin(name)
        ]
        if outside:
            return self._describe(
                outside, channel_names, flat=[channel.min() == channel.max() for channel in image.pixels]
            )
        if self.cases < _FEWEST_TOGETHER:
            return ()
        examples = self._scale(np.array([_parse(line) for line in self.examples]))
        nearest = float(_distances(examples, self._scale(look[None])[0]).min())
        if nearest > self.reach * (1.05 + 1.5 / math.sqrt(self.cases)):
            return ("sizes and intensities that occur, but not together in any training scan",)
        return ()

    def _margin(self, name: str) -> float:
        """Return how far a feature may exceed the range of the training scans: further if these are few."""
        few = 1 / math.sqrt(self.cases)
        return max((0.5 + 3 * few + 12 * few**2) * self.ranges[name][2], (1 + 2 * few + 4 * few**4) * _least(name))

    def _scale(self, figures: Numbers) -> Numbers:
        """Return the features (N, F) of the distance, in units of their spread."""
        names = list(self.ranges)
        kept = [place for place, name in enumerate(names) if _kind(name) in _COMPARED_TOGETHER]
        units = np.array([max(self.ranges[names[place]][2], _least(names[place])) for place in kept])
        scaled: Numbers = figures[:, kept] / units
        return scaled

    def _describe(
        self, outside: Sequence[tuple[str, float]], channel_names: Sequence[str], flat: Sequence[bool]
    ) -> tuple[str, ...]:
        """Describe the features outside their ranges, except those of a ``flat`` channel (one intensity)."""
        found: list[str] = []
        for name, figure in outside:
            low, high, _ = self.ranges[name]
            first, number, *kind = name.split()
            if kind and flat[int(number)]:
                text = f"one intensity in all of {channel_names[int(number)]}"
            elif kind:
                text = _describe_channel(channel_names[int(number)], kind[0], figure, low, high)
            else:
                unit = " mm" if self.dims == 3 else ""
                text = f"{first} along {_AXES[self.dims][int(number)]} {_span(figure, low, high, unit)}"
            if text not in found:
                found.append(text)
        return tuple(found)


def _describe_channel(channel: str, kind: str, figure: float, low: float, high: float) -> str:
    if kind == "scale":
        return f"span of the intensities of {channel} {_span(figure, low, high, '')}"
    if kind == "zeros":
        return f"{figure:.0%} zeros in {channel} (training: {low:.0%} to {high:.0%})"
    if kind == "texture":
        return f"{'rougher' if figure > high else 'smoother'} texture of {channel} than any training scan"
    if kind == "offset":
        return f"intensities of {channel} that start elsewhere (shifted?)"
    return f"another distribution of the intensities of {channel} (inverted, clipped, another modality?)"


def _span(figure: float, low: float, high: float, unit: str) -> str:
    """Format a feature and its range in training, all given as logarithms."""
    found, least, most = (f"{math.exp(value):.3g}" for value in (figure, low, high))
    return f"{found}{unit} (training: {least if least == most else f'{least} to {most}'}{unit})"


def _kind(name: str) -> str:
    first, *others = name.split()
    return others[-1] if first == "channel" else first


def _least(name: str) -> float:
    return _LEAST.get(_kind(name), _LEAST_QUANTILE)


def _distances(figures: Numbers, one: Numbers) -> Numbers:
    distances: Numbers = np.sqrt(np.square(figures - one).mean(axis=1))
    return distances


def _usual_gap(scaled: Numbers) -> float:
    """Return the 99th percentile of the distances from a scan to the nearest other one."""
    if len(scaled) < 2:
        return 0.0
    # The nearest scan is the scan itself, so take the second.
    from scipy.spatial import KDTree

    distances, _ = KDTree(scaled).query(scaled, k=[2])
    return float(np.percentile(distances, 99)) / math.sqrt(scaled.shape[1])


def _round(value: Any) -> float:
    return float(f"{float(value):.6g}")


def _line(figures: Numbers) -> str:
    return " ".join(f"{figure:.4g}" for figure in figures)


def _parse(line: str) -> list[float]:
    numbers = [float(part) for part in line.split()]
    if not np.isfinite(numbers).all():
        raise ValueError("examples: only finite numbers")
    return numbers
