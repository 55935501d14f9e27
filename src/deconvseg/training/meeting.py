"""Connects the processes of one training, and reports lost connections."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.constants import default_pg_timeout

from deconvseg.errors import DeconvsegError, InputError

# Processes started by srun may load libraries from a slow disk; without srun the others never start.
_PATIENCE_WITH_SRUN, _PATIENCE_WITHOUT = timedelta(minutes=10), timedelta(seconds=45)


class PeerError(DeconvsegError):
    """Another process of this training failed and reports the reason itself."""


def find_environment() -> ClusterEnvironment:
    """Return Lightning's environment of the launcher of this process (torchrun or SLURM), or None."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect():
        # Requeueing would restart the command without `resume`.
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def count_nodes(environment: ClusterEnvironment, size: int) -> int:
    """Return the number of machines on which the ``size`` processes run."""
    if isinstance(environment, SLURMEnvironment):
        return int(os.environ.get("SLURM_NNODES", 1))
    return size // int(os.environ.get("LOCAL_WORLD_SIZE", size))


def connect(backend: str, rank: int, size: int) -> None:
    """Connect this process with the others of its training."""
    environment = find_environment()
    address, port = environment.main_address, environment.main_port
    if isinstance(environment, SLURMEnvironment):
        dist.init_process_group(backend, store=meet(address, port, rank, size), rank=rank, world_size=size)
    else:
        dist.init_process_group(backend, init_method=f"tcp://{address}:{port}", rank=rank, world_size=size)


def meet(address: str, port: int, rank: int, size: int) -> Store:
    """Wait for the processes that SLURM announces, and return their common store.

    Raises :class:`InputError` if some of them do not start, for example in a batch script without srun.
    """
    patience = _PATIENCE_WITH_SRUN if "SLURM_STEP_ID" in os.environ else _PATIENCE_WITHOUT
    deadline = time.monotonic() + patience.total_seconds()
    came = 1
    # Without the first process, or after it has given up, there is no store.
    with suppress(dist.DistError):
        store = TCPStore(address, port, size, is_master=rank == 0, timeout=patience, wait_for_workers=False)
        came = store.add("came", 1)
        while came < size and time.monotonic() < deadline:
            time.sleep(0.1)
            came = store.add("came", 0)
    if came < size:
        raise InputError(
            f"SLURM announces {size} processes, and {came} came in {patience.total_seconds():.0f} s: start the "
            "training with srun (srun deconvseg train …), or request a single task"
        )
    store.set_timeout(default_pg_timeout)
    return PrefixStore("group", store)


@contextmanager
def naming_lost_connections() -> Iterator[None]:
    """Convert the error of a lost connection into a :class:`PeerError`."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise PeerError("another process of this training ended; its output or its launcher says why") from error


def _is_lost_connection(error: RuntimeError) -> bool:
    # Gloo has no exception class; its messages start with a position in its source.
    return isinstance(error, dist.DistError) or "gloo/" in str(error)
