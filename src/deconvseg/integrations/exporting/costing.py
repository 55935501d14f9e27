"""What 8 bits cost: the Dice of validation cases by the network, and by its model in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from deconvseg.evaluation import evaluate
from deconvseg.inference import CONTRACT, Engine, Postprocessing, Prediction, Predictor, choose_cases, predict_cases
from deconvseg.integrations.exporting.contract import Contract, Quantisation
from deconvseg.integrations.exporting.parity import own_dataset
from deconvseg.integrations.exporting.programs import Compute
from deconvseg.integrations.exporting.reading import plan_of
from deconvseg.progress import Console, Quiet
from deconvseg.runs import Run
from deconvseg.system import write_text
from deconvseg.text import dump_json

# The validation cases that are scored: every n-th, and at most so many.
_MOST_CASES = 12


class _Computed(Engine):
    """The function of an exported model as an engine."""

    def __init__(self, compute: Compute, contract: Contract) -> None:
        self.compute = compute
        self.contract = contract
        self.fixed_size = contract.windows.size
        self.networks = contract.model.networks

    def logits(self, batch: Tensor) -> Tensor:
        return torch.from_numpy(self.compute(batch.numpy()))

    def fingerprint(self) -> Iterator[bytes]:
        yield self.contract.model.sha256.encode()


def measure_cost(
    run: Run,
    predictor: Predictor,
    contract: Contract,
    compute: Compute,
    images: Path | None,
    calibrated: Quantisation,
    console: Console,
) -> Quantisation:
    """Return ``calibrated`` with the mean Dice of validation cases before and after the quantisation.

    The cases are those of ``run`` with true masks in its dataset ``images``; without any there is no Dice.
    """
    place = own_dataset(run) if images is None else images
    names = run.splits["val"]
    if place is None or not names:
        return calibrated
    step = max(1, len(names) // _MOST_CASES)
    known, _, load = choose_cases(
        place, predictor.plan, [run], names=names[::step][:_MOST_CASES], told=Prediction(), console=Quiet(console)
    )
    cases = [case for case in known if case.label is not None]
    if not cases:
        return calibrated
    lowered = Predictor(
        [(_Computed(compute, contract), plan_of(contract, CONTRACT))],
        tta=bool(contract.windows.mirrored_axes),
        threshold=contract.decision.threshold,
        postprocessing=Postprocessing(steps=contract.postprocessing),
    )
    chosen = tuple(case.name for case in cases)
    with TemporaryDirectory(prefix="deconvseg-") as scratch:
        dice = []
        for name, side in (("before", predictor), ("after", lowered)):
            masks, regions = Path(scratch) / name, predictor.plan.scored_by_region
            predict_cases(side, cases, masks, load=load, save_regions=regions, raise_problems=True)
            dice.append(_score(run, place, masks, chosen, console))
    return calibrated.model_copy(update={"cases": chosen, "dice_before": dice[0], "dice": dice[1]})


def _score(run: Run, truth: Path, masks: Path, names: Sequence[str], console: Console) -> float:
    splits = masks.parent / "splits.json"
    write_text(splits, dump_json({"val": list(names)}))
    return evaluate(
        truth, masks, run=run.path, splits=splits, split="val", metrics="dice", console=Quiet(console)
    ).mean_dice
