"""Losses of several processes: their mean, and its gradient, are those of one process with the joint batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deconvseg.losses import create_loss, list_losses
from losses.samples import IGNORED, REGIONS, sample

CASES = [
    (name, regions, ignore_id, batch, weighted)
    for name in list_losses()
    for regions in (None, REGIONS)
    for ignore_id in (None, IGNORED)
    for batch in (False, True)
    for weighted in (False, True)
]
SCALE = 0.7
_SCRIPT = """
import sys
import torch
from torch import distributed as dist
from losses.test_processes import CASES, halves, measure
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.save([measure(case, halves(case)[rank]) for case in CASES], f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def joint(case: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    name, regions, ignore_id, *_ = case
    logits, labels = sample(len(name), 3 if regions is None else 2, (5, 4), 4 if ignore_id else 3)
    if ignore_id:
        labels[0, 2:] = IGNORED  # the halves count different numbers of voxels
    return logits, labels


def halves(case: tuple) -> list[tuple[torch.Tensor, torch.Tensor]]:
    logits, labels = joint(case)
    return [(logits[[place]], labels[[place]]) for place in (0, 1)]


def measure(case: tuple, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The loss, and its derivative by a factor of all logits: the parameter of a network."""
    name, regions, ignore_id, over_batch, weighted = case
    weights = [1.0, 2.0, 5.0][: 3 if regions is None else 2] if weighted else None
    loss = create_loss(name, regions=regions, ignore_id=ignore_id, batch=over_batch, class_weights=weights)
    factor = torch.tensor(SCALE, requires_grad=True)
    value = loss(batch[0] * factor, batch[1])
    value.backward()
    assert factor.grad is not None
    return torch.stack([value.detach(), factor.grad])


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    folder = tmp_path_factory.mktemp("processes")
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", _SCRIPT]
    both = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in (0, 1)]
    assert [process.wait(120) for process in both] == [0, 0]
    # What data-parallel training does: the mean of the processes' gradients.
    return torch.stack([torch.stack(torch.load(folder / f"{rank}.pt")) for rank in (0, 1)]).mean(0)


@pytest.mark.parametrize("place", range(len(CASES)), ids=lambda place: "-".join(map(str, CASES[place])))
def test_two_processes_are_as_one(of_two: torch.Tensor, place: int) -> None:
    case = CASES[place]
    torch.testing.assert_close(of_two[place], measure(case, joint(case)))
