"""The choice of post-processing: a step is accepted if it improves the out-of-fold predictions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import Geometry, LabelMap, Region, bounding_box
from deconvseg.evaluation import dice
from deconvseg.evaluation.summary import counted_classes, mean_over_classes
from deconvseg.inference import (
    Postprocessing,
    Step,
    Trial,
    apply,
    apply_to_regions,
    component_volumes,
    make_step,
)
from deconvseg.progress import SILENT, Console, each, takes_console

# A step is accepted if it raises the mean Dice by more than this,
_LEAST_GAIN = 0.001
# and improves at least this many cases, and more than it worsens, so that no single case decides.
_LEAST_IMPROVED = 2
# Differences of Dice below this are rounding.
_ROUNDING = 1e-9
# Candidates for the smallest kept volume: fractions of the smallest true component, quantiles of all of them.
_SHARES, _QUANTILES = (0.1, 0.5, 1.0), (0.05, 0.25)

Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldOutCase:
    """A true mask and its out-of-fold prediction (label maps on one grid, values as in files).

    Both are stored compressed and cropped to their foreground, so that hundreds fit into memory. ``regions`` are the
    masks of single regions, if the prediction has them: they are then scored in place of the painted mask.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Geometry, LabelMap
        >>> from deconvseg.experiments import HeldOutCase
        >>> mask = LabelMap(np.eye(6, dtype=np.uint8), Geometry.identity(2))
        >>> HeldOutCase.pack(mask, mask, fold=0).fold
        0

    """

    fold: int
    geometry: Geometry = field(repr=False)
    shape: tuple[int, ...]
    packed: tuple[bytes, bytes] = field(repr=False)
    types: tuple[str, str]
    packed_regions: tuple[bytes, ...] | None = field(default=None, repr=False)

    @classmethod
    def pack(
        cls, truth: LabelMap, prediction: LabelMap, fold: int, regions: Sequence[Mask] | None = None
    ) -> HeldOutCase:
        """Crop and compress the masks of a case; ``regions`` are the predicted ones (\\*S), in painting order."""
        pixels = [np.asarray(mask.pixels) for mask in (truth, prediction)]
        foreground = (pixels[0] != 0) | (pixels[1] != 0)
        # One voxel if both are empty: label maps have no sides of length zero.
        box = bounding_box(foreground) or (slice(0, 1),) * pixels[0].ndim
        parts = [np.ascontiguousarray(part[box]) for part in pixels]
        first, second = (zlib.compress(part.tobytes(), 1) for part in parts)
        # A region is nowhere where nothing is painted.
        separate = [np.packbits(mask[box]) for mask in regions or ()]
        alone = None if regions is None else tuple(zlib.compress(bits.tobytes(), 1) for bits in separate)
        types = parts[0].dtype.str, parts[1].dtype.str
        return cls(fold, truth.geometry, parts[0].shape, (first, second), types, alone)

    @property
    def truth(self) -> LabelMap:
        """The true mask's foreground box."""
        return self._unpack(0)

    @property
    def prediction(self) -> LabelMap:
        """The predicted mask in the same box."""
        return self._unpack(1)

    @property
    def regions(self) -> npt.NDArray[np.uint8] | None:
        """The predicted masks of single regions (R, \\*S) in the same box, if the prediction has them."""
        if self.packed_regions is None:
            return None
        count = math.prod(self.shape)
        flat = [np.unpackbits(np.frombuffer(zlib.decompress(part), np.uint8)) for part in self.packed_regions]
        return np.stack([part[:count].reshape(self.shape) for part in flat])

    def _unpack(self, which: int) -> LabelMap:
        pixels = np.frombuffer(zlib.decompress(self.packed[which]), self.types[which]).reshape(self.shape)
        return LabelMap(pixels, self.geometry)


@takes_console
def choose_postprocessing(
    cases: Sequence[HeldOutCase], structures: Sequence[Region], *, console: Console = SILENT
) -> Postprocessing:
    """Return the steps that raise the Dice of held-out predictions, structure by structure, outer ones first.

    For each of ``structures`` (in painting order), and for all labels together if they are not regions,
    the best of keeping the largest component and of removing components below a few volumes is tried,
    then filling holes, on top of the accepted steps. A step is accepted if the mean Dice of its structure over the
    cases rises by more than 0.001, if two cases or more improve and more improve than worsen, if no structure's mean
    falls, and if its mean over the cases whose true mask has it does not fall by more than 0.001: fewer false positives
    in healthy cases do not compensate for lost structures. All steps are dropped if steps chosen in the same way by
    the other folds' cases do not raise the mean Dice of each fold's cases, because they then overfit.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Geometry, LabelMap, Region
        >>> from deconvseg.experiments import HeldOutCase, choose_postprocessing
        >>> truth, speckled = np.zeros((2, 20, 20), dtype=np.uint8)
        >>> truth[5:15, 5:15] = speckled[5:15, 5:15] = speckled[0, ::2] = 1
        >>> maps = [LabelMap(pixels, Geometry.identity(2)) for pixels in (truth, speckled)]
        >>> cases = [HeldOutCase.pack(*maps, fold=fold) for fold in (0, 0, 1, 1)]
        >>> chosen = choose_postprocessing(cases, [Region("organ", (1,), 1)])
        >>> [step.step for step in chosen.steps]
        ['keep_largest']

    """
    choice = _Choice(cases, structures)
    chosen = choice.choose(range(len(cases)), console)
    order, before, after = choice.estimate()
    # A structure in no mask has a Dice of 1 before and after, and is not reported.
    counted = choice.counted
    names = [structure.name for structure, told in zip(structures, counted, strict=True) if told]
    before, after, true = before[:, counted], after[:, counted], choice.in_truth[order][:, counted]
    overall = before.mean(axis=0), after.mean(axis=0)
    confirmed = overall[1].mean() > overall[0].mean() + _ROUNDING
    return chosen.model_copy(
        update={
            "by_other_folds": _pairs(names, *overall),
            "with_truth_by_other_folds": _pairs(names, _true_means(before, true), _true_means(after, true)),
            "steps": chosen.steps if confirmed and _keeps_truth(before, after, true) else (),
        }
    )


def _pairs(names: Sequence[str], before: Scores, after: Scores) -> dict[str, tuple[float, float]]:
    """Return the means before and after by name, for the structures that have them."""
    rows = zip(names, before.tolist(), after.tolist(), strict=True)
    return {name: (old, new) for name, old, new in rows if not np.isnan(old)}


def _true_means(scores: Scores, in_truth: npt.NDArray[np.bool_]) -> Scores:
    """Return the mean (structures) of scores (cases, structures) over cases with truth; NaN without such cases."""
    counts = in_truth.sum(axis=0)
    means: Scores = np.where(counts > 0, (scores * in_truth).sum(axis=0) / np.maximum(counts, 1), np.nan)
    return means


def _keeps_truth(before: Scores, after: Scores, in_truth: npt.NDArray[np.bool_]) -> bool:
    """Whether no structure's mean over the cases with truth falls by more than the smallest gain."""
    fall = _true_means(before, in_truth) - _true_means(after, in_truth)
    return not bool((fall > _LEAST_GAIN).any())


class _Choice:
    """Scores of cases after steps, each computed once."""

    def __init__(self, cases: Sequence[HeldOutCase], structures: Sequence[Region]) -> None:
        self.cases = cases
        self.structures = structures
        self._scores: dict[tuple[int, str], Scores] = {}
        self._volumes: dict[tuple[int, str], npt.NDArray[np.float64]] = {}
        # Taken from the unprocessed masks, so that means before and after a step cover the same structures.
        self.in_truth = np.array([self._occurring(case.truth) for case in cases])
        predicted = np.array([self._predicted(case) for case in cases])
        self.counted = counted_classes(self.in_truth | predicted)

    def choose(self, indices: Sequence[int], console: Console = SILENT) -> Postprocessing:
        steps: tuple[Step, ...] = ()
        trials: list[Trial] = []
        for structure in each(
            self._targets(), "choosing the post-processing", console, lambda structure: structure.name
        ):
            removals = [make_step("keep_largest", structure, self.structures)]
            removals += [
                make_step("remove_small", structure, self.structures, volume)
                for volume in self._sizes(indices, structure)
            ]
            filling = [make_step("fill_holes", structure, self.structures)] if structure in self.structures else []
            for candidates in (removals, filling):
                tried = [self._try(indices, steps, step, structure) for step in candidates]
                helpful = [pair for pair in tried if pair[0].taken]
                best = max(helpful, key=lambda pair: pair[0].dice_after, default=None)
                trials += [t.model_copy(update={"taken": best is not None and t is best[0]}) for t, _ in tried]
                steps = steps if best is None else (*steps, best[1])
        return Postprocessing(steps=steps, trials=tuple(trials))

    def estimate(self) -> tuple[list[int], Scores, Scores]:
        """Return the cases, fold by fold, and their Dice (cases, structures) before and after other folds' steps."""
        order: list[int] = []
        before, after = [], []
        for fold in sorted({case.fold for case in self.cases}):
            others = [index for index, case in enumerate(self.cases) if case.fold != fold]
            own = [index for index, case in enumerate(self.cases) if case.fold == fold]
            order += own
            before.append(self.scores(own, ()))
            after.append(self.scores(own, self.choose(others).steps if others else ()))
        return order, np.concatenate(before), np.concatenate(after)

    def scores(self, indices: Sequence[int], steps: tuple[Step, ...]) -> Scores:
        """Return the Dice (cases, structures) of some cases after steps."""
        return np.array([self._score(index, steps) for index in indices])

    def _try(
        self, indices: Sequence[int], steps: tuple[Step, ...], step: Step, structure: Region
    ) -> tuple[Trial, Step]:
        before, after = self.scores(indices, steps), self.scores(indices, (*steps, step))
        alone = np.array([other == structure for other in self.structures])
        columns = alone if alone.any() else self.counted
        old, new = (mean_over_classes(table, columns) for table in (before, after))
        improved, worsened = int((new > old + _ROUNDING).sum()), int((new < old - _ROUNDING).sum())
        taken = (
            new.mean() - old.mean() > _LEAST_GAIN
            and improved >= _LEAST_IMPROVED
            and improved > worsened
            and bool((after.mean(axis=0) >= before.mean(axis=0) - _ROUNDING).all())
            and _keeps_truth(before, after, self.in_truth[list(indices)])
        )
        trial = Trial(
            step=step.step,
            structure=structure.name,
            minimum_volume=step.minimum_volume,
            dice_before=float(old.mean()),
            dice_after=float(new.mean()),
            improved=improved,
            worsened=worsened,
            taken=bool(taken),
        )
        return trial, step

    def _occurring(self, mask: LabelMap) -> list[bool]:
        found = np.unique(mask.pixels)
        return [bool(np.isin(found, structure.labels).any()) for structure in self.structures]

    def _predicted(self, case: HeldOutCase) -> list[bool]:
        regions = case.regions
        return self._occurring(case.prediction) if regions is None else [bool(mask.any()) for mask in regions]

    def _targets(self) -> list[Region]:
        """Return the structures, outer ones first; labels that are not regions are enclosed by all foreground."""
        ordered = sorted(self.structures, key=lambda structure: -len(structure.labels))
        labels = tuple(sorted({value for structure in ordered for value in structure.labels}))
        if len(ordered) == 1 or any(set(structure.labels) == set(labels) for structure in ordered):
            return ordered
        return [Region("all foreground", labels, labels[0]), *ordered]

    def _score(self, index: int, steps: tuple[Step, ...]) -> Scores:
        key = (index, str(steps))
        if key not in self._scores:
            case = self.cases[index]
            truth = case.truth.pixels
            found = self._after(case, Postprocessing(steps=steps))
            self._scores[key] = np.array(
                [dice(np.isin(truth, s.labels), mask) for s, mask in zip(self.structures, found, strict=True)]
            )
        return self._scores[key]

    def _after(self, case: HeldOutCase, steps: Postprocessing) -> Sequence[Mask]:
        """Return the predicted mask of each structure after steps."""
        regions = case.regions
        if regions is not None:
            apply_to_regions(steps, regions, self.structures, case.geometry.spacing)
            return list(regions > 0)
        mask = apply(steps, case.prediction).pixels
        return [np.isin(mask, structure.labels) for structure in self.structures]

    def _sizes(self, indices: Sequence[int], structure: Region) -> list[float]:
        """Return the candidates for the smallest volume, in mm³, from the true components of some cases."""
        for key in ((index, structure.name) for index in indices):
            if key not in self._volumes:
                case = self.cases[key[0]]
                mask = np.isin(case.truth.pixels, structure.labels)
                self._volumes[key] = component_volumes(mask, case.geometry.spacing)
        volumes = np.concatenate([self._volumes[index, structure.name] for index in indices])
        if volumes.size == 0:
            return []
        shares = [share * volumes.min() for share in _SHARES]
        return sorted({float(f"{size:.4g}") for size in (*shares, *np.quantile(volumes, _QUANTILES))})
