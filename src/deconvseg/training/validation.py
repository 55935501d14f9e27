"""Validation of whole cases during training, slab by slab, without the logits of a whole case in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from deconvseg.evaluation.summary import counted_classes, mean_over_classes, mean_over_true_classes
from deconvseg.inference import Engine, Member, Slab, Sweep, Volume, as_engine, labels_from_maps
from deconvseg.losses import region_masks
from deconvseg.planning import Plan
from deconvseg.text import number_of


class OutOfTimeError(Exception):
    """The time of the training ended within a case."""


@dataclass(frozen=True)
class ValidationScore:
    """The Dice of a validation during training: of each class (K), and means by the rules of an evaluation.

    ``mean`` is over cases and over the classes that occur in a true mask. Classes that are only predicted are
    excluded, because they vary between epochs and scores must be comparable. ``with_truth`` is over the cases
    whose true mask is not empty, and its classes; None without such cases.
    """

    classes: tuple[float, ...]
    mean: float
    with_truth: float | None
    cases: int

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> "ValidationScore":
        """Summarise the results of `dice_of_case`."""
        table = torch.stack(list(rows)).double().numpy()
        dice, in_truth = table[:, 0], table[:, 1] > 0
        true = mean_over_true_classes(dice, in_truth)
        found = true[~np.isnan(true)]
        return cls(
            classes=tuple(dice.mean(axis=0).tolist()),
            mean=float(mean_over_classes(dice, counted_classes(in_truth)).mean()),
            with_truth=float(found.mean()) if len(found) else None,
            cases=len(dice),
        )

    def describe(self, cases: int) -> str:
        """Return the mean, with :meth:`notes` in brackets."""
        notes = self.notes(cases)
        return f"{self.mean:.3f} ({', '.join(notes)})" if notes else f"{self.mean:.3f}"

    def notes(self, cases: int) -> list[str]:
        """Return notes if the mean is not over all ``cases``, or differs over those with truth."""
        notes = [] if self.cases == cases else [f"{self.cases} of {number_of(cases, 'case')}"]
        if self.with_truth is not None and f"{self.with_truth:.3f}" != f"{self.mean:.3f}":
            notes.append(f"with truth {self.with_truth:.3f}")
        return notes


def dice_of_case(
    network: nn.Module | Engine,
    plan: Plan,
    image: Tensor,
    labels: Tensor,
    *,
    device: torch.device,
    tell: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the Dice of each predicted structure of a case, and 1 or 0 for whether its true mask has it: (2, K).

    The image (C, \\*S) and its class ids (\\*S) are on the CPU; only windows, and sums of their logits if they
    fit, are on the network's ``device``; an engine has its own. ``tell`` is called after each window. The Dice of two
    empty masks is 1 (Deconver, Eq. 8); ignored voxels are excluded.
    """
    engine = as_engine(network, channels=len(image), device=device)
    member = Member(engine, plan.patch_size, overlap=plan.recipe.overlap, rule=plan.inference.windows)
    sweep = Sweep([member], plan.outputs)

    def count(slab: Slab) -> Tensor:
        return _count_slab(slab.logits[0], slab.part_of(labels), plan)

    counts = sweep.map(Volume.whole(image), count, tell=lambda *_: tell())
    common, predicted, true = torch.stack(counts).sum(0)
    sizes = predicted + true
    dice = torch.where(sizes > 0, 2 * common / sizes.clamp_min(1), 1.0)
    return torch.stack([dice.float(), (true > 0).float()])


def _count_slab(logits: Tensor, labels: Tensor, plan: Plan) -> Tensor:
    """Count the shared, the predicted and the true voxels (3, K) in a slab of logits (N, \\*P) and class ids (\\*P)."""
    if plan.regions is None:
        found = torch.from_numpy(labels_from_maps(logits, plan, threshold=0.0).astype("int64"))
        classes = len(plan.labels.values)
        # Ignored voxels have the id after the last class, whose row is left out.
        pairs = torch.bincount((labels * classes + found).flatten(), minlength=(classes + 1) * classes)
        confusion = pairs.reshape(classes + 1, classes)[:classes]
        return torch.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])[:, 1:]
    # Each region by its own map: in a painted mask, a part outside the region around it would enlarge that region.
    predicted = logits.cpu() > 0
    truth = region_masks(labels[None], [region.labels for region in plan.regions])[0] > 0
    ignored = plan.labels.to_encoding().ignore_id
    if ignored is not None:
        judged = labels != ignored
        predicted, truth = predicted & judged, truth & judged
    return torch.stack([part.flatten(1).sum(1) for part in (predicted & truth, predicted, truth)])
