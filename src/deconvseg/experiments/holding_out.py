"""The out-of-fold masks of a cross-validation, for the choice of its post-processing."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from deconvseg.data import LabelMap, RegionFiles, read_mask_pair
from deconvseg.evaluation import CaseMetrics, Evaluation
from deconvseg.experiments.postprocessing import HeldOutCase
from deconvseg.planning import Plan
from deconvseg.progress import Console, each


def hold_out(found: Mapping[int, Evaluation], plan: Plan, console: Console) -> list[HeldOutCase]:
    """Read the masks of the evaluated cases of each fold, and those of single regions where these were scored."""
    entries = [(fold, case, part.ignore_label) for fold, part in found.items() for case in part.cases]
    cases = []
    for fold, case, ignore in each(entries, "reading the held-out masks", console, lambda entry: entry[1].name):
        single = plan.labels.foreground_only
        truth, prediction = read_mask_pair(case.true_mask, case.prediction_file, foreground=single)
        aligned = [plan.labels.to_encoding().align(mask.pixels, white=mask.white) for mask in (truth, prediction)]
        pixels = [mask > 0 if single else mask for mask in aligned]
        if ignore is not None:
            pixels = [np.where(truth.pixels == ignore, 0, part) for part in pixels]
        masks = [LabelMap(part.astype(np.uint8) if part.dtype == bool else part, truth.geometry) for part in pixels]
        regions = _separate(case, prediction, plan) if found[fold].region_files else None
        if regions is not None and ignore is not None:
            regions = [region & (truth.pixels != ignore) for region in regions]
        cases.append(HeldOutCase.pack(masks[0], masks[1], fold, regions))
    return cases


def _separate(case: CaseMetrics, prediction: LabelMap, plan: Plan) -> list[npt.NDArray[np.bool_]]:
    """Return the predicted masks of the regions of a case, in painting order."""
    names = {structure.written_as: structure.name for structure in plan.structures}
    return list(RegionFiles(case.prediction_file, names).read(prediction).values())
