"""The processes of one training: their ranks, their common work, and their synchronisation."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import distributed as dist

from deconvseg.errors import InputError, InterruptionError
from deconvseg.training.meeting import PeerError, connect, count_nodes, find_environment, naming_lost_connections

_Item = TypeVar("_Item")
# The first process may hash and prepare a large dataset while the others wait.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process among the processes of its training, started by torchrun or SLURM, one on each device."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    nodes: int = 1

    @classmethod
    def find(cls) -> "Ranks":
        """Return the ranks that the environment describes; without a launcher, a single process."""
        environment = find_environment()
        size = environment.world_size()
        if size == 1:
            return cls()
        places = environment.global_rank(), size, environment.local_rank()
        return cls(*places, nodes=count_nodes(environment, size))

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def devices(self) -> int:
        """Number of processes, and thus of devices, on each node."""
        return self.size // self.nodes

    def check(self, devices: int | None, nodes: int | None) -> None:
        """Refuse numbers of devices and nodes that differ from those of the started processes."""
        if self.size == 1:
            if (nodes or 1) > 1:
                raise InputError(
                    f"`nodes={nodes}`: start the training on all nodes together, with torchrun or srun; "
                    "docs/how-to/train-at-scale.md has the command lines"
                )
        elif (devices or self.devices, nodes or self.nodes) != (self.devices, self.nodes):
            raise InputError(
                f"`devices={devices or self.devices}` `nodes={nodes or self.nodes}`: {self.size} processes on "
                f"{self.nodes} nodes were started; omit these options, or start as many processes"
            )

    def deal(self, items: Sequence[_Item]) -> list[_Item]:
        """Return this process's part of some items; all parts have the same length, so some items may occur twice."""
        rounds = math.ceil(len(items) / self.size)
        return [items[(self.rank + turn * self.size) % len(items)] for turn in range(rounds)]

    def environment(self) -> ClusterEnvironment:
        """Return Lightning's environment of these processes."""
        return LightningEnvironment() if self.size == 1 else find_environment()

    def lead(self, work: Callable[[], None]) -> None:
        """Run the block in the first process while the others wait; if it fails, they raise :class:`PeerError`."""
        if self.size == 1:
            work()
            return
        # A separate group, because the work takes an unknown time.
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        done = torch.zeros(1)
        try:
            if self.leads:
                work()
                done.fill_(1)
        finally:
            dist.broadcast(done, 0, group=group)
        if not done:
            raise PeerError("the first process of this training failed; its message says why")

    @contextmanager
    def connected(self, device: str) -> Iterator[None]:
        """Connect the processes while the block runs; a lost connection is a :class:`PeerError`.

        If all end together, as after Ctrl-C, the first process reports the reason and the others exit with code 1.
        """
        if self.size == 1:
            yield
            return
        connect("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", self.rank, self.size)
        try:
            with naming_lost_connections():
                yield
        except (PeerError, InterruptionError) as end:
            if self.leads:
                raise
            raise SystemExit(1) from end
        dist.barrier()
        dist.destroy_process_group()
