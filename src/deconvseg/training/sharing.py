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
    """This process's part of every batch of a sampler; together the processes see the same batches as one process.

    If the last batch is smaller and cannot be divided evenly, it is extended by samples past the end of the epoch.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, ranks: Ranks) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.ranks = ranks
        self.part = share_of_batch(batch_size, ranks.size)
        # Of each process; the processes wait for each other, so all have the same number of samples.
        self.samples = -(-len(sampler) // ranks.size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.sampler.epoch
        for own in range(self.samples):
            batch, place = divmod(own, self.part)
            # The last batch may be smaller.
            part = min(self.part, self.samples - batch * self.part)
            yield epoch, batch * self.batch_size + self.ranks.rank * part + place

    def __len__(self) -> int:
        return self.samples
