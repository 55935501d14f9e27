"""The processes of one training: their ranks, their sums, and how they wait for each other."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor
from torch import distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.constants import default_pg_timeout
from torch.utils.data import Sampler

from deconvseg.data import EpochSampler
from deconvseg.errors import DeconvsegError, InputError, InterruptionError

_Item = TypeVar("_Item")
# The first process may hash and prepare a large dataset while the others wait.
_PATIENCE = timedelta(days=7)
# Processes that srun starts may load their libraries from a slow disk; without srun the others never come.
_PATIENCE_WITH_SRUN, _PATIENCE_WITHOUT = timedelta(minutes=10), timedelta(seconds=45)


class PeerError(DeconvsegError):
    """Another process of this training failed, and tells why itself."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of its training, as torchrun or SLURM started them: one on each device."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    nodes: int = 1

    @classmethod
    def find(cls) -> "Ranks":
        """Return what the environment says; without launcher the process is the only one."""
        environment = _environment()
        size = environment.world_size()
        if size == 1:
            return cls()
        places = environment.global_rank(), size, environment.local_rank()
        return cls(*places, nodes=_nodes(environment, size))

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    @property
    def devices(self) -> int:
        """Number of processes, and so of devices, on each node."""
        return self.size // self.nodes

    def check(self, devices: int | None, nodes: int | None) -> None:
        """Refuse numbers of devices and nodes for which no processes have been started."""
        if self.size == 1:
            if (nodes or 1) > 1:
                raise InputError(
                    f"--nodes {nodes}: start the training on every node at once, with torchrun or srun; "
                    "docs/how-to/train-at-scale.md has the command lines"
                )
        elif (devices or self.devices, nodes or self.nodes) != (self.devices, self.nodes):
            raise InputError(
                f"--devices {devices or self.devices} --nodes {nodes or self.nodes}: {self.size} processes on "
                f"{self.nodes} nodes were started; leave these options out, or start as many"
            )

    def deal(self, items: Sequence[_Item]) -> list[_Item]:
        """Return this process's part of some items; every process gets as many, so that some may come twice."""
        rounds = math.ceil(len(items) / self.size)
        return [items[(self.rank + turn * self.size) % len(items)] for turn in range(rounds)]

    def environment(self) -> ClusterEnvironment:
        """Return what tells Lightning the same."""
        return LightningEnvironment() if self.size == 1 else _environment()

    def lead(self, work: Callable[[], None]) -> None:
        """Let the first process do something while the others wait; where it fails, they raise :class:`PeerError`."""
        if self.size == 1:
            work()
            return
        # A group of its own, because the work takes an unknown time.
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        done = torch.zeros(1)
        try:
            if self.leads:
                work()
                done.fill_(1)
        finally:
            dist.broadcast(done, 0, group=group)
        if not done:
            raise PeerError("the first process of this training failed; it tells why")

    @contextmanager
    def connected(self, device: str) -> Iterator[None]:
        """Connect the processes as long as the block lasts; a lost connection is a :class:`PeerError`.

        Where all end together, as at Ctrl-C, the first process tells why and the others leave with exit code 1.
        """
        if self.size == 1:
            yield
            return
        environment = _environment()
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        address = environment.main_address, environment.main_port
        if isinstance(environment, SLURMEnvironment):
            store = meet(*address, self.rank, self.size)
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size)
        else:
            init_method = f"tcp://{address[0]}:{address[1]}"
            dist.init_process_group(backend, init_method=init_method, rank=self.rank, world_size=self.size)
        try:
            with _named_connection_errors():
                yield
        except (PeerError, InterruptionError) as end:
            if self.leads:
                raise
            raise SystemExit(1) from end
        dist.barrier()
        dist.destroy_process_group()


def share_of_batch(batch_size: int, processes: int) -> int:
    """Return the samples of a batch for each process; :class:`InputError` where the batch cannot be divided evenly."""
    if batch_size % processes:
        below = batch_size // processes * processes
        raise InputError(
            f"a batch of {batch_size} cannot be divided over {processes} devices, as the plan's batch_size is that of "
            f"all together: give --set batch_size={below + processes}{f' or {below}' if below else ''}, or --devices"
        )
    return batch_size // processes


class RankSampler(Sampler[tuple[int, int]]):
    """This process's part of every batch that a sampler gives: together the processes see what one would have seen."""

    def __init__(self, sampler: EpochSampler, batch_size: int, ranks: Ranks) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.ranks = ranks

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass give the samples of that epoch."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        part = share_of_batch(self.batch_size, self.ranks.size)
        places = enumerate(self.sampler)
        return (index for place, index in places if place % self.batch_size // part == self.ranks.rank)

    def __len__(self) -> int:
        return len(self.sampler) // self.ranks.size


def rank_count() -> int:
    """Return the number of connected processes; 1 where there is one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(local: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, differentiable under data-parallel training."""
    if rank_count() == 1:
        return local
    total: Tensor = _SumOverRanks.apply(local)  # type: ignore[no-untyped-call]
    return total


def mean_over_ranks(value: Tensor) -> float:
    """Return the mean of a scalar over all processes."""
    return float(sum_over_ranks(value.detach())) / rank_count()


def largest_over_ranks(values: Tensor) -> Tensor:
    """Return the largest of each element over all processes."""
    if rank_count() > 1:
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def leaders_value(value: float) -> float:
    """Return what the first process has, so that all decide alike."""
    shared = torch.tensor(value, dtype=torch.float64)
    if rank_count() > 1:
        dist.broadcast(shared, 0)
    return float(shared)


def rows_of_ranks(rows: Tensor, count: int) -> Tensor:
    """Return the ``count`` rows that the processes have dealt out among themselves, in their order.

    Every process has as many rows; those beyond the count are repetitions.
    """
    if rank_count() == 1:
        return rows[:count]
    gathered = [torch.zeros_like(rows) for _ in range(rank_count())]
    dist.all_gather(gathered, rows)
    return torch.stack(gathered, dim=1).flatten(0, 1)[:count]


def texts_of_ranks(text: str) -> list[str]:
    """Return the text of every process, in order."""
    if rank_count() == 1:
        return [text]
    content = torch.tensor(list(text.encode()), dtype=torch.uint8)
    longest = int(largest_over_ranks(torch.tensor(len(content))))
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(content)] = content
    gathered = [torch.zeros_like(padded) for _ in range(rank_count())]
    dist.all_gather(gathered, padded)
    return [bytes(item.tolist()).rstrip(b"\0").decode() for item in gathered]


class _SumOverRanks(torch.autograd.Function):
    """All-reduce, whose gradient is multiplied by the number of processes: data-parallel training divides by it."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process differentiates the same function of the sum, so there is nothing more to gather.
        return gradient * dist.get_world_size()


def meet(address: str, port: int, rank: int, size: int) -> Store:
    """Wait for the processes that SLURM announces, and return the store that they have in common.

    Raises :class:`InputError` where not all of them come, as in a batch script that does without srun.
    """
    patience = _PATIENCE_WITH_SRUN if "SLURM_STEP_ID" in os.environ else _PATIENCE_WITHOUT
    deadline = time.monotonic() + patience.total_seconds()
    came = 1
    # Where the first process is not there, or has given up before, there is no store.
    with suppress(dist.DistError):
        store = TCPStore(address, port, size, is_master=rank == 0, timeout=patience, wait_for_workers=False)
        came = store.add("came", 1)
        while came < size and time.monotonic() < deadline:
            time.sleep(0.1)
            came = store.add("came", 0)
    if came < size:
        raise InputError(
            f"SLURM announces {size} processes, and {came} came in {patience.total_seconds():.0f} s: start the "
            "training with srun (srun deconvseg train …), or ask for a single task"
        )
    store.set_timeout(default_pg_timeout)
    return PrefixStore("group", store)


def _nodes(environment: ClusterEnvironment, size: int) -> int:
    if isinstance(environment, SLURMEnvironment):
        return int(os.environ.get("SLURM_NNODES", 1))
    return size // int(os.environ.get("LOCAL_WORLD_SIZE", size))


@contextmanager
def _named_connection_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise PeerError("another process of this training ended; it, or what launched it, says why") from error


def _is_lost_connection(error: RuntimeError) -> bool:
    # Gloo has no exception of its own; its messages start with the place in its source.
    return isinstance(error, dist.DistError) or "gloo/" in str(error)


def _environment() -> ClusterEnvironment:
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect():
        # Requeueing would start the same command again without --resume.
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()
