"""Each process's part of every batch."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from deconvseg.data import EpochSampler
from deconvseg.errors import InputError
from deconvseg.training.ranks import Ranks


def share_of_batch(batch_size: int, processes: int) -> int:
    """Return the samples per process of a batch; :class:`InputError` if the batch cannot be divided evenly."""
    if batch_size % processes:
        below = batch_size // processes * processes
        raise InputError(
            f"a batch of {batch_size} cannot be divided over {processes} devices, because the plan's batch_size is for "
            f"all of them: give `values={{'batch_size': {below + processes}}}`{f' or {below}' if below else ''}, or "
            "other `devices`"
        )
    return batch_size // processes


class RankSampler(Sampler[tuple[int, int]]):
    """This process's part of every batch of a sampler; together the processes see the same batches as one process."""

    def __init__(self, sampler: EpochSampler, batch_size: int, ranks: Ranks) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.ranks = ranks

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        part = share_of_batch(self.batch_size, self.ranks.size)
        places = enumerate(self.sampler)
        return (index for place, index in places if place % self.batch_size // part == self.ranks.rank)

    def __len__(self) -> int:
        return len(self.sampler) // self.ranks.size
