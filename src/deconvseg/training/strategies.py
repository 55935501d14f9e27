"""Strategies for distributing a network over several processes."""

from typing import Any

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FullyShardedDataParallel, OptimStateKeyType


def create_strategy(name: str, processes: int) -> Strategy:
    """Return Lightning's strategy: the whole network in every process ("ddp"), or a part of it in each ("fsdp")."""
    if name == "ddp":
        return DDPStrategy()
    return ShardedStrategy(processes, tensor_parallel_size=1, save_distributed_checkpoint=False)


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism with the same checkpoints as without it: one file, read without unpickling."""

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a whole checkpoint and take this process's part of the weights and of the optimiser's state."""
        assert self.model is not None
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path)
        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=whole)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            named = FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_NAME, self.model)
            set_optimizer_state_dict(self.model, optimizer, named, options=whole)
        return checkpoint
