"""Training in several processes: what each sees, what they reach together, and how they end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import EpochSampler, open_dataset, resolve_splits
from deconvseg.errors import InputError
from deconvseg.planning import StepCost, make_plan
from deconvseg.runs import Run
from deconvseg.training import Ranks, Silent, TrainOptions, decide_plan, meeting, train
from deconvseg.training.launch import check_devices
from deconvseg.training.meeting import meet
from deconvseg.training.sharing import RankSampler, share_of_batch
from plans import tiny_plan
from power_cuts import power_cut_after
from sparse import sparse_plan, write_sparse_discs

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
EPOCHS = 20
# Everything that is shared between processes: the Dice of a batch, the count of judged voxels, heads, the average.
RECIPE = {
    "epochs": EPOCHS, "steps_per_epoch": 2, "validate_every": 5, "averaging": 0.9, "deep_supervision": True,
    "batch_dice": True, "learning_rate": 0.0003,
}  # fmt: skip
DECONVSEG = [sys.executable, "-c", "from deconvseg.cli import main; main()"]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 5), st.integers(1, 5))
def test_the_parts_of_a_batch_are_the_batch(size: int, part: int, epoch: int, batches: int) -> None:
    batch = size * part
    whole = EpochSampler(batch * batches)
    samplers = [RankSampler(EpochSampler(batch * batches), batch, Ranks(rank, size)) for rank in range(size)]
    for sampler in (whole, *samplers):
        sampler.set_epoch(epoch)
    parts = [list(sampler) for sampler in samplers]
    assert {len(items) for items in parts} == {len(samplers[0])} == {part * batches}
    for index in range(batches):
        seen = [item for items in parts for item in items[index * part : (index + 1) * part]]
        assert seen == list(whole)[index * batch : (index + 1) * batch]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 30))
def test_a_smaller_last_batch_is_divided_evenly(size: int, part: int, samples: int) -> None:
    batch = size * part
    parts = [list(RankSampler(EpochSampler(samples), batch, Ranks(rank, size))) for rank in range(size)]
    assert len({len(items) for items in parts}) == 1
    taken = []
    for start in range(0, len(parts[0]), part):
        taken += [sample for items in parts for _, sample in items[start : start + part]]
    # Each sample once, in order; only what the last batch needs to be even is added.
    assert taken == list(range(-(-samples // size) * size))


@given(st.integers(1, 12), st.integers(1, 5))
def test_every_process_gets_as_many_cases_and_none_is_left_out(count: int, size: int) -> None:
    parts = [Ranks(rank, size).deal(range(count)) for rank in range(size)]
    assert len({len(part) for part in parts}) == 1
    assert [item for turn in zip(*parts, strict=True) for item in turn][:count] == list(range(count))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            {"batch_size": 3},
            {"devices": 2},
            "a batch of 3 cannot be divided over 2 devices.*'batch_size': 4}` or 2,",
        ),
        ({"batch_size": 1}, {"devices": 2}, r"`values=\{'batch_size': 2\}`, or other `devices`"),
        ({}, {"nodes": 2}, "`nodes=2`: start the training on all nodes together"),
        ({}, {"devices": 2, "strategy": "zero"}, "`strategy` 'zero' is unknown"),
    ],
)
def test_what_cannot_be_spread_is_refused_before_anything_is_written(
    discs: Path, tmp_path: Path, values: dict, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(
            discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu", values=values,
            **options,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_an_automatic_plan_is_one_for_as_many_devices(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = StepCost(seconds=0.01, base=1, memory=1, inference=1, parameters=1)
    monkeypatch.setattr(
        sys.modules["deconvseg.training.deciding"], "make_plan", partial(make_plan, measure=lambda *_, **__: cost)
    )
    data = open_dataset(balls)
    options = TrainOptions(str(balls), device="cpu", devices=4, max_seconds=60)
    plan = decide_plan(data, resolve_splits(data, None, fold=0), options, Silent())
    assert plan.batch_size == 4


def test_devices_are_those_of_this_machine() -> None:
    with pytest.raises(InputError, match="`device='cuda:1'`: is a single device"):
        check_devices("cuda:1", 2, "ddp")
    with pytest.raises(InputError, match=f"this machine has {torch.cuda.device_count()} CUDA devices"):
        check_devices("cuda", 99, "ddp")
    assert share_of_batch(6, 3) == 2


def test_numbers_that_were_not_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started = {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5", "LOCAL_RANK": "1", "GROUP_RANK": "1"}
    for name, value in {**started, "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, value)
    ranks = Ranks.find()
    assert ranks == Ranks(rank=5, size=8, local_rank=1, nodes=2)
    assert (ranks.devices, ranks.leads) == (4, False)
    ranks.check(4, 2)
    ranks.check(None, None)
    with pytest.raises(InputError, match="`devices=2` `nodes=2`: 8 processes on 2 nodes were started"):
        ranks.check(2, None)


def test_slurm_says_who_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    started = {
        "SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "6", "SLURM_LOCALID": "2", "SLURM_NODEID": "1",
        "SLURM_JOB_NAME": "deconvseg", "SLURM_NTASKS_PER_NODE": "4",
    }  # fmt: skip
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert Ranks.find() == Ranks(rank=6, size=8, local_rank=2, nodes=2)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_slurm_announces_and_nobody_starts_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    started = {
        "SLURM_NTASKS": "4", "SLURM_NNODES": "1", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0", "SLURM_JOB_NAME": "deconvseg", "SLURM_NTASKS_PER_NODE": "4",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    monkeypatch.setattr(meeting, "_PATIENCE_WITHOUT", timedelta(seconds=1))
    with (
        pytest.raises(InputError, match="SLURM announces 4 processes, and 1 came in 1 s: start the training with srun"),
        Ranks.find().connected("cpu"),
    ):
        pass


def test_processes_that_srun_starts_meet_in_one_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    port = free_port()
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda rank: meet("127.0.0.1", port, rank, 2), range(2))
    first.set("word", "said")
    assert second.get("word") == b"said"


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sparse_discs(tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="module")
def alone(sparse: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process, uninterrupted."""
    path = tmp_path_factory.mktemp("alone") / "run"
    return train(sparse, path, plan=sparse_plan(**RECIPE), splits=sparse / "splits.json", device="cpu")


def assert_same_losses(run: Run, expected: Run) -> None:
    """The loss and the validation of every epoch are those of one process, to rounding."""
    for row, other in zip(run.metrics, expected.metrics, strict=False):
        for name in ("train_loss", "val_dice", "val_dice_core"):
            assert row.get(name) == pytest.approx(other.get(name), abs=1e-5)


def assert_same(run: Run, expected: Run) -> None:
    """So are the weights."""
    assert_same_losses(run, expected)
    assert len(run.metrics) == len(expected.metrics)
    weights, others = run.load_weights(), expected.load_weights()
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, others[name], atol=1e-4, rtol=1e-3)


def command(sparse: Path, run: Path, *options: str) -> list[str]:
    plan = run.parent / "plan.json"
    plan.write_text(sparse_plan(**RECIPE).model_dump_json())
    named = ["--plan", str(plan), "--splits", str(sparse / "splits.json"), "--device", "cpu"]
    return ["train", str(sparse), "-o", str(run), *named, *options]


def stopped(arguments: list[str], run: Path, epochs: int, how: int, whom: str) -> tuple[int, str]:
    """Start a training, send a signal to it or to one of its processes after some epochs; return code and errors."""
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed)
    deadline = time.monotonic() + 120
    while len(Run(run).metrics) < epochs and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid if whom == "all" else next(children(process.pid, whom)), how)
    _, stderr = process.communicate(timeout=60)
    assert not list(children(process.pid))
    return process.returncode, stderr


def children(parent: int, rank: str | None = None) -> Iterator[int]:
    import psutil

    if psutil.pid_exists(parent):
        for child in psutil.Process(parent).children(recursive=True):
            if child.status() != psutil.STATUS_ZOMBIE and rank in (None, child.environ().get("RANK")):
                yield child.pid


@posix
def test_two_processes_are_as_one_and_an_interruption_ends_both(sparse: Path, tmp_path: Path, alone: Run) -> None:
    run = tmp_path / "run"
    code, stderr = stopped([*DECONVSEG, *command(sparse, run, "--devices", "2")], run, 6, signal.SIGINT, "all")
    assert code == 130, stderr
    assert stderr.count("error:") == 1
    done = len(Run(run).metrics)
    assert f"error: interrupted; {done} completed epoch" in stderr.replace("\n", "")
    assert 6 <= done < EPOCHS
    assert_same_losses(Run(run), alone)


@pytest.mark.faults
@posix
def test_a_run_goes_on_in_two_processes_with_its_parts_and_where_one_is_killed_in_one_again(
    sparse: Path, tmp_path: Path, alone: Run
) -> None:
    run = tmp_path / "run"
    with power_cut_after(epoch=1):
        train(sparse, run, plan=sparse_plan(**RECIPE), splits=sparse / "splits.json", device="cpu")
    again = command(sparse, run, "--devices", "2", "--strategy", "fsdp", "--resume")
    code, stderr = stopped([*DECONVSEG, *again[:4], *again[-5:]], run, 6, signal.SIGKILL, "1")
    assert code == 1, stderr
    assert stderr.count("error:") == 1
    assert "error: training process 2 of 2 was ended by SIGKILL" in stderr
    assert 6 <= len(Run(run).metrics) < EPOCHS
    assert_same_losses(Run(run), alone)
    train(sparse, run, resume=True, devices=1)
    assert_same(Run(run), alone)


@posix
def test_torchruns_processes_plan_once_and_one_tells(sparse: Path, tmp_path: Path, alone: Run) -> None:
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [*torchrun, *DECONVSEG, *command(sparse, run)], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(run)]
    assert done.stderr.count("validation: mean Dice") == 1
    assert (run / "report.html").exists()
    assert_same(Run(run), alone)
