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
from deconvseg.training.schedule import learning_rate_factor
from deconvseg.training.validation import OutOfTimeError, dice_of_case


class SegmentationTask(LightningModule):
    """A network, its loss and its optimiser, as the plan says.

    The learning rate follows the steps of ``max_epochs`` and the clock of ``max_seconds``, whichever is further on; the
    exact resumption of a run holds only without the clock. Of several processes every one has a task, with its share
    of each batch; ``rank`` is its number, ``dealt_cases`` how many validation cases are dealt out over all of them.
    """

    def __init__(
        self,
        network: Network,
        plan: Plan,
        *,
        seed: int,
        max_epochs: int | None,
        max_seconds: float | None = None,
        seconds_before: float = 0.0,
        rank: int = 0,
        dealt_cases: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        decay = plan.recipe.averaging
        self.average = None if decay is None else average_weights(network, decay)
        self.plan = plan
        self.rank = rank
        self.dealt_cases = dealt_cases
        # What is random in a network shall differ between the parts of a batch.
        self.entropy = [seed] if rank == 0 else [seed, rank]
        self.total_steps = None if max_epochs is None else max_epochs * plan.recipe.steps_per_epoch
        self.max_seconds = max_seconds
        self.seconds_before = seconds_before
        self.loss = plan.training_loss()
        self.started = time.monotonic() - seconds_before
        self.train_losses: list[float] = []  # of all processes together
        self.validation_dice: list[Tensor] = []
        self.out_of_time = False  # in the midst of a validation
        self.last_step: tuple[Tensor, int, list[str]] | None = None

    @property
    def seconds(self) -> float:
        """Time since the run was started, without the time between an interruption and its resumption."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, by its steps and its clock, of which the first to end will end it."""
        by_steps = 0.0 if self.total_steps is None else self.global_step / self.total_steps
        return by_steps if self.max_seconds is None else max(by_steps, self.seconds / self.max_seconds)

    @property
    def kept_name(self) -> str:
        """Where the network that validates and is kept stands: the average of the weights, where there is one."""
        return "network" if self.average is None else "average.module"

    def configure_model(self) -> None:
        """Leave to each process its part of the weights, where they are to be shared out."""
        mesh = self.device_mesh
        if mesh is None or isinstance(self.network, FSDPModule):
            return
        fully_shard(self.network, mesh=mesh["data_parallel"])
        if self.average is not None:
            fully_shard(self.average.module, mesh=mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the learning rate is set before each step."""
        return create_optimiser(self.network, self.plan.recipe)

    def on_train_start(self) -> None:
        """Start the clock."""
        self.started = time.monotonic() - self.seconds_before

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's losses, and make what is random in a network a function of (seed, epoch)."""
        self.train_losses.clear()
        torch.manual_seed(int(np.random.SeedSequence([*self.entropy, self.current_epoch]).generate_state(1)[0]))
        self.network.deep_supervision = self.network.deep_supervision_heads > 0

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        recipe = self.plan.recipe
        # By the first process's clock, so that all processes take the same step.
        progress = self.progress if self.max_seconds is None else leaders_value(self.progress)
        factor = learning_rate_factor(progress, warmup=recipe.warmup, warmup_from=recipe.warmup_from)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = recipe.learning_rate * factor
        loss: Tensor = self.loss(self.network(batch["image"]), batch["labels"])
        self.last_step = loss.detach(), batch_index, batch["case"]
        return loss

    def on_after_backward(self) -> None:
        """Note the loss; one that is not finite stops the run before the weights follow it, and names its cases."""
        assert self.last_step is not None
        # Not earlier: reading the loss waits for a GPU, which has the gradients to compute meanwhile.
        loss, batch_index, names = self.last_step
        value = mean_over_ranks(loss)
        if not math.isfinite(value):
            cases = ", ".join(texts_of_ranks(", ".join(names)))
            raise (DeconvsegError if self.rank == 0 else PeerError)(
                f"the loss became {value} in epoch {self.current_epoch}, step {batch_index}; cases in that batch: "
                f"{cases}; look at those images, or lower the learning "
                f"rate (`values={{'recipe.learning_rate': {self.plan.recipe.learning_rate / 3:.1g}}}`)"
            )
        self.train_losses.append(value)

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the average of the weights follow them."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave whole cases where they are: only their windows go to the network's device."""
        return batch if self.trainer.validating else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation's scores."""
        self.validation_dice.clear()
        self.out_of_time = False
        self.network.deep_supervision = False
        kept = self.get_submodule(self.kept_name)
        if isinstance(kept, FSDPModule):
            # Whole until the end, because every process validates cases of its own, at its own pace.
            kept.unshard()

    def on_validation_epoch_end(self) -> None:
        """Gather the scores of all processes, if all are there, and go back to training with every head."""
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
        if self.max_seconds is not None and self.seconds >= self.max_seconds:
            raise OutOfTimeError
