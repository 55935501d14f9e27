"""One training run as a Lightning module."""

import math
import time
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard

from deconvseg.errors import DeconvsegError
from deconvseg.models import Network
from deconvseg.planning import Plan
from deconvseg.system.collectives import (
    largest_over_ranks,
    leaders_value,
    mean_over_ranks,
    rows_of_ranks,
    texts_of_ranks,
)
from deconvseg.training.averaging import average_weights
from deconvseg.training.meeting import PeerError
from deconvseg.training.optimiser import create_optimiser
from deconvseg.training.schedule import Rise, learning_rate_factor
from deconvseg.training.validation import OutOfTimeError, dice_of_case


class SegmentationTask(LightningModule):
    """A network, its loss and its optimiser, as defined by the plan.

    The learning rate follows the steps of ``max_epochs`` and the clock of ``max_seconds``, whichever is further;
    resumption is exact only without the clock. ``rise`` is that of a run that was extended. With several processes
    each has a task with its share of each batch; ``rank`` is its number, ``dealt_cases`` the number of validation cases
    over all of them; ``train_cases`` decides the steps of an epoch if the recipe does not.

    A batch is a dictionary: ``image`` (B, C, \\*S) in float32, ``labels`` (B, \\*S) of class ids, and ``case``, names.

    Example:
        >>> import torch
        >>> from lightning.pytorch import Trainer
        >>> from torch.utils.data import DataLoader
        >>> from deconvseg import create_model
        >>> from deconvseg.planning import read_plan
        >>> from deconvseg.training import SegmentationTask
        >>> plan = read_plan("plan.json")
        >>> task = SegmentationTask(create_model("deconver", **plan.model.config), plan, seed=0, max_epochs=1)
        >>> batch = {"image": torch.rand(2, 1, 32, 32), "labels": torch.ones(2, 32, 32).long(), "case": ["a", "b"]}
        >>> loader = DataLoader([batch] * 3, batch_size=None)
        >>> quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        >>> Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet).fit(task, loader)
        >>> len(task.train_losses)
        3

    """

    def __init__(
        self,
        network: Network,
        plan: Plan,
        *,
        seed: int,
        max_epochs: int | None,
        max_seconds: float | None = None,
        rise: Rise | None = None,
        seconds_before: float = 0.0,
        rank: int = 0,
        dealt_cases: int = 0,
        train_cases: int = 1,
    ) -> None:
        super().__init__()
        self.network = network
        decay = plan.recipe.averaging
        self.average = None if decay is None else average_weights(network, decay)
        self.plan = plan
        self.rank = rank
        self.dealt_cases = dealt_cases
        # Random layers must differ between the parts of a batch.
        self.entropy = [seed] if rank == 0 else [seed, rank]
        self.total_steps = None if max_epochs is None else max_epochs * plan.steps_per_epoch(train_cases)
        self.max_seconds = max_seconds
        self.rise = rise
        self.seconds_before = seconds_before
        self.loss = plan.training_loss()
        self.started = time.monotonic() - seconds_before
        self.train_losses: list[float] = []  # of all processes together
        self.validation_dice: list[Tensor] = []
        self.out_of_time = False  # during a validation
        self.finishes_validation = False  # also when the time is up
        self.last_step: tuple[Tensor, int, list[str]] | None = None

    @property
    def seconds(self) -> float:
        """Training time of the run, without the time between an interruption and its resumption."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Finished fraction of the run, by its steps or its clock, whichever is further."""
        by_steps = 0.0 if self.total_steps is None else self.global_step / self.total_steps
        return by_steps if self.max_seconds is None else max(by_steps, self.seconds / self.max_seconds)

    @property
    def kept_name(self) -> str:
        """Name of the network that validates and is saved: the average of the weights, if there is one."""
        return "network" if self.average is None else "average.module"

    def configure_model(self) -> None:
        """Keep only this process's part of the weights, if they are sharded."""
        mesh = self.device_mesh
        if mesh is None or isinstance(self.network, FSDPModule):
            return
        fully_shard(self.network, mesh=mesh["data_parallel"])
        if self.average is not None:
            fully_shard(self.average.module, mesh=mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser; the learning rate is set before each step."""
        return create_optimiser(self.network, self.plan.recipe)

    def on_train_start(self) -> None:
        """Start the clock."""
        self.started = time.monotonic() - self.seconds_before

    def on_train_epoch_start(self) -> None:
        """Reset the losses, and seed random layers by (seed, epoch)."""
        self.train_losses.clear()
        torch.manual_seed(int(np.random.SeedSequence([*self.entropy, self.current_epoch]).generate_state(1)[0]))
        self.network.deep_supervision = self.network.deep_supervision_heads > 0

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        recipe = self.plan.recipe
        # The first process's clock is used, so that all processes take the same step.
        progress = self.progress if self.max_seconds is None else leaders_value(self.progress)
        factor = learning_rate_factor(
            progress,
            warmup=recipe.warmup,
            warmup_from=recipe.warmup_from,
            schedule=recipe.schedule,
            rise=self.rise,
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = recipe.learning_rate * factor
        loss: Tensor = self.loss(self.network(batch["image"]), batch["labels"])
        self.last_step = loss.detach(), batch_index, batch["case"]
        return loss

    def on_after_backward(self) -> None:
        """Record the loss; one that is not finite stops the run before the weights change and names its cases."""
        assert self.last_step is not None
        # Not earlier, because reading the loss waits for the GPU, which can compute the gradients meanwhile.
        loss, batch_index, names = self.last_step
        value = mean_over_ranks(loss)
        if not math.isfinite(value):
            cases = ", ".join(texts_of_ranks(", ".join(names)))
            raise (DeconvsegError if self.rank == 0 else PeerError)(
                f"the loss became {value} in epoch {self.current_epoch + 1}, step {batch_index + 1}; cases in that "
                f"batch: {cases}; look at those images, or lower the learning "
                f"rate (`values={{'recipe.learning_rate': {self.plan.recipe.learning_rate / 3:.1g}}}`)"
            )
        self.train_losses.append(value)

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the average of the weights."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Keep whole cases on their device: only their windows are moved to the network's device."""
        return batch if self.trainer.validating else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        """Reset the scores of the last validation."""
        self.validation_dice.clear()
        self.out_of_time = False
        self.network.deep_supervision = False
        kept = self.get_submodule(self.kept_name)
        if isinstance(kept, FSDPModule):
            # Gathered until the end, because every process validates its own cases at its own pace.
            kept.unshard()

    def on_validation_epoch_end(self) -> None:
        """Gather the scores of all processes, if they are complete, and return to training with every head."""
        self.out_of_time = bool(largest_over_ranks(torch.tensor(float(self.out_of_time))))
        self.validation_dice = (
            [] if self.out_of_time else list(rows_of_ranks(torch.stack(self.validation_dice), self.dealt_cases))
        )
        kept = self.get_submodule(self.kept_name)
        if isinstance(kept, FSDPModule):
            kept.reshard()
        self.network.deep_supervision = self.network.deep_supervision_heads > 0

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Add the Dice of each predicted structure of one whole case, unless the time is up."""
        if self.out_of_time:
            return
        try:
            dice = dice_of_case(
                self.get_submodule(self.kept_name),
                self.plan,
                batch["image"][0],
                batch["labels"][0],
                device=self.device,
                tell=self._look_at_the_clock,
            )
        except OutOfTimeError:
            self.out_of_time = True
        else:
            self.validation_dice.append(dice)

    def _look_at_the_clock(self) -> None:
        if self.max_seconds is not None and self.seconds >= self.max_seconds and not self.finishes_validation:
            raise OutOfTimeError
