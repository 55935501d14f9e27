"""The masks of predictions as DICOM segmentations, for ``predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deconvseg.data import Case, LabelMap, list_names
from deconvseg.data.file_names import files_of
from deconvseg.errors import InputError
from deconvseg.integrations.dicom.codes import code_segments, read_codes
from deconvseg.integrations.dicom.segmentation import Algorithm, SegmentationKind, write_segmentation
from deconvseg.planning import Plan


class SegmentationWriter:
    """Writes masks of a plan's network as DICOM-SEG; ``runs`` describe the models, ``codes`` is a table of codes.

    ``needs`` are the arrays that a mask is written from: its labels, the masks of its regions, or its probabilities.
    ``warnings`` name structures without a code.
    """

    def __init__(
        self,
        plan: Plan,
        runs: Sequence[Mapping[str, Any]],
        *,
        kind: SegmentationKind = "binary",
        codes: str | Path | None = None,
    ) -> None:
        if kind == "labelmap" and plan.scored_by_region:
            raise InputError(
                f"`seg_type='labelmap'`: the run predicts regions that overlap ({', '.join(plan.output_names)}), which "
                "a label map cannot hold; use 'binary'"
            )
        self._plan, self._kind = plan, kind
        segments, unknown = code_segments(plan, None if codes is None else read_codes(codes))
        self._segments = segments
        self.warnings: Sequence[str] = ()
        if unknown:
            self.warnings = (
                f"no code is known for {list_names(unknown)}, coded as tissue in DICOM segmentations; give `codes`",
            )
        hashes = [str(run["weights_sha256"]) for run in runs if run.get("weights_sha256")]
        self._algorithm = Algorithm(f"deconvseg {plan.model.name}", plan.model.name, tuple(hashes))

    @property
    def needs(self) -> Literal["labels", "regions", "probabilities"]:
        """The arrays that a segmentation is written from."""
        if self._kind == "fractional":
            return "probabilities"
        return "regions" if self._plan.scored_by_region else "labels"

    @property
    def identity(self) -> str:
        """A hash of what a segmentation depends on beside its mask."""
        coded = [(segment.value, segment.name, segment.colour, segment.code) for segment in self._segments]
        return sha256(f"{self._kind} {coded}".encode()).hexdigest()

    def write(self, mask: LabelMap, maps: NDArray[Any] | None, case: Case, path: Path) -> None:
        """Write the mask of a case; ``maps`` (K, \\*S) are the masks of regions or the probabilities, if needed."""
        pixels: NDArray[Any] = mask.pixels
        if maps is not None:
            # Probabilities have the order of the network's outputs, after the background if classes exclude each other.
            names = list(self._plan.output_names)
            first = self._plan.outputs - len(names) if self.needs == "probabilities" else 0
            places = [first + names.index(segment.name) for segment in self._segments]
            # The arrays of regions are in the order of writing already.
            pixels = np.asarray(maps) if self.needs == "regions" else np.clip(maps[places], 0, 1)
        # The reader returns the files of the series.
        first_series, *others = [files_of(image) for image in case.images]
        write_segmentation(
            pixels,
            mask.geometry,
            path,
            series=first_series,
            segments=self._segments,
            algorithm=self._algorithm,
            kind=self._kind,
            others=[file for series in others for file in series],
        )
