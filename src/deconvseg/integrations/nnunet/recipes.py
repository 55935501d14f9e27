"""Trainers for nnU-Net with the papers' recipes; nnU-Net finds them in the folder ``trainers``."""

from math import ceil
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA
from torch import Tensor, nn

from deconvseg.planning import Recipe
from deconvseg.planning.recipes import get_recipe
from deconvseg.training.optimiser import create_optimiser
from deconvseg.training.schedule import learning_rate_factor


class RecipeTrainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer with optimiser, schedule, loss, sampling and length of a recipe of this package.

    The learning rate changes with each epoch, and the network is trained in the recipe's float32. Augmentation,
    preprocessing, validation and prediction are nnU-Net's own.
    """

    recipe: str = "paper"

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        recipe = self._recipe
        self.initial_lr, self.weight_decay = recipe.learning_rate, recipe.weight_decay
        self.oversample_foreground_percent = recipe.foreground_oversampling
        self.enable_deep_supervision = recipe.deep_supervision
        self.num_epochs = recipe.epochs
        if recipe.steps_per_epoch is not None:
            self.num_iterations_per_epoch = recipe.steps_per_epoch
        # Half precision needs it, float32 does not.
        self.grad_scaler = None

    @property
    def _recipe(self) -> Recipe:
        found: Recipe = get_recipe(self.recipe)
        return found

    def on_train_start(self) -> None:
        """Start; an epoch of a recipe without a number of steps is one patch of each training case."""
        super().on_train_start()
        if self._recipe.steps_per_epoch is None:
            cases, _ = self.do_split()
            self.num_iterations_per_epoch = ceil(len(cases) / self.configuration_manager.batch_size)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, "_Schedule"]:
        """Return the recipe's optimiser and its learning rate over the epochs."""
        optimiser = create_optimiser(self.network, self._recipe)
        return optimiser, _Schedule(optimiser, self._recipe, self.num_epochs)

    def _build_loss(self) -> nn.Module:
        manager = self.label_manager
        return _Loss(self._recipe, manager.num_segmentation_heads, manager.has_regions, manager.ignore_label)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Train on one batch in float32."""
        data, target = batch["data"].to(self.device, non_blocking=True), batch["target"]
        moved = [part.to(self.device, non_blocking=True) for part in (target if isinstance(target, list) else [target])]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.network(data), moved if isinstance(target, list) else moved[0])
        loss.backward()
        if (most := self._recipe.gradient_clip) is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), most)
        self.optimizer.step()
        return {"loss": loss.detach().cpu().numpy()}


class DeconverTrainer(RecipeTrainer):
    """The recipe of Deconver (arXiv 2504.00302, section IV-A3), with nnU-Net's augmentation."""

    recipe = "paper"


class DTCTrainer(RecipeTrainer, nnUNetTrainerNoDA):  # type: ignore[misc]
    """The recipe of DTC (arXiv 2601.17939, section 4.1), without augmentation.

    The paper takes the weights of the best validation: ``nnUNetv2_predict`` with ``checkpoint_best.pth``.
    """

    recipe = "dtc"


class _Schedule:
    """The learning rate of a recipe, set for each epoch as nnU-Net asks."""

    def __init__(self, optimiser: torch.optim.Optimizer, recipe: Recipe, epochs: int) -> None:
        self._optimiser, self._recipe, self._epochs = optimiser, recipe, epochs

    def step(self, epoch: int) -> None:
        """Set the learning rate of an epoch."""
        recipe = self._recipe
        factor = learning_rate_factor(
            epoch / self._epochs, warmup=recipe.warmup, warmup_from=recipe.warmup_from, schedule=recipe.schedule
        )
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.learning_rate * factor


class _Loss(nn.Module):
    """The loss of a recipe for what nnU-Net passes: labels (B, 1, \\*S), or a channel for each region.

    With regions an ignore label is their last channel. They become class ids whose bits are the regions.
    """

    def __init__(self, recipe: Recipe, outputs: int, regions: bool, ignored: int | None) -> None:
        super().__init__()
        self._outputs = outputs if regions else 0
        ids = range(2**outputs) if regions else ()
        members = [[value for value in ids if value >> output & 1] for output in range(outputs)] if regions else None
        ignore_id = None if ignored is None else 2**outputs if regions else ignored
        self._loss = recipe.training_loss(regions=members, ignore_id=ignore_id)

    def forward(self, logits: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        finest = target[0] if isinstance(target, list) else target
        loss: Tensor = self._loss(logits, self._ids(finest))
        return loss

    def _ids(self, target: Tensor) -> Tensor:
        if not self._outputs:
            return target[:, 0].long()
        bits = 2 ** torch.arange(self._outputs, device=target.device)
        shape = (1, self._outputs, *[1] * (target.ndim - 2))
        ids = (target[:, : self._outputs].long() * bits.view(shape)).sum(1)
        if target.shape[1] == self._outputs:
            return ids
        ignored: Tensor = target[:, self._outputs] > 0
        return ids.where(~ignored, 2**self._outputs)
